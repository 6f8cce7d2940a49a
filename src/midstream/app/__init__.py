"""A configuration file comes in, the wired components, in their order and with their options, go to cli and serving."""
