"""The items whose slots a compaction freed: deleted before a log position, and named by nothing between the two.

A slot is never reused, so a catalogue that changes all of its items each season fills up with deleted ones. A fold
that is given these ids treats every event before that position that names one of them as if there were no room for
the item. So it is still a fold of the same log, under a version of its own.
"""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import LogPosition, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """Items that are skipped, and the log position up to which."""

    before: LogPosition
    """Events at this log position and later may name them: then they are new items."""
    item_hash: NDArray[np.uint64]
    """64-bit hashes of their ids, shape (n,), ascending, distinct."""

    @property
    def name(self) -> str:
        """What ``FoldSettings.compaction`` calls it: 16 hex digits of a hash of all of it, empty when nothing is."""
        if not len(self.item_hash):
            return ""
        return sha256(np.int64(self.before).tobytes() + self.item_hash.tobytes()).hexdigest()[:16]

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


NOTHING = Dropped(LogPosition(0), np.empty(0, dtype=np.uint64))
"""Of a state that was never compacted."""
