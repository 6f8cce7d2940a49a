"""Decoded batches come in, durable events go to the log and from there into the state, once each."""
