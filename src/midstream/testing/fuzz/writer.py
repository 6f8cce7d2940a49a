"""The writer without its thread: the same queue, frames and stamps, in turns of the loop some time apart.

Three moments are kept apart as a thread keeps them apart: entries are taken, the frame is written and synced, the owner
hears of it. Between them everything else goes on.
"""

import asyncio
from collections.abc import Callable

from midstream.core.protocols import EventLog
from midstream.core.types import Clock
from midstream.engine.writer import Entry, Writer, Written


class SimulatedWriter(Writer):
    """Writes a frame when time has come for it."""

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        monotonic: Callable[[], float],
        deliver: Callable[[Written], None],
        delay_s: Callable[[], float],
        *,
        keeps_event_time: bool,
    ) -> None:
        """Take what the writer takes; ``delay_s`` says how long the next step takes."""
        super().__init__(log, clock, monotonic, deliver, keeps_event_time=keeps_event_time)
        self._delay_s = delay_s
        self._hand: tuple[Entry, ...] = ()
        """Taken and not written."""
        self._written: Written | None = None
        """Written and not handed back."""
        self._is_busy = False

    def start(self) -> None:
        """There is no thread to start."""

    def submit(self, *entries: Entry) -> None:
        """Queue entries, as the writer does."""
        super().submit(*entries)
        self._arm()

    def close(self) -> None:
        """Finish what is under way and all that is queued."""
        self._closing = True
        while self._written is not None or self._hand or self._queue:
            self._step()

    def _arm(self) -> None:
        """Come back later, where there is work and nobody is at it."""
        if self._queue and not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_later(self._delay_s(), self._turn)

    def _turn(self) -> None:
        if self._written is None and not self._hand and not self._queue:
            self._is_busy = False  # the close was faster
            return
        self._step()
        if self._written is None and not self._hand:
            self._is_busy = False
            self._arm()
        else:
            asyncio.get_running_loop().call_later(self._delay_s(), self._turn)

    def _step(self) -> None:
        """Take, or write, or hand back: whatever is next."""
        if self._written is not None:
            written, self._written = self._written, None
            self._deliver(written)
        elif self._hand:
            entries, self._hand = self._hand, ()
            self._write(entries)
        else:
            self._hand = self._take()

    def _write(self, entries: tuple[Entry, ...]) -> None:
        is_done = False
        try:
            self._written = self._append(entries)
            is_done = True
        finally:
            if not is_done:
                self._give_up(entries)
