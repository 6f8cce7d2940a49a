"""What came of slates is told by placement, plan and tier, sums of the state and not of this process."""

from prometheus_client import CollectorRegistry

from midstream.monitoring.metrics import Metrics
from midstream.monitoring.outcome_totals import OutcomeSums


def values_of(metrics):
    """Return the samples of outcomes by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        if family.name.startswith("midstream_outcome_")
        for sample in family.samples
    }


def test_sums_are_replaced_and_plans_that_begin_alike_are_one():
    """Setting them again is no second count; a plan is known by eight digits of its hash."""
    metrics = Metrics(CollectorRegistry())
    assert values_of(metrics) == {}
    sums = [
        OutcomeSums("home", "0123456789abcdef", "full", 3, 30, 12, {"click": 2, "view": 0}),
        OutcomeSums("home", "01234567ffffffff", "full", 1, 10, 1, {"click": 1, "view": 0}),
        OutcomeSums("cart", "ffffffffffffffff", "floor", 1, 5, 0, {"click": 0, "view": 1}),
    ]
    for _ in range(2):
        metrics.outcomes.set(sums)
    assert values_of(metrics) == {
        ("midstream_outcome_slates_total", "home", "01234567", "full"): 4,
        ("midstream_outcome_slates_total", "cart", "ffffffff", "floor"): 1,
        ("midstream_outcome_positions_total", "home", "01234567", "full"): 40,
        ("midstream_outcome_positions_total", "cart", "ffffffff", "floor"): 5,
        ("midstream_outcome_impressions_total", "home", "01234567", "full"): 13,
        ("midstream_outcome_impressions_total", "cart", "ffffffff", "floor"): 0,
        ("midstream_outcome_acted_total", "home", "01234567", "full", "click"): 3,
        ("midstream_outcome_acted_total", "home", "01234567", "full", "view"): 0,
        ("midstream_outcome_acted_total", "cart", "ffffffff", "floor", "click"): 0,
        ("midstream_outcome_acted_total", "cart", "ffffffff", "floor", "view"): 1,
    }
