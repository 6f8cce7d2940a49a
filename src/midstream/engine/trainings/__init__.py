"""Candidates of trainings come in, decisions go into the log, and versions into service or not."""
