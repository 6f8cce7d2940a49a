"""Counters and histograms of one writing thread: plain numbers, without the locks of the library's own.

The event loop counts each request, commit and folding turn, some of them in several metrics. The library's metrics lock
for each number that they change, and ask themselves each time whether they have labels: ten calls where one is enough.
Another thread may read while the loop writes; what it reads is at most one observation apart.

Reference: Prometheus text format 0.0.4 (cumulative buckets, ``_count`` and ``_sum``).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]


class LoopHistogram:
    """Observations of one series by buckets."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Begin without observations; an observation belongs to the first of the rising ``bounds`` that it reaches."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count an observation. Cost: 0.2 µs."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class LoopCounter:
    """Count of one series."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        """Begin at 0; whoever counts adds to it."""
        self.count = 0


class LoopHistograms(Collector):
    """A histogram of the registry, with a series for each value of its labels."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        """Begin without series; one without labels has its only one from the start."""
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(map(float, bounds))
        self._names = [str(floatToGoString(each)) for each in (*self._bounds, float("inf"))]  # type: ignore[no-untyped-call]
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], LoopHistogram] = {}
        if not labels:
            self.of()

    def of(self, *labels: str) -> LoopHistogram:
        """Return the series of some labels; whoever observes often keeps it."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = LoopHistogram(self._bounds)
        return found

    def remove(self, *labels: str) -> None:
        """Forget the series of some labels."""
        del self._series[labels]

    def describe(self) -> Iterable[Metric]:
        """Return the family as it is, so that a registry finds it by name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """Return one family with the buckets, the number and the sum of each series."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in list(self._series.items()):
            buckets = list(zip(self._names, map(float, accumulate(series.counts)), strict=True))
            family.add_metric(labels, buckets, series.total)
        return [family]


class LoopCounters(Collector):
    """A counter of the registry, with a series for each value of its labels."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        """Begin without series."""
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], LoopCounter] = {}

    def of(self, *labels: str) -> LoopCounter:
        """Return the series of some labels; whoever counts often keeps it."""
        found = self._series.get(labels)
        if found is None:
            found = self._series[labels] = LoopCounter()
        return found

    def remove(self, *labels: str) -> None:
        """Forget the series of some labels."""
        del self._series[labels]

    def describe(self) -> Iterable[Metric]:
        """Return the family as it is, so that a registry finds it by name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """Return one family with a sample a series."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, series in list(self._series.items()):
            family.add_metric(labels, series.count)
        return [family]
