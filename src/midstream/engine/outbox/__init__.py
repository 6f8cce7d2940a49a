"""Transactional outbox: the log is delivered by position; batches go to destinations in ``integrations``."""
