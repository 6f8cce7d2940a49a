"""Follower: an engine without a writer, which reads the leader's durable events, folds them and answers.

The leader publishes its durable position on the shared board and wakes its followers; they read the frames from the
same segments. So a follower's state is the leader's of a moment ago, bit by bit.
"""

import asyncio
from collections.abc import Callable, Sequence

from midstream.core.errors import AppendFailed
from midstream.core.protocols import LogReader
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.engine import Engine
from midstream.engine.ingest.log_reader import READ_EVENTS
from midstream.engine.replication.shared_board import Board
from midstream.events.schema import concat

AHEAD_EVENTS_MAX = 20_000
"""Events read and not applied yet, two reads of 2 MB: enough that folding never waits for the disk."""
PAUSE_S_MAX = 1.0
"""How long a full queue is waited for before it is looked at again."""


class FollowedLog:
    """An ``EventLog`` of another process: it ends at that process's durable position."""

    def __init__(self, reader: LogReader, board: Board) -> None:
        """Read with ``reader`` up to the position on ``board``."""
        self._reader = reader
        self._board = board

    @property
    def generation(self) -> int:
        """Number of times that history was rewritten, when this was opened."""
        return self._reader.generation

    @property
    def end(self) -> LogPosition:
        """Number of durable events: at least as many as the leader has acknowledged."""
        return self._board.end

    @property
    def last_log_time_ms(self) -> int:
        """Log time of the last durable event, 0 while there is none."""
        return self._board.last_log_time_ms

    def append(self, batch: EventBatch) -> LogPosition:
        """Refuse.

        Raises:
            AppendFailed: Only the leader appends.
        """
        message = f"{len(batch)} events came to a follower; only the leader appends"
        raise AppendFailed(message)

    def read(self, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, as ``EventLog.read`` does.

        Raises:
            LogDamaged: A checksum does not match.
        """
        return self._reader.read(after, limit, self.end)

    def close(self) -> None:
        """Do nothing: no file is kept open."""


class Following:
    """The task that brings an engine on with the log that it follows."""

    def __init__(self, engine: Engine, on_end: Callable[[BaseException], None]) -> None:
        """Follow ``engine.log``; call ``on_end`` when that cannot go on."""
        self._engine = engine
        self._on_end = on_end
        self._read: LogPosition = engine.fold.log_position
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def behind(self) -> int:
        """Durable events that the state has not."""
        return self._engine.log.end - self._engine.fold.log_position

    def wake(self) -> None:
        """There may be more; called on the owner's thread."""
        self._news.set()

    def start(self) -> None:
        """Begin on the running event loop."""
        self._news.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="midstream-follow")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Read no further; the engine applies the events already read."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while (end := self._engine.log.end) > self._read:
                if await self._has_room():
                    self._take(end)
                await asyncio.sleep(0)  # answers take their turns in between

    async def _has_room(self) -> bool:
        """Return whether few enough events wait for the fold, or do after a while."""
        wanted = LogPosition(max(0, self._read - AHEAD_EVENTS_MAX))
        return await self._engine.reached(wanted, PAUSE_S_MAX)

    def _take(self, end: LogPosition) -> None:
        """Read on, at most about ``READ_EVENTS``, and queue it as one batch."""
        after = self._read
        found = self._engine.log.read(after, min(READ_EVENTS, end - after))
        batch = concat([each for _, each in found])
        self._read = LogPosition(after + len(batch))
        self._engine.follow(after, batch)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_end(error)
