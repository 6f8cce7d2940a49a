"""Ranked lists and outcomes come in, metrics with their intervals go out."""
