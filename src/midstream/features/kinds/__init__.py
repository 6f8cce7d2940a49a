"""Declared features come in, the cells and columns that they mean go out."""
