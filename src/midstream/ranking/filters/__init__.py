"""Candidates come in, those that may not be served are named by the filter that says so."""
