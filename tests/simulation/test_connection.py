"""A visitor's connection takes what answers at its word."""

import asyncio

import pytest

from midstream.core.errors import StoreUnavailable
from midstream.simulation.connection import Connection

BUSY = b'{"type":"urn:midstream:overloaded","status":503}'
SLATE = b'{"items":[{"id":"lamp"}]}'


def answer(status: str, body: bytes, more: str = "") -> bytes:
    """Return an answer over HTTP."""
    return f"HTTP/1.1 {status}\r\n{more}content-length: {len(body)}\r\n\r\n".encode() + body


def asked(*answers: bytes) -> tuple[list[str], int]:
    """Ask a server that has these answers, one a request; return the items, and how often it was asked."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.rpartition(b"content-length: ")[2]))
            writer.write(left.pop(0))
        writer.close()

    async def work() -> list[str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            connection = Connection(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
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
