"""Ids of processes in file names: whether the one that wrote a file is still there."""

import os


def is_running(pid: int) -> bool:
    """Return whether a process is there."""
    try:
        os.kill(pid, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True
