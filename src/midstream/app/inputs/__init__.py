"""Configured inputs come in, their services go to ``app.server`` and to a run by hand."""
