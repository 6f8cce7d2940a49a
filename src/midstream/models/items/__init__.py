"""Histories of users come in, models that score items go out."""
