"""Scored candidates and the rules of a slate come in, places that keep the rules go out."""
