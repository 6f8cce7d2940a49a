"""Freshness metrics: outcomes of the probe of a process, and the time until an answer had its event."""

from collections.abc import Iterable
from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# A sync on a drive with a battery takes 0.05 ms, a follower some milliseconds more; a probe waits for 10 s at most.
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class FreshnessMetrics:
    """Metrics of the freshness probe; without a probe there is no outcome and no time, and the last one is NaN.

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
        self._last = Gauge(
            "midstream_freshness_last_seconds", "The same of the last probe; NaN = no answer had it.", registry=registry
        )
        self._last.set(nan)
        self._probes = Counter(
            "midstream_freshness_probes", "Freshness probes by outcome.", ("outcome",), registry=registry
        )

    def begin(self, outcomes: Iterable[str]) -> None:
        """Have each outcome at 0, so that a rate exists before the first probe."""
        for outcome in outcomes:
            self._probes.labels(outcome)

    def observe(self, outcome: str, seconds: float | None) -> None:
        """Count one probe; ``seconds`` is None where no answer had its event."""
        self._probes.labels(outcome).inc()
        self._last.set(nan if seconds is None else seconds)
        if seconds is not None:
            self._seconds.observe(seconds)
