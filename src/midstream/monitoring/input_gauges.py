"""Gauges of inputs: what is behind in each partition, whether it is read, and whether an operator is waited for.

Those of an input are replaced as a whole: a partition that another node reads now, or that is gone, has no series, and
not for ever the messages that it was behind when it was last looked at.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class InputState(NamedTuple):
    """How one input stands."""

    lag: Mapping[str, int]
    """Messages that are not read yet, by partition of which that is known."""
    reads: bool
    is_stopped: bool
    """It waits for an operator."""


class InputGauges(Collector):
    """Families of the newest states, by name of the input."""

    def __init__(self) -> None:
        """Begin without any series."""
        self._inputs: dict[str, InputState] = {}

    def set(self, name: str, state: InputState) -> None:
        """Replace all of one input."""
        self._inputs[name] = state

    def describe(self) -> Iterable[Metric]:
        """Return the families as they are, so that a registry finds them by name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """Yield the families."""
        lag = GaugeMetricFamily(
            "midstream_input_lag", "Messages of a partition that are not read yet.", labels=("input", "partition")
        )
        reads = GaugeMetricFamily("midstream_input_open", "1 while an input reads its topic.", labels=("input",))
        stopped = GaugeMetricFamily(
            "midstream_input_stopped", "1 while an input waits for an operator.", labels=("input",)
        )
        for name, state in self._inputs.items():
            for partition, behind in state.lag.items():
                lag.add_metric((name, partition), behind)
            reads.add_metric((name,), float(state.reads))
            stopped.add_metric((name,), float(state.is_stopped))
        yield from (lag, reads, stopped)
