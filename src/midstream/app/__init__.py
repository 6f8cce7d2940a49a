"""Comes from a configuration file, goes to cli: what runs, with which options, in what order."""
