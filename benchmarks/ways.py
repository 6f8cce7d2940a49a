"""Ways of an event and of a question through the sources: each function, in the order of its first call.

``python -m benchmarks.ways`` opens a new folder and sends some events and a question through the ASGI app. Then it
follows one more event to its answer, one more question to its slate, and the record of that slate to the state, with
``sys.setprofile`` on every thread. It prints the number of files that each enters, which ``docs/architecture.md``
names, and the functions; ``--files`` prints the files alone. Compiled code inside of a kernel is not seen.
"""

import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import Awaitable
from pathlib import Path
from types import FrameType

import httpx

import midstream
from midstream.app.opening import config_of, open_running
from midstream.serving.app import asgi
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import RequestOrigin

SOURCES = str(Path(midstream.__file__).parent)
JSON = {"content-type": "application/json"}
EVENT = {"type": "view", "session_id": "s1", "item_id": "lamp"}
QUESTION = {"session_id": "s1", "n": 3}
SETTLE_S = 0.3
"""After the answer: what was served is written to the log in the next turns."""


class Trace:
    """Functions of midstream that were entered, in the order of their first calls, on any thread."""

    def __init__(self) -> None:
        """Begin with none, and not yet."""
        self.calls: dict[tuple[str, str], None] = {}
        self.is_on = False

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note a call; take part as a profile function."""
        code = frame.f_code
        if self.is_on and event == "call" and code.co_filename.startswith(SOURCES):
            self.calls.setdefault((code.co_filename[len(SOURCES) + 1 :], code.co_qualname))

    async def of(self, act: Awaitable[object]) -> list[tuple[str, str]]:
        """Return what is called until an act is done."""
        self.calls.clear()
        self.is_on = True
        await act
        self.is_on = False
        return list(self.calls)


def files_of(calls: list[tuple[str, str]]) -> list[str]:
    """Return files in the order in which they were entered."""
    return list(dict.fromkeys(file for file, _ in calls))


async def ways(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Return the ways of an event, of a question, and of its record after the answer, on a new shop."""
    trace = Trace()
    threading.setprofile(trace.note)
    sys.setprofile(trace.note)
    running = open_running(folder, config_of(folder))
    await running.start()
    try:
        app = RequestOrigin(asgi(running.engine, lambda: running.service.accept), ServerOptions(allow_hosts=("test",)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def record(item: str) -> None:
                answer = await client.post("/v1/events", content=json.dumps(EVENT | {"item_id": item}), headers=JSON)
                answer.raise_for_status()

            async def ask() -> None:
                answer = await client.post("/v1/recommendations", content=json.dumps(QUESTION), headers=JSON)
                answer.raise_for_status()

            for item in ("shade", "bulb", "desk", "chair"):
                await record(item)
            await ask()
            await asyncio.sleep(SETTLE_S)
            return {
                "event": await trace.of(record("lamp")),
                "question": await trace.of(ask()),
                "served record": await trace.of(asyncio.sleep(SETTLE_S)),
            }
    finally:
        sys.setprofile(None)
        await running.stop()


def main() -> None:
    """Print both ways."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(ways(Path(folder)))
    for name, calls in found.items():
        files = files_of(calls)
        print(f"{name}: {len(files)} files, {len(calls)} functions")
        for line in files if "--files" in sys.argv else map(" ".join, calls):
            print(f"  {line}")


if __name__ == "__main__":
    main()
