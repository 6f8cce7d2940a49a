"""Bounded label sets of one metric: placements set while a server runs would add new ones without end."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from prometheus_client import Counter

M = TypeVar("M")


class Series(Generic[M]):
    """Counts by labels. Full, the series that was not counted in for longest goes, and begins at 0 if it comes again.

    They are kept here since the metric takes longer to find one by its labels than to count in it.
    """

    def __init__(self, make: Callable[..., M], remove: Callable[..., None], series_max: int) -> None:
        """Keep at most ``series_max`` series, which a metric makes and removes by their labels."""
        self._make = make
        self._remove = remove
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
            self._remove(*oldest)
        found = self._of[labels] = self._make(*labels)
        return found


def sums_of(counter: Counter) -> dict[str, int]:
    """Return the sums of a counter with at most one label, by its value; that of one without is named by nothing."""
    samples = (each for family in counter.collect() for each in family.samples if each.name.endswith("_total"))
    return {next(iter(each.labels.values()), ""): int(each.value) for each in samples}
