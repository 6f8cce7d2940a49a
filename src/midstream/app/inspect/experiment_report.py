"""Report of an experiment from a folder's log: its declared metrics over the units that its variants had.

The sums of each metric by variant go to ``midstream.evaluation.experiments.report``, which claims nothing where the
sample ratio is wrong. What a unit did before the start narrows an interval where any unit has such a past.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.app.inspect.experiment_units import ExperimentUnits
from midstream.engine.experiments.designs import design_of, metric_of
from midstream.evaluation.experiments.comparisons import Comparison, LiftInterval
from midstream.evaluation.experiments.grouping import CROSSED, units_by_day
from midstream.evaluation.experiments.report import ExperimentReport, Observed, VariantReport, report
from midstream.evaluation.experiments.unit_metrics import Metric, metric_sums
from midstream.evaluation.experiments.unit_sums import Real, UnitSums
from midstream.experiments.documents import Experiment
from midstream.experiments.metrics import ExperimentMetric

FIGURES = ("metric", "role", "variant", "value", "lift", "at all looks", "at one look", "variance kept")
"""Columns of ``figure_rows``."""
SEGMENT_FIGURES = ("segment", "variant", "units", "control", "value", "lift", "by itself", "p of all", "effect")
"""Columns of ``segment_rows``."""
_UNKNOWN = "cannot be estimated"


def report_of(told: Experiment, metrics: Sequence[ExperimentMetric], units: ExperimentUnits) -> ExperimentReport | None:
    """Return what an experiment says now; None = no unit of one variant alone was exposed.

    Args:
        told: The experiment.
        metrics: As of ``metrics_of``.
        units: Of its variants, in order.
    """
    by_day = units_by_day(units.table, len(told.variants))
    if not len(by_day):
        return None
    shares = np.array([each.share for each in told.variants], dtype=np.float64)
    sums = {each.name: _sums(metric_of(each), units, len(told.variants)) for each in metrics}
    crossed = int((units.table.variant == CROSSED).sum())
    design = design_of(told, metrics)
    primary = next(each for each in design.metrics if each.name == design.primary)
    segments = {name: _sums(primary, units, len(told.variants), chosen) for name, chosen in units.segments.items()}
    return report(design, Observed(by_day, shares, sums, segments, crossed))


def control_sums(metric: ExperimentMetric, units: ExperimentUnits) -> UnitSums:
    """Return the sums of a metric over the units of the first variant, without their past."""
    return metric_sums(metric_of(metric), units.table, units.names, 1)[0]


def _sums(
    metric: Metric, units: ExperimentUnits, variant_count: int, chosen: NDArray[np.bool_] | None = None
) -> tuple[UnitSums, ...]:
    read = [each for each in (metric.numerator, metric.denominator) if each is not None]
    has_past = all(units.past[units.names.index(each)].any() for each in read)
    past: Real | None = units.past if has_past else None
    return metric_sums(metric, units.table, units.names, variant_count, past, chosen)


def figure_rows(
    found: ExperimentReport, metrics: Sequence[ExperimentMetric], control: str
) -> Iterator[tuple[str, ...]]:
    """Yield ``FIGURES`` for people: of each metric the control's value, then each variant against it.

    Args:
        found: The report; of one that is not valid there is none.
        metrics: As it was made with.
        control: Name of the control.
    """
    for metric in sorted(metrics, key=lambda each: each.role != "primary"):
        for number, variant in enumerate(found.variants):
            of = _comparison(variant, metric.name)
            if not number:
                yield metric.name, metric.role, control, _value(of.control, metric.kind), "", "", "", ""
            is_known = of.basis != "too_few_units"
            yield (
                "",
                "",
                variant.variant,
                _value(of.treated, metric.kind),
                _percent(of.lift),
                _between(of.any_time) if is_known else "too few units",
                _between(of.fixed),
                _share(of.variance_ratio),
            )


def segment_rows(found: ExperimentReport, metrics: Sequence[ExperimentMetric]) -> Iterator[tuple[str, ...]]:
    """Yield ``SEGMENT_FIGURES`` for people: the primary metric of each variant by segment.

    The interval is at all looks, of that segment by itself; the p value is corrected for all segments.

    Args:
        found: The report.
        metrics: As it was made with.
    """
    kind = next(each.kind for each in metrics if each.role == "primary")
    for variant in found.variants:
        for each in variant.segments:
            of = each.comparison
            is_known = of.basis != "too_few_units"
            yield (
                each.segment,
                variant.variant,
                f"{of.units:,}",
                _value(of.control, kind),
                _value(of.treated, kind),
                _percent(of.lift),
                _between(of.any_time) if is_known else "too few units",
                f"{each.p_value_corrected:.3g}" if is_known else "",
                ("higher" if of.lift > 0 else "lower") if each.is_shown else "not shown",
            )


def verdict_lines(found: ExperimentReport) -> Iterator[str]:
    """Yield the verdict of each variant in words, and of each guardrail."""
    for each in found.variants:
        yield f"{each.variant}: {each.verdict.upper() if each.verdict == 'stop' else each.verdict} ({each.reason})"
        for guardrail in each.guardrails:
            yield f"{each.variant}, guardrail {guardrail.metric}: {guardrail.verdict} ({guardrail.reason})"


def _comparison(variant: VariantReport, metric: str) -> Comparison:
    return next(each.comparison for each in (variant.primary, *variant.secondary) if each.metric == metric)


def _value(value: float, kind: str) -> str:
    if not np.isfinite(value):
        return _UNKNOWN
    return f"{value:.2%}" if kind == "rate" else f"{value:.4g}"


def _percent(lift: float) -> str:
    return f"{lift:+.1%}" if np.isfinite(lift) else _UNKNOWN


def _between(interval: LiftInterval) -> str:
    if not (np.isfinite(interval.low) and np.isfinite(interval.high)):
        return f"{interval.low:+.1%} or more" if np.isfinite(interval.low) else _UNKNOWN
    return f"{interval.low:+.1%} to {interval.high:+.1%}"


def _share(ratio: float) -> str:
    return f"{ratio:.0%}" if np.isfinite(ratio) else _UNKNOWN
