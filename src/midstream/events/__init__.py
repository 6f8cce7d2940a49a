"""Bytes from clients come in, event batches go to the log and from the log to ``state``."""
