"""Report of an experiment while it runs: the sample ratio first, then one primary metric, guardrails, and the rest.

Statistics by variant come in, so a report takes no time however many slates there were. Where the sample ratio is
wrong, nothing is claimed: there is no comparison to be misread. A verdict comes from the any-time interval of the
primary metric alone; tests of one look stand beside it for the day that was planned.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from midstream.evaluation.experiments.comparisons import Comparison, ComparisonRule, compare
from midstream.evaluation.experiments.guardrails import Guardrail, GuardrailVerdict, judge, shortage
from midstream.evaluation.experiments.sample_ratio import (
    Counts,
    SampleRatio,
    SampleRatioRule,
    check_sample_ratio,
)
from midstream.evaluation.experiments.segments import SegmentEffect, segment_effects
from midstream.evaluation.experiments.unit_metrics import Metric
from midstream.evaluation.experiments.unit_sums import Real, UnitSums
from midstream.evaluation.metrics.statistics import holm_p_values

METRICS_MAX = 100
VARIANTS_MIN = 2
VARIANTS_MAX = 16
Verdict = Literal["better", "worse", "undecided", "stop", "invalid"]


class ReportDesign(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions about an experiment that are made before it starts."""

    variants: tuple[str, ...]
    """Names, the control first."""
    metrics: tuple[Metric, ...]
    primary: str
    """Name of the metric that decides."""
    guardrails: tuple[Guardrail, ...] = ()
    reading: ComparisonRule = ComparisonRule()
    """Level of the primary metric over all variants together, and of secondary ones."""
    guardrail_alpha: Annotated[float, msgspec.Meta(gt=0.0, lt=0.5)] = 0.05
    """Of all guardrails and variants together: share of harmless experiments that are stopped, at most."""
    sample_ratio: SampleRatioRule = SampleRatioRule()

    def __post_init__(self) -> None:
        """Refuse names that lead nowhere or twice to something, and sizes beyond the maxima."""
        names = [metric.name for metric in self.metrics]
        if not VARIANTS_MIN <= len(self.variants) <= VARIANTS_MAX or len(set(self.variants)) < len(self.variants):
            raise ValueError(
                f"variants {list(self.variants)}: {VARIANTS_MIN} to {VARIANTS_MAX} different names, the control first"
            )
        if len(names) > METRICS_MAX or len(set(names)) < len(names):
            raise ValueError(f"metrics {names}: at most {METRICS_MAX} different names")
        for name in (self.primary, *(guardrail.metric for guardrail in self.guardrails)):
            if name not in names:
                raise ValueError(f"{name} is not a metric; metrics: {', '.join(names)}")


class Observed(msgspec.Struct, frozen=True):
    """Sums of an experiment until now."""

    units_by_day: Counts
    """New units by day and variant, (days, variants), in the order of the design."""
    shares: Real
    """Of traffic, (variants,), or (days, variants) with a ramp."""
    sums: Mapping[str, Sequence[UnitSums]]
    """Of each metric: one for each variant, in order."""
    segments: Mapping[str, Sequence[UnitSums]] = {}
    """Of the primary metric, by segment."""
    crossed_units: int = 0
    """Units that saw several variants and are in none."""


class MetricReading(msgspec.Struct, frozen=True):
    """One metric of one variant."""

    metric: str
    comparison: Comparison
    p_value_corrected: float
    """Any-time: of the primary metric over all variants, of another over all metrics and variants but the primary."""


class VariantReport(msgspec.Struct, frozen=True):
    """One variant against the control."""

    variant: str
    verdict: Verdict
    reason: str
    """In words."""
    primary: MetricReading
    guardrails: tuple[GuardrailVerdict, ...]
    secondary: tuple[MetricReading, ...]
    """For questions, not for claims."""
    segments: tuple[SegmentEffect, ...]
    """Of the primary metric."""


class ExperimentReport(msgspec.Struct, frozen=True):
    """What an experiment says now."""

    sample_ratio: SampleRatio
    is_valid: bool
    """False = the sample ratio is wrong, and ``variants`` is empty."""
    reason: str
    """Why it is not valid; empty = it is."""
    units: int
    crossed_units: int
    variants: tuple[VariantReport, ...]
    """All but the control, in order."""


def report(design: ReportDesign, observed: Observed) -> ExperimentReport:
    """Return what can be claimed now.

    Args:
        design: As it was before the start.
        observed: Sums until now.

    Cost: 0.2 ms for each mean, variant and segment, 3 ms for each rate.
    """
    ratio = check_sample_ratio(observed.units_by_day, observed.shares, design.sample_ratio)
    variants: tuple[VariantReport, ...] = ()
    if not ratio.is_failed:
        primary, secondary = _readings(design, observed)
        variants = tuple(
            _variant(design, observed, at, (primary[at - 1], secondary[at - 1]))
            for at in range(1, len(design.variants))
        )
    return ExperimentReport(
        sample_ratio=ratio,
        is_valid=not ratio.is_failed,
        reason=f"no claim is made: {ratio.reason}" if ratio.is_failed else "",
        units=sum(ratio.counts),
        crossed_units=observed.crossed_units,
        variants=variants,
    )


def _readings(design: ReportDesign, observed: Observed) -> tuple[list[MetricReading], list[tuple[MetricReading, ...]]]:
    """Return the primary metric and the others of each variant but the control, with their corrections."""
    treated = range(1, len(design.variants))
    # Intervals of the primary metric hold together by Bonferroni's share; its p-values by Holm, which finds no less.
    reading = design.reading.at(design.reading.level.alpha / len(treated))
    metrics = {metric.name: metric for metric in design.metrics}
    others = [metric.name for metric in design.metrics if metric.name != design.primary]

    def compared(name: str, at: int, level: ComparisonRule) -> Comparison:
        sums = observed.sums[name]
        return compare(sums[0], sums[at], metrics[name].kind, level)

    def corrected(names: Sequence[str], level: ComparisonRule) -> list[MetricReading]:
        found = [(name, compared(name, at, level)) for at in treated for name in names]
        p_values = holm_p_values([each.any_time.p_value for _, each in found])
        return [MetricReading(name, each, p_value) for (name, each), p_value in zip(found, p_values, strict=True)]

    secondary = corrected(others, design.reading)
    width = len(others)
    return (
        corrected([design.primary], reading),
        [tuple(secondary[at * width : (at + 1) * width]) for at in range(len(treated))],
    )


def guardrail_verdicts(
    design: ReportDesign, sums: Mapping[str, Sequence[UnitSums]], at: int
) -> tuple[GuardrailVerdict, ...]:
    """Return the verdict of each guardrail on a variant.

    What units did before the start is left out: a watch of the running experiment does not know it, and both have to
    say the same.

    Args:
        design: Of the experiment.
        sums: Of each metric that is a guardrail: one for each variant, in order.
        at: Number of the variant.
    """
    metrics = {metric.name: metric for metric in design.metrics}
    share = design.guardrail_alpha / max(1, len(design.guardrails) * (len(design.variants) - 1))
    reading = design.reading.at(share)
    found: list[GuardrailVerdict] = []
    for each in design.guardrails:
        metric = metrics[each.metric]
        width = 2 if metric.kind == "ratio" else 1
        control, treated = (sums[each.metric][number].first(width) for number in (0, at))
        found.append(judge(metric, each, control, treated, reading.tuned_at(each.tuned_units)))
    return tuple(found)


def _variant(
    design: ReportDesign, observed: Observed, at: int, readings: tuple[MetricReading, tuple[MetricReading, ...]]
) -> VariantReport:
    metrics = {metric.name: metric for metric in design.metrics}
    judged = guardrail_verdicts(design, observed.sums, at)
    primary = metrics[design.primary]
    pairs = {segment: (sums[0], sums[at]) for segment, sums in observed.segments.items()}
    verdict, reason = _verdict(primary, readings[0].comparison, judged)
    if verdict == "undecided" and readings[0].comparison.basis == "too_few_units":
        sums = observed.sums[design.primary]
        reason = f"{primary.name}: {shortage((sums[0], sums[at]), design.reading)}"
    return VariantReport(
        variant=design.variants[at],
        verdict=verdict,
        reason=reason,
        primary=readings[0],
        guardrails=judged,
        secondary=readings[1],
        segments=segment_effects(pairs, primary.kind, design.reading),
    )


def _verdict(metric: Metric, found: Comparison, judged: tuple[GuardrailVerdict, ...]) -> tuple[Verdict, str]:
    """Return the verdict: a guardrail that is broken comes before all else."""
    broken = [each.reason for each in judged if each.verdict == "stop"]
    if broken:
        return "stop", "; ".join(broken)
    low, high = found.any_time.low, found.any_time.high
    to = f"to {high:+.1%}" if math.isfinite(high) else "without an upper bound"
    lift = f"lift {found.lift:+.1%}" if math.isfinite(found.lift) else "a lift that cannot be estimated"
    between = f"{metric.name}: {lift}, from {low:+.1%} {to} at all looks together"
    if not (math.isfinite(low) or math.isfinite(high)):
        return "undecided", f"{metric.name}: cannot be estimated"
    if low <= 0.0 <= high:
        return "undecided", between
    return "better" if (low > 0.0) == (metric.better == "higher") else "worse", between
