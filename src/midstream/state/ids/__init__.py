"""Ids come in as text, integer slots and the memory of ids go out."""
