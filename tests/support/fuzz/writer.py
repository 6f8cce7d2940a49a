"""The writer without its thread: the same queue, frames and stamps, in turns of the loop some time apart.

Three moments are kept apart as a thread keeps them apart: entries are taken, the frame is written and synced, the owner
hears of it. Between them everything else goes on.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

from midstream.core.errors import AppendFailed
from midstream.core.protocols import EventLog
from midstream.core.types import Clock
from midstream.engine.ingest.writer import LogWriter, QueueEntry, WrittenFrame
from midstream.state.structures.hashing import IdKey


class SimulatedWriter(LogWriter):
    """Writes a frame when time has come for it."""

    def __init__(
        self,
        *told: *tuple[EventLog, Clock, Callable[[], float], Callable[[WrittenFrame], None], IdKey],
        delay_s: Callable[[], float],
        keeps_event_time: bool,
    ) -> None:
        """Take what the writer takes; ``delay_s`` says how long the next step takes, and raises in a dead process."""
        super().__init__(*told, keeps_event_time=keeps_event_time)
        self._delay_s = delay_s
        self._hand: tuple[QueueEntry, ...] = ()
        """Taken and not written."""
        self._written: WrittenFrame | None = None
        """Written and not handed back."""
        self._is_busy = False

    def start(self) -> None:
        """There is no thread to start."""

    def submit(self, *entries: QueueEntry) -> None:
        """Queue entries, as the writer does."""
        super().submit(*entries)
        self._arm()

    def between_frames(self, work: Callable[[EventLog], EventLog]) -> Future[None]:
        """Have something done while nothing is written, as the writer does."""
        done = super().between_frames(work)
        self._arm()
        return done

    def close(self) -> None:
        """Finish what is under way and all that is queued."""
        self._closing = True
        while self._is_under_way or self._has_work:
            self._step()

    def _arm(self) -> None:
        """Come back later, where there is work and nobody is at it."""
        if self._has_work and not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_later(self._delay_s(), self._turn)

    def _turn(self) -> None:
        next_s = self._delay_s()
        if not self._is_under_way and not self._has_work:
            self._is_busy = False  # the close was faster
            return
        self._step()
        if not self._is_under_way:
            self._is_busy = False
            self._arm()
        else:
            asyncio.get_running_loop().call_later(next_s, self._turn)

    @property
    def _is_under_way(self) -> bool:
        """Whether a frame was begun and not handed back."""
        return self._written is not None or bool(self._hand)

    @property
    def _has_work(self) -> bool:
        return bool(self._queue) or self._errand is not None

    def _step(self) -> None:
        """Take, or write, or hand back: whatever is next."""
        if self._written is not None:
            written, self._written = self._written, None
            self._deliver(written)
        elif self._hand:
            entries, self._hand = self._hand, ()
            self._write(entries)
        elif self._errand is not None:
            self._do_errand()
        else:
            self._hand = self._take()

    def _write(self, entries: tuple[QueueEntry, ...]) -> None:
        is_done = False
        try:
            self._written = self._append(entries)
            is_done = True
        finally:
            if not is_done:
                self._give_up(entries, AppendFailed("the writer ended by a bug"))
