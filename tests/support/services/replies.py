"""Requests by hand, without a client library: what a server answers to a few bytes says whether it is ready."""

import socket
from collections.abc import Generator
from contextlib import contextmanager

from tests.support.services.system import Site

ASK_S_MAX = 5.0
"""One request; a server that has just started compiles what answers it."""


class NotReady(Exception):
    """An answer of a server that has not started whole."""


class Ill(NotReady):
    """An answer of a server that will not become ready: it is ended in order and started again."""


class Line:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        """Read from a connection."""
        self._connection = connection

    def send(self, message: bytes) -> None:
        """Send bytes."""
        self._connection.sendall(message)

    def read(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            NotReady: The server closed the connection before.
        """
        got = b""
        while len(got) < size:
            part = self._connection.recv(size - len(got))
            if not part:
                message = f"closed behind {len(got)} of {size} bytes"
                raise NotReady(message)
            got += part
        return got

    def read_line(self) -> str:
        """Return text up to a line's end."""
        got = b""
        while not got.endswith(b"\r\n"):
            got += self.read(1)
        return got[:-2].decode("utf-8")

    def number(self, size: int) -> int:
        """Return a whole number in the order of networks."""
        return int.from_bytes(self.read(size), "big")


@contextmanager
def connected(site: Site, port_name: str) -> Generator[Line]:
    """Connect to a port of a server."""
    with socket.create_connection((site.host, site.ports[port_name]), ASK_S_MAX) as connection:
        connection.settimeout(ASK_S_MAX)
        yield Line(connection)
