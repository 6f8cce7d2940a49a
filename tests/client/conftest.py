"""A real engine in this process, and servers that answer as a test says."""

import asyncio

import httpx
import pytest

import midstream
from midstream.client import AsyncClient
from midstream.client.exchange import ClientSession, Edge
from midstream.client.positions import Positions
from tests.support.rig import SMALL

URL = "http://localhost"


@pytest.fixture
def in_process(tmp_path):
    """Run a coroutine function with a client of an engine in this process."""

    def run(work, **options):
        async def whole():
            async with midstream.asgi(tmp_path, SMALL) as engine:
                transport = httpx.ASGITransport(engine)
                async with AsyncClient(URL, transport=transport, **options) as client:
                    return await work(client)

        return asyncio.run(whole())

    return run


class ScriptedEdge:
    """A clock that pauses and attempts move, ids that count up, and the largest random number each time."""

    def __init__(self, uniform=1.0):
        self.now_s = 0.0
        self.ids = 0
        self.edge = Edge(lambda: self.now_s, self._next, lambda: uniform)

    def _next(self):
        self.ids += 1
        return f"id-{self.ids}"

    def session(self, options):
        """A session on this edge."""
        return ClientSession(URL, options, self.edge, Positions(options.visitors_max))
