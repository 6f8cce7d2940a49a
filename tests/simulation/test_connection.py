"""A visitor's connection takes what answers at its word."""

import asyncio
import re
import socket

import pytest

from midstream.core.errors import StoreUnavailable
from midstream.serving.http.hosts import Hosts
from midstream.serving.options import ServerOptions
from midstream.simulation.connection import Connection

BUSY = b'{"type":"urn:midstream:overloaded","status":503}'
SLATE = b'{"items":[{"id":"lamp"}]}'


def answer(status: str, body: bytes, more: str = "") -> bytes:
    """Return an answer over HTTP."""
    return f"HTTP/1.1 {status}\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


def asked(*answers: bytes, heads: list[bytes] | None = None, host: str = "127.0.0.1") -> tuple[list[str], int]:
    """Ask a server that has these answers, one a request; return the items, and how often it was asked."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            if heads is not None:
                heads.append(head)
            await reader.readexactly(int(head.rpartition(b"content-length: ")[2]))
            writer.write(left.pop(0))
        writer.close()

    async def work() -> list[str]:
        server = await asyncio.start_server(serve, host, 0)
        async with server:
            named = f"[{host}]" if ":" in host else host
            connection = Connection(f"http://{named}:{server.sockets[0].getsockname()[1]}")
            try:
                return [item.id for item in (await connection.ask({"user_id": "ann"})).items]
            finally:
                await connection.close()

    return asyncio.run(work()), len(answers) - len(left)


def test_a_question_that_there_is_no_room_for_is_asked_again() -> None:
    """When the answer says, as often as it takes."""
    busy = answer("503 Service Unavailable", BUSY, "Retry-After: 0\r\n")
    assert asked(busy, busy, answer("200 OK", SLATE)) == (["lamp"], 3)


@pytest.mark.parametrize(
    "refusal",
    [
        answer("503 Service Unavailable", b'{"type":"urn:midstream:append-failed"}', "retry-after: 0\r\n"),
        answer("503 Service Unavailable", BUSY),
        answer("400 Bad Request", b"{}"),
    ],
)
def test_any_other_refusal_is_an_error(refusal: bytes) -> None:
    """Asked once."""
    with pytest.raises(StoreUnavailable):
        asked(refusal, answer("200 OK", SLATE))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_host_is_one_that_a_server_takes(host: str) -> None:
    """An address of IPv6 stands in brackets."""
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    heads: list[bytes] = []
    asked(answer("200 OK", SLATE), heads=heads, host=host)
    (sent,) = re.findall(rb"^host: (.*)\r$", heads[0], re.MULTILINE)
    assert Hosts(ServerOptions()).name_of(sent) == host
