"""Units of an experiment from a folder's log: exposures are served records, outcomes are what the same unit did later.

An event belongs to the unit that a request of the same user, else of the same session, would have, after all merges of
the log: so both exposures of a merged user are the one unit's, which then saw two variants and is left out of every
comparison. Outcomes count from the unit's first exposure on, whether they name a slate or not; what it did before the
experiment is its past. Acts that were taken back are neither.

Where shares move, a unit is in the variant of its first slate whatever it saw later. It counts until a slate of another
variant, and on the day of that first slate alone (days are those of the experiment).

The segment of a unit is the context of its first slate: what came later may be an effect of the variant.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.app.inspect.folder_view import LogView
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.experiments.running_units import DAY_MS
from midstream.engine.experiments.unit_events import UnitActs, acts_of, askers_of, exposures_of
from midstream.engine.ingest.log_reader import batches
from midstream.evaluation.experiments.grouping import CROSSED, UnitTable, distinct_units
from midstream.experiments.metrics import BUILT_IN, EMPTY_SLATES, LATENCY_US, SLATES, TIMED_SLATES, VALUE
from midstream.state.fold import Fold

SEGMENT_VALUES_MAX = 20
"""Segments of a key; with more, the correction leaves little to be found."""
OTHER = "other"
"""Units of all further values of a key."""


@dataclass(frozen=True, slots=True)
class ExperimentUnits:
    """Units of an experiment, with what each did."""

    table: UnitTable
    """Columns as ``names``."""
    past: NDArray[np.float64]
    """The same columns before the experiment, (columns, u)."""
    names: tuple[str, ...]
    """``BUILT_IN``, then each action."""
    slates: tuple[int, ...]
    """Served by each variant."""
    unnamed: int
    """Of them those of no unit any more, as of an erased user."""
    first_variant: NDArray[np.int8] | None = None
    """Of the first slate of each unit, also of one that saw several; None = it was not read."""
    segments: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict[str, NDArray[np.bool_]])
    """Units of each segment, (u,), by ``KEY=VALUE``."""


@dataclass(frozen=True, slots=True)
class ExperimentSpan:
    """Time for which units are read."""

    position: LogPosition
    """Of the log, before all of it."""
    began_ms: int
    ended_ms: int | None = None
    """What a unit does from then on is no outcome; None = it goes on."""
    is_first_day: bool = False
    """A unit counts on its first day alone, in the variant of its first slate."""
    segment_keys: tuple[str, ...] = ()
    """Keys of the request's context by which units are told apart."""


@dataclass(frozen=True, slots=True)
class ExposedUnits:
    """Units by what they were served, by rising hash; each field is (u,)."""

    unit: NDArray[np.uint64]
    variant: NDArray[np.int8]
    """``CROSSED`` of one that saw several, but where units count on their first day."""
    first_variant: NDArray[np.int8]
    first_ms: NDArray[np.int64]
    """Log time of the first slate."""
    first: NDArray[np.intp]
    """Place of the first slate among those that were read."""
    until_ms: NDArray[np.int64]
    """From which on nothing counts."""
    slates: NDArray[np.float64]
    empty_slates: NDArray[np.float64]
    latency_us: NDArray[np.float64]
    """Sum over the slates whose time is known."""
    timed_slates: NDArray[np.float64]
    """Number of those."""


def read_units(
    log: LogView, fold: Fold, placements: Sequence[str], span: ExperimentSpan, more: Iterable[str] = ()
) -> ExperimentUnits:
    """Return the units of some variants.

    Args:
        log: Of the folder.
        fold: State at the end of the log: its merges decide which ids are one unit.
        placements: Of the variants, in order.
        span: From start to end.
        more: Interactions to count that may no longer be configured.

    Cost: three passes over the log; about 1 µs an event, 5 µs a slate.
    """
    names = (*BUILT_IN, *dict.fromkeys(each for each in (*fold.outcomes.actions, *more) if each not in BUILT_IN))
    values: list[tuple[str, ...]] = []
    exposures = list(_exposures(log, fold, placements, span, values))
    unit, variant, time_ms, is_empty, took_us = (
        (np.concatenate(each) for each in zip(*exposures, strict=True)) if exposures else _NONE
    )
    slates = tuple(int((variant == number).sum()) for number in range(len(placements)))
    is_named = unit != 0
    unnamed = int((~is_named).sum())
    exposed = exposed_units(
        unit[is_named], variant[is_named], time_ms[is_named], is_empty[is_named], took_us[is_named], span
    )
    units, first_ms = exposed.unit, exposed.first_ms
    end_ms = exposed.until_ms if span.ended_ms is None else np.minimum(exposed.until_ms, span.ended_ms)
    sums, past = np.zeros((len(names), len(units))), np.zeros((len(names), len(units)))
    sums[names.index(SLATES)], sums[names.index(EMPTY_SLATES)] = exposed.slates, exposed.empty_slates
    sums[names.index(LATENCY_US)], sums[names.index(TIMED_SLATES)] = exposed.latency_us, exposed.timed_slates
    value = names.index(VALUE)
    for did in _outcomes(log, fold, names):
        if not len(units):
            break
        place = np.minimum(np.searchsorted(units, did.unit), len(units) - 1)
        is_known = units[place] == did.unit
        time_ms = did.told.time_ms
        is_outcome = (time_ms >= first_ms[place]) & (time_ms < end_ms[place])
        for rows, into in ((is_outcome, sums), (time_ms < span.began_ms, past)):
            chosen = is_known & rows
            np.add.at(into, (did.told.column[chosen], place[chosen]), 1.0)
            np.add.at(into[value], place[chosen], did.told.value[chosen])
    table = UnitTable(units, exposed.variant, ((first_ms - span.began_ms) // DAY_MS).astype(np.int32), sums)
    first: list[int] = np.flatnonzero(is_named)[exposed.first].tolist() if values else []
    segments = segments_of(span.segment_keys, [values[row] for row in first])
    return ExperimentUnits(table, past, names, slates, unnamed, exposed.first_variant, segments)


def segments_of(keys: Sequence[str], values: Sequence[tuple[str, ...]]) -> dict[str, NDArray[np.bool_]]:
    """Return the units of each segment, by key in order, the largest segments of a key first.

    Args:
        keys: Of the context.
        values: Of each unit those of the keys, (u,). A key's ``SEGMENT_VALUES_MAX`` largest values have a segment each,
            further ones are in ``OTHER`` together.
    """
    found: dict[str, NDArray[np.bool_]] = {}
    for number, key in enumerate(keys if values else ()):
        texts = [each[number] for each in values]
        of = np.array(texts, dtype=np.object_)
        named = [value for value, _ in Counter(texts).most_common(SEGMENT_VALUES_MAX)]
        found |= {f"{key}={value}": np.asarray(of == value, dtype=np.bool_) for value in named}
        rest = ~np.logical_or.reduce([found[f"{key}={value}"] for value in named])
        if rest.any():
            found[f"{key}={OTHER}"] = rest | found.get(f"{key}={OTHER}", False)
    return found


def exposed_units(
    unit: NDArray[np.uint64],
    variant: NDArray[np.int8],
    time_ms: NDArray[np.int64],
    is_empty: NDArray[np.bool_],
    took_us: NDArray[np.float64],
    span: ExperimentSpan,
) -> ExposedUnits:
    """Return the units of some slates.

    Args:
        unit: Of each slate, in the order of the log, (n,).
        variant: Of each, (n,).
        time_ms: Log time of each, (n,).
        is_empty: Whether it had no item, (n,).
        took_us: How long it took, microseconds, NaN = not measured, (n,).
        span: Of the experiment.

    Cost: 0.2 µs a slate.
    """
    found, place = distinct_units(
        unit
    )  # in the order in which they come first, so a row with a new place is a first one
    first = np.flatnonzero(np.diff(np.maximum.accumulate(place), prepend=-1))
    first_variant, first_ms = variant[first], time_ms[first]
    until_ms = np.full(len(found), np.iinfo(np.int64).max)
    is_other, variants = variant != first_variant[place], first_variant
    if span.is_first_day:
        until_ms = span.began_ms + ((first_ms - span.began_ms) // DAY_MS + 1) * DAY_MS
        np.minimum.at(until_ms, place[is_other], time_ms[is_other])
        is_counted = time_ms < until_ms[place]
        place, is_empty, took_us = place[is_counted], is_empty[is_counted], took_us[is_counted]
    elif is_other.any():
        variants = first_variant.copy()
        variants[place[is_other]] = CROSSED
    slates, empty = (np.bincount(each, minlength=len(found)).astype(np.float64) for each in (place, place[is_empty]))
    is_timed = ~np.isnan(took_us)
    latency = np.bincount(place[is_timed], weights=took_us[is_timed], minlength=len(found)).astype(np.float64)
    timed = np.bincount(place[is_timed], minlength=len(found)).astype(np.float64)
    order = np.argsort(found)
    return ExposedUnits(
        unit=found[order],
        variant=variants[order],
        first_variant=first_variant[order],
        first_ms=first_ms[order],
        first=first[order],
        until_ms=until_ms[order],
        slates=slates[order],
        empty_slates=empty[order],
        latency_us=latency[order],
        timed_slates=timed[order],
    )


_NONE = (
    np.empty(0, dtype=np.uint64),
    np.empty(0, dtype=np.int8),
    np.empty(0, dtype=np.int64),
    np.empty(0, dtype=np.bool_),
    np.empty(0, dtype=np.float64),
)


@dataclass(frozen=True, slots=True)
class _Did:
    """Interactions of a batch."""

    unit: NDArray[np.uint64]
    told: UnitActs


_Exposed: TypeAlias = tuple[
    NDArray[np.uint64], NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]
]


def _exposures(
    log: LogView, fold: Fold, placements: Sequence[str], span: ExperimentSpan, values: list[tuple[str, ...]]
) -> Iterator[_Exposed]:
    """Yield unit, variant and log time of the slates of some variants, whether they had no item, and their times.

    Values of the span's segments go to ``values``, a slate each.
    """
    number = {name: place for place, name in enumerate(placements)}
    for _, batch in batches(log.read, max(span.position, log.begin), log.end):
        found = exposures_of(batch, number, fold.vocabulary.id_key, span.segment_keys)
        values.extend(found.segments)
        if len(found.placement):
            unit = found.askers.united(fold.vocabulary.aliases)
            yield unit, found.placement.astype(np.int8), found.time_ms, found.is_empty, found.took_us


def _outcomes(log: LogView, fold: Fold, names: Sequence[str]) -> Iterator[_Did]:
    """Yield the interactions of the log, without acts that were taken back."""
    number = {name.encode(): place for place, name in enumerate(names) if name not in BUILT_IN}
    for first, batch in log.kept_batches(log.begin):
        told = acts_of(batch, number, fold.vocabulary.id_key, first + np.arange(len(batch)))
        if len(told.column):
            yield _Did(told.askers.united(fold.vocabulary.aliases), told)


def units_of(batch: EventBatch, rows: NDArray[np.integer], fold: Fold) -> NDArray[np.uint64]:
    """Return the unit of each event, 0 = it has neither user nor session."""
    return askers_of(batch, rows, fold.vocabulary.id_key).united(fold.vocabulary.aliases)
