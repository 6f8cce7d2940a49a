"""Unix sockets in a folder of the data: private connections between the processes of one server.

The folder and the sockets are open to their owner alone. The system limits a socket's path to 107 bytes, and folders
may be deeper: such a socket is named through an open descriptor of its folder.
"""

import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

BACKLOG = 1_024
"""Connections that wait to be accepted: as many as all followers may have open."""
_NAME_BYTES_MAX = 107


def listen_at(path: Path) -> socket.socket:
    """Return a listening socket at a path; one of a dead process is replaced.

    Raises:
        OSError: The folder cannot be written to.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            listener.bind(name)
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.settimeout(0)
    except OSError:
        listener.close()
        raise
    return listener


def connect_to(path: Path) -> socket.socket:
    """Return a socket that is connected to the listener at a path. It does not wait: a full backlog is an error.

    Raises:
        OSError: There is no listener, or its backlog is full.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(0)
        with _short(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


def leave(path: Path) -> None:
    """Remove a socket's name; open connections stay."""
    path.unlink(missing_ok=True)


@contextmanager
def _short(path: Path) -> Generator[str]:
    """Give a name of the path that a socket can have."""
    if len(os.fsencode(path)) <= _NAME_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
