"""Cutting a batch into fold steps, and a step into parts in which the catalogue stands still.

A merge of two users and an erasure change whose later events are, a user who is deleted starts cold, and a retraction
takes an earlier act back, so each is a step by itself, the events before and after it steps of their own. Some tables
read the catalogue as it stands at an event, so a step in which it changes after other events is handed to them in
parts.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import Fingerprints, FoldStep, SessionColumns
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, IndexedBatch, LogPosition
from midstream.state.structures.kernel import frozen_columns, kernel

_ITEM = int(Kind.ITEM)
_USER = int(Kind.USER)
_ERASE = int(Kind.ERASE)
_RETRACTION = int(Kind.RETRACTION)
_MERGE = int(Operation.MERGE)
_DELETE = int(Operation.DELETE)
_COLUMNS = (
    "kind",
    "operation",
    "action",
    "folded",
    "user_index",
    "user_hash",
    "user_is_new",
    "item_index",
    "item_hash",
    "session_hash",
    "request_hash",
    "event_time_ms",
    "log_time_ms",
    "value",
    "quantity",
)


def steps(first: LogPosition, batch: EventBatch, prints: Fingerprints | None = None) -> Iterator[FoldStep]:
    """Yield the steps of a batch, in order; of no events none."""
    rows, start = frozen_columns(batch)[0], 0
    while start < len(rows):
        stop = _next_change(rows, start)
        if stop > start:
            yield _step(first, batch, prints, start, stop)
        if stop < len(rows):
            yield _step(first, batch, prints, stop, stop + 1, changes_user=True)
        start = stop + 1


def _step(
    first: LogPosition,
    batch: EventBatch,
    prints: Fingerprints | None,
    start: int,
    stop: int,
    *,
    changes_user: bool = False,
) -> FoldStep:
    if stop - start == len(batch):
        return FoldStep(first, batch, prints, changes_user)
    piece = EventBatch(batch.rows[start:stop], batch.text)
    return FoldStep(LogPosition(first + start), piece, prints and prints[start:stop], changes_user)


def step_of(events: IndexedBatch, sessions: SessionColumns | None = None) -> FoldStep:
    """Return the step of events that have their indices, and perhaps their sessions."""
    step = FoldStep(events.first, events.source)
    step.events = events
    if sessions is not None:
        step.sessions = sessions
    return step


def parts(step: FoldStep) -> Iterator[FoldStep]:
    """Yield a step, with sessions found, in parts in which no item event follows an event of another kind.

    So attributes as they stand after a part's item events are those that hold at all its other events.
    """
    events = step.events
    if len(events) == 1:
        yield step
        return
    is_item = events.kind == _ITEM
    cuts = np.flatnonzero(is_item[1:] & ~is_item[:-1]) + 1
    if not len(cuts):
        yield step
        return
    for start, stop in pairwise((0, *cuts.tolist(), len(events))):
        yield step_of(part(events, start, stop), step.sessions[start:stop])


def part(batch: IndexedBatch, start: int, stop: int) -> IndexedBatch:
    """Return the events from ``start`` to before ``stop``; nothing is copied."""
    columns = {name: getattr(batch, name)[start:stop] for name in _COLUMNS}
    source = EventBatch(batch.source.rows[start:stop], batch.source.text)
    return IndexedBatch(first=LogPosition(batch.first + start), source=source, **columns)


@kernel
def _next_change(rows: NDArray[np.void], start: int) -> int:
    """Return the place of the next merge, deletion of a user, erasure or retraction, else the number of rows."""
    for i in range(start, len(rows)):
        kind = rows[i]["kind"]
        if kind in (_ERASE, _RETRACTION) or (kind == _USER and (rows[i]["operation"] in (_MERGE, _DELETE))):
            return i
    return len(rows)
