"""Units of an experiment from a folder's log: exposures are served records, outcomes are what the same unit did later.

An event belongs to the unit that a request of the same user, else of the same session, would have, after all merges of
the log: so both exposures of a merged user are the one unit's, which then saw two variants and is left out of every
comparison. Outcomes count from the unit's first exposure on, whether they name a slate or not; what it did before the
experiment is its past.

Where shares move, a unit is in the variant of its first slate whatever it saw later. It counts until a slate of another
variant, and on the day of that first slate alone (days are those of the experiment).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.app.inspect.folder_view import LogView
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.experiments.running_units import DAY_MS
from midstream.engine.experiments.unit_events import UnitActs, acts_of, askers_of, exposures_of
from midstream.engine.ingest.log_reader import batches
from midstream.evaluation.experiments.grouping import UnitTable, grouped
from midstream.experiments.metrics import BUILT_IN, EMPTY_SLATES, SLATES, VALUE
from midstream.state.fold import Fold


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

    Cost: two passes over the log; about 1 µs an event, 5 µs a slate.
    """
    names = (*BUILT_IN, *dict.fromkeys(each for each in (*fold.outcomes.actions, *more) if each not in BUILT_IN))
    exposures = list(_exposures(log, fold, placements, span.position))
    unit, variant, time_ms, is_empty = (
        (np.concatenate(each) for each in zip(*exposures, strict=True)) if exposures else _NONE
    )
    slates = tuple(int((variant == number).sum()) for number in range(len(placements)))
    is_named = unit != 0
    unnamed = int((~is_named).sum())
    unit, variant, time_ms, is_empty = unit[is_named], variant[is_named], time_ms[is_named], is_empty[is_named]
    day = ((time_ms - span.began_ms) // DAY_MS).astype(np.int32)
    units, first, place = np.unique(unit, return_index=True, return_inverse=True)
    first_variant, first_ms = variant[first], time_ms[first]  # the log is in order of time
    until_ms = np.full(len(units), np.iinfo(np.int64).max)
    if span.is_first_day:
        until_ms = span.began_ms + (day[first].astype(np.int64) + 1) * DAY_MS
        is_other = variant != first_variant[place]
        np.minimum.at(until_ms, place[is_other], time_ms[is_other])
        variant = first_variant[place]
    is_counted = time_ms < until_ms[place]
    exposed = grouped(unit, variant, day, [is_counted.astype(np.float64), (is_empty & is_counted).astype(np.float64)])
    order = np.argsort(exposed.unit)
    sums, past = np.zeros((len(names), len(units))), np.zeros((len(names), len(units)))
    ended_ms = np.iinfo(np.int64).max if span.ended_ms is None else span.ended_ms
    for column, name in enumerate((SLATES, EMPTY_SLATES)):
        sums[names.index(name)] = exposed.columns[column][order]
    value = names.index(VALUE)
    for did in _outcomes(log, fold, names):
        if not len(units):
            break
        place = np.minimum(np.searchsorted(units, did.unit), len(units) - 1)
        is_known = units[place] == did.unit
        time_ms = did.told.time_ms
        is_outcome = (time_ms >= first_ms[place]) & (time_ms < np.minimum(until_ms[place], ended_ms))
        for rows, into in ((is_outcome, sums), (time_ms < span.began_ms, past)):
            chosen = is_known & rows
            np.add.at(into, (did.told.column[chosen], place[chosen]), 1.0)
            np.add.at(into[value], place[chosen], did.told.value[chosen])
    table = UnitTable(units, exposed.variant[order], exposed.first_day[order], sums)
    return ExperimentUnits(table, past, names, slates, unnamed, first_variant)


_NONE = (
    np.empty(0, dtype=np.uint64),
    np.empty(0, dtype=np.int8),
    np.empty(0, dtype=np.int64),
    np.empty(0, dtype=np.bool_),
)


@dataclass(frozen=True, slots=True)
class _Did:
    """Interactions of a batch."""

    unit: NDArray[np.uint64]
    told: UnitActs


def _exposures(
    log: LogView, fold: Fold, placements: Sequence[str], began: LogPosition
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int8], NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield unit, variant and log time of the slates of some variants, and whether they had no item."""
    number = {name: place for place, name in enumerate(placements)}
    for _, batch in batches(log.read, max(began, log.begin), log.end):
        found = exposures_of(batch, number, fold.vocabulary.id_key)
        if len(found.placement):
            unit = found.askers.united(fold.vocabulary.aliases)
            yield unit, found.placement.astype(np.int8), found.time_ms, found.is_empty


def _outcomes(log: LogView, fold: Fold, names: Sequence[str]) -> Iterator[_Did]:
    """Yield the interactions of the log."""
    number = {name.encode(): place for place, name in enumerate(names) if name not in BUILT_IN}
    for _, batch in batches(log.read, log.begin, log.end):
        told = acts_of(batch, number, fold.vocabulary.id_key)
        if len(told.column):
            yield _Did(told.askers.united(fold.vocabulary.aliases), told)


def units_of(batch: EventBatch, rows: NDArray[np.integer], fold: Fold) -> NDArray[np.uint64]:
    """Return the unit of each event, 0 = it has neither user nor session."""
    return askers_of(batch, rows, fold.vocabulary.id_key).united(fold.vocabulary.aliases)
