"""The ids of events on their way into the log: each with the lot that it came in, until the lot is applied.

It is no table of the fold: it stands in front of it, so that a second copy that comes before the first one is applied
is known for one. Objects for each id cost as much as folding the event did; here an id takes 20 bytes and 40 ns.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import Fingerprints
from midstream.core.types import EventBatch
from midstream.state.ids.event_ids import (
    EventAdmission,
    EventIds,
    _find,  # pyright: ignore[reportPrivateUsage]  # a public name would compile every kernel of the fold anew
    fingerprint_events,
)
from midstream.state.structures.hash_table import fill, find, insert, remove, table_size
from midstream.state.structures.hashing import IdKey
from midstream.state.structures.kernel import frozen_columns, kernel, signed

PLACES_MIN = 1 << 12
_HELD = np.dtype([("id_hash", "<u8"), ("lot", "<i8"), ("content", "<u4"), ("unused", "<u4")])
_NONE = np.uint64(0)
_NEW, _DUPLICATE, _CONFLICT = int(EventAdmission.NEW), int(EventAdmission.DUPLICATE), int(EventAdmission.CONFLICT)


class PendingIds:
    """Ids by lot. Places double when there are too few: what may wait is bounded where it is queued."""

    def __init__(self, places: int = PLACES_MIN) -> None:
        """Start without pending ids."""
        self._reserve(places)

    def _reserve(self, places: int) -> None:
        self._held = np.zeros(places, dtype=_HELD)
        self._table = np.zeros(table_size(places), dtype=np.int32)
        self._free = np.arange(places, dtype=np.int32)
        self._first = np.empty(places, dtype=np.int64)
        """Of the newest batch: the lot of each event's first copy."""
        self._used = np.zeros(1, dtype=np.int64)
        """Places in use. ``_free`` names the others from here on; what stands before it means nothing."""

    def __len__(self) -> int:
        """Return the number of ids on their way."""
        return int(self._used[0])

    def admit(self, prints: Fingerprints, outcome: NDArray[np.uint8], lot: int) -> NDArray[np.int64]:
        """Take the new ids of a batch under a number of their own; say of each copy which lot has the first one.

        Args:
            prints: Of the batch.
            outcome: ``EventAdmission`` of each event so far, (n,); of new ones that are copies it becomes
                ``DUPLICATE`` or ``CONFLICT``. Others are passed by.
            lot: Number of this batch, 0 or more.

        Returns:
            The lot of the first copy, -1 for events that are no copies of what is on its way, shape (n,).
        """
        while len(self) + len(outcome) > len(self._held):
            self._grow()
        first = np.full(len(outcome), -1, dtype=np.int64)
        _admit(prints.id_hash, prints.content, outcome, first, lot, self._held, self._table, self._free, self._used)
        return first

    def admit_batch(
        self, ids: EventIds, batch: EventBatch, lot: int
    ) -> tuple[Fingerprints, NDArray[np.uint8], NDArray[np.int64] | None]:
        """Do as ``EventIds.fingerprints``, ``EventIds.find`` and ``admit`` do one after another, in one call.

        Args:
            ids: What is applied.
            batch: Events, none of which is refused for another reason.
            lot: Number of this batch, 0 or more.

        Returns:
            The fingerprints, ``EventAdmission`` of each event, and what ``admit`` returns; None = all events are new.
        """
        rows, text = frozen_columns(batch)
        count = len(rows)
        prints = Fingerprints(np.empty(count, np.uint64), np.empty(count, np.uint32), np.empty(count, np.uint32))
        outcome = np.empty(count, dtype=np.uint8)
        applied, taken = ids.rows, (prints.id_hash, prints.check, prints.content, outcome)
        copies = -1
        while copies < 0:
            copies = _admit_batch(
                rows, text, applied.key, lot, *taken, self._first, applied.id_hash, applied.check, applied.content,
                applied.table, self._held, self._table, self._free, self._used,
            )  # fmt: skip
            if copies < 0:
                self._grow()
        return prints, outcome, self._first[:count] if copies else None

    def release(self, prints: Fingerprints, lot: int) -> None:
        """Forget the ids of a lot, among those of a batch."""
        _release(prints.id_hash, lot, self._held, self._table, self._free, self._used)

    def _grow(self) -> None:
        used = len(self)
        held = self._held[self._table[self._table > 0] - 1]
        self._reserve(2 * len(self._held))
        self._held[:used] = held
        self._used[0] = used
        fill(self._held["id_hash"], used, self._table)


@kernel
def _admit(
    id_hash: NDArray[np.uint64],
    content: NDArray[np.uint32],
    outcome: NDArray[np.uint8],
    first: NDArray[np.int64],
    lot: int,
    held: NDArray[np.void],
    table: NDArray[np.int32],
    free: NDArray[np.int32],
    used: NDArray[np.int64],
) -> None:
    hashes = held["id_hash"]
    count = used[0]
    for i in range(len(id_hash)):
        if outcome[i] != _NEW or id_hash[i] == _NONE:
            continue
        place = find(id_hash[i], hashes, table)
        if place >= 0:
            outcome[i] = _DUPLICATE if held[place]["content"] == content[i] else _CONFLICT
            first[i] = held[place]["lot"]
            continue
        place = signed(free[count])
        count += 1
        held[place]["id_hash"] = id_hash[i]
        held[place]["lot"] = lot
        held[place]["content"] = content[i]
        insert(place, hashes, table)
    used[0] = count


@kernel
def _admit_batch(
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    key: IdKey,
    lot: int,
    id_hash: NDArray[np.uint64],
    check: NDArray[np.uint32],
    content: NDArray[np.uint32],
    outcome: NDArray[np.uint8],
    first: NDArray[np.int64],
    ring_id: NDArray[np.uint64],
    ring_check: NDArray[np.uint32],
    ring_content: NDArray[np.uint32],
    ring_table: NDArray[np.int32],
    held: NDArray[np.void],
    table: NDArray[np.int32],
    free: NDArray[np.int32],
    used: NDArray[np.int64],
) -> int:
    """Return how many events are copies; -1 where there are too few places, and nothing was done."""
    if used[0] + len(rows) > len(held):
        return -1
    fingerprint_events(rows, text, key, id_hash, check, content)
    _find(id_hash, check, content, outcome, ring_id, ring_check, ring_content, ring_table)
    first[: len(rows)] = -1
    _admit(id_hash, content, outcome, first, lot, held, table, free, used)
    copies = 0
    for i in range(len(rows)):
        copies += outcome[i] != _NEW
    return copies


@kernel
def _release(
    id_hash: NDArray[np.uint64],
    lot: int,
    held: NDArray[np.void],
    table: NDArray[np.int32],
    free: NDArray[np.int32],
    used: NDArray[np.int64],
) -> None:
    hashes = held["id_hash"]
    count = used[0]
    for i in range(len(id_hash)):
        if id_hash[i] == _NONE:
            continue
        place = find(id_hash[i], hashes, table)
        if place >= 0 and held[place]["lot"] == lot:
            remove(place, hashes, table)
            count -= 1
            free[count] = place
    used[0] = count
