"""Effects by segment, corrected for many looks by Holm's method.

Of twenty segments without any effect one has p < 0.05 in two experiments of three. Holm's correction keeps the
probability of *any* wrong segment at alpha however the tests depend on each other, and segments overlap: a user is in a
country, on a device and of an age at once. The method of Benjamini and Hochberg would find more, but keeps only the
expected share of wrong ones, for tests that depend on each other in certain ways; a segment that is named wins or loses
a feature there, each by itself. Any-time p-values go in, so the corrected ones hold at all looks together as well.

Reference: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian J. of Statistics 6, 1979.
"""

from collections.abc import Mapping

import msgspec

from midstream.evaluation.experiments.comparisons import Comparison, ComparisonRule, compare
from midstream.evaluation.experiments.unit_sums import MetricKind, UnitSums
from midstream.evaluation.metrics.statistics import holm_p_values

SEGMENTS_MAX = 1_000
"""Of one report: with more, a correction leaves nothing to be found."""


class SegmentEffect(msgspec.Struct, frozen=True):
    """One segment's comparison."""

    segment: str
    comparison: Comparison
    """At the level of one comparison, without correction."""
    p_value_corrected: float
    """Any-time, for all segments together."""
    is_shown: bool
    """An effect is there, at the level of all segments together."""


def segment_effects(
    segments: Mapping[str, tuple[UnitSums, UnitSums]], kind: MetricKind, reading: ComparisonRule
) -> tuple[SegmentEffect, ...]:
    """Return the effect in each segment, in order.

    Args:
        segments: Control and treated units of each; segments may overlap.
        kind: Of the metric.
        reading: Level of all segments together.

    Raises:
        ValueError: More than ``SEGMENTS_MAX`` segments.
    """
    if len(segments) > SEGMENTS_MAX:
        raise ValueError(f"{len(segments)} segments, at most {SEGMENTS_MAX}")
    found = [compare(control, treated, kind, reading) for control, treated in segments.values()]
    corrected = holm_p_values([each.any_time.p_value for each in found])
    return tuple(
        SegmentEffect(segment, each, p_value, p_value < reading.level.alpha)
        for segment, each, p_value in zip(segments, found, corrected, strict=True)
    )
