"""Durable events of a leader or of a shared topic come in, the same state and answers go out elsewhere."""
