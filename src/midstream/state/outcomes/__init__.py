"""Served records and what followed them come in, outcomes by slate and counters by reason go out."""
