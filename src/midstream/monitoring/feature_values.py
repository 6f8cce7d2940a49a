"""Newest values of served features, in bounded memory: their statistics and drift.

The rows are those of training data: served items. Requests that read other features have rows of their own; a column's
values are the newest of all of them.
"""

import numpy as np

from midstream.core.types import Score
from midstream.evaluation.metrics.drift import Drift, drift_of
from midstream.evaluation.metrics.feature_statistics import ColumnStatistics, FeatureStatistics, statistics_of
from midstream.monitoring.metrics import Metrics

ROWS_MAX = 10_000
"""Of each column: 40 kB. Two such samples of one distribution are 0.02 apart at most, 19 of 20 times."""
COLUMNS_MAX = 256
"""As many as a configuration may have: 10 MB."""
COLUMNS_A_LOOK = 4
"""Columns compared at each scrape of the metrics: 8 ms, so that no request waits long."""
WATCHED_SHARE = 1 / 16
"""Of the requests; of 100 a second with 20 items each, 10,000 rows are of the last 80 s."""
NEW_SHARE_MAX = 1 / 50
"""Of the rows may be newer than the figures: who asks without end has them made every 1.6 s of such traffic."""
_NOTHING = FeatureStatistics(0, ())


class FeatureValues:
    """The newest values of each column, the oldest overwritten."""

    def __init__(self, baseline: FeatureStatistics | None = None, rows_max: int = ROWS_MAX) -> None:
        """Begin without rows; ``baseline`` is the reference of the drift."""
        self._baseline = baseline
        # Memory that was never written is not taken.
        self._values = np.empty((COLUMNS_MAX, rows_max), dtype=np.float32)
        self._added = np.zeros(COLUMNS_MAX, dtype=np.int64)
        self._places: dict[str, int] = {}
        self._columns: dict[str, tuple[int, ColumnStatistics]] = {}
        self._drifts: dict[str, tuple[int, Drift]] = {}
        self._shown: set[str] = set()
        self._left: set[str] = set()
        self._next = 0
        self.passed_by = 0
        """Rows of which there was no room for a column."""

    def add(self, names: tuple[str, ...], values: Score) -> None:
        """Keep rows, (n, len(names)), n at most ``rows_max``. Cost: 20 µs for 20 rows of 40 columns."""
        for name in names:
            if name not in self._places and len(self._places) < COLUMNS_MAX:
                self._places[name] = len(self._places)
        place = np.array([self._places.get(name, -1) for name in names], dtype=np.int64)
        if (place < 0).any():
            self.passed_by += len(values)
            values, place = values[:, place >= 0], place[place >= 0]
        at = (self._added[place, np.newaxis] + np.arange(len(values))) % self._values.shape[1]
        self._values[place[:, np.newaxis], at] = values.T
        self._added[place] += len(values)

    def clear(self) -> None:
        """Forget all rows: other plans may read other columns, or others under the same names."""
        self._places.clear()
        self._columns.clear()
        self._drifts.clear()
        self._added[:] = 0
        self._left |= self._shown
        self._shown.clear()
        self._next = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that have rows, each once, in the order in which they first came."""
        return tuple(self._places)

    def column(self, name: str) -> ColumnStatistics | None:
        """Return the statistics of one column's kept values; None = it was not read. Cost: 2 ms at 10,000."""
        if name not in self._places:
            return None
        if name not in self._columns or not self._is_made(name, self._columns[name][0]):
            added, kept = self._kept(name)
            self._columns[name] = added, statistics_of((name,), kept).columns[0]
        return self._columns[name][1]

    def drift(self, name: str) -> Drift | None:
        """Return the drift of one column from the baseline; None = it was not read. Cost: 2 ms at 10,000."""
        if name not in self._places:
            return None
        if name not in self._drifts or not self._is_made(name, self._drifts[name][0]):
            added, kept = self._kept(name)
            self._drifts[name] = added, drift_of(self._baseline or _NOTHING, (name,), kept)[0]
        return self._drifts[name][1]

    def refresh(self, metrics: Metrics) -> None:
        """Compare the next few columns and set their gauges; those of columns that are forgotten leave."""
        for name in self._left:
            metrics.remove_feature(name)
        self._left.clear()
        names = self.names
        for each in range(min(COLUMNS_A_LOOK, len(names))):
            name = names[(self._next + each) % len(names)]
            found = self.drift(name)
            if found is not None:
                self._shown.add(name)
                metrics.set_feature(name, null_ratio=found.null_ratio, mean=found.mean)
                if self._baseline is not None:
                    metrics.set_drift(name, psi=found.psi, ks=found.ks.statistic)
        self._next = (self._next + COLUMNS_A_LOOK) % max(1, len(names))

    def _is_made(self, name: str, made_at: int) -> bool:
        """Return whether at most ``NEW_SHARE_MAX`` of the rows is newer than figures made of ``made_at`` rows."""
        added = int(self._added[self._places[name]])
        return added == made_at or added - made_at < NEW_SHARE_MAX * min(made_at, self._values.shape[1])

    def _kept(self, name: str) -> tuple[int, Score]:
        """Return how many rows came, and the values of a column that are kept, (n, 1), in no order."""
        place = self._places[name]
        added = int(self._added[place])
        return added, self._values[place, : min(added, self._values.shape[1]), np.newaxis]
