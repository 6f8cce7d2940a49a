"""Sinks: rows of users and items, read at one log position and written through to online stores of other services."""
