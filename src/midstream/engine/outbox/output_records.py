"""Records of an output: served slates, outcomes or events of the log, each one JSON document with a key and headers.

The documents are those of an export and of ``GET /v1/requests/{request_id}``, made by the same encoders. An event
becomes one record at most, so its log position names the record too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import NotFound
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.json.encode import encode_lines
from midstream.events.schema import pick, text_column
from midstream.experiments.names import arm_of
from midstream.ranking.record.record_json import served_json
from midstream.ranking.record.served import ServedRecord, decode_served

Records = Literal["served", "outcomes", "events"]
_SERVED, _INTERACTION, _IMPRESSION, _ERASE = (
    int(each) for each in (Kind.SERVED, Kind.INTERACTION, Kind.IMPRESSION, Kind.ERASE)
)
_TYPES = {int(kind): IMPRESSION if kind is Kind.IMPRESSION else kind.name.lower() for kind in Kind}
"""Types of events that are no interactions, as they stand on the wire."""
FindServed = Callable[[str], ServedRecord | None]


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Choice of records."""

    records: Records
    log: str
    """Public name of the log."""
    types: frozenset[str] = frozenset()
    """Names of interactions and kinds as an export has them; empty = all. For events and outcomes."""
    placements: frozenset[str] = frozenset()
    """Of served slates and of the slates of outcomes; empty = all."""
    rewards: Mapping[str, float] = field(default_factory=dict[str, float])
    """Reward of each action of an outcome; others have 0."""


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """One record."""

    log_position: LogPosition
    """Before its event."""
    key: str
    """User id of an event, request id of a slate and of an outcome; empty = there is none."""
    value: bytes | None
    """JSON; None = the user of the key was erased."""
    headers: tuple[tuple[str, str], ...]


class OutcomeRecord(msgspec.Struct, frozen=True):
    """One act on, or view of, an item of a served slate."""

    request_id: str
    item_id: str
    action: str
    """Name of the interaction, or ``impression``."""
    position: int | None
    """In the slate, from 0; None = the slate does not have the item, or is no longer known."""
    propensity: float | None
    """Probability of the choice; None as ``position``."""
    reward: float
    """Of the action alone."""
    placement: str | None
    """None = the slate is no longer known."""
    time: int
    """Event time, milliseconds since 1970."""
    log_time: int
    log_position: int
    """Before the event."""


def records_of(
    first: LogPosition, batch: EventBatch, options: RecordOptions, served: FindServed
) -> Sequence[OutputRecord]:
    """Return the records of some events, in the order of the log.

    Args:
        first: Log position before the batch.
        batch: Events as they are in the log.
        options: Which records.
        served: Returns the served record of a request id, None = not known; asked for outcomes alone.
    """
    makers = {"events": _events, "served": _slates, "outcomes": _outcomes}
    return tuple(makers[options.records](first, batch, options, served))


def requests_in(batch: EventBatch, options: RecordOptions) -> frozenset[str]:
    """Return the request ids whose served records the outcomes among some events need."""
    if options.records != "outcomes":
        return frozenset()
    rows, _ = _outcome_rows(batch, options)
    return frozenset(each.decode() for each in frozenset(text_column(batch, "request_id", rows)))


def _events(
    first: LogPosition, batch: EventBatch, options: RecordOptions, _served: FindServed
) -> Iterator[OutputRecord]:
    rows, types = _of_types(batch, np.arange(len(batch)), options)
    if not len(rows):
        return
    lines = encode_lines(pick(batch, rows), log_time=True).split(b"\n")[:-1]
    kinds, users = batch.rows["kind"][rows].tolist(), text_column(batch, "user_id", rows)
    headers = _headers(first, batch, rows, types, options)
    for row, kind, user, line, own in zip(rows.tolist(), kinds, users, lines, headers, strict=True):
        value = None if kind == _ERASE and user else line
        yield OutputRecord(LogPosition(first + row), user.decode(), value, own)


def _slates(
    first: LogPosition, batch: EventBatch, options: RecordOptions, _served: FindServed
) -> Iterator[OutputRecord]:
    rows = np.flatnonzero(batch.rows["kind"] == _SERVED)
    headers = _headers(first, batch, rows, _types(batch, rows), options)
    for row, body, own in zip(rows.tolist(), text_column(batch, "body", rows), headers, strict=True):
        try:
            record = decode_served(body)
        except NotFound:  # of an earlier version of the program: no reader of this one knows its fields
            continue
        request_id = record.query.request_id
        placement = arm_of(record.query.placement).placement
        if not request_id or (options.placements and placement not in options.placements):
            continue
        yield OutputRecord(LogPosition(first + row), request_id, served_json(record), own)


def _outcomes(
    first: LogPosition, batch: EventBatch, options: RecordOptions, served: FindServed
) -> Iterator[OutputRecord]:
    rows, types = _outcome_rows(batch, options)
    requests = [each.decode() for each in text_column(batch, "request_id", rows)]
    items = [each.decode() for each in text_column(batch, "item_id", rows)]
    times = batch.rows["event_time_ms"][rows].tolist()
    log_times = batch.rows["log_time_ms"][rows].tolist()
    headers = _headers(first, batch, rows, types, options)
    for place, row in enumerate(rows.tolist()):
        request_id, item_id, action = requests[place], items[place], types[place]
        slate = served(request_id)
        placement = None if slate is None else arm_of(slate.query.placement).placement
        if options.placements and placement not in options.placements:
            continue
        ids = [] if slate is None else [each.id for each in slate.items]
        position = ids.index(item_id) if item_id in ids else None
        outcome = OutcomeRecord(
            request_id=request_id,
            item_id=item_id,
            action=action,
            position=position,
            propensity=None if slate is None or position is None else slate.items[position].propensity,
            reward=options.rewards.get(action, 0.0),
            placement=placement,
            time=times[place] or log_times[place],
            log_time=log_times[place],
            log_position=first + row,
        )
        yield OutputRecord(LogPosition(first + row), request_id, msgspec.json.encode(outcome), headers[place])


def _outcome_rows(batch: EventBatch, options: RecordOptions) -> tuple[NDArray[np.integer], Sequence[str]]:
    """Return the rows of interactions and impressions that name a request, and their types."""
    rows = batch.rows
    is_one = ((rows["kind"] == _INTERACTION) | (rows["kind"] == _IMPRESSION)) & (rows["request_id_length"] > 0)
    return _of_types(batch, np.flatnonzero(is_one), options)


def _of_types(
    batch: EventBatch, rows: NDArray[np.integer], options: RecordOptions
) -> tuple[NDArray[np.integer], Sequence[str]]:
    """Return those of some rows whose type is asked for, and their types."""
    types = _types(batch, rows)
    if not options.types:
        return rows, types
    chosen = [place for place, each in enumerate(types) if each in options.types]
    return rows[chosen], [types[place] for place in chosen]


def _types(batch: EventBatch, rows: NDArray[np.integer]) -> Sequence[str]:
    """Return the types of events as they stand on the wire."""
    kinds, actions = batch.rows["kind"][rows].tolist(), text_column(batch, "action", rows)
    return [
        action.decode() if kind == _INTERACTION else _TYPES[kind] for kind, action in zip(kinds, actions, strict=True)
    ]


def _headers(
    first: LogPosition,
    batch: EventBatch,
    rows: NDArray[np.integer],
    types: Sequence[str],
    options: RecordOptions,
) -> Sequence[tuple[tuple[str, str], ...]]:
    """Return the headers of the records of some rows."""
    times = batch.rows["log_time_ms"][rows].tolist()
    return [
        (("log", options.log), ("log_position", str(first + row)), ("log_time", str(time_ms)), ("type", name))
        for row, time_ms, name in zip(rows.tolist(), times, types, strict=True)
    ]
