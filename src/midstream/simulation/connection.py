"""Minimal HTTP client with one keep-alive connection, so that a measurement is that of the server.

A general HTTP client takes longer for a request than the engine does.
"""

import asyncio
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from midstream.core.errors import Fault, Invalid, StoreUnavailable

Answer = TypeVar("Answer")
ANSWER_S_MAX = 120.0
"""The first request on a machine may wait for a kernel, and one on a busy machine for its turn."""
_OVERLOADED = b'"urn:midstream:overloaded"'
"""Nothing was kept of such a request."""


class Item(msgspec.Struct, frozen=True):
    """Of a slate."""

    id: str


class SlateReply(msgspec.Struct, frozen=True):
    """What of an answer is used here."""

    items: tuple[Item, ...]
    request_id: str | None = None
    read_your_writes: bool | None = None


class Acknowledgement(msgspec.Struct, frozen=True):
    """What of an acknowledgement is used here."""

    recorded: int
    log_position: str


class Connection:
    """One visitor's browser."""

    def __init__(self, url: str) -> None:
        """Talk to ``url``, such as ``http://127.0.0.1:8765``.

        Raises:
            Invalid: It is no such address.
        """
        self._host, self._port = _address_of(url)
        self._named = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        """As the header ``Host`` has it."""
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, question: Mapping[str, object]) -> SlateReply:
        """Ask for recommendations.

        Raises:
            StoreUnavailable: What answers refuses, or is no server of ours.
            OSError: Nothing answers.
        """
        return _decoded(await self._post("/v1/recommendations", question), SlateReply)

    async def tell(self, event: object) -> Acknowledgement:
        """Send an event or several; what is returned is durable and applied. Raises what ``ask`` does."""
        return _decoded(await self._post("/v1/events", event), Acknowledgement)

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()

    async def _post(self, path: str, content: object) -> bytes:
        """Return what a request is answered with; one for which there is no room is sent again when the answer says."""
        body = msgspec.json.encode(content)
        async with asyncio.timeout(ANSWER_S_MAX):
            status, fields, received = await self._exchange(path, body)
            while _OVERLOADED in received and b"retry-after" in fields.lower():
                await asyncio.sleep(_number_of(fields, b"retry-after"))
                status, fields, received = await self._exchange(path, body)
        if not status.startswith(b"HTTP/1.1 2"):
            message = f"POST {path}: {status.decode('latin-1')}: {received[:300].decode('utf-8', 'replace')}"
            raise StoreUnavailable(message)
        return received

    async def _exchange(self, path: str, body: bytes) -> tuple[bytes, bytes, bytes]:
        """Send a request; return the first line, the fields and the body of the answer."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        head = f"POST {path} HTTP/1.1\r\nhost: {self._named}\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        try:
            answer = await self._reader.readuntil(b"\r\n\r\n")
            status, _, fields = answer.partition(b"\r\n")
            return status, fields, await self._reader.readexactly(_number_of(fields, b"content-length"))
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            message = f"POST {path}: {self._named} answers as no midstream server does: {error}"
            raise StoreUnavailable(message) from error


def _address_of(url: str) -> tuple[str, int]:
    """Return host and port."""
    try:
        split = urlsplit(url)
        host, port = split.hostname, split.port
    except ValueError:
        host, port = None, None
    if host is None or not url.startswith("http://"):
        right = "The address that `midstream serve` prints, such as http://127.0.0.1:8765; no TLS."
        raise Invalid((Fault("--url", f'"{url}" came.', right, "/docs/cli.md"),))
    return host, 80 if port is None else port


def _number_of(fields: bytes, wanted: bytes) -> int:
    """Return what a field of a head says, such as how many bytes follow.

    Raises:
        ValueError: It does not say so.
    """
    for line in fields.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == wanted:
            return int(value)
    message = f"no {wanted.decode()}"
    raise ValueError(message)


def _decoded(received: bytes, kind: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(received, type=kind)
    except msgspec.MsgspecError as error:
        message = f"what answers is no midstream server: {error}"
        raise StoreUnavailable(message) from error
