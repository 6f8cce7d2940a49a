"""The newest values of features that live requests served, in bounded memory: what they are like, and their drift.

What is kept is what training data has: rows of items that were served. Requests that read other features have rows of
their own; a column's values are those of all of them.
"""

import numpy as np

from midstream.core.types import Score
from midstream.evaluation.drift import Drift, drift_of
from midstream.evaluation.feature_statistics import ColumnStatistics, FeatureStatistics, statistics_of
from midstream.monitoring.metrics import Metrics

ROWS_MAX = 10_000
"""Of each set of columns: 1.6 MB of 40. Two such samples of one distribution are 0.02 apart at most, 19 of 20 times."""
SETS_MAX = 16
"""Of columns that are read together: one for each placement with features of its own."""
COLUMNS_MAX = 256
"""Named in metrics: as many as a configuration may have."""
COLUMNS_A_LOOK = 8
"""Compared each time that metrics are asked for: 6 ms, so that no request waits long."""
WATCHED_SHARE = 1 / 16
"""Of the requests; of 100 a second with 20 items each, 10,000 rows are of the last 80 s."""
_NOTHING = FeatureStatistics(0, ())


class FeatureValues:
    """Rows by the set of columns they have, the oldest overwritten by the newest."""

    def __init__(self, baseline: FeatureStatistics | None = None, rows_max: int = ROWS_MAX) -> None:
        """Start without rows; ``baseline`` is what they are compared with."""
        self._baseline = baseline
        self._rows_max = rows_max
        self._rings: dict[tuple[str, ...], _Ring] = {}
        self._next = 0
        self.passed_by = 0
        """Rows of sets of columns for which there was no room."""

    def add(self, names: tuple[str, ...], values: Score) -> None:
        """Keep rows, (n, len(names)), n at most ``rows_max``. Cost: 2 µs for 20 rows of 40 columns."""
        ring = self._rings.get(names)
        if ring is None:
            if len(self._rings) == SETS_MAX:
                self.passed_by += len(values)
                return
            ring = self._rings[names] = _Ring(self._rows_max, len(names))
        ring.add(values)

    def clear(self) -> None:
        """Forget all rows: other plans may read other columns, or others under the same names."""
        self._rings.clear()
        self._next = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that have rows, each once, in the order in which they first came."""
        return tuple(dict.fromkeys(name for names in self._rings for name in names))[:COLUMNS_MAX]

    def column(self, name: str) -> ColumnStatistics | None:
        """Return what the kept values of one column are like; None = it was not read. Cost: 1 ms at 10,000."""
        return next(iter(statistics_of((name,), self._values(name)).columns), None) if name in self.names else None

    def drift(self, name: str) -> Drift | None:
        """Return how far one column is from the baseline; None = it was not read. Cost: 1 ms at 10,000."""
        if name not in self.names:
            return None
        return drift_of(self._baseline or _NOTHING, (name,), self._values(name))[0]

    def refresh(self, metrics: Metrics) -> None:
        """Compare the next few columns and set their gauges."""
        names = self.names
        for each in range(min(COLUMNS_A_LOOK, len(names))):
            name = names[(self._next + each) % len(names)]
            found = self.drift(name)
            if found is not None:
                metrics.set_feature(name, null_ratio=found.null_ratio, mean=found.mean)
                if self._baseline is not None:
                    metrics.set_drift(name, psi=found.psi, ks=found.ks.statistic)
        self._next = (self._next + COLUMNS_A_LOOK) % max(1, len(names))

    def _values(self, name: str) -> Score:
        """Return all kept values of a column, (n, 1)."""
        held = [ring.column(names.index(name)) for names, ring in self._rings.items() if name in names]
        return np.concatenate(held)[:, np.newaxis]


class _Ring:
    """The newest rows of one set of columns."""

    def __init__(self, rows_max: int, columns: int) -> None:
        self._rows = np.empty((rows_max, columns), dtype=np.float32)
        self._added = 0

    def add(self, values: Score) -> None:
        """Overwrite the oldest rows."""
        at = self._added % len(self._rows)
        first = min(len(values), len(self._rows) - at)
        self._rows[at : at + first] = values[:first]
        if first < len(values):
            self._rows[: len(values) - first] = values[first:]
        self._added += len(values)

    def column(self, place: int) -> Score:
        """Return the kept values of a column, (n,), in no order."""
        return self._rows[: min(self._added, len(self._rows)), place]
