"""Answers about users: an erasure."""

import msgspec


class ErasureView(msgspec.Struct, frozen=True):
    """An erasure: in effect for all requests, and pending in files."""

    log_position: str
    """Token of the position after the erase."""
    erased_at: str
    """Log time, ISO 8601."""
    ids_count: int
    """Number of erased ids: the user's own and those that were merged into it."""
    erase_by: str
    """When every file is to be without the user at the latest, ISO 8601."""
