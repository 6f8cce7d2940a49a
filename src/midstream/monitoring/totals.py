"""Counters whose sums are kept elsewhere, such as in the state, with one label each."""

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


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
