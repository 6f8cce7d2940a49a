"""Configurations of nodes of one shop come in, snapshots that travel between them and a view of all of them go out."""
