"""Texts of a configuration come in, checked expressions over columns go out."""
