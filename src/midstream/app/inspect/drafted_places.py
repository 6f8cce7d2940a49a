"""LoggedPlaces of an experiment's drafted slates from a folder's log, and what followed at each.

An act belongs to the place of its item in the slate that it names, if it came within ``CREDIT_MS`` of it. One that
names no request belongs to its unit and item, for ``evaluation.interleaving.credit.attributed``. A slate in which a
variant had no part, because it had no answer then, is counted and left out: it would be all the others'.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.app.inspect.experiment_units import units_of
from midstream.app.inspect.folder_view import LogView
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.ingest.log_reader import batches
from midstream.events.schema import text_column
from midstream.events.served_body import ServedBody, decode_body
from midstream.experiments.documents import Experiment
from midstream.experiments.interleaving import NOBODY, pairs_of
from midstream.experiments.metrics import VALUE, ExperimentMetric
from midstream.ranking.drafted_slate import ROUND, SCORER
from midstream.state.fold import Fold

CREDIT_MS = 86_400_000
"""Time after a slate within which an act is its credit, and after a unit's first slate within which it votes: a day, so
that a vote is settled while the experiment runs."""
_SERVED, _INTERACTION = int(Kind.SERVED), int(Kind.INTERACTION)
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LoggedPlaces:
    """LoggedPlaces of drafted slates, (n,), in the order of the log."""

    unit: Numbers
    """Number of the unit, from 0 on."""
    slate: Numbers
    item: Numbers
    """Number of the item."""
    team: NDArray[np.int8]
    """Variant that drafted it, ``NOBODY`` = all."""
    pair: NDArray[np.int32]
    """Complete round, -1 = none."""
    time_ms: Numbers
    """Log time of the slate."""


@dataclass(frozen=True, slots=True, eq=False)
class LoggedActs:
    """LoggedActs on drafted items, (m,)."""

    action: tuple[str, ...]
    place: Numbers
    """Of the item in the slate that it names; -1 = it names none."""
    unit: Numbers
    item: Numbers
    value: NDArray[np.float64]
    """Value x quantity; 0 = none was sent."""
    time_ms: Numbers

    def of(self, metric: ExperimentMetric) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the acts that a metric counts, and what each is worth."""
        if metric.counts == VALUE:
            return np.arange(len(self.action)), self.value
        chosen = np.flatnonzero([each == metric.counts for each in self.action])
        return chosen, np.ones(len(chosen))


@dataclass(frozen=True, slots=True, eq=False)
class DraftedLog:
    """Drafted slates of an experiment, and what followed."""

    places: LoggedPlaces
    acts: LoggedActs
    partial: int
    """Slates in which a variant had no part."""
    unnamed: int
    """Slates of no unit any more, as of an erased user."""


@dataclass(slots=True, eq=False)
class _Rows:
    """Columns of the places that were read so far."""

    units: dict[int, int] = field(default_factory=dict[int, int])
    items: dict[str, int] = field(default_factory=dict[str, int])
    place_of: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """Row of each request and item."""
    parts: list[tuple[Numbers, Numbers, Numbers, NDArray[np.int8], NDArray[np.int32], Numbers]] = field(
        default_factory=list[tuple[Numbers, Numbers, Numbers, NDArray[np.int8], NDArray[np.int32], Numbers]]
    )
    count: int = 0
    partial: int = 0
    unnamed: int = 0

    def add(self, told: ServedBody, unit: int, time_ms: int, teams: Sequence[str]) -> None:
        """Take one drafted slate in."""
        if not set(teams) <= set(told.source_names):
            self.partial += 1
            return
        if not unit:
            self.unnamed += 1
            return
        bits = np.array(told.source_bits, dtype=np.int64)
        has = (bits[:, None] >> np.array([told.source_names.index(each) for each in teams])) & 1
        team = np.where(has.sum(axis=1) == 1, has.argmax(axis=1), NOBODY).astype(np.int8)
        is_named = ROUND in told.source_names
        begins = (bits >> (told.source_names.index(ROUND) if is_named else 0) & 1 & int(is_named)).astype(np.bool_)
        items = [self.items.setdefault(each, len(self.items)) for each in told.ids]
        for place, each in enumerate(told.ids, self.count):
            self.place_of.setdefault((told.request_id, each), place)
        whole = np.full(len(items), 1, dtype=np.int64)
        number = self.units.setdefault(unit, len(self.units))
        pair = pairs_of(team, begins, len(teams))
        slate = whole * len(self.parts)
        self.parts.append((whole * number, slate, np.array(items, dtype=np.int64), team, pair, whole * time_ms))
        self.count += len(items)

    def places(self) -> LoggedPlaces:
        """Return all of them."""
        if not self.parts:
            none = np.empty(0, dtype=np.int64)
            return LoggedPlaces(none, none, none, none.astype(np.int8), none.astype(np.int32), none)
        unit, slate, item, team, pair, time_ms = (np.concatenate(each) for each in zip(*self.parts, strict=True))
        return LoggedPlaces(unit, slate, item, team, pair, time_ms)


def read_drafts(log: LogView, fold: Fold, told: Experiment, metrics: Sequence[ExperimentMetric]) -> DraftedLog:
    """Return the drafted slates of an experiment, and the acts that its metrics count.

    Args:
        log: Of the folder.
        fold: State at the end of the log: its merges decide which ids are one unit.
        told: An interleaving experiment.
        metrics: What it is judged by.

    Cost: three passes over the log; some 2 µs an event, 20 µs a slate and an act on a drafted item.
    """
    rows = _Rows()
    name = "" if told.draft is None else told.draft.placement
    teams = [each.placement for each in told.variants]
    for _, batch in batches(log.read, max(LogPosition(told.began_position), log.begin), log.end):
        at = np.flatnonzero(batch.rows["kind"] == _SERVED)
        bodies = [_drafted(body, name) for body in text_column(batch, "body", at)]
        units, times = units_of(batch, at, fold).tolist(), batch.rows["log_time_ms"][at].tolist()
        for body, unit, time_ms in zip(bodies, units, times, strict=True):
            if body is not None:
                rows.add(body, unit, time_ms, teams)
    found = _acts(log, fold, rows, told, {each.counts for each in metrics})
    return DraftedLog(rows.places(), found, rows.partial, rows.unnamed)


def _drafted(body: bytes, placement: str) -> ServedBody | None:
    """Return the record of a draft under a name; None = it is another one, or cannot be read."""
    if placement.encode() not in body:
        return None
    try:
        told = decode_body(body)
    except ValueError:
        return None  # of another release, or redacted to nothing
    return told if told.placement == placement and told.scorer == SCORER else None


def _acts(log: LogView, fold: Fold, rows: _Rows, told: Experiment, counted: set[str]) -> LoggedActs:
    """Return the acts on drafted items, without those that were taken back."""
    ended_ms = np.iinfo(np.int64).max if told.ended_ms is None else told.ended_ms
    found: list[tuple[str, int, int, int, float, int]] = []
    for _, batch in log.kept_batches(LogPosition(told.began_position)):
        for row in _interactions(batch, counted, ended_ms):
            request, item = row.request, rows.items.get(row.item, -1)
            place = rows.place_of.get((request, row.item), -1)
            if item < 0 or (place < 0 and request):
                continue
            unit = rows.units.get(int(units_of(batch, np.array([row.at]), fold)[0]), -1)
            if place >= 0 or unit >= 0:
                found.append((row.action, place, unit, item, row.value, row.time_ms))
    if not found:
        none = np.empty(0, dtype=np.int64)
        return LoggedActs((), none, none, none, none.astype(np.float64), none)
    columns = [*zip(*found, strict=True)]
    places, units, items, times = (np.array(columns[number], dtype=np.int64) for number in (1, 2, 3, 5))
    return LoggedActs(
        tuple(each[0] for each in found), places, units, items, np.array(columns[4], dtype=np.float64), times
    )


@dataclass(frozen=True, slots=True)
class _Act:
    at: int
    action: str
    request: str
    item: str
    value: float
    time_ms: int


def _interactions(batch: EventBatch, counted: set[str], ended_ms: int) -> Iterator[_Act]:
    """Yield the interactions of a batch that are counted; those from the end of the experiment on are not."""
    at = np.flatnonzero((batch.rows["kind"] == _INTERACTION) & (batch.rows["log_time_ms"] < ended_ms))
    texts: Mapping[str, Sequence[bytes]] = {
        name: text_column(batch, name, at) for name in ("action", "request_id", "item_id")
    }
    quantity = batch.rows["quantity"][at].astype(np.float64)
    value = np.nan_to_num(batch.rows["value"][at]) * np.where(np.isnan(quantity), 1.0, quantity)
    for place, row in enumerate(at.tolist()):
        action = texts["action"][place].decode()
        if action in counted or VALUE in counted:
            request, item = texts["request_id"][place].decode(), texts["item_id"][place].decode()
            yield _Act(row, action, request, item, float(value[place]), int(batch.rows["log_time_ms"][row]))
