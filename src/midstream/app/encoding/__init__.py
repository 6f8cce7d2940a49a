"""Texts come in from the engine, vectors of a child process go out."""
