"""Orders to a folder: carried out by an engine that is opened for them, else by the server that has the folder open."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from midstream.app.config.schema import Config
from midstream.app.opening import open_running
from midstream.core.errors import FolderLocked
from midstream.engine.instance import Instance

T = TypeVar("T")
ANSWER_S_MAX = 60.0
"""A change compiles what was never asked, and waits for a commit."""


def by_engine(folder: Path, config: Config, work: Callable[[Instance], Awaitable[T]]) -> T:
    """Open a folder, do the work beside its engine, and return what the work returned.

    Raises:
        FolderLocked: Another process has the folder open.
    """

    async def main() -> T:
        async with open_running(folder, config) as running:
            return await work(running)

    return asyncio.run(main())


def changed(
    opened: tuple[Path, Config],
    work: Callable[[Instance], Awaitable[T]],
    ask: Callable[[], bytes | None],
    read: Callable[[bytes], T],
) -> T:
    """Change what nobody has open ourselves, else ask the server that has.

    Args:
        opened: The folder, and its configuration.
        work: The change.
        ask: Has a server do the same, and returns its answer; None = there is none.
        read: Makes of that answer what the work returns.

    Raises:
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
    """
    try:
        return by_engine(*opened, work)
    except FolderLocked:
        told = ask()
        if told is None:
            raise
        return read(told)
