"""Another configuration comes into service while events and requests go on, and nothing is lost on the way."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from midstream.app.running import config_of, open_running
from midstream.core.errors import RebuildRunning
from midstream.core.types import LogPosition
from midstream.engine.running import Running
from midstream.engine.types import RebuildView
from midstream.state.fold import Fold
from midstream.testing.rig import Rig, view

LIMITS = """
[limits]
users_max = 100
items_max = 200
click_items_max = 100
sessions_max = 100
event_ids_max = 1000
hot_items_max = 50
"""
WEIGHTS = "[events.types]\nview = { weight = 3.0 }\ncart = {}\n"


def write(folder: Path, text: str) -> None:
    """Write the configuration file."""
    folder.mkdir(exist_ok=True)
    (folder / "midstream.toml").write_text(text + LIMITS)


def run(folder: Path, work: Callable[[Running], Awaitable[None]], *, may_serve_before: bool = False) -> None:
    """Open a folder, do the work, close it."""

    async def main() -> None:
        running = open_running(folder, config_of(folder), may_serve_before=may_serve_before)
        await running.start()
        try:
            await work(running)
        finally:
            await running.stop()

    asyncio.run(main())


async def over(running: Running) -> RebuildView:
    """Wait until a rebuild is over."""
    async with asyncio.timeout(100):
        while running.rebuilder.is_running:  # noqa: ASYNC110  a child process is waited for
            await asyncio.sleep(0.02)
    return running.rebuilder.view()


def anew(running: Running) -> str:
    """Return the digest of the whole log, folded in one go under what is in service."""
    fold = Fold(running.service.settings, running.engine.fold.dropped)
    for first, batch in running.engine.log.read(LogPosition(0), 1_000_000):
        fold.apply(first, batch)
    return fold.digest()


def test_first(tmp_path: Path) -> None:
    write(tmp_path, "")

    async def work(running: Running) -> None:
        batch = Rig().batch(
            *(view(f"i{number % 50}", f"u{number % 20}", event_id=str(number)) for number in range(500))
        )
        await running.engine.record(batch)
        assert (await running.rebuilder.order()).change == "nothing"
        write(tmp_path, WEIGHTS)
        assert (await running.rebuilder.order()).change == "state"
        with pytest.raises(RebuildRunning):
            await running.rebuilder.order()
        found = await over(running)
        assert (found.state, found.reason) == ("done", "")
        assert running.service.settings.types["view"].weight == 3.0
        assert running.engine.fold.settings == running.service.settings
        assert running.engine.fold.digest() == anew(running)

    run(tmp_path, work)
