"""Placements come from the configuration and from operators, plans go into service."""
