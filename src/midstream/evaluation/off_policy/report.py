"""Report of an off-policy evaluation: every estimator with its interval and its support, or why there is none."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import msgspec
import numpy as np

from midstream.evaluation.off_policy import choices, slates
from midstream.evaluation.off_policy.choices import ChoiceLog
from midstream.evaluation.off_policy.intervals import Confidence, Terms, Users, Values, interval
from midstream.evaluation.off_policy.slates import SlateLog
from midstream.evaluation.off_policy.slope import slope, weight_grid
from midstream.evaluation.off_policy.support import Support, missing_of, support

MODEL_ONLY = "its error is its model's, which no interval knows"
TUNED = "the interval is of its own mean: what SLOPE took for variance is a bias outside of it"
AddsModel: TypeAlias = Callable[[SlateLog], SlateLog]
"""Adds a model's rewards to a log; each place's count those below it in that log."""
Named: TypeAlias = tuple[str, Terms, float | None]
_DM = "dm"
_BIASED = frozenset(("ipw_clipped", "switch_dr", "dr_os", "rips_clipped"))


class Estimated(msgspec.Struct, frozen=True):
    """One estimator's value of a target policy."""

    name: str
    value: float | None = None
    """Reward a slate, or a choice; None = it cannot be estimated."""
    low: float | None = None
    high: float | None = None
    parameter: float | None = None
    """Limit of weights, or shrinkage, that SLOPE chose; None = it has none, or SLOPE chose none."""
    note: str | None = None
    """Why there is no value or no interval, or what the interval leaves out."""


class OffPolicyReport(msgspec.Struct, frozen=True):
    """Value of a policy that never served, from the choices of one that did."""

    logged: Estimated
    """Mean reward of what was logged, of the same places."""
    level: float
    """Of all intervals; their units are users."""
    places: int
    """Places of a slate whose rewards are summed, from the top; 1 of single choices, 0 = none can be estimated."""
    places_asked: int
    chosen: str
    """The estimator to go by; it is chosen before any value is known."""
    support: Support
    """Of those places; of the first one where none can be estimated."""
    estimates: tuple[Estimated, ...]

    @property
    def reason(self) -> str | None:
        """Why nothing can be estimated; None = it can."""
        return self.support.reason

    @property
    def best(self) -> Estimated:
        """The estimate to go by."""
        return next(each for each in self.estimates if each.name == self.chosen)


def estimate_choices(log: ChoiceLog, confidence: Confidence | None = None) -> OffPolicyReport:
    """Return estimates of single choices by every estimator that has what it needs.

    Args:
        log: Of choices.
        confidence: How intervals are made; None = jackknife over users, 95 %.
    """
    how = confidence or Confidence()
    missing = float(missing_of(np.ones((len(log.users), 1)), log.missing[:, None])[-1])
    found = support(log.weight, log.weight * log.reward, missing, log.users)
    has_model = log.predicted is not None
    names = ("ipw", "snipw", "ipw_clipped", *((_DM, "dr", "sndr", "switch_dr", "dr_os") if has_model else ()))
    return OffPolicyReport(
        logged=_logged(log.reward, log.users, how), level=how.level, places=int(found.reason is None), places_asked=1,
        chosen="dr" if has_model else "snipw", support=found,
        estimates=_told(names, found.reason, lambda: _of_choices(log), log.users, how),
    )  # fmt: skip


def estimate_slates(
    log: SlateLog, confidence: Confidence | None = None, model: AddsModel | None = None
) -> OffPolicyReport:
    """Return estimates of the first places of slates, as many as the log supports.

    The weight of a place is that of all places above it too, so each place is supported by less than the one before.
    How many there are is decided by weights, so that rewards do not choose them.

    Args:
        log: Of slates.
        confidence: How intervals are made; None = jackknife over users, 95 %.
        model: Adds a model's rewards to the log of these places; None = no Cascade-DR.
    """
    how = confidence or Confidence()
    cut = log.first(max(1, supported_places(log)))
    missing = float(missing_of(cut.weight_above, cut.missing)[-1])
    found = support(cut.weight[:, -1], (cut.weight * cut.reward).sum(axis=1), missing, log.users)
    if model is not None and found.reason is None:
        cut = model(cut)
    names = ("sips", "rips", "snrips", "rips_clipped", *(() if model is None else ("cascade_dr",)))
    return OffPolicyReport(
        logged=_logged(cut.reward.sum(axis=1), log.users, how), level=how.level,
        places=cut.places if found.reason is None else 0, places_asked=log.places,
        chosen="snrips" if model is None else "cascade_dr", support=found,
        estimates=_told(names, found.reason, lambda: _of_slates(cut), log.users, how),
    )  # fmt: skip


def supported_places(log: SlateLog) -> int:
    """Return the number of places from the top whose weights support an estimate."""
    weight, missing = log.weight, missing_of(log.weight_above, log.missing)
    for place in range(log.places):
        one = weight[:, place]
        # Weights alone: as if each slate had one act.
        if support(one, np.ones(len(one)), float(missing[place]), log.users).reason is not None:
            return place
    return log.places


def _of_choices(log: ChoiceLog) -> Iterator[Named]:
    weight = log.weight
    grid = weight_grid(weight)
    yield "ipw", choices.ipw(log), None
    yield "snipw", choices.snipw(log), None
    yield _tuned("ipw_clipped", partial(choices.ipw, log), grid, log.users)
    if log.predicted is not None:
        yield _DM, choices.dm(log), None
        yield "dr", choices.dr(log), None
        yield "sndr", choices.sndr(log), None
        yield _tuned("switch_dr", partial(choices.switch_dr, log), grid, log.users)
        shrinkages = tuple(float(np.square(each)) for each in grid)
        yield _tuned("dr_os", partial(choices.dr_os, log), shrinkages, log.users)


def _of_slates(log: SlateLog) -> Iterator[Named]:
    yield "sips", slates.sips(log), None
    yield "rips", slates.rips(log), None
    yield "snrips", slates.snrips(log), None
    yield _tuned("rips_clipped", partial(slates.rips, log), weight_grid(log.weight[:, -1]), log.users)
    if log.predicted is not None:
        yield "cascade_dr", slates.cascade_dr(log), None


def _tuned(name: str, make: Callable[[float], Terms], grid: tuple[float, ...], users: Users) -> Named:
    parameter = slope(make, grid, users)
    return name, make(parameter), parameter


def _told(
    names: tuple[str, ...], reason: str | None, make: Callable[[], Iterator[Named]], users: Users, how: Confidence
) -> tuple[Estimated, ...]:
    """Return each estimate with its interval, or all without values and the reason."""
    if reason is not None:
        return tuple(Estimated(name, note=reason) for name in names)
    return tuple(_estimated(name, terms, parameter, users, how) for name, terms, parameter in make())


def _estimated(name: str, terms: Terms, parameter: float | None, users: Users, how: Confidence) -> Estimated:
    kept = None if parameter is None or np.isinf(parameter) else parameter
    if name == _DM:
        return Estimated(name, terms.value, note=MODEL_ONLY)
    bounds = interval(terms, users, how)
    biased = name in _BIASED and kept is not None
    return Estimated(name, terms.value, bounds.low, bounds.high, kept, TUNED if biased else None)


def _logged(reward: Values, users: Users, how: Confidence) -> Estimated:
    if not len(reward):
        return Estimated("logged", note="nothing was logged")
    terms = Terms(reward, np.zeros((len(reward), 0)))
    bounds = interval(terms, users, how)
    if np.isnan(bounds.low):
        return Estimated("logged", terms.value, note="one user has no interval")
    return Estimated("logged", terms.value, bounds.low, bounds.high)
