"""One keep-alive connection that asks and tells: as little as a client needs, so that what is measured is the server.

A general HTTP client takes longer for a request than the engine does.
"""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from midstream.core.errors import StoreUnavailable

ANSWER_S_MAX = 120.0
"""The first request on a machine may wait for a kernel."""


class Item(msgspec.Struct, frozen=True):
    """Of a slate."""

    id: str


class Slate(msgspec.Struct, frozen=True):
    """What of an answer is used here."""

    items: tuple[Item, ...]
    request_id: str | None = None
    read_your_writes: bool | None = None


class Told(msgspec.Struct, frozen=True):
    """What of an acknowledgement is used here."""

    recorded: int
    log_position: str


class Connection:
    """One visitor's browser."""

    def __init__(self, url: str) -> None:
        """Talk to ``url``, such as ``http://127.0.0.1:8765``."""
        split = urlsplit(url)
        self._host, self._port = split.hostname or "127.0.0.1", split.port or 80
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, question: Mapping[str, object]) -> Slate:
        """Ask for recommendations."""
        return msgspec.json.decode(await self._post("/v1/recommendations", question), type=Slate)

    async def tell(self, event: object) -> Told:
        """Send an event or several; what is returned is durable and applied."""
        return msgspec.json.decode(await self._post("/v1/events", event), type=Told)

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()

    async def _post(self, path: str, content: object) -> bytes:
        async with asyncio.timeout(ANSWER_S_MAX):
            if self._reader is None or self._writer is None:
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
            body = msgspec.json.encode(content)
            head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            answer = await self._reader.readuntil(b"\r\n\r\n")
            status, _, fields = answer.partition(b"\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in fields.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            received = await self._reader.readexactly(length)
        if not status.startswith(b"HTTP/1.1 2"):
            message = f"POST {path}: {status.decode('latin-1')}: {received[:300].decode('utf-8', 'replace')}"
            raise StoreUnavailable(message)
        return received
