"""Requests of operators come in, views of the engine and changes to it go out."""
