"""Outcomes of slates, from ``state``, become examples and rewards, for ``training`` and ``evaluation``."""
