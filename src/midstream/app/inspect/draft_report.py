"""Report of an interleaving experiment: preference of units between each variant and the control, by each metric.

Two analyses stand side by side. *Paired*: credit of the variant less that of the control at rounds in which each
variant has a place, with an interval for one look. *Preference*: one vote a unit, by all of its acts within
``CREDIT_MS`` of its first slate, with an interval that holds at every look; the verdict rests on it. Votes that may
still change are open, and do not count in it.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.app.inspect.drafted_places import CREDIT_MS, DraftedLog, LoggedPlaces, Numbers
from midstream.evaluation.interleaving.credit import DraftedPlaces, Later, Shown, attributed, sign_of, votes_of
from midstream.evaluation.interleaving.preference import Paired, Preference, paired, preference
from midstream.evaluation.metrics.statistics import Resampling
from midstream.experiments.documents import Experiment
from midstream.experiments.metrics import ExperimentMetric

ALPHA = 0.05
FIGURES = (
    "metric", "role", "variant", "pairs", "credit a pair", "at one look", "for : tie : against", "delta",
    "at all looks", "open",
)  # fmt: skip
"""Columns of ``draft_rows``."""
Verdict: TypeAlias = Literal["better", "worse", "undecided"]
Real = NDArray[np.float64]
_UNKNOWN = "–"


class TeamPreference(msgspec.Struct, frozen=True):
    """One variant against the control, by one metric."""

    metric: str
    role: str
    variant: str
    pairs: int
    """Rounds in which each variant has a place."""
    difference: float
    """Credit of the variant less that of the control, a pair; NaN = no pair."""
    difference_low: float
    """Of one look."""
    difference_high: float
    wins: int
    """Units that prefer the variant."""
    ties: int
    losses: int
    open: int
    """Of these, units whose vote may still change."""
    delta: float
    """(wins + ties / 2) / all - 1/2; NaN = no vote."""
    delta_low: float
    """Of settled votes, at all looks together."""
    delta_high: float
    verdict: Verdict


class DraftReport(msgspec.Struct, frozen=True):
    """What an interleaving experiment says now."""

    units: int
    slates: int
    """Drafted of all variants, each page counted."""
    partial: int
    """Slates in which a variant had no part; they are left out."""
    unnamed: int
    """Slates of erased users."""
    drafted: tuple[int, ...]
    """LoggedPlaces that each variant drafted, the control first."""
    preferences: tuple[TeamPreference, ...]


def draft_report(told: Experiment, metrics: Sequence[ExperimentMetric], found: DraftedLog, now_ms: int) -> DraftReport:
    """Return the report of an interleaving experiment.

    Args:
        told: The experiment.
        metrics: What it is judged by.
        found: Its drafted slates and what followed.
        now_ms: Log time at which it is looked at.
    """
    places = found.places
    open_units = _open_units(places, now_ms) if told.state == "running" else np.zeros(0, dtype=np.int64)
    resampling = Resampling(level=1 - ALPHA / (len(told.variants) - 1))
    return DraftReport(
        units=len(np.unique(places.unit)),
        slates=len(np.unique(places.slate)),
        partial=found.partial,
        unnamed=found.unnamed,
        drafted=tuple(int((places.team == number).sum()) for number in range(len(told.variants))),
        preferences=tuple(
            _told(metric, variant.name, *_compared(metric, number, found, open_units, resampling))
            for metric in sorted(metrics, key=lambda each: each.role != "primary")
            for number, variant in enumerate(told.variants)
            if number
        ),
    )


def draft_lines(found: DraftReport, control: str) -> Iterator[str]:
    """Yield what was drafted, then the verdict of each variant by each metric."""
    yield f"{found.units:,} units, {found.slates:,} drafted slates"
    if found.partial:
        yield f"{found.partial:,} slates are left out, in which a variant had no part"
    if found.unnamed:
        yield f"{found.unnamed:,} slates are of erased users"
    for each in found.preferences:
        at = f"by {each.metric}" if each.role == "primary" else f"by {each.metric} ({each.role})"
        yield f"{each.variant}: {_VERDICTS[each.verdict].format(control)} {at}"


def draft_rows(found: DraftReport) -> Iterator[tuple[str, ...]]:
    """Yield ``FIGURES`` for people."""
    for each in found.preferences:
        yield (
            each.metric,
            each.role,
            each.variant,
            f"{each.pairs:,}",
            _number(each.difference),
            _between(each.difference_low, each.difference_high),
            f"{each.wins:,} : {each.ties:,} : {each.losses:,}",
            _number(each.delta),
            _between(each.delta_low, each.delta_high),
            f"{each.open:,}",
        )


_VERDICTS = {"better": "preferred to {}", "worse": "{} is preferred to it", "undecided": "undecided against {}"}


class _Credit(NamedTuple):
    """What a metric gives each place and each later act; below 0 where less of it is better."""

    paired: Real
    """Of each place, (n,)."""
    voting: Real
    """Of each place, by what came while its unit votes, (n,)."""
    later: NDArray[np.intp]
    """LoggedActs that name no request, while their unit votes, (k,)."""
    worth: Real
    """Of each of these, (k,)."""


def _compared(
    metric: ExperimentMetric, number: int, found: DraftedLog, open_units: Numbers, resampling: Resampling
) -> tuple[Paired, Preference]:
    """Return both analyses of a variant against the control."""
    places, acts = found.places, found.acts
    credit = _credit(metric, found)
    sign = sign_of(places.team, number, 0)
    shown = Shown(places.unit, places.item, places.time_ms, sign)
    later = Later(acts.unit[credit.later], acts.item[credit.later], acts.time_ms[credit.later])
    later_sign, _ = attributed(shown, later, CREDIT_MS)
    users, vote = votes_of(
        np.concatenate((places.unit, later.user)),
        np.concatenate((sign * credit.voting, later_sign * credit.worth)),
    )
    whole = DraftedPlaces(places.unit, places.slate, places.team, places.pair, credit.paired)
    return (
        paired(whole, teams=(number, 0), resampling=resampling),
        preference(vote, ~np.isin(users, open_units), resampling),
    )


def _credit(metric: ExperimentMetric, found: DraftedLog) -> _Credit:
    """Return what a metric gives the places of some slates and later acts."""
    places, acts = found.places, found.acts
    count = len(places.unit)
    rows, worth = acts.of(metric)
    if not count or not len(rows):
        return _Credit(np.zeros(count), np.zeros(count), np.empty(0, dtype=np.intp), np.zeros(0))
    towards = 1.0 if metric.better == "higher" else -1.0
    at, time_ms = acts.place[rows], acts.time_ms[rows]
    has_place, slot = at >= 0, np.maximum(at, 0)
    is_credit = has_place & (time_ms - places.time_ms[slot] < CREDIT_MS)
    voter = np.where(has_place, places.unit[slot], acts.unit[rows])
    votes = (voter >= 0) & (time_ms < _first_ms(places)[np.maximum(voter, 0)] + CREDIT_MS)
    own, later = is_credit & votes, ~has_place & votes
    return _Credit(
        towards * _at_places(metric, at[is_credit], worth[is_credit], count),
        towards * _at_places(metric, at[own], worth[own], count),
        rows[later],
        towards * worth[later],
    )


def _at_places(metric: ExperimentMetric, at: Numbers, worth: Real, count: int) -> Real:
    """Return the sum of what some acts are worth at each place; of a rate whether there is any."""
    summed = np.bincount(at, worth, minlength=count).astype(np.float64)
    most = 1.0 if metric.kind == "rate" else np.inf if metric.cap is None else metric.cap
    return np.asarray(np.minimum(summed, most), dtype=np.float64)


def _first_ms(places: LoggedPlaces) -> Numbers:
    """Return the time of the first slate of each unit, (units,)."""
    found = np.full(int(places.unit.max()) + 1, np.iinfo(np.int64).max - CREDIT_MS)
    np.minimum.at(found, places.unit, places.time_ms)
    return found


def _open_units(places: LoggedPlaces, now_ms: int) -> Numbers:
    """Return the units that vote still."""
    if not len(places.unit):
        return places.unit
    return np.flatnonzero(_first_ms(places) + CREDIT_MS > now_ms).astype(np.int64)


def _told(metric: ExperimentMetric, variant: str, pairs: Paired, votes: Preference) -> TeamPreference:
    low, high = votes.anytime_delta
    verdict: Verdict = "better" if low > 0 else "worse" if high < 0 else "undecided"
    return TeamPreference(
        metric=metric.name,
        role=metric.role,
        variant=variant,
        pairs=pairs.pairs,
        difference=pairs.difference.mean,
        difference_low=pairs.difference.low,
        difference_high=pairs.difference.high,
        wins=votes.wins,
        ties=votes.ties,
        losses=votes.losses,
        open=votes.open,
        delta=votes.delta.mean,
        delta_low=low,
        delta_high=high,
        verdict=verdict,
    )


def _number(value: float) -> str:
    return _UNKNOWN if np.isnan(value) else f"{value:+.4f}"


def _between(low: float, high: float) -> str:
    return _UNKNOWN if np.isnan(low) or np.isnan(high) else f"{low:+.4f} to {high:+.4f}"
