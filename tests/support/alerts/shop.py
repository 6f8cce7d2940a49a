"""A whole shop in process, as ``midstream serve`` opens it, and hands on its clocks, disk and memory from outside.

Its clocks stand unless a test moves them: a machine that is busy makes no answer slow and no write late.
"""

import asyncio
import errno
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

from midstream.app import machine_reading
from midstream.app.opening import Outside, config_of
from midstream.app.server.opened_engine import open_with_groups, opened_engine
from midstream.core.types import TimestampMs
from midstream.engine import child_process
from midstream.engine.child_process import Ended, WorkOrder
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.instance import Instance
from midstream.events.disk import Bytes, RealDisk
from midstream.serving import app as serving_app
from tests.support.alerts.promtool import promtool
from tests.support.alerts.scrapes import SHOP, Scrape, read
from tests.support.alerts.tape import Tape
from tests.support.fakes.rebuilds import run_in_process
from tests.support.rig import START_MS

LIMITS = """
[limits]
users_max = 1_000
items_max = 1_000
click_items_max = 100
sessions_max = 100
event_ids_max = 30_000
"""


class OrderedDisk(RealDisk):
    """The disk of the machine, which may be full, broken, or slow by a clock."""

    def __init__(self, hands: "Hands") -> None:
        """Begin well."""
        super().__init__()
        self._hands = hands
        self.is_full = False
        self.is_broken = False
        self.sync_s = 0.0

    def write(self, file: int, parts: Sequence[Bytes], start: int) -> None:
        """Write, unless there is no room."""
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(file, parts, start)

    def sync(self, file: int) -> None:
        """Make durable, unless that fails."""
        self._hands.pass_by(self.sync_s)
        if self.is_broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(file)


@dataclass
class Hands:
    """What a test may do to a shop from outside."""

    groups: Path
    """In place of the control groups of the machine."""
    now_ms: int = START_MS
    """Of the wall clock."""
    since_s: float = 1_000.0
    """Of the clock that never goes back."""
    free_share: float = 0.9
    """Of the disk of the data folder."""
    children_fail: bool = False
    """Of those that write snapshots, states and logs anew."""
    disk: OrderedDisk = field(init=False)

    def __post_init__(self) -> None:
        """Have a disk that is well."""
        self.disk = OrderedDisk(self)
        self._statvfs = os.statvfs
        self._runs_since = 0.0
        self.limit_memory(1 << 60)

    def monotonic(self) -> float:
        """Return the time of the clock that never goes back."""
        return self.since_s + (time.monotonic() - self._runs_since if self._runs_since else 0.0)

    @contextmanager
    def standing(self) -> Generator[None]:
        """Have that clock stand; behind that it runs, since the end of a shop waits for some things by it."""
        self.since_s, self._runs_since = self.monotonic(), 0.0
        try:
            yield
        finally:
            self._runs_since = time.monotonic()

    def pass_by(self, seconds: float) -> None:
        """Let time go by, on both clocks."""
        self.now_ms += int(seconds * 1_000)
        self.since_s += seconds

    def limit_memory(self, size: int) -> None:
        """Limit the memory of the container."""
        self.groups.mkdir(exist_ok=True)
        (self.groups / "memory.max").write_text(f"{size}\n", "ascii")

    async def child(self, module: str, order: WorkOrder, *rest: Any, **limits: float | None) -> Ended:
        """Do what the child of a module does; one that fails tells its reason."""
        if self.children_fail:
            return Ended(b"", "OSError: [Errno 28] No space left on device", is_told=True)
        return await run_in_process(module, order, *rest)

    def statvfs(self, path: Any) -> os.statvfs_result:
        """Return what the kernel says of a disk, but for its free blocks."""
        found = list(self._statvfs(path))
        found[3] = found[4] = int(found[2] * self.free_share)
        return os.statvfs_result(found)


@dataclass
class Shop:
    """A running shop and what asks it."""

    folder: Path
    hands: Hands
    running: Instance
    client: httpx.AsyncClient
    inputs: InputGroup

    async def scrape(self) -> Scrape:
        """Return what Prometheus gets now."""
        answer = await self.client.get("/metrics")
        return read(answer.text) if answer.status_code == 200 else Scrape(SHOP, is_up=False)

    async def ask(self, count: int = 1, **query: object) -> set[int]:
        """Ask for slates, one after another; return the statuses."""
        body = {"session_id": "s1", "n": 3, **query}
        return {(await self.client.post("/v1/recommendations", json=body)).status_code for _ in range(count)}

    async def act(self, count: int = 1, **event: object) -> set[int]:
        """Record views, a request each; return the statuses."""
        body = {"type": "view", "session_id": "s1", "item_id": "i1", **event}
        return {(await self.client.post("/v1/events", json=body)).status_code for _ in range(count)}


def write(folder: Path, config: str = "", limits: str = LIMITS) -> None:
    """Write the configuration of a folder."""
    (folder / "midstream.toml").write_text(limits + config, "utf-8")


@asynccontextmanager
async def opened(
    folder: Path, config: str = "", hands: Hands | None = None, limits: str = LIMITS
) -> AsyncGenerator[Shop]:
    """Open a folder with a configuration beside the limits, and close it; one act and one slate were made there."""
    hands = hands or Hands(folder / "groups")
    write(folder, config, limits)
    outside = Outside(
        clock=lambda: TimestampMs(hands.now_ms), monotonic=hands.monotonic, worked_s=lambda: 0.0, disk=hands.disk
    )
    reading = partial(machine_reading.read_machine, groups=hands.groups)
    with (
        patch.object(machine_reading, "read_machine", reading),
        patch.object(os, "statvfs", hands.statvfs),
        patch.object(serving_app, "perf_counter", hands.monotonic),
        patch.object(child_process, "run", hands.child),
    ):
        running, inputs, outputs = open_with_groups(folder, config_of(folder), outside=outside)
        async with running:
            made = opened_engine(folder, running, inputs, outputs)
            app = serving_app.asgi(made.engine, made.accept, running.config.server, made.ingest, made.upkeep)
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            with hands.standing():
                async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                    shop = Shop(folder, hands, running, client, inputs)
                    assert await shop.ask() == {200}
                    assert await shop.act() == {200}  # with what was served in one commit
                    yield shop


def story(tell: Callable[..., Awaitable[Tape]]) -> Callable[..., None]:
    """Make a test of a coroutine function that fills a tape: it is told to its end, and the tape is played."""

    @wraps(tell)
    def test(tmp_path: Path, **more: Any) -> None:
        promtool()  # skips before anything is opened

        async def main() -> Tape:
            return await tell(tmp_path, **more)

        asyncio.run(main()).play(tmp_path)

    return test
