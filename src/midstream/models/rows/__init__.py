"""Rows of features come in, models that score rows go out."""
