"""Metrics of slates by unit equal a plain loop, for all kinds, with past, caps and segments."""

import math
from collections import defaultdict

import numpy as np
import pytest
from msgspec.structs import replace

from midstream.evaluation.experiments.grouping import grouped, past_columns
from midstream.evaluation.experiments.unit_metrics import Metric, effective_units, metric_sums
from midstream.evaluation.experiments.unit_sums import UnitSums, no_units, unit_sums

NAMES = ("clicks", "seen", "revenue")


def slates(seed: int, count: int):
    """Slates of 300 units, of which the first ten cross."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 300, count).astype(np.uint64)
    variant = np.where(unit < 10, rng.integers(0, 2, count), unit % 2).astype(np.int8)
    clicks, seen = rng.poisson(0.2, count).astype(np.float64), rng.integers(1, 9, count).astype(np.float64)
    revenue = clicks * rng.integers(1, 50, count)
    return unit, variant, np.zeros(count, dtype=np.int32), (clicks, seen, revenue)


def plain(metric: Metric, variant: int, now, before) -> UnitSums:
    """The same by loops over slates and units."""
    variants: dict[int, set[int]] = defaultdict(set)
    totals: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))
    past: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(3))
    for at, unit in enumerate(now[0].tolist()):
        variants[unit].add(int(now[1][at]))
        totals[unit] += [column[at] for column in now[3]]
    for at, unit in enumerate(before[0].tolist()):
        past[unit] += [column[at] for column in before[3]]

    def row(values):
        first = values[NAMES.index(metric.numerator)]
        if metric.kind == "rate":
            return [float(first > 0)]
        if metric.cap is not None:
            first = min(first, metric.cap)
        return [first] if metric.denominator is None else [first, values[NAMES.index(metric.denominator)]]

    rows = [row(totals[unit]) + row(past[unit]) for unit in totals if variants[unit] == {variant}]
    return unit_sums(np.array(rows))


@pytest.mark.parametrize(
    "metric",
    [
        Metric("clicks", "mean", "clicks"),
        Metric("clicked", "rate", "clicks"),
        Metric("ctr", "ratio", "clicks", "seen"),
        Metric("revenue", "mean", "revenue", cap=60.0),
    ],
)
def test_sums_are_those_of_a_plain_loop(metric):
    """Crossed units are in no variant; units without a past have zeros."""
    now, before = slates(1, 2_000), slates(2, 500)
    table = grouped(*now)
    past = past_columns(table, grouped(*before))
    for variant, found in enumerate(metric_sums(metric, table, NAMES, 2, past)):
        assert replace(found, rest=None) == plain(metric, variant, now, before)


def test_a_segment_is_some_of_the_units():
    """Two segments that part the units merge to all; a variant that is not there has none."""
    metric, table = Metric("clicks", "mean", "clicks"), grouped(*slates(1, 2_000))
    chosen = table.unit < 100
    first, rest = (metric_sums(metric, table, NAMES, 3, chosen=each) for each in (chosen, ~chosen))
    whole = metric_sums(metric, table, NAMES, 3)
    assert [one.merged(two) for one, two in zip(first, rest, strict=True)] == [
        replace(each, rest=None) for each in whole
    ]
    assert whole[2] == no_units(1)


def test_effective_units_are_the_successes_of_a_rate():
    """And fewer when one unit has most of a sum."""
    assert effective_units(unit_sums(np.array([[1.0]] * 7 + [[0.0]] * 93))) == 7.0
    assert effective_units(unit_sums(np.array([[1_000.0], [1.0], [1.0]]))) < 1.01
    assert effective_units(unit_sums(np.zeros((5, 1)))) == 0.0


@pytest.mark.parametrize("kind, denominator", [("ratio", None), ("mean", "seen"), ("rate", "seen")])
def test_a_ratio_alone_has_a_denominator(kind, denominator):
    """What would not be read is refused."""
    with pytest.raises(ValueError, match="metric x: a ratio has a denominator"):
        Metric("x", kind, "clicks", denominator)


def test_a_huge_value_has_no_effective_units():
    """Its square is beyond the range of numbers: nothing is estimated of it, and no report ends by it."""
    with np.errstate(over="ignore"):
        huge = unit_sums(np.array([[1e200]] + [[1.0]] * 200))
    assert effective_units(huge) == 0.0


def test_the_rest_is_all_units_but_the_largest():
    """Of means and ratios, with the past of the others; rates have none."""
    columns = np.array([[3.0, 1.0], [9.0, 2.0], [4.0, 5.0]])
    found = unit_sums(columns, has_rest=True)
    assert found.rest == unit_sums(columns[[0, 2]])
    assert found.largest_share == pytest.approx(9 / 16)
    assert found.first(1).rest == unit_sums(columns[[0, 2], :1])
    assert math.isnan(unit_sums(-columns, has_rest=True).largest_share)
    table = grouped(*slates(1, 2_000))
    for metric in (Metric("a", "mean", "clicks"), Metric("b", "rate", "clicks")):
        assert all((each.rest is None) == (metric.kind == "rate") for each in metric_sums(metric, table, NAMES, 2))
