"""Scored candidates come in, an ordered slate with its propensities goes out."""
