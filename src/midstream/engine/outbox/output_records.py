"""Records of an output: served slates, outcomes or events of the log, each one JSON document with a key and headers.

The documents are those of an export and of ``GET /v1/requests/{request_id}``, made by the same encoders. An event
becomes one record at most, so its log position names the record too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from midstream.core.errors import NotFound
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.events.json.encode import encode_lines
from midstream.events.schema import pick, texts_of
from midstream.ranking.record.record_json import served_json
from midstream.ranking.record.served import ServedRecord, decode_served

Records = Literal["served", "outcomes", "events"]
_ACTION, _USER, _ITEM, _REQUEST, _BODY = 1, 2, 3, 5, 6
"""Places among the texts of a row."""
_SERVED, _INTERACTION, _IMPRESSION, _ERASE = (
    int(each) for each in (Kind.SERVED, Kind.INTERACTION, Kind.IMPRESSION, Kind.ERASE)
)
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
    return frozenset(texts_of(batch, row)[_REQUEST].decode() for row in _outcome_rows(batch, options))


def _events(
    first: LogPosition, batch: EventBatch, options: RecordOptions, _served: FindServed
) -> Iterator[OutputRecord]:
    chosen = [row for row in range(len(batch)) if not options.types or _type_of(batch, row) in options.types]
    if not chosen:
        return
    lines = encode_lines(pick(batch, chosen), log_time=True).split(b"\n")[:-1]
    kinds = batch.rows["kind"].tolist()
    for row, line in zip(chosen, lines, strict=True):
        user = texts_of(batch, row)[_USER].decode()
        value = None if kinds[row] == _ERASE and user else line
        yield OutputRecord(LogPosition(first + row), user, value, _headers(first, batch, row, options))


def _slates(
    first: LogPosition, batch: EventBatch, options: RecordOptions, _served: FindServed
) -> Iterator[OutputRecord]:
    for row in np.flatnonzero(batch.rows["kind"] == _SERVED).tolist():
        texts = texts_of(batch, row)
        try:
            record = decode_served(texts[_BODY])
        except NotFound:  # of an earlier version of the program: no reader of this one knows its fields
            continue
        request_id = record.query.request_id
        if not request_id or (options.placements and record.query.placement not in options.placements):
            continue
        headers = _headers(first, batch, row, options)
        yield OutputRecord(LogPosition(first + row), request_id, served_json(record), headers)


def _outcomes(
    first: LogPosition, batch: EventBatch, options: RecordOptions, served: FindServed
) -> Iterator[OutputRecord]:
    for row in _outcome_rows(batch, options):
        texts, columns = texts_of(batch, row), batch.rows[row]
        request_id, item_id = texts[_REQUEST].decode(), texts[_ITEM].decode()
        slate = served(request_id)
        placement = None if slate is None else slate.query.placement
        if options.placements and placement not in options.placements:
            continue
        ids = [] if slate is None else [each.id for each in slate.items]
        position = ids.index(item_id) if item_id in ids else None
        action = _type_of(batch, row)
        outcome = OutcomeRecord(
            request_id=request_id,
            item_id=item_id,
            action=action,
            position=position,
            propensity=None if slate is None or position is None else slate.items[position].propensity,
            reward=options.rewards.get(action, 0.0),
            placement=placement,
            time=int(columns["event_time_ms"]) or int(columns["log_time_ms"]),
            log_time=int(columns["log_time_ms"]),
            log_position=first + row,
        )
        headers = _headers(first, batch, row, options)
        yield OutputRecord(LogPosition(first + row), request_id, msgspec.json.encode(outcome), headers)


def _outcome_rows(batch: EventBatch, options: RecordOptions) -> Sequence[int]:
    """Return the rows of interactions and impressions that name a request."""
    rows = batch.rows
    is_one = ((rows["kind"] == _INTERACTION) | (rows["kind"] == _IMPRESSION)) & (rows["request_id_length"] > 0)
    found: list[int] = np.flatnonzero(is_one).tolist()
    return [row for row in found if not options.types or _type_of(batch, row) in options.types]


def _type_of(batch: EventBatch, row: int) -> str:
    """Return the type of an event as it stands on the wire."""
    kind = int(batch.rows["kind"][row])
    if kind == _INTERACTION:
        return texts_of(batch, row)[_ACTION].decode()
    return IMPRESSION if kind == _IMPRESSION else Kind(kind).name.lower()


def _headers(first: LogPosition, batch: EventBatch, row: int, options: RecordOptions) -> tuple[tuple[str, str], ...]:
    return (
        ("log", options.log),
        ("log_position", str(first + row)),
        ("log_time", str(int(batch.rows["log_time_ms"][row]))),
        ("type", _type_of(batch, row)),
    )
