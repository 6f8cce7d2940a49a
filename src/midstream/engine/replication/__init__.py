"""Segments of the leader come in, the same state and the same answers go out in another process."""
