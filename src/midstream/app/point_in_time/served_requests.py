"""Served records as point-in-time questions: each names the log position of the state that it read.

One pass over the log finds the records and spills them to disk, in their order. They are answered in the order of the
positions of their states, which is another one, as a record is appended some time after its request was answered.
"""

import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from midstream.app.export.events import moment_ms
from midstream.app.point_in_time.lookup import Past
from midstream.app.point_in_time.request_columns import PAGE
from midstream.app.point_in_time.requests import Chunk, Laid, OrderedRequests
from midstream.app.point_in_time.spill import RecordBatchSpill
from midstream.core.errors import Fault, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.events.loose_arrow import Batch, pa
from midstream.events.schema import event_at
from midstream.events.served_body import ServedBody, decode_body
from midstream.events.wire import TIME_SECONDS_END
from midstream.features.as_of import PointInTimeQuestion
from midstream.ranking.record.served import ServedRecord, decode_served
from midstream.state.structures.hashing import id_hash

_LAID = pa.schema([("row", pa.int64()), ("served_position", pa.int64()), ("body", pa.binary())])
_KEPT = pa.schema(
    [
        ("row", pa.int64()),
        ("request_id", pa.string()),
        ("placement", pa.string()),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("tier", pa.string()),
        ("config_hash", pa.string()),
        ("served_position", pa.int64()),
    ]
)
_PER_ITEM = pa.schema([("item_id", pa.string()), ("propensity", pa.float32()), ("score", pa.float32())])
_LAID_ROWS = 1_000
"""Laid on disk at once: 1 MB."""
_RANGE = "FROM..TO, either left out for no bound: log positions, times such as 2026-01-31T12:00:00Z, or 7d ago."


@dataclass(frozen=True, slots=True)
class ServedRange:
    """Which served records: by the log position of the record itself, and by its log time."""

    first: int = 0
    """Log position from which on."""
    stop: int | None = None
    """Log position before which; None = the end."""
    since_ms: int | None = None
    until_ms: int | None = None
    placement: str = ""
    """That served them; empty = any."""


@dataclass(slots=True)
class ServedCounts:
    """What was found of served records."""

    asked: int = 0
    blanked: int = 0
    """Of erased users, whether the log still names them or not."""
    unreadable: int = 0
    """Of another version of the program."""
    gone: int = 0
    """They saw a state from before what the log holds."""
    again: int = 0
    """Copies of a record that stands in the log already."""

    def left_out(self) -> dict[str, int]:
        """Return how many records are not asked about, by why."""
        return {
            "slates_of_erased_users": self.blanked,
            "slates_of_another_release": self.unreadable,
            "slates_that_saw_what_the_log_holds_no_more": self.gone,
            "copies_of_slates": self.again,
        }


@dataclass(frozen=True, slots=True)
class Picks:
    """Which records of a range are asked about."""

    wants: Callable[[int, ServedBody], bool]
    """Told log position and content of each."""
    sample: int
    """At most so many, those with the smallest hashes of the request ids: the same in each run."""
    has_positions: bool = False
    """Let features read the position of each item in its slate, which no request could know before it had chosen."""

    @staticmethod
    def in_slates() -> "Picks":
        """Return all records, with positions."""
        return Picks(lambda _position, _told: True, sys.maxsize, has_positions=True)


def served_range(text: str, now_ms: int, where: str = "--served") -> ServedRange:
    """Return what ``FROM..TO`` says; ``where`` = what a fault calls it.

    Raises:
        RequestInvalid: It is no such text.
    """
    since, between, until = text.partition("..")
    if not between:
        raise RequestInvalid((Fault(where, f"{text!r}.", _RANGE, PAGE),))
    position_from, time_from = _bound(since.strip(), now_ms, where)
    position_to, time_to = _bound(until.strip(), now_ms, where)
    return ServedRange(position_from or 0, position_to, time_from, time_to)


def _bound(text: str, now_ms: int, where: str) -> tuple[int | None, int | None]:
    """Return a log position, or a time: a number is a time when it is too large for a position."""
    if text.isdecimal() and text.isascii():
        number = int(text)
        return (None, number) if number >= TIME_SECONDS_END else (number, None)
    return None, moment_ms(text or None, now_ms, where)


def of_served(
    past: Past, wanted: ServedRange, stack: ExitStack, place: Path | None = None, picks: Picks | None = None
) -> tuple[OrderedRequests, ServedCounts]:
    """Return the served records of a log as questions about the items of their slates.

    Args:
        past: The log, whose whole range is looked through, and the configuration that says which events are copies.
        wanted: Which records.
        stack: At whose end what was laid on disk is removed.
        place: Folder with room for it: 1 kB a record.
        picks: Some of them; None = all.
    """
    counts = ServedCounts()
    spill = stack.enter_context(RecordBatchSpill(_LAID, place))
    positions, sizes, requests = array("q"), array("q"), array("Q")
    waiting: list[tuple[int, bytes]] = []
    for position, body, told in served_records(past, wanted, counts):
        if picks is not None and not picks.wants(position, told):
            continue
        positions.append(told.log_position)
        sizes.append(len(told.ids))
        requests.append(id_hash(told.request_id, past.log.id_key))
        waiting.append((position, body))
        if len(waiting) == _LAID_ROWS:
            _lay(spill, waiting)
            waiting = []
    _lay(spill, waiting)
    hashes = np.array(requests, dtype=np.uint64)
    is_asked = np.zeros(len(hashes), dtype=np.bool_)
    first = np.unique(hashes, return_index=True)[1]  # in the order of the hashes
    is_asked[first if picks is None else first[: picks.sample]] = True
    counts.again = len(hashes) - len(first)
    counts.asked = int(np.count_nonzero(is_asked))
    keys = np.array(positions, dtype=np.int64)
    make = partial(chunk_of, has_positions=picks is not None and picks.has_positions)
    laid = Laid("--served", spill, keys, np.array(sizes, dtype=np.int64), make, _KEPT, _PER_ITEM)
    return OrderedRequests(laid, np.flatnonzero(~is_asked)), counts


def _lay(spill: RecordBatchSpill, rows: list[tuple[int, bytes]]) -> None:
    numbers = np.arange(len(spill), len(spill) + len(rows), dtype=np.int64)
    columns = [
        pa.array(numbers),
        pa.array([row[0] for row in rows], pa.int64()),
        pa.array([row[1] for row in rows], pa.binary()),
    ]
    spill.write(pa.RecordBatch.from_arrays(columns, schema=_LAID))


def served_records(past: Past, wanted: ServedRange, counts: ServedCounts) -> Iterator[tuple[int, bytes, ServedBody]]:
    """Yield log position, bytes and content of each record that is wanted and can be asked."""
    log = past.log
    begin = LogPosition(min(max(log.begin, wanted.first), log.end))
    stop = log.end if wanted.stop is None else LogPosition(max(begin, min(log.end, wanted.stop)))
    hidden = log.hidden(past.config)
    for first, batch in batches(log.read, begin, stop):
        is_wanted = batch.rows["kind"] == Kind.SERVED
        times = batch.rows["log_time_ms"]
        if wanted.since_ms is not None:
            is_wanted &= times >= wanted.since_ms
        if wanted.until_ms is not None:
            is_wanted &= times < wanted.until_ms
        for index in np.flatnonzero(is_wanted).tolist():
            event = event_at(batch, index)
            told = _read(event.body)
            if told is not None and wanted.placement not in ("", told.placement):
                continue
            if hidden(event, first + index) or (told is not None and not told.request_id):
                counts.blanked += 1
            elif told is None:
                counts.unreadable += 1
            elif told.log_position < log.begin:
                counts.gone += 1
            else:
                yield first + index, event.body, told


def _read(body: bytes) -> ServedBody | None:
    """Return what a body says; None = it is of another version of the program."""
    try:
        return decode_body(body)
    except ValueError:
        return None


def chunk_of(rows: Batch, *, has_positions: bool = False) -> Chunk:
    """Return records that were laid on disk as questions."""
    numbers: list[int] = rows.column("row").to_pylist()
    records = [decode_served(body) for body in rows.column("body").to_pylist()]
    questions = [
        question_of(record, row, has_positions=has_positions) for record, row in zip(records, numbers, strict=True)
    ]
    queries = [record.query for record in records]
    kept = [
        rows.column("row"),
        pa.array([each.request_id for each in queries], pa.string()),
        pa.array([each.placement for each in queries], pa.string()),
        pa.array([each.user_id for each in queries], pa.string()),
        pa.array([each.session_id for each in queries], pa.string()),
        pa.array([record.tier for record in records], pa.string()),
        pa.array([record.config_hash for record in records], pa.string()),
        rows.column("served_position"),
    ]
    items = [item for record in records for item in record.items]
    per_item = {
        "item_id": pa.array([item.id for item in items], pa.string()),
        "propensity": pa.array([item.propensity for item in items], pa.float32()),
        "score": pa.array([item.score for item in items], pa.float32()),
    }
    return Chunk(questions, pa.RecordBatch.from_arrays(kept, schema=_KEPT), per_item, records)


def question_of(record: ServedRecord, row: int, *, has_positions: bool = False) -> PointInTimeQuestion:
    """Return a request as the question what its features were, with or without the positions that its items got.

    Positions of a slate that continues another count on from that one, as they do in answers and in outcomes.
    """
    query, items = record.query, tuple(item.id for item in record.items)
    if has_positions:
        told, places = query.item_fields, enumerate(items, query.first_position)
        fields = {item: {**told.get(item, {}), "position": float(place)} for place, item in places}
        query = replace(query, item_fields={**told, **fields})
    return PointInTimeQuestion(query, items, record.log_position, row)
