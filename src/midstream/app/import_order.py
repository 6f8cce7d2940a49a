"""All rows of an import at once: which are new, in what order they go into the log, and with what log time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, TooLarge
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.replay import Read
from midstream.engine.replay import batches as log_batches
from midstream.events.schema import TIME_SENT, concat, pick
from midstream.state.event_ids import Fingerprints, fingerprints

ROWS_MAX = 10_000_000
"""Rows of one import: they are held and sorted as a whole, 2 GB at 200 B."""
TEXT_BYTES_MAX = 3 << 30
"""A row finds its texts with 32 bits: 4 GiB, less what a growing import may still add."""
_BEGIN = LogPosition(0)
NEW, KNOWN, CONFLICT = 0, 1, 2
Rows: TypeAlias = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What tells the events of a log apart, sorted by hash. 16 bytes an event."""

    id_hash: NDArray[np.uint64]
    content: NDArray[np.uint32]

    @classmethod
    def of(cls, read: Read, end: LogPosition, begin: LogPosition = _BEGIN) -> "Known":
        """Return the ids of all events from ``begin`` to before ``end``. Cost: reads them once, 1 µs an event."""
        prints = [fingerprints(batch) for _, batch in log_batches(read, begin, end)]
        id_hash = np.concatenate([np.empty(0, np.uint64), *(each.id_hash for each in prints)])
        content = np.concatenate([np.empty(0, np.uint32), *(each.content for each in prints)])
        known, where = np.unique(id_hash, return_index=True)
        return cls(known[known > 0], content[where][known > 0])

    def look(self, prints: Fingerprints) -> NDArray[np.uint8]:
        """Return for each event whether it is ``NEW``, ``KNOWN`` or in ``CONFLICT`` with one of the same id."""
        found = np.zeros(len(prints.id_hash), np.uint8)
        if len(self.id_hash):
            place = np.minimum(np.searchsorted(self.id_hash, prints.id_hash), len(self.id_hash) - 1)
            same_id = (self.id_hash[place] == prints.id_hash) & (prints.id_hash > 0)
            found[same_id] = np.where(self.content[place] == prints.content, KNOWN, CONFLICT)[same_id]
        later = np.ones(len(found), np.bool_)
        later[np.unique(prints.id_hash, return_index=True)[1]] = False
        found[later & (found == NEW) & (prints.id_hash > 0)] = KNOWN
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is to be recorded, and how."""

    batch: EventBatch
    """All rows that were read."""
    order: Rows
    """The new ones, in the order in which they are recorded."""
    known_count: int
    conflict_count: int
    keeps_event_time: bool
    """Log time = event time: the log's last event is older than all of them."""
    late_count: int
    """Rows more than 24 h behind the log, where log time is not theirs: they reach decayed counters alone."""


def plan_of(batches: Sequence[EventBatch], known: Known, last_log_time_ms: int, now_ms: int) -> Plan:
    """Return what is to be recorded of the rows that were read.

    Where every act has a time and none is older than the log's last event, rows go in by time and bring their log
    time: so a history folds as it happened, and an import that was interrupted goes on in the same way. Items and
    users without a time go before all of it. Elsewhere rows go in as they stand in the file, now.
    """
    batch = concat(list(batches))
    prints = fingerprints(batch)
    verdict = known.look(prints)
    is_new = verdict == NEW
    rows = batch.rows
    time = own_time_ms(batch)
    is_act = (rows["kind"] != Kind.ITEM) & (rows["kind"] != Kind.USER)
    fresh = time[is_new & (time > 0)]
    is_whole = not bool(np.any(is_new & is_act & (time == 0)))
    keeps = is_whole and (int(fresh.min()) >= last_log_time_ms if len(fresh) else last_log_time_ms == 0)
    order = np.flatnonzero(is_new)
    if keeps:
        order = order[np.argsort(time[order], kind="stable")]
    late = 0 if keeps else int(np.count_nonzero(fresh < now_ms - 86_400_000))
    return Plan(
        batch,
        order,
        int(np.count_nonzero(verdict == KNOWN)),
        int(np.count_nonzero(verdict == CONFLICT)),
        keeps_event_time=keeps,
        late_count=late,
    )


def own_time_ms(batch: EventBatch) -> NDArray[np.int64]:
    """Return the log time that each row brings, else the time that was sent, else 0."""
    rows = batch.rows
    sent = np.where((rows["flags"] & TIME_SENT) > 0, rows["event_time_ms"], 0)
    found: NDArray[np.int64] = np.where(rows["log_time_ms"] > 0, rows["log_time_ms"], sent)
    return found


def parts(plan: Plan, rows_max: int) -> Iterator[EventBatch]:
    """Yield the new rows in their order, some at a time, each part with its texts alone."""
    for start in range(0, len(plan.order), rows_max):
        yield pick(plan.batch, plan.order[start : start + rows_max])


def require_room(rows: int, text_bytes: int, name: str) -> None:
    """Raise ``TooLarge`` when an import has become larger than one may be."""
    if rows > ROWS_MAX or text_bytes > TEXT_BYTES_MAX:
        came = f"{rows} rows or more, {text_bytes} bytes of text."
        right = f"At most {ROWS_MAX} rows and {TEXT_BYTES_MAX} bytes an import: cut the file by time."
        raise TooLarge((Fault(name, came, right, "docs/data.md"),))
