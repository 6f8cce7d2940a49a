"""Outcome counters by placement, plan and tier, from the sums in the state.

Label values are names of the configuration, the first eight digits of its hash, and three tiers; the state bounds their
number. Two plans whose hashes begin alike are one series.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PLAN_DIGITS = 8
_LABELS = ("placement", "plan", "tier")


@dataclass(frozen=True, slots=True)
class OutcomeSums:
    """Sums of one placement, plan and tier."""

    placement: str
    plan: str
    """Hash of the configuration that answered."""
    tier: str
    slates: int
    positions: int
    impressions: int
    """Positions that were seen."""
    acted: Mapping[str, int]
    """Positions by action that came on them."""


class OutcomeTotals(Collector):
    """Four counters; those whose sums are not set yet have no series."""

    def __init__(self) -> None:
        """Start without any series."""
        self._sums: tuple[OutcomeSums, ...] = ()

    def set(self, sums: Iterable[OutcomeSums]) -> None:
        """Replace all sums."""
        self._sums = tuple(sums)

    def collect(self) -> Iterable[Metric]:
        """Return the four families, samples ordered by their labels."""
        counts: tuple[Counter[tuple[str, ...]], ...] = (Counter(), Counter(), Counter(), Counter())
        for each in self._sums:
            labels = (each.placement, each.plan[:PLAN_DIGITS], each.tier)
            for counter, count in zip(counts, (each.slates, each.positions, each.impressions), strict=False):
                counter[labels] += count
            for action, count in each.acted.items():
                counts[-1][(*labels, action)] += count
        return [
            _family("slates", "Slates that were served.", _LABELS, counts[0]),
            _family("positions", "Positions of these slates.", _LABELS, counts[1]),
            _family("impressions", "Positions that were seen, each once.", _LABELS, counts[2]),
            _family("acted", "Positions on which an action came, each once.", (*_LABELS, "action"), counts[3]),
        ]


def _family(name: str, documentation: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> Metric:
    family = CounterMetricFamily(f"midstream_outcome_{name}", documentation, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family
