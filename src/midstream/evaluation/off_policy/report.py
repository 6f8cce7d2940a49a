"""Report of an off-policy evaluation: every estimator with its interval and its support, or why there is none."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from midstream.evaluation.off_policy import choices, slates
from midstream.evaluation.off_policy.choices import ChoiceLog
from midstream.evaluation.off_policy.intervals import Confidence, Terms, Users, Values, interval, user_sums
from midstream.evaluation.off_policy.slates import SlateLog
from midstream.evaluation.off_policy.slope import slope, weight_grid
from midstream.evaluation.off_policy.support import Support, effective, missing_of, support

MODEL_ONLY = "its error is its model's, which no interval knows"
TUNED = "its interval holds that without the limit, too: what SLOPE took for variance may be bias"
NO_MODEL = "there is no reward model"
NO_MARGINALS = "marginal probabilities of items at places are not logged"
AddsModel: TypeAlias = Callable[[SlateLog], SlateLog]
"""Adds a model's rewards to a log; each place's count those below it in that log."""
OF_CHOICES = ("ipw", "snipw", "ipw_clipped", "dm", "dr", "sndr", "switch_dr", "dr_os")
OF_SLATES = ("sips", "rips", "snrips", "rips_clipped", "cascade_dr")
ESTIMATORS = (*OF_CHOICES, *OF_SLATES, "iips")
"""Every name that can be asked for."""
WITH_MODEL = frozenset(("dm", "dr", "sndr", "switch_dr", "dr_os", "cascade_dr"))
"""Those that need a reward model."""
_AT_ONE_PLACE = {
    "sips": "ipw", "rips": "ipw", "iips": "ipw", "snrips": "snipw", "rips_clipped": "ipw_clipped", "cascade_dr": "dr",
}  # fmt: skip
_BEST_FIRST = ("cascade_dr", "dr", "snrips", "snipw", "sndr", "rips", "ipw", "sips")
"""Those with an interval and without a limit."""


class Estimated(msgspec.Struct, frozen=True):
    """One estimator's value of a target policy."""

    name: str
    value: float | None = None
    """Reward a slate, or a choice; None = it cannot be estimated."""
    low: float | None = None
    high: float | None = None
    effective: float | None = None
    """Effective users by the weights that it uses; None = it uses none."""
    weight_max: float | None = None
    """Largest weight that it uses."""
    unsupported: float | None = None
    """Share of the target's choices whose rewards are not taken from the log: never logged, or of weights that it cuts;
    1 of a model alone."""
    tuned: Literal["weight_max", "shrinkage"] | None = None
    """What SLOPE chose: a limit of weights, or λ of ``dr_os``; None = nothing is chosen."""
    parameter: float | None = None
    """The number that SLOPE chose; None = without limit."""
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
    """The estimator to go by, chosen before any value is known; where there is none, the first that was asked for."""
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

    @property
    def can_be_gone_by(self) -> bool:
        """Whether the estimate to go by has an interval, and no limit that SLOPE chose."""
        return self.best.low is not None and self.best.tuned is None


@dataclass(frozen=True, slots=True, eq=False)
class _Estimate:
    """What an estimator makes of a log."""

    terms: Terms
    used: Values | None
    """Weights that it uses, (n,); None = none."""
    tuned: Literal["weight_max", "shrinkage"] | None = None
    parameter: float = np.inf
    unlimited: Terms | None = None
    """The same estimator without what SLOPE chose; None = SLOPE chose nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """What all estimates of a report are made of."""

    users: Users
    weight: Values
    """Of each row: of all its places."""
    missing: float
    how: Confidence


def estimate_choices(
    log: ChoiceLog, confidence: Confidence | None = None, names: Sequence[str] = ()
) -> OffPolicyReport:
    """Return estimates of single choices.

    Args:
        log: Of choices.
        confidence: How intervals are made; None = jackknife over users, 95 %.
        names: Of ``ESTIMATORS``; those of slates are those of choices that they are at one place. Empty = all of
            choices that have what they need.
    """
    missing = float(missing_of(np.ones((len(log.users), 1)), log.missing[:, None])[-1])
    found = support(log.weight, log.weight * log.reward, missing, log.users)
    refused = {name: NO_MODEL for name in ESTIMATORS if log.predicted is None and _at_one(name) in WITH_MODEL}
    wanted = tuple(names) or tuple(name for name in OF_CHOICES if name not in refused)
    rows = _Rows(log.users, log.weight, missing, confidence or Confidence())
    return OffPolicyReport(
        logged=_logged(log.reward, rows), level=rows.how.level, places=int(found.reason is None), places_asked=1,
        chosen=_chosen(wanted, refused), support=found,
        estimates=_estimates(wanted, lambda name: _of_choices(_at_one(name), log), rows, (found.reason, refused)),
    )  # fmt: skip


def estimate_slates(
    log: SlateLog,
    confidence: Confidence | None = None,
    model: AddsModel | None = None,
    names: Sequence[str] = (),
) -> OffPolicyReport:
    """Return estimates of the first places of slates, as many as the log supports; of one place, those of choices.

    The weight of a place is that of all places above it too, so each place is supported by less than the one before.
    How many there are is decided by weights, so that rewards do not choose them.

    Args:
        log: Of slates.
        confidence: How intervals are made; None = jackknife over users, 95 %.
        model: Adds a model's rewards to the log of these places; None = no estimator that needs one.
        names: Of ``ESTIMATORS``; empty = all of as many places that have what they need.
    """
    places = supported_places(log)
    cut = log.first(max(1, places))
    missing = float(missing_of(cut.weight_above, cut.missing)[-1])
    found = support(cut.weight[:, -1], (cut.weight * cut.reward).sum(axis=1), missing, log.users)
    if model is not None and found.reason is None:
        cut = model(cut)
    if cut.places == 1 and (places or log.places == 1):
        usual = tuple(name for name in OF_CHOICES if model is not None or name not in WITH_MODEL)
        report = estimate_choices(_first_choices(cut), confidence, tuple(names) or usual)
        return msgspec.structs.replace(report, places_asked=log.places)
    refused = dict.fromkeys(OF_CHOICES, f"it is of single choices, not of {cut.places} places")
    refused |= {"iips": NO_MARGINALS} | ({"cascade_dr": NO_MODEL} if model is None else {})
    wanted = tuple(names) or tuple(name for name in OF_SLATES if name not in refused)
    rows = _Rows(log.users, cut.weight[:, -1], missing, confidence or Confidence())
    return OffPolicyReport(
        logged=_logged(cut.reward.sum(axis=1), rows), level=rows.how.level,
        places=cut.places if found.reason is None else 0, places_asked=log.places,
        chosen=_chosen(wanted, refused), support=found,
        estimates=_estimates(wanted, lambda name: _of_slates(name, cut), rows, (found.reason, refused)),
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


def _at_one(name: str) -> str:
    return _AT_ONE_PLACE.get(name, name)


def _first_choices(log: SlateLog) -> ChoiceLog:
    """Return the first place of each slate as a choice."""
    of_model = None if log.predicted is None or log.expected is None else (log.predicted[:, 0], log.expected[:, 0])
    return ChoiceLog(
        log.users, log.reward[:, 0], log.logged[:, 0], log.target[:, 0], log.missing[:, 0], *(of_model or ())
    )


def _chosen(names: Sequence[str], refused: Mapping[str, str]) -> str:
    """Return the estimator to go by, of those that were asked for; the first one where none can be gone by."""
    return next((name for name in _BEST_FIRST if name in names and name not in refused), names[0])


def _of_choices(name: str, log: ChoiceLog) -> _Estimate:
    """Return one of ``OF_CHOICES``."""
    weight = log.weight
    match name:
        case "ipw":
            return _Estimate(choices.ipw(log), weight)
        case "snipw":
            return _Estimate(choices.snipw(log), weight)
        case "ipw_clipped":
            return _limited(partial(choices.ipw, log), partial(np.minimum, weight), weight, log.users)
        case _:
            return _of_model(name, log)


def _of_model(name: str, log: ChoiceLog) -> _Estimate:
    """Return one of those of choices that need a model."""
    weight, users = log.weight, log.users
    match name:
        case "dm":
            return _Estimate(choices.dm(log), None)
        case "dr":
            return _Estimate(choices.dr(log), weight)
        case "sndr":
            return _Estimate(choices.sndr(log), weight)
        case "switch_dr":
            return _limited(partial(choices.switch_dr, log), partial(choices.switched, weight), weight, users)
        case _:
            shrinkages = tuple(float(np.square(each)) for each in weight_grid(weight))
            shrinkage = slope(partial(choices.dr_os, log), shrinkages, users)
            used = choices.shrunken(weight, shrinkage)
            return _Estimate(choices.dr_os(log, shrinkage), used, "shrinkage", shrinkage, choices.dr(log))


def _of_slates(name: str, log: SlateLog) -> _Estimate:
    """Return one of ``OF_SLATES``."""
    weight = log.weight[:, -1]
    match name:
        case "sips":
            return _Estimate(slates.sips(log), weight)
        case "rips":
            return _Estimate(slates.rips(log), weight)
        case "snrips":
            return _Estimate(slates.snrips(log), weight)
        case "rips_clipped":
            return _limited(partial(slates.rips, log), partial(np.minimum, weight), weight, log.users)
        case _:
            return _Estimate(slates.cascade_dr(log), weight)


def _limited(
    make: Callable[[float], Terms], used: Callable[[float], Values], weight: Values, users: Users
) -> _Estimate:
    """Return an estimate with the limit of weights that SLOPE chooses."""
    limit = slope(make, weight_grid(weight), users)
    return _Estimate(make(limit), used(limit), "weight_max", limit, make(np.inf))


def _estimates(
    names: Sequence[str], make: Callable[[str], _Estimate], rows: _Rows, reasons: tuple[str | None, Mapping[str, str]]
) -> tuple[Estimated, ...]:
    """Return each estimate with its interval, or without a value and with the reason."""
    whole, refused = reasons
    notes = {name: refused.get(name, whole) for name in names}
    return tuple(
        _estimated(name, make(name), rows) if notes[name] is None else Estimated(name, note=notes[name])
        for name in names
    )


def _estimated(name: str, found: _Estimate, rows: _Rows) -> Estimated:
    if found.used is None:
        return Estimated(name, found.terms.value, unsupported=1.0, note=MODEL_ONLY)
    kept = None if found.tuned is None or np.isinf(found.parameter) else found.parameter
    counted = (found.terms,) if kept is None or found.unlimited is None else (found.terms, found.unlimited)
    bounds = [interval(each, rows.users, rows.how) for each in counted]
    cut = 1.0 - float(found.used.sum() / rows.weight.sum())
    return Estimated(
        name, found.terms.value, min(each.low for each in bounds), max(each.high for each in bounds),
        effective=effective(user_sums(found.used, rows.users)), weight_max=float(found.used.max()),
        unsupported=rows.missing + (1.0 - rows.missing) * max(0.0, cut),
        tuned=found.tuned, parameter=kept, note=TUNED if kept is not None else None,
    )  # fmt: skip


def _logged(reward: Values, rows: _Rows) -> Estimated:
    if not len(reward):
        return Estimated("logged", note="nothing was logged")
    terms = Terms(reward, np.zeros((len(reward), 0)))
    bounds = interval(terms, rows.users, rows.how)
    if np.isnan(bounds.low):
        return Estimated("logged", terms.value, note="one user has no interval")
    return Estimated("logged", terms.value, bounds.low, bounds.high)
