"""Bounded label sets of one metric: placements set while a server runs would add new ones without end."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

M = TypeVar("M", bound=MetricWrapperBase)


class Series(Generic[M]):
    """Counts by labels. Full, the series that was not counted in for longest goes, and begins at 0 if it comes again.

    They are kept here since the metric takes longer to find one by its labels than to count in it.
    """

    def __init__(self, metric: M, series_max: int) -> None:
        """Keep at most ``series_max`` series of a metric with labels."""
        self._metric = metric
        self._series_max = series_max
        self._of: OrderedDict[tuple[str, ...], M] = OrderedDict()

    def of(self, *labels: str) -> M:
        """Return the series of some labels, in the metric's order."""
        found = self._of.get(labels)
        if found is not None:
            self._of.move_to_end(labels)
            return found
        if len(self._of) >= self._series_max:
            oldest, _ = self._of.popitem(last=False)
            self._metric.remove(*oldest)
        found = self._of[labels] = self._metric.labels(*labels)
        return found


class Totals(Collector):
    """Counters whose sums are kept elsewhere, such as in the state, and survive a restart with it."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        """Start without any series."""
        self._name = name
        self._documentation = documentation
        self._label = label
        self._total: dict[str, int] = {}

    def set(self, totals: Mapping[str, int]) -> None:
        """Replace the sums of the named series."""
        self._total.update(totals)

    def collect(self) -> Iterable[Metric]:
        """Return one family with a sample a series, ordered by name."""
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for name, total in sorted(self._total.items()):
            family.add_metric([name], total)
        return [family]


def sums_of(counter: Counter) -> dict[str, int]:
    """Return the sums of a counter with at most one label, by its value; that of one without is named by nothing."""
    samples = (each for family in counter.collect() for each in family.samples if each.name.endswith("_total"))
    return {next(iter(each.labels.values()), ""): int(each.value) for each in samples}
