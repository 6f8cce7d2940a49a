"""Candidates come in, a boolean for each candidate goes out: True = it may be served."""
