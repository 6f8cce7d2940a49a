"""Serves the fake engine until it is told to stop; prints its address and, when it stopped well, a last word."""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import msgspec

from midstream.core.durations import Duration
from midstream.engine.types import Liveness
from midstream.monitoring.logs import LogOptions, logging_to
from midstream.serving.options import ServerOptions
from midstream.serving.run import OpenedEngine, serve
from tests.support.fakes.engine import FakeEngine

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class SlowEngine(FakeEngine):
    """Takes a while to record, as a disk does: says that it begins, and ends when it is told to."""

    def __init__(self):
        super().__init__()
        self._told = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))

    async def record(self, batch, _guard=None, *, within_s=None):
        print("records", flush=True)
        await asyncio.shield(self._told)
        return await super().record(batch)


@asynccontextmanager
async def opening(_signals):
    """Make an engine; say how many events it had in the end."""
    engine = SlowEngine() if "--slow" in sys.argv else FakeEngine()
    for each in sys.argv:
        if each.startswith("--log="):
            engine.liveness = Liveness("live", each.removeprefix("--log="), os.getpid())
    yield OpenedEngine(cast("Engine", engine), engine.accept)
    print(f"stopped with {len(engine.events)} events", flush=True)


if __name__ == "__main__":
    wait = "500ms" if "--hasty" in sys.argv else "600s"
    waits = {"body_wait_max": wait, "head_wait_max": wait, "stop_wait_max": "600s", "keep_alive": "1h"}
    drains = [each.removeprefix("--drain=") for each in sys.argv if each.startswith("--drain=")]
    options = msgspec.convert(
        {"port": 0, "connections_max": 64, "drain": drains[0] if drains else "0s", **waits},
        ServerOptions,
        dec_hook=lambda kind, value: kind(value) if kind is Duration else value,
    )
    with logging_to(sys.stderr, LogOptions(format="text")):
        serve(opening, options, lambda url: print(url, flush=True))
