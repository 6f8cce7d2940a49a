"""Units of one running experiment, kept as the log grows: what each did since its first slate, in bounded memory.

The same figures as a report that reads the whole log, but for what only later merges tell: acts of a merged user before
the first slate of that id. Where there are more units than a maximum, a sample of them is kept by a hash of the unit,
half as many with each step. Who is in it is decided by the unit alone, so figures of the sample are figures of the
experiment with wider intervals, and the sample ratio is checked as before.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from midstream.engine.experiments.unit_events import Exposures, UnitActs
from midstream.evaluation.experiments.grouping import CROSSED, UnitTable
from midstream.experiments.metrics import EMPTY_SLATES, SLATES, VALUE
from midstream.state.ids.aliases import Aliases

DAY_MS = 86_400_000
_ROWS_MIN = 1_024
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd, 2^64 by the golden ratio: its product spreads units whatever their lower bits are."""
_HASH_BITS = 64


class RunningUnits:
    """Units by row, in order of their first slates."""

    def __init__(self, began_ms: int, names: Sequence[str], variant_count: int, units_max: int) -> None:
        """Begin without units.

        Args:
            began_ms: From which days are counted.
            names: Of the columns: ``BUILT_IN``, then actions.
            variant_count: Variants are 0 up to this.
            units_max: Units that are kept at most; beyond them a sample is.
        """
        self.names = tuple(names)
        self.slates = np.zeros(variant_count, dtype=np.int64)
        """Of each variant, those of units outside the sample too."""
        self.halvings = 0
        """How often the sample was halved: one of 2 to the power of it is kept."""
        self.units_max = units_max
        self._began_ms = began_ms
        self._columns = {name: place for place, name in enumerate(self.names)}
        self._rows: dict[int, int] = {}
        self._unit = np.zeros(_ROWS_MIN, dtype=np.uint64)
        self._variant = np.zeros(_ROWS_MIN, dtype=np.int8)
        self._first_ms = np.zeros(_ROWS_MIN, dtype=np.int64)
        self._sums = np.zeros((len(self.names), _ROWS_MIN))

    def __len__(self) -> int:
        """Return the number of units that are kept."""
        return len(self._rows)

    def expose(self, units: NDArray[np.uint64], variant: NDArray[np.int16], told: Exposures) -> None:
        """Count slates.

        Args:
            units: Of each slate, after merges, (n,).
            variant: Of each slate, (n,); -1 = of another experiment.
            told: The slates, in the order of the log.
        """
        own = variant >= 0
        self.slates += np.bincount(variant[own], minlength=len(self.slates))
        chosen = own & (units != 0) & self._sampled(units)
        unit, seen, time_ms = units[chosen], variant[chosen].astype(np.int8), told.time_ms[chosen]
        if not len(unit):
            return
        row = self._rows_of(unit)
        distinct, first = np.unique(unit[row < 0], return_index=True)
        if len(distinct):
            fresh = np.flatnonzero(row < 0)[first]
            self._add(distinct, seen[fresh], time_ms[fresh])
            row = self._rows_of(unit)
        self._variant[row[self._variant[row] != seen]] = CROSSED
        np.add.at(self._sums[self._columns[SLATES]], row, 1.0)
        np.add.at(self._sums[self._columns[EMPTY_SLATES]], row, told.is_empty[chosen].astype(np.float64))
        while len(self) > self.units_max:
            self._halve()

    def count(self, units: NDArray[np.uint64], told: UnitActs) -> None:
        """Count acts of units that had a slate.

        Args:
            units: Of each act, after merges, (n,).
            told: The acts; their columns are those of ``names``.
        """
        row = self._rows_of(units)
        chosen = row >= 0
        chosen[chosen] = told.time_ms[chosen] >= self._first_ms[row[chosen]]
        np.add.at(self._sums, (told.column[chosen], row[chosen]), 1.0)
        np.add.at(self._sums[self._columns[VALUE]], row[chosen], told.value[chosen])

    def unite(self, aliases: Aliases) -> None:
        """Make units one that were merged since."""
        unit = self._unit[: len(self)].copy()
        aliases.resolve_all(unit)
        if np.array_equal(unit, self._unit[: len(self)]):
            return
        distinct, place = np.unique(unit, return_inverse=True)
        count = len(self)
        first_ms = np.full(len(distinct), np.iinfo(np.int64).max)
        np.minimum.at(first_ms, place, self._first_ms[:count])
        variant = np.empty(len(distinct), dtype=np.int8)
        variant[place] = self._variant[:count]
        variant[place[variant[place] != self._variant[:count]]] = CROSSED
        sums = np.zeros((len(self.names), len(distinct)))
        for column in range(len(self.names)):
            sums[column] = np.bincount(place, self._sums[column, :count], minlength=len(distinct))
        self._keep(distinct, variant, first_ms, sums)

    def table(self) -> UnitTable:
        """Return the units as reports take them; a copy."""
        count = len(self)
        day = (self._first_ms[:count] - self._began_ms) // DAY_MS
        return UnitTable(
            self._unit[:count].copy(),
            self._variant[:count].copy(),
            day.astype(np.int32),
            self._sums[:, :count].copy(),
        )

    def _sampled(self, units: NDArray[np.uint64]) -> NDArray[np.bool_]:
        if not self.halvings:
            return np.ones(len(units), dtype=np.bool_)
        return np.asarray((units * _SPREAD) >> np.uint64(_HASH_BITS - self.halvings) == 0, dtype=np.bool_)

    def _halve(self) -> None:
        self.halvings += 1
        count = len(self)
        kept = np.flatnonzero(self._sampled(self._unit[:count]))
        self._keep(self._unit[kept], self._variant[kept], self._first_ms[kept], self._sums[:, kept])

    def _rows_of(self, units: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each unit, -1 = it had no slate."""
        return np.fromiter(map(self._rows.get, units.tolist(), repeat(-1)), np.int64, len(units))

    def _add(self, units: NDArray[np.uint64], variant: NDArray[np.int8], first_ms: NDArray[np.int64]) -> None:
        start, end = len(self), len(self) + len(units)
        if end > len(self._unit):
            more = max(end, 2 * len(self._unit)) - len(self._unit)
            self._unit = np.concatenate((self._unit, np.zeros(more, dtype=np.uint64)))
            self._variant = np.concatenate((self._variant, np.zeros(more, dtype=np.int8)))
            self._first_ms = np.concatenate((self._first_ms, np.zeros(more, dtype=np.int64)))
            self._sums = np.concatenate((self._sums, np.zeros((len(self.names), more))), axis=1)
        self._unit[start:end], self._variant[start:end], self._first_ms[start:end] = units, variant, first_ms
        self._sums[:, start:end] = 0.0
        self._rows.update(zip(units.tolist(), range(start, end), strict=True))

    def _keep(
        self,
        units: NDArray[np.uint64],
        variant: NDArray[np.int8],
        first_ms: NDArray[np.int64],
        sums: NDArray[np.float64],
    ) -> None:
        self._rows.clear()
        self._add(units, variant, first_ms)
        self._sums[:, : len(units)] = sums
