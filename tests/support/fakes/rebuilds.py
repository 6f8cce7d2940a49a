"""Fixtures for tests of rebuilds: a folder opened for the length of one coroutine, and children without a process."""

import asyncio
import resource
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from midstream.app.opening import config_of, open_running
from midstream.core.types import LogPosition
from midstream.engine.child_process import Ended, Notify, Pace, WorkOrder, nobody
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.instance import Instance
from midstream.engine.types import RebuildView
from midstream.state.fold import Fold
from tests.support.patience import PATIENCE_S

SMALL_LIMITS = """
[limits]
users_max = 100
items_max = 200
click_items_max = 100
sessions_max = 100
event_ids_max = 5000
hot_items_max = 50
new_items_max = 50
"""


def write_config(folder: Path, text: str = "", limits: str = SMALL_LIMITS) -> None:
    """Write ``midstream.toml``."""
    folder.mkdir(exist_ok=True)
    (folder / "midstream.toml").write_text(text + limits)


def run_folder(
    folder: Path, work: Callable[[Instance], Awaitable[None]], *, may_serve_before: bool = False
) -> Instance:
    """Open a folder, do the work, close it; return what was open."""

    async def main() -> Instance:
        running = open_running(folder, config_of(folder), may_serve_before=may_serve_before)
        await running.start()
        try:
            await work(running)
        finally:
            await running.stop()
        return running

    return asyncio.run(main())


async def rebuilt(running: Instance) -> RebuildView:
    """Wait until a rebuild is over.

    Raises:
        TimeoutError: It takes longer than any that goes well.
    """
    async with asyncio.timeout(PATIENCE_S):
        while running.rebuilder.is_running:  # noqa: ASYNC110  a process or a thread is waited for
            await asyncio.sleep(0.005)
    return running.rebuilder.view()


def digest_anew(running: Instance) -> str:
    """Return the digest of the whole log, folded from its first event under what is in service."""
    fold = Fold(running.service.settings, running.engine.fold.dropped)
    log = running.engine.log
    catch_up(fold, log.read, LogPosition(running.engine.fold.log_position))
    return fold.digest()


async def run_in_process(module: str, order: WorkOrder, notify: Notify = nobody, **_limits: float | None) -> Ended:
    """Do what the child of a module does, on a thread: the stand-in for ``child.run``, fifty times as fast."""
    loop = asyncio.get_running_loop()
    part: Any = import_module(module)

    def tell(stage: str, done: int, total: int) -> None:
        loop.call_soon_threadsafe(notify, stage, done, total)

    def work() -> bytes:
        return msgspec.json.encode(part.run(order, Pace(tell, hurried=True)))

    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        return Ended(await asyncio.to_thread(work), "")
    finally:  # a training limits the memory of its process, which is this one here
        resource.setrlimit(resource.RLIMIT_AS, before)
