"""Scored candidates and the rules of a slate come in, positions that satisfy the rules go out."""
