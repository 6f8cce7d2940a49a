"""Logged events and data sets come in, fitted models are evaluated and published in the registry, for the engine."""
