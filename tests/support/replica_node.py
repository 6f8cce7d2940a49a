"""One node of a shared log in a process of its own, which records until it is killed.

Prints a line for each acknowledged event: ``python -m tests.support.replica_node FOLDER NAME``.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from midstream.app.config.reader import read_config
from midstream.app.opening import open_running
from midstream.core.errors import MidstreamError
from midstream.engine.instance import Instance
from midstream.events.json.decode import decode_objects

AT_ONCE = 5


async def main(folder: Path, name: str) -> None:
    """Record events without end, a few at once; print the ids of what was acknowledged."""
    running = open_running(folder, read_config(folder / "midstream.toml"))
    async with running:
        print("ready", flush=True)
        number = 0
        while True:
            ids = [f"{name}-{number + each}" for each in range(AT_ONCE)]
            number += AT_ONCE
            results = await asyncio.gather(*(record(running, each) for each in ids), return_exceptions=True)
            for each, result in zip(ids, results, strict=True):
                if not isinstance(result, BaseException):
                    print(each, flush=True)
                elif not isinstance(result, MidstreamError):
                    raise result


async def record(running: Instance, event_id: str) -> None:
    """Record one view, sent again while nothing is taken."""
    accept = msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock())
    event = {"type": "view", "event_id": event_id, "user_id": f"user-{event_id[-1]}", "item_id": "lamp"}
    await running.engine.record(decode_objects((event,), accept).batch)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
