"""Requests of operators come in, views and changes of what the engine holds go out."""
