"""Logged events and data sets become fitted models, judged and published in the registry, for the engine to serve."""
