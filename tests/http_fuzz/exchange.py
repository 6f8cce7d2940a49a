"""Client that sends bytes of its own making and reads HTTP/1.1 answers strictly."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

WAIT_S = 120.0
"""For one answer, or for the end of a connection: longer than any limit of the server, so that what is left hangs."""
HEAD_BYTES_MAX = 65_536


@dataclass
class Exchange:
    """What came back over one connection."""

    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    is_closed: bool = False
    """The server ended the connection."""
    fault: str = ""
    """What no server may send, or that nothing came."""


class Unreadable(Exception):
    """Bytes came that are no answer."""


async def exchange(address: tuple[str, int], pieces: list[bytes], methods: list[str], *, half_close: bool) -> Exchange:
    """Send pieces over one connection, and read until as many answers as requests came or the server closes.

    Args:
        address: Of the server.
        pieces: Sent one after another, with a turn of the loop between two.
        methods: Of the requests: an answer to HEAD has no body.
        half_close: End the sending side afterwards.
    """
    found = Exchange()
    try:
        reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    except OSError:
        found.is_closed = True
        return found
    sending = asyncio.create_task(_send(writer, pieces, half_close=half_close))
    try:
        async with asyncio.timeout(WAIT_S):
            await _read(reader, methods, found)
    except TimeoutError:
        found.fault = "hang"
    except Unreadable as error:
        found.fault = f"unreadable: {error}"
    except (ConnectionError, asyncio.IncompleteReadError):
        found.is_closed = True
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await sending
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return found


async def _send(writer: asyncio.StreamWriter, pieces: list[bytes], *, half_close: bool) -> None:
    with suppress(OSError, RuntimeError):  # it is closed, or half of it: not connected is no ConnectionError
        for each in pieces:
            writer.write(each)
            await writer.drain()
            await asyncio.sleep(0)
        if half_close:
            writer.write_eof()


async def _read(reader: asyncio.StreamReader, methods: list[str], found: Exchange) -> None:
    while True:
        method = methods[len(found.statuses)] if len(found.statuses) < len(methods) else ""
        head = await _head(reader)
        if not head:
            found.is_closed = True
            return
        status, headers = head
        body = b"" if method == "HEAD" or status in {204, 304} else await _body(reader, headers)
        found.statuses.append(status)
        found.bodies.append(body)
        if headers.get(b"connection", b"").lower() == b"close" or len(found.statuses) > len(methods):
            # What follows a request that was not a request is never answered.
            found.is_closed = True
            return
        if len(found.statuses) == len(methods):
            await _expect_silence(reader)
            return


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes]] | None:
    line = await reader.readline()
    if not line:
        return None
    version, _, rest = line.partition(b" ")
    if version != b"HTTP/1.1" or not rest[:3].isdigit():
        raise Unreadable(repr(line[:80]))
    headers: dict[bytes, bytes] = {}
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        name, colon, value = line.partition(b":")
        if not colon:
            raise Unreadable(repr(line[:80]))
        headers[name.lower()] = value.strip()
    status = int(rest[:3])
    return await _head(reader) if status == 100 else (status, headers)


async def _body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
    if b"content-length" in headers:
        return await reader.readexactly(int(headers[b"content-length"]))
    if headers.get(b"transfer-encoding") == b"chunked":
        pieces: list[bytes] = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            pieces.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readline()
        return b"".join(pieces)
    return await reader.read(1 << 24)


async def _expect_silence(reader: asyncio.StreamReader) -> None:
    """Take one turn: an answer that nobody asked for would lie there already."""
    await asyncio.sleep(0)
    buffered = bytes(reader._buffer)  # type: ignore[attr-defined]
    if buffered:
        message = f"more answers than requests: {buffered[:60]!r}"
        raise Unreadable(message)
