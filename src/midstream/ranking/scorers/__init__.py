"""Columns of candidates come in, one number for each goes out."""
