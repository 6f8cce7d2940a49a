"""Metrics of an experiment as its document declares them: one primary, guardrails with their margins, and others.

They are decided at the start and kept in the document, so a report cannot choose afterwards what it judges by. Without
a declaration they follow from the weights of the configured interactions at the start.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from midstream.core.errors import Fault
from midstream.core.nearest import nearest
from midstream.events.faults import shown
from midstream.experiments.names import NAME_BYTES_MAX, is_name
from midstream.state.settings import EventType

SLATES = "slates"
EMPTY_SLATES = "empty_slates"
VALUE = "value"
"""Sum of value x quantity of all interactions; a quantity that was not sent is 1."""
LATENCY_US = "latency_us"
"""Sum over the slates of how long each took, from the request's admission to the slate: whole microseconds, whose sum
is the same in whatever order units are summed."""
TIMED_SLATES = "timed_slates"
"""Slates whose time is known: those that have none, of an earlier release, are not slates of 0 ms."""
TIMES = (LATENCY_US, TIMED_SLATES)
BUILT_IN = (SLATES, EMPTY_SLATES, VALUE, *TIMES)
"""What is counted of a unit beside its interactions; an interaction of such a name cannot be counted."""
METRICS_MAX = 20
"""Of an experiment: each takes power from the others, and 20 of them 2 kB of the document."""
HARM_MAX = 100.0
CAP_MAX = 1e12
DEFAULT_HARM_MAX = 0.1
"""Of the guardrails that nobody declared: less of it is no reason to end an experiment by itself."""
Role: TypeAlias = Literal["primary", "guardrail", "secondary"]
_PAGE = "/docs/experiments.md"


class ExperimentMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure of an experiment, by unit."""

    name: str
    counts: str
    """What of a unit is summed: an interaction, ``slates``, ``empty_slates``, ``value`` or ``latency_us``."""
    kind: Literal["mean", "rate", "ratio"] = "rate"
    """``rate``: share of units that have any; ``mean``: the sum of a unit; ``ratio``: the sum by that of ``per``."""
    per: str | None = None
    """Of a ratio: what it is divided by, as ``counts``."""
    better: Literal["higher", "lower"] = "higher"
    cap: float | None = None
    """The most that a unit counts with; None = all of it."""
    role: Role = "secondary"
    harm_max: float = 0.0
    """Of a guardrail: relative harm that is tolerated."""


def default_metrics(
    types: Mapping[str, EventType], design: str = "split", allocation: str = "fixed"
) -> tuple[ExperimentMetric, ...]:
    """Return the metrics of an experiment that declares none.

    Primary is the share of units with an act of the heaviest interaction; guardrails are the shares of units with an
    empty slate and with an act against an item. Slates that all variants draft are judged by acts alone: primary is the
    lightest interaction for an item, of which there are most, and there is no guardrail, as no unit has one variant.
    Where shares move there is none either, as there is no verdict.

    Args:
        types: Configured interactions.
        design: Of the experiment.
        allocation: Of the experiment.
    """
    known = {name: each.weight for name, each in types.items() if name not in BUILT_IN}
    if design == "interleave":
        return _draft_metrics(known)
    heaviest = min(
        (name for name, weight in known.items() if weight > 0), key=lambda name: (-known[name], name), default=""
    )
    value = ExperimentMetric(VALUE, VALUE, "mean", role="secondary" if heaviest else "primary")
    primary = (ExperimentMetric(heaviest, heaviest, role="primary"), value) if heaviest else (value,)
    against = sorted(name for name, weight in known.items() if weight < 0)[: METRICS_MAX - 3]
    guardrails = (
        ExperimentMetric(name, name, better="lower", role="guardrail", harm_max=DEFAULT_HARM_MAX)
        for name in (EMPTY_SLATES, *against)
    )
    return (*primary, *guardrails) if allocation == "fixed" else primary


def _draft_metrics(weights: Mapping[str, float]) -> tuple[ExperimentMetric, ...]:
    """Return the metrics of a draft: acts for an item, the lightest first, then ``value``."""
    acts = sorted((name for name, weight in weights.items() if weight > 0), key=lambda name: (weights[name], name))
    names = [*dict.fromkeys((*acts[:1], *acts[-1:], VALUE))]
    return tuple(
        ExperimentMetric(name, name, "mean", role="secondary" if number else "primary")
        for number, name in enumerate(names)
    )


def metric_faults(
    metrics: Sequence[ExperimentMetric], actions: Collection[str], design: str = "split"
) -> Iterator[Fault]:
    """Yield why an experiment cannot be judged by some metrics.

    Args:
        metrics: As they were ordered; none = the default ones.
        actions: Configured interactions.
        design: Of the experiment.
    """
    if not metrics:
        return
    if len(metrics) > METRICS_MAX:
        yield Fault("/metrics", f"{len(metrics)} came.", f"At most {METRICS_MAX}.", _PAGE)
        return
    if not is_decided(metrics):
        primary = sum(each.role == "primary" for each in metrics)
        came = f"{primary} are primary, and {len({each.name for each in metrics})} of {len(metrics)} names differ."
        yield Fault("/metrics", came, "One with the role primary, which decides, and each name once.", _PAGE)
    counted = (*BUILT_IN, *sorted(name for name in actions if name not in BUILT_IN))
    for number, each in enumerate(metrics):
        where = f"/metrics/{number}"
        if not is_name(each.name):
            right = f"1 to {NAME_BYTES_MAX} characters: lower-case letters, digits, _ and -, a letter or digit first."
            yield Fault(f"{where}/name", f"{shown(each.name)} came.", right, _PAGE)
        for field, name in (("counts", each.counts), ("per", each.per)):
            if name is not None and name not in counted:
                came = f"{shown(name)} came.{nearest(name, counted)}"
                yield Fault(f"{where}/{field}", came, f"One of {', '.join(counted)}.", _PAGE)
        yield from _kind_faults(where, each)
        if design == "interleave":
            yield from _draft_faults(where, each)


def _draft_faults(where: str, metric: ExperimentMetric) -> Iterator[Fault]:
    """Yield what no drafted slate can be judged by."""
    if metric.role == "guardrail":
        yield Fault(f"{where}/role", "guardrail came.", "primary or secondary: no unit has one variant alone.", _PAGE)
    if metric.kind == "ratio" or metric.counts in {SLATES, EMPTY_SLATES, *TIMES}:
        came = f"A {metric.kind} of {shown(metric.counts)} came."
        right = f"A mean or a rate of an interaction, or of {VALUE}: acts on items, which one variant drafted."
        yield Fault(f"{where}/counts", came, right, _PAGE)


def _kind_faults(where: str, metric: ExperimentMetric) -> Iterator[Fault]:
    """Yield which fields of a metric do not belong to each other, or hold no number that can be used."""
    if (metric.kind == "ratio") != (metric.per is not None):
        came = f"A {metric.kind} came {'with' if metric.per is not None else 'without'} it."
        yield Fault(f"{where}/per", came, "What a ratio is divided by; none of a mean or a rate.", _PAGE)
    if metric.counts == LATENCY_US and metric.per != TIMED_SLATES:
        came = f"A {metric.kind} of {LATENCY_US}{'' if metric.per is None else f' per {shown(metric.per)}'} came."
        yield Fault(f"{where}/per", came, f"A ratio per {TIMED_SLATES}: the mean time of a slate.", _PAGE)
    if metric.cap is not None and not (metric.kind != "rate" and 0 < metric.cap <= CAP_MAX):
        came = f"{metric.cap:g} came, of a {metric.kind}."
        yield Fault(f"{where}/cap", came, f"Above 0, to {CAP_MAX:g}, of a mean or a ratio.", _PAGE)
    if not 0 <= metric.harm_max <= HARM_MAX or (metric.harm_max and metric.role != "guardrail"):
        came = f"{metric.harm_max:g} came, of a {metric.role} metric."
        yield Fault(f"{where}/harm_max", came, f"0 to {HARM_MAX:g}, of a guardrail: 0.02 tolerates 2 %.", _PAGE)


def is_decided(metrics: Sequence[ExperimentMetric]) -> bool:
    """Return whether one metric decides, and no two have one name."""
    return sum(each.role == "primary" for each in metrics) == 1 and len({each.name for each in metrics}) == len(metrics)
