"""Measurements of a candidate and of the version in service come in, a decision with its reasons goes out."""
