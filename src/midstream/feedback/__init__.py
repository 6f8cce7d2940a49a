"""Outcomes of slates come from ``state``, examples and rewards go to ``training`` and ``evaluation``."""
