"""Logs, tables and questions come in by ranges, record batches go out to the tasks of a cluster."""
