"""One connection, byte by byte: what the app is told of a request that was read."""

import asyncio

import pytest
import uvicorn
from uvicorn.server import ServerState

from midstream.serving.body import WHOLE
from midstream.serving.protocol import BoundedProtocol, HeadLimits

HEAD = b"POST /v1/recommendations HTTP/1.1\r\nhost: m\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that nobody reads."""

    def write(self, data):
        """Take it."""

    def close(self):
        """Nothing is left open."""

    def pause_reading(self):
        """A request waits for the one before."""

    def resume_reading(self):
        """None does."""

    def is_closing(self):
        """Never."""
        return False

    def get_extra_info(self, name, default=None):
        """Nothing is known."""
        return default


def marks(pieces):
    """Read pieces one after another; return after each whether the newest request is said to be whole."""

    async def app(_scope, _receive, _send):
        await asyncio.Event().wait()

    async def read():
        config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False)
        config.load()
        protocol = BoundedProtocol(config, ServerState(), {}, limits=HeadLimits(32_768, 10.0))
        protocol.connection_made(Wire())
        found = []
        for piece in pieces:
            protocol.data_received(piece)
            found.append(WHOLE in protocol.scope)
        protocol.connection_lost(None)
        for task in protocol.tasks:
            task.cancel()
        return found

    return asyncio.run(read())


@pytest.mark.parametrize(
    "pieces, wanted",
    [
        ([HEAD + b"{}"], [True]),
        ([HEAD, b"{", b"}"], [False, False, True]),
        ([HEAD + b"{}", HEAD + b"{"], [True, False]),
    ],
)
def test_a_body_is_called_whole_once_its_last_byte_came(pieces, wanted):
    """Before that it is waited for, under a time-out; one that is whole needs none. Each request has its own mark."""
    assert marks(pieces) == wanted
