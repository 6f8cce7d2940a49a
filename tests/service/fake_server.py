"""Serves the fake engine until it is told to stop; prints its address and, when it stopped well, a last word."""

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import msgspec

from midstream.core.durations import Duration
from midstream.serving.options import ServerOptions
from midstream.serving.run import Opened, serve
from midstream.testing.engine import FakeEngine

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class SlowEngine(FakeEngine):
    """Takes a while to record, as a disk does."""

    async def record(self, batch):
        await asyncio.sleep(0.3)
        return await super().record(batch)


@asynccontextmanager
async def opening():
    """Make an engine; say how many events it had in the end."""
    engine = SlowEngine() if "--slow" in sys.argv else FakeEngine()
    yield Opened(cast("Engine", engine), engine.accept)
    print(f"stopped with {len(engine.events)} events", flush=True)


if __name__ == "__main__":
    wait = "60s" if "--patient" in sys.argv else "500ms"
    options = msgspec.convert(
        {"port": 0, "body_wait_max": wait, "head_wait_max": wait, "connections_max": 64},
        ServerOptions,
        dec_hook=lambda kind, value: kind(value) if kind is Duration else value,
    )
    serve(opening, options, lambda url: print(url, flush=True))
