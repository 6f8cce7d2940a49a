"""Queries come in, slates and their served records go out, read from one state at one log position."""
