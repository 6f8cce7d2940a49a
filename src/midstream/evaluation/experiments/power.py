"""Power before the start: units and days that an experiment needs, for one planned look or for any-time intervals.

The variance of a lift is that of the delta method under the effect that is to be shown, so both variants count as they
will. An any-time interval that is narrowest at the planned units shows the effect there with the stated power at
least: it may show it before, too. Past outcomes with a correlation of r to the outcome take the share r^2 of the
variance away.

Reference: R. van Belle, "Statistical Rules of Thumb", 2008, chapter 2 (units for a power); A. Deng et al., WSDM 2013
(variance with the past); I. Waudby-Smith et al., arXiv 2103.06476v7, eq. 9 and 134 at the time they are tuned for.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from scipy import special

from midstream.core.errors import Fault, Invalid
from midstream.evaluation.experiments import any_time
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.effects import unit_spread
from midstream.evaluation.experiments.unit_sums import MetricKind, UnitSums, moments_of

DAYS_MAX = 365
"""An experiment that needs more is not planned: users, items and the shop are others by then."""
PAGE = "/docs/experiment-reports.md"
ALPHA_END, POWER_MIN = 0.5, 0.5
_LIFT_MAX = 100.0
_HALVINGS = 60
_UNTUNED = 1_000_000.0


class Outlook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric of the control as it was before the start."""

    kind: MetricKind
    mean: Annotated[float, msgspec.Meta(gt=0.0)]
    """Of a unit; of a ratio, the ratio."""
    deviation: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    """Standard deviation over units; of a rate it follows from the mean; of a ratio that of its linear part."""
    past_correlation: Annotated[float, msgspec.Meta(ge=-1.0, le=1.0)] = 0.0
    """Between a unit's outcome and its past; 0 = the past is not used."""


class Design(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Effect to be shown, and how sure the answer is to be."""

    lift: float
    """Relative, 0.05 = 5 % more; of a guardrail the harm that must be seen, such as -0.1."""
    alpha: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] = 0.05
    power: Annotated[float, msgspec.Meta(ge=0.5, lt=1.0)] = 0.8
    treated_share: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.5
    """Of the units of control and variant together."""
    test: Literal["any_time", "fixed"] = "any_time"
    is_one_sided: bool = False


class ExperimentPlan(msgspec.Struct, frozen=True):
    """Units and days that a design needs."""

    units: int
    """Of control and variant together."""
    treated_units: int
    days: int | None
    """None = more than a year."""
    tuned_units: float
    """For ``AnyTime`` while it runs: the intervals are narrowest where the plan ends."""
    variance_kept: float
    """Share of the variance that the past leaves."""
    text: str


def outlook_of(sums: UnitSums, kind: MetricKind) -> Outlook:
    """Return what a period before the start says: with past columns, of that period's own past, the correlation too."""
    spread = unit_spread(moments_of(sums, kind), kind)
    return Outlook(kind, float(spread.value), float(spread.deviation), float(spread.past_correlation))


def plan(outlook: Outlook, design: Design, new_units_by_day: tuple[float, ...]) -> ExperimentPlan:
    """Return units and days until the lift is shown with the power.

    Args:
        outlook: The metric of the control.
        design: Effect and certainty.
        new_units_by_day: Units of both variants seen for the first time on each day; the last figure goes on. Returning
            users are not new, so a shop's figures fall from day to day.

    Raises:
        Invalid: No plan follows from these figures; each fault is named.
    """
    _require((*_faults(outlook, design), *_lift_faults(outlook, design), *_traffic_faults(new_units_by_day)))
    factor = (critical_score(design) + float(special.ndtri(design.power))) ** 2
    units = math.ceil(lift_variance(outlook, design) * factor / design.lift**2)
    days = _days(units, new_units_by_day)
    kept = 1.0 - outlook.past_correlation**2
    return ExperimentPlan(
        units=units,
        treated_units=math.ceil(units * design.treated_share),
        days=days,
        tuned_units=float(units),
        variance_kept=kept,
        text=_text(units, days, design),
    )


def critical_score(design: Design) -> float:
    """Return how many standard errors an estimate must be away from no effect, at the units of the plan."""
    if design.test == "fixed":
        return -float(special.ndtri(design.alpha if design.is_one_sided else design.alpha / 2))
    level = AnyTime(design.alpha, _UNTUNED)  # at the units it is tuned for, a boundary depends on the level alone
    half_width = any_time.half_width_one_sided if design.is_one_sided else any_time.half_width
    return float(half_width(1.0, _UNTUNED, level))


def lift_variance(outlook: Outlook, design: Design) -> float:
    """Return the variance of an estimated lift, times units, when the lift is that of the design."""
    times, past = 1.0 + design.lift, outlook.past_correlation**2
    treated_mean = outlook.mean * times
    if outlook.kind == "rate":
        own = math.sqrt(outlook.mean * (1.0 - outlook.mean))
        other = math.sqrt(max(treated_mean * (1.0 - treated_mean), 0.0))
    else:
        own = other = outlook.deviation
    # With theta = r own / past: the control's outcome counts times (1 + lift), its past as it is.
    of_control = own * own * (times * times + past - 2 * times * past)
    of_treated = other * other + past * own * own - 2 * past * own * other
    shares = (1.0 - design.treated_share, design.treated_share)
    return (of_control / shares[0] + of_treated / shares[1]) / outlook.mean**2


def detectable_lift(outlook: Outlook, design: Design, units: float) -> float:
    """Return the least lift, of the sign of the design's, that so many units show with the power; infinite = none.

    Raises:
        Invalid: The figures are none that a metric or a test has; each fault is named.
    """
    number = () if 0.0 <= units < math.inf else (Fault("/units", f"{units:g} came.", "A number from 0 on.", PAGE),)
    _require((*_faults(outlook, design), *number))
    sign = math.copysign(1.0, design.lift)
    factor = critical_score(design) + float(special.ndtri(design.power))
    most = 1.0 if sign < 0.0 else _LIFT_MAX
    if outlook.kind == "rate" and sign > 0.0:
        most = 1.0 / outlook.mean - 1.0

    def is_shown(size: float) -> bool:
        variance = lift_variance(outlook, msgspec.structs.replace(design, lift=sign * size))
        return size * math.sqrt(units) >= factor * math.sqrt(variance)

    if not is_shown(most):
        return sign * math.inf
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_shown(middle) else (middle, high)
    return sign * high


def _require(faults: tuple[Fault, ...]) -> None:
    if faults:
        raise Invalid(faults)


def _faults(outlook: Outlook, design: Design) -> Iterator[Fault]:
    """Yield which figures no metric or test has. NaN is in no range."""
    mean_max = 1.0 if outlook.kind == "rate" else math.inf
    for where, value, is_right, right in (
        ("/mean", outlook.mean, 0.0 < outlook.mean < mean_max, f"Above 0, below {mean_max:g}."),
        ("/deviation", outlook.deviation, 0.0 <= outlook.deviation < math.inf, "A number from 0 on."),
        ("/past_correlation", outlook.past_correlation, -1.0 <= outlook.past_correlation <= 1.0, "-1 to 1."),
        ("/alpha", design.alpha, 0.0 < design.alpha < ALPHA_END, f"Above 0, below {ALPHA_END}."),
        ("/power", design.power, POWER_MIN <= design.power < 1.0, f"{POWER_MIN} to below 1."),
        ("/treated_share", design.treated_share, 0.0 < design.treated_share < 1.0, "Above 0, below 1."),
    ):
        if not is_right:
            yield Fault(where, f"{value:g} came.", right, PAGE)


def _lift_faults(outlook: Outlook, design: Design) -> Iterator[Fault]:
    lift, most = design.lift, _LIFT_MAX
    if outlook.kind == "rate" and 0.0 < outlook.mean < 1.0:
        most = min(most, 1.0 / outlook.mean - 1.0)
    if not (-1.0 <= lift <= most and lift):
        right = f"From -1 to {most:.6g}, and not 0: what a variant can have beside a control of {outlook.mean:g}."
        yield Fault("/lift", f"{lift:g} came.", right, PAGE)
    elif not tuple(_faults(outlook, design)) and not lift_variance(outlook, design) > 0.0:
        right = "A metric that varies between units, and is not wholly told by their past."
        yield Fault("/deviation", f"{outlook.deviation:g} came, and nothing varies.", right, PAGE)


def _traffic_faults(new_units_by_day: tuple[float, ...]) -> Iterator[Fault]:
    if not new_units_by_day:
        yield Fault("/new_units_by_day", "No day came.", "New units of one day at least; the last goes on.", PAGE)
    for day, each in enumerate(new_units_by_day):
        if not 0.0 <= each < math.inf:
            yield Fault(f"/new_units_by_day/{day}", f"{each:g} came.", "A number from 0 on.", PAGE)
            return  # one says it of any number of days


def _days(units: int, new_units_by_day: tuple[float, ...]) -> int | None:
    """Return the first day at whose end there are enough units."""
    seen = 0.0
    for day in range(DAYS_MAX):
        seen += new_units_by_day[min(day, len(new_units_by_day) - 1)]
        if seen >= units:
            return day + 1
    return None


def _text(units: int, days: int | None, design: Design) -> str:
    duration = f"more than {DAYS_MAX} days" if days is None else f"about {days} day{'s' if days != 1 else ''}"
    read = "read at any time" if design.test == "any_time" else "read once at the end"
    return (
        f"needs {duration}: {units:,} units for a lift of {design.lift:+.1%} with a power of {design.power:.0%}, {read}"
    )
