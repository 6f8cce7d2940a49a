"""Passed-by items and acts: items whose slots a compaction freed, and acts that were taken back before a rebuild.

Items: deleted before a log position, and named by nothing between the two. A slot is never reused, so a catalogue that
changes all of its items each season fills up with deleted ones. A fold that is given these ids treats every event
before that position that names one of them as if there were no room for the item.

Acts: each counts as a tick at its log position, so that nothing of it is in any table but the ids by which copies of
events are recognized: a late copy of it is still a duplicate.

So it is still a fold of the same log, under a version of its own.
"""

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition, Mask
from midstream.events.schema import Event, build

_ACTS = (int(Kind.INTERACTION), int(Kind.IMPRESSION))
_TICK = build((Event(Kind.TICK),)).rows[0]


def _no_acts() -> NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """Items that are skipped, the log position up to which, and acts that are."""

    before: LogPosition
    """Events at this log position and later may name them: then they are new items."""
    item_hash: NDArray[np.uint64]
    """64-bit hashes of their ids, shape (n,), ascending, distinct."""
    acts: NDArray[np.int64] = field(default_factory=_no_acts)
    """Log positions of acts that were taken back, shape (n,), ascending, distinct."""

    @property
    def name(self) -> str:
        """What ``FoldSettings.compaction`` calls it: 16 hex digits of a hash of all of it, empty when nothing is."""
        if not len(self.item_hash) and not len(self.acts):
            return ""
        acts = b"acts" + self.acts.tobytes() if len(self.acts) else b""
        return sha256(np.int64(self.before).tobytes() + self.item_hash.tobytes() + acts).hexdigest()[:16]

    def are_passed_by(self, first: LogPosition, item_hash: NDArray[np.uint64]) -> Mask | None:
        """Return which of the events from ``first`` on name one of these items too early; None = none does.

        Args:
            first: Log position of the first event.
            item_hash: Of the item that each event names, shape (n,).
        """
        before = min(self.before - first, len(item_hash))
        if before <= 0 or not len(self.item_hash):
            return None
        found = np.zeros(len(item_hash), dtype=np.bool_)
        found[:before] = np.isin(item_hash[:before], self.item_hash, assume_unique=False)
        return found if found.any() else None

    def has(self, position: int) -> bool:
        """Return whether the event at a log position is an act that was taken back."""
        place = int(np.searchsorted(self.acts, position))
        return place < len(self.acts) and int(self.acts[place]) == position

    def acts_within(self, first: LogPosition, count: int) -> NDArray[np.int64]:
        """Return which of ``count`` events from ``first`` on are acts that were taken back, by number, rising."""
        start, stop = np.searchsorted(self.acts, (first, first + count)).tolist()
        return self.acts[start:stop] - first

    def concerns(self, first: LogPosition, count: int) -> bool:
        """Return whether any of ``count`` events from ``first`` on may be passed by."""
        return (bool(len(self.item_hash)) and self.before > first) or bool(len(self.acts_within(first, count)))

    def less_acts(self, first: LogPosition, batch: EventBatch) -> EventBatch:
        """Return the events from ``first`` on with a tick in the place of each act that was taken back.

        The same object when none was; the texts of those that were stay, and nothing refers to them.
        """
        places = self.acts_within(first, len(batch)) if len(self.acts) else self.acts
        if len(places):
            places = places[np.isin(batch.rows["kind"][places], _ACTS)]
        if not len(places):
            return batch
        rows = batch.rows.copy()
        ticks = np.full(len(places), _TICK)
        for name in ("log_time_ms", "text_start"):
            ticks[name] = batch.rows[name][places]
        rows[places] = ticks
        return EventBatch(rows, batch.text)

    def at_base(self, position: LogPosition) -> "Dropped":
        """Return what is passed by of the events that stand for what was before a log position: items alone."""
        return Dropped(self.before, self.item_hash) if self.before > position else NOTHING


NOTHING = Dropped(LogPosition(0), np.empty(0, dtype=np.uint64))
"""Of a state that was never compacted, and takes no act back."""
