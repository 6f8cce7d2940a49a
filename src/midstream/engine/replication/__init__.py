"""Segments of a leader or messages of a shared topic come in, the same state and answers go out on another process or node."""
