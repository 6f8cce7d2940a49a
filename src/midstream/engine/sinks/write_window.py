"""Write window of a sink: calls of a store beside one another, at most so many, each with rows of one version."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from midstream.engine.stores.online_store import OnlineStore, StoreRows, StoreValue, turns_of

GROUP_ROWS_MAX = 1_000
"""Rows of one call of the store, when nothing is folded between the turns."""
WRITES_MAX = 8
"""Calls of the store at one time: a store on another machine answers each after a millisecond or two."""


@dataclass(slots=True)
class WriteGroup:
    """Rows of one version."""

    version: int
    ids: list[str] = field(default_factory=list[str])
    rows: list[list[StoreValue]] = field(default_factory=list[list[StoreValue]])
    places: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Slot and hash of each row."""
    gone: list[str] = field(default_factory=list[str])
    """Ids of rows to delete."""

    def __len__(self) -> int:
        return len(self.ids) + len(self.gone)


class WriteWindow:
    """Calls of a store beside one another, at most ``WRITES_MAX``: the first failure ends all of them."""

    def __init__(self, store: OnlineStore, sent: Callable[[WriteGroup], None]) -> None:
        self._store = store
        self._sent = sent
        self._open: WriteGroup | None = None
        self._full: list[WriteGroup] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Send the rest and wait for all; after an exception cancel them."""
        try:
            if kind is None:
                self._close_group()
                await self._send_full()
                while self._tasks:
                    await self._one_ended()
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def group(self, version: int) -> WriteGroup:
        """Return the group that takes rows of a version now."""
        if self._open is not None and (self._open.version != version or len(self._open) >= GROUP_ROWS_MAX):
            self._close_group()
        if self._open is None:
            self._open = WriteGroup(version)
        return self._open

    async def turn(self) -> None:
        """Let others have the event loop, and the store what is complete."""
        await self._send_full()
        await asyncio.sleep(0)

    def _close_group(self) -> None:
        if self._open is not None and len(self._open):
            self._full.append(self._open)
        self._open = None

    async def _send_full(self) -> None:
        while self._full:
            while len(self._tasks) >= WRITES_MAX:
                await self._one_ended()
            self._tasks.add(asyncio.get_running_loop().create_task(self._send(self._full.pop(0))))

    async def _one_ended(self) -> None:
        """Wait for a call, and raise what it raised."""
        ended, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for error in [task.exception() for task in ended]:
            if error is not None:
                raise error

    async def _send(self, group: WriteGroup) -> None:
        if group.gone:
            await self._store.delete(tuple(dict.fromkeys(group.gone)), group.version)
        if group.ids:
            columns: dict[str, list[StoreValue]] = {name: [] for name in self._store.columns}
            for places in turns_of(len(group.rows), len(columns)):
                for column, more in zip(
                    columns.values(), zip(*group.rows[places.start : places.stop], strict=True), strict=True
                ):
                    column.extend(more)
                await asyncio.sleep(0)
            await self._store.write(StoreRows(group.ids, columns), group.version)
        self._sent(group)
