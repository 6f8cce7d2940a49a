"""Commit dispatcher: what becomes of the frames that the log thread wrote, on the thread that owns the state.

What is durable is handed to the fold before anybody hears of it. What is not fails for all who wait for it, and, unless
it may be tried again, closes the log to further events.
"""

import asyncio
import threading
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Protocol

from midstream.core.errors import AppendFailed, CommitTooSlow, DiskFull, MidstreamError
from midstream.core.protocols import EventLog
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.writer import WrittenFrame, append_fact
from midstream.engine.listeners import Listeners
from midstream.monitoring.facts import Facts
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold

BEHIND_EVENTS_MAX = 100_000
"""Durable events that wait for the fold, as many as may wait for the log: 20 MB at 200 B, a second of folding."""
FOLD_LOOK_S = 0.002
"""Until the log thread of a shared log looks again whether the fold has caught up: two turns."""


class CommitState(Protocol):
    """What is in service, as frames see it."""

    @property
    def log(self) -> EventLog:
        """The log."""
        ...

    @property
    def fold(self) -> Fold:
        """The state."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Metrics of the process."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CommitParts:
    """Parts of an engine that hear of frames."""

    live: CommitState
    folding: FoldScheduler
    listeners: Listeners
    facts: Facts
    concerns: MutableMapping[str, str]
    is_shared: bool
    """Several nodes append to the log."""


class CommitDispatcher:
    """Way of written frames from the log thread to the fold, and to those who wait for them."""

    def __init__(self, parts: CommitParts) -> None:
        """Hand frames to ``parts``, once ``begin`` was called."""
        self._parts = parts
        self.refusal: AppendFailed | None = None
        """Why the last frame was not written; None = it was."""
        self._served: Callable[[WrittenFrame], None] = _nobody
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pause = threading.Event()
        """Never set: the log thread rests on it."""

    def begin(self, served: Callable[[WrittenFrame], None]) -> None:
        """Hand frames to the running event loop from now on, each to ``served`` before others hear of it."""
        self._loop, self._served = asyncio.get_running_loop(), served

    @property
    def is_closed(self) -> bool:
        """Whether the log is closed to every event; a full disk is not, it is tried again."""
        return self.refusal is not None and not isinstance(self.refusal, DiskFull)

    def hand_back(self, written: WrittenFrame) -> None:
        """Called on the log thread: go on on the owner's."""
        loop = self._loop
        if loop is None:
            return
        loop.call_soon_threadsafe(self._on_written, written)
        if self._parts.is_shared:
            self._wait_for_fold(loop)

    def _wait_for_fold(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on the log thread while much is durable and not folded: other nodes append at any rate."""
        live, folding = self._parts.live, self._parts.folding
        while live.log.end - live.fold.log_position > BEHIND_EVENTS_MAX // 2:
            if folding.failure is not None or loop.is_closed():
                return
            self._pause.wait(FOLD_LOOK_S)

    def _on_written(self, written: WrittenFrame) -> None:
        parts, metrics = self._parts, self._parts.live.metrics
        if isinstance(written.error, CommitTooSlow):
            self._served(written)
            self._fail(written, written.error)
            return
        if written.error is not self.refusal:
            parts.facts.note(append_fact(written.error, parts.live.log.end))
        self.refusal = written.error
        self._served(written)
        if written.error is None:
            metrics.observe_commit(len(written.batch), written.append_s)
            for entry in written.entries:
                if entry.spans is not None:
                    entry.spans.note_durable(written.append_s, len(written.batch))
            # Before anybody is told: whatever becomes of that, what is durable is folded.
            told = (written.first, written.batch, written.tickets(), written.prints)
            try:
                parts.folding.add(*told, tells_copies=parts.is_shared and bool(written.entries))
            finally:  # it is durable whatever becomes of its turn
                self._tell_commit()
            return
        metrics.append_failures.labels("disk_full" if isinstance(written.error, DiskFull) else "append_failed").inc()
        self._fail(written, written.error)

    @staticmethod
    def _fail(written: WrittenFrame, error: MidstreamError) -> None:
        """Tell all who wait for events that were not stored, or of which that is not known."""
        for entry in written.entries:
            if entry.ticket is not None and not entry.ticket.done():
                entry.ticket.set_exception(error)

    def _tell_commit(self) -> None:
        """Call all listeners of a commit; an exception of one goes to the event loop and to health."""
        parts = self._parts
        parts.concerns["commit"] = (
            "what goes on beside the engine was not told of a commit; the log of the process says why"
        )
        parts.listeners.tell_commit()
        del parts.concerns["commit"]


def _nobody(_written: WrittenFrame) -> None:
    """Do nothing: no frame comes before the begin."""
