"""Feast stores that a Feast process loads: online values from a server's ``serving``, historical ones from ``app``."""
