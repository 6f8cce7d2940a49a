"""Gauges of experiments, set as a whole when metrics are scraped: states, alarms, and the lag of the watch.

Labels are states and the names of kept experiments, of which there are 200 at most.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

STATES: Final = ("running", "stopped", "suspended")


class ExperimentRow(NamedTuple):
    """One experiment that is kept."""

    name: str
    state: str
    """One of ``STATES``."""
    is_harmed: bool
    """A guardrail stopped it, or took a variant out."""
    is_ratio_wrong: bool
    """Units did not come in the stated shares, so nothing of it is judged; of a running one."""


class ExperimentGauges(Collector):
    """Families of gauges; before they are set there are no series, as in a process that watches no experiment."""

    def __init__(self) -> None:
        """Begin without any series."""
        self._rows: Sequence[ExperimentRow] | None = None
        self._lag: tuple[int, float] = (0, 0.0)

    def set(self, rows: Iterable[ExperimentRow], lag_events: int, lag_seconds: float) -> None:
        """Replace all of them."""
        self._rows = sorted(rows)
        self._lag = lag_events, lag_seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the families, samples ordered by their labels."""
        rows = self._rows
        states = GaugeMetricFamily("midstream_experiments", "Experiments that are kept.", labels=("state",))
        harmed = GaugeMetricFamily(
            "midstream_experiment_harmed", "1 = a guardrail stopped it or took a variant out.", labels=("experiment",)
        )
        wrong = GaugeMetricFamily(
            "midstream_experiment_sample_ratio_wrong", "1 = it is not judged.", labels=("experiment",)
        )
        events = GaugeMetricFamily("midstream_experiment_watch_lag_events", "Events that the watch has not read.")
        seconds = GaugeMetricFamily("midstream_experiment_watch_lag_seconds", "Time since it read all of the log.")
        if rows is not None:
            count = Counter(each.state for each in rows)
            for state in STATES:
                states.add_metric((state,), count[state])
            for each in rows:
                harmed.add_metric((each.name,), each.is_harmed)
                if each.state != "stopped":
                    wrong.add_metric((each.name,), each.is_ratio_wrong)
            events.add_metric((), self._lag[0])
            seconds.add_metric((), self._lag[1])
        yield from (states, harmed, wrong, events, seconds)
