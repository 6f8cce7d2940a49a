"""Forwarding of a follower's served records to the leader, in the batches of its buffer.

No caller waits for them, as on the leader. A batch for which the leader has no room is sent again until it has, so
nothing is lost here; records without room here stay in the buffer, which has a maximum.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable

import numpy as np

from midstream.core.errors import AppendFailed, Overloaded
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.engine.background_service import BackgroundService
from midstream.engine.ingest.writer import QueueEntry
from midstream.events.schema import ROW, text_lengths
from midstream.monitoring.metrics import Metrics

LOTS_MAX = 64
"""Lots that wait for the leader: 64 x 20 ms, more than a second in which it did not answer."""
SEND_S_MAX = 5.0
"""How long the end of a process waits for its last lots."""
AGAIN_S = 0.1
"""Until a lot that was not taken is sent again."""
_COUNT = struct.Struct("<I")

Send = Callable[[bytes], Awaitable[bool]]
"""Sends one lot to the leader; returns whether it is done with, else it is to be sent again."""


class Forwarding:
    """Replacement of the writer in a follower process."""

    def __init__(self, send: Send, metrics: Metrics) -> None:
        """Send lots with ``send``, one after another."""
        self._send = send
        self.metrics = metrics
        self._lots: deque[EventBatch] = deque()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.concerns: dict[str, str] = {}
        """Those of the engine that it stands in."""
        self.service = BackgroundService("forward", self._forward, 0.0, self.concerns, metrics)
        """The loop that sends."""

    @property
    def queued_events(self) -> int:
        """Records that wait for the leader."""
        return sum(len(lot) for lot in self._lots)

    def start(self) -> None:
        """Begin to send on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.service.start()

    def submit(self, *entries: QueueEntry) -> None:
        """Queue records.

        Raises:
            AppendFailed: A caller waits for one of them: events have to go to the leader directly.
            Overloaded: Too many batches wait for the leader; nothing was queued.
        """
        if any(entry.ticket is not None for entry in entries):
            message = "a follower takes no events; the leader does"
            raise AppendFailed(message)
        if len(self._lots) + len(entries) > LOTS_MAX:
            message = f"{len(self._lots)} lots of served records wait for the leader, at most {LOTS_MAX} may"
            raise Overloaded(message)
        self._lots.extend(entry.batch for entry in entries)
        self._idle.clear()
        self._work.set()

    async def sent(self, timeout_s: float) -> bool:
        """Wait until the leader has all that was queued; return False when the time is over before."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Wait until the leader has all that was queued, a few seconds at most; called from another thread."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    async def _close(self) -> None:
        await self.sent(SEND_S_MAX)
        await self.service.stop()

    async def _forward(self) -> None:
        await self._work.wait()
        while self._lots:
            is_refused = False
            try:
                is_refused = not await self._send(encode_lot(self._lots[0]))
            finally:  # a lot that cannot be sent does not hold up those behind it
                if not is_refused:
                    self._lots.popleft()
            if is_refused:
                self.metrics.count_overload("served")
                await asyncio.sleep(AGAIN_S)
        self._work.clear()
        self._idle.set()


def encode_lot(lot: EventBatch) -> bytes:
    """Return a batch as bytes for another process of the same program: number of rows, rows, texts."""
    return _COUNT.pack(len(lot)) + lot.rows.tobytes() + lot.text


def lot_length(sent: bytes) -> int:
    """Return how many records ``encode_lot`` wrote."""
    (count,) = _COUNT.unpack_from(sent)
    return int(count)


def decode_lot(sent: bytes) -> EventBatch | None:
    """Return the batch that ``encode_lot`` wrote; None when the bytes are not those of served records."""
    if len(sent) < _COUNT.size:
        return None
    (count,) = _COUNT.unpack_from(sent)
    text_start = _COUNT.size + count * ROW.itemsize
    if not count or len(sent) < text_start:
        return None
    batch = EventBatch(np.frombuffer(sent, ROW, count, _COUNT.size), sent[text_start:])
    lengths = text_lengths(batch).sum(axis=1)
    starts = lengths.cumsum() - lengths
    fits = int(lengths.sum()) == len(batch.text) and bool((batch.rows["text_start"] == starts).all())
    return batch if fits and bool((batch.rows["kind"] == Kind.SERVED).all()) else None
