"""HTTP by the byte, for tests of what no client library would send: a server in a process of its own, bare sockets."""

import re
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.patience import PATIENCE_S

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@contextmanager
def served(program: Path, *flags: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Start a program that serves and prints its address first; kill it at the end, whatever happened."""
    pipe = subprocess.PIPE
    command = [sys.executable, str(program), *flags]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        address = "" if process.stdout is None else process.stdout.readline().strip()
        yield process, address
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def connect(url: str) -> socket.socket:
    """Open a bare connection."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE_S)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the server closes; a reset is an end as well."""
    pieces: list[bytes] = []
    try:
        while piece := connection.recv(65_536):
            pieces.append(piece)
    except ConnectionResetError:
        return b"".join(pieces)
    return b"".join(pieces)


def statuses(answers: bytes) -> list[int]:
    r"""Return the status of each answer, in the order in which they came.

    Example:
        >>> statuses(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n")
        [200, 400]
    """
    return [int(each) for each in _STATUS.findall(answers)]


def asked(url: str, *pieces: bytes) -> bytes:
    """Return what a server answers until it closes, to pieces that are sent one after another, each at once."""
    with connect(url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):  # it has closed: what it said before is there to be read
            return read_all(connection)
        return read_all(connection)
