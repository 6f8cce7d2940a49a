"""Freshness metrics: outcomes of the probe of a process, and the time until an answer had its event."""

from collections.abc import Iterable
from math import nan

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# A sync on a drive with a battery takes 0.05 ms, a follower some milliseconds more; a probe waits for 10 s at most.
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class LastProbe(Collector):
    """Gauge of the last probe; without a probe it has no series."""

    def __init__(self) -> None:
        """Begin without a series."""
        self.seconds: float | None = None
        """NaN = no answer had the event of the probe, or none was made yet; None = there is no probe."""

    def describe(self) -> Iterable[Metric]:
        """Return the family as it is, so that a registry finds it by name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """Return the family."""
        family = GaugeMetricFamily(
            "midstream_freshness_last_seconds", "The same of the last probe; NaN = no answer had it."
        )
        if self.seconds is not None:
            family.add_metric((), self.seconds)
        return [family]


class FreshnessMetrics:
    """Metrics of the freshness probe; without a probe there is no outcome, and the histogram is empty.

    Example:
        >>> metrics = FreshnessMetrics(CollectorRegistry())
        >>> metrics.begin(("fresh", "late"))
        >>> metrics.observe("late", 1.5)
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""
        self._seconds = Histogram(
            "midstream_freshness_seconds",
            "From sending an event until an answer has it.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._last = LastProbe()
        registry.register(self._last)
        self._probes = Counter(
            "midstream_freshness_probes", "Freshness probes by outcome.", ("outcome",), registry=registry
        )

    def begin(self, outcomes: Iterable[str]) -> None:
        """Have each outcome at 0, so that a rate exists before the first probe."""
        self._last.seconds = nan
        for outcome in outcomes:
            self._probes.labels(outcome)

    def observe(self, outcome: str, seconds: float | None) -> None:
        """Count one probe; ``seconds`` is None where no answer had its event."""
        self._probes.labels(outcome).inc()
        self._last.seconds = nan if seconds is None else seconds
        if seconds is not None:
            self._seconds.observe(seconds)
