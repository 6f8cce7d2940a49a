"""Units of one running experiment, kept as the log grows: what each did since its first slate, in bounded memory.

The same figures as a report that reads the whole log, but for what only later merges tell: acts of a merged user before
the first slate of that id. Where there are more units than a maximum, a sample of them is kept by a hash of the unit,
half as many with each step. Who is in it is decided by the unit alone, so figures of the sample are figures of the
experiment with wider intervals, and the sample ratio is checked as before.

Where shares move, a unit counts on its first day alone, in the variant of its first slate and until a slate of another
one: buckets change hands between days, and what a unit does later must not decide whether it counts.

An act that is taken back is subtracted where it was counted, which is remembered of the newest log positions. Counts
are then those of a log without it; a sum of values is, up to rounding, and 0 where no act with a value is left. In a
sample an act of an id that was merged since stays: its sums may have gone with a unit outside of the sample. So do
all acts of a unit of which a merge left some out, where shares move.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from midstream.engine.experiments.counted_acts import CountedActs
from midstream.engine.experiments.unit_events import Exposures, UnitActs
from midstream.evaluation.experiments.grouping import CROSSED, UnitTable
from midstream.experiments.metrics import EMPTY_SLATES, LATENCY_US, SLATES, TIMED_SLATES, VALUE

DAY_MS = 86_400_000
POSITIONS_MAX = 1 << 28
"""Log positions, of all running experiments together, of which counted acts can be taken back: 32 MiB."""
_ROWS_MORE = 5_000
"""Than the maximum are reserved: events of a piece come before a sample is drawn. Pages are paid when touched."""
_EVER_MS = np.iinfo(np.int64).max
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd, 2^64 by the golden ratio: its product spreads units whatever their lower bits are."""
_HASH_BITS = 64


class RunningUnits:
    """Units by row, in order of their first slates until some are merged."""

    def __init__(
        self, began_ms: int, names: Sequence[str], variant_count: int, units_max: int, *, is_first_day: bool = False
    ) -> None:
        """Begin without units.

        Args:
            began_ms: From which days are counted.
            names: Of the columns: ``BUILT_IN``, then actions.
            variant_count: Variants are 0 up to this.
            units_max: Units that are kept at most; beyond them a sample is.
            is_first_day: A unit counts on its first day alone, in the variant of its first slate.
        """
        self.names = tuple(names)
        self.slates = np.zeros(variant_count, dtype=np.int64)
        """Of each variant, those of units outside the sample too."""
        self.halvings = 0
        """How often the sample was halved: one of 2 to the power of it is kept."""
        self.units_max = units_max
        self._unchecked = 0
        """Rows from the first on that are still to be looked at after the sample became smaller."""
        self._began_ms = began_ms
        self._columns = {name: place for place, name in enumerate(self.names)}
        self._rows: dict[int, int] = {}
        rows = units_max + _ROWS_MORE
        self._unit = np.zeros(rows, dtype=np.uint64)
        self._variant = np.zeros(rows, dtype=np.int8)
        self._first_ms = np.zeros(rows, dtype=np.int64)
        self._until_ms = np.zeros(rows, dtype=np.int64)
        """From which on nothing of a unit counts."""
        self._valued = np.zeros(rows, dtype=np.int32)
        """Acts of each unit that have a value."""
        self._is_partial = np.zeros(rows, dtype=np.bool_)
        """A merge left out acts of the unit that had been counted."""
        self.counted = CountedActs(POSITIONS_MAX)
        self._is_first_day = is_first_day
        self._sums = np.zeros((len(self.names), rows))

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
        is_other = self._variant[row] != seen
        if self._is_first_day:
            np.minimum.at(self._until_ms, row[is_other], time_ms[is_other])
        else:
            self._variant[row[is_other]] = CROSSED
        is_counted = time_ms < self._until_ms[row]
        np.add.at(self._sums[self._columns[SLATES]], row[is_counted], 1.0)
        np.add.at(self._sums[self._columns[EMPTY_SLATES]], row, (told.is_empty[chosen] & is_counted).astype(np.float64))
        took_us = told.took_us[chosen]
        is_timed = is_counted & ~np.isnan(took_us)
        np.add.at(self._sums[self._columns[LATENCY_US]], row[is_timed], took_us[is_timed])
        np.add.at(self._sums[self._columns[TIMED_SLATES]], row[is_timed], 1.0)

    def shrink(self, rows_max: int) -> bool:
        """Look at some rows for what a smaller sample leaves out; return whether there are more to look at.

        To be called until there are none, after slates were counted. So no call takes long, however many units there
        are. Cost: 1 µs each, 4 µs one that is left out.
        """
        if not self._unchecked:
            if len(self) <= self.units_max:
                return False
            self.halvings += 1
            self._unchecked = len(self)
        first = max(0, self._unchecked - rows_max)
        # From the last one down: the row that takes the place of one that is left out was looked at before.
        out = np.flatnonzero(~self._sampled(self._unit[first : self._unchecked])) + first
        for row in reversed(out.tolist()):
            del self._rows[int(self._unit[row])]
            self._drop(row)
        self._unchecked = first
        return bool(first) or len(self) > self.units_max

    def count(self, units: NDArray[np.uint64], told: UnitActs) -> None:
        """Count acts of units that had a slate.

        Args:
            units: Of each act, after merges, (n,).
            told: The acts; their columns are those of ``names``.
        """
        row = self._rows_of(units)
        chosen = row >= 0
        own, time_ms = row[chosen], told.time_ms[chosen]
        chosen[chosen] = (time_ms >= self._first_ms[own]) & (time_ms < self._until_ms[own])
        np.add.at(self._sums, (told.column[chosen], row[chosen]), 1.0)
        np.add.at(self._sums[self._columns[VALUE]], row[chosen], told.value[chosen])
        np.add.at(self._valued, row[chosen], (told.value[chosen] != 0.0).astype(np.int32))
        self.counted.add(told.position[chosen])

    def take_back(self, units: NDArray[np.uint64], told: UnitActs) -> bool:
        """Subtract acts that were taken back, as far as they were counted; return whether any was.

        Args:
            units: Of each act, after merges, (n,).
            told: The acts as they were counted; their positions are distinct.
        """
        row = self._rows_of(units)
        chosen = self.counted.remove(told.position) & (row >= 0)
        if self.halvings:
            chosen &= (told.askers.user == units) | (told.askers.user == 0)
        # Nothing is counted before a unit's first slate: an older act was another unit's, of a merge forgotten since.
        chosen &= ~self._is_partial[row] & (told.time_ms >= self._first_ms[row])
        if not chosen.any():
            return False
        row, value = row[chosen], self._sums[self._columns[VALUE]]
        np.subtract.at(self._sums, (told.column[chosen], row), 1.0)
        np.subtract.at(value, row, told.value[chosen])
        np.subtract.at(self._valued, row, (told.value[chosen] != 0.0).astype(np.int32))
        value[row[self._valued[row] == 0]] = 0.0
        return True

    def unite(self, aliases: NDArray[np.uint64], into: NDArray[np.uint64]) -> bool:
        """Make units one that were merged since; return whether any was.

        Args:
            aliases: Ids that stand for another from now on, (n,).
            into: Those that they stand for, (n,).

        Cost: 0.2 µs each, 10 µs one that had a slate.
        """
        is_changed = False
        is_kept = self._sampled(into).tolist()
        for alias, other, is_in in zip(aliases.tolist(), into.tolist(), is_kept, strict=True):
            row = self._rows.pop(alias, -1)
            if row < 0:
                continue
            is_changed = True
            target = self._rows.get(other)
            if target is not None:
                self._merge(row, target)
            elif is_in:
                self._unit[row] = other
                self._rows[other] = row
                continue
            self._drop(row)
        return is_changed

    def _merge(self, row: int, target: int) -> None:
        """Add one unit to another that it was merged into."""
        early, late = sorted((target, row), key=self._first_ms.item)
        is_same = bool(self._variant[early] == self._variant[late])
        first_ms, until_ms = self._first_ms[early], self._until_ms[early]
        variant, sums, valued = self._variant[early], self._sums[:, early].copy(), self._valued[early]
        if not self._is_first_day:
            variant = variant if is_same else np.int8(CROSSED)
        elif not is_same:
            until_ms = min(until_ms, self._first_ms[late])
        if not self._is_first_day or (is_same and self._first_ms[late] < until_ms):
            sums += self._sums[:, late]
            valued += self._valued[late]
        else:
            self._is_partial[early] = True
        self._variant[target], self._first_ms[target], self._until_ms[target] = variant, first_ms, until_ms
        self._sums[:, target], self._valued[target] = sums, valued
        self._is_partial[target] = self._is_partial[early] or self._is_partial[late]

    def _drop(self, row: int) -> None:
        """Give up a row whose unit is not looked up any more: the last one takes its place."""
        last = len(self)
        if row != last:
            for each in (self._unit, self._variant, self._first_ms, self._until_ms, self._valued, self._is_partial):
                each[row] = each[last]
            self._sums[:, row] = self._sums[:, last]
            self._rows[int(self._unit[row])] = row

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

    def _rows_of(self, units: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each unit, -1 = it had no slate."""
        return np.fromiter(map(self._rows.get, units.tolist(), repeat(-1)), np.int64, len(units))

    def _add(self, units: NDArray[np.uint64], variant: NDArray[np.int8], first_ms: NDArray[np.int64]) -> None:
        start, end = len(self), len(self) + len(units)
        if end > len(self._unit):
            more = max(end, self.units_max + _ROWS_MORE) - len(self._unit)
            self._unit = np.concatenate((self._unit, np.zeros(more, dtype=np.uint64)))
            self._variant = np.concatenate((self._variant, np.zeros(more, dtype=np.int8)))
            self._first_ms = np.concatenate((self._first_ms, np.zeros(more, dtype=np.int64)))
            self._until_ms = np.concatenate((self._until_ms, np.zeros(more, dtype=np.int64)))
            self._valued = np.concatenate((self._valued, np.zeros(more, dtype=np.int32)))
            self._is_partial = np.concatenate((self._is_partial, np.zeros(more, dtype=np.bool_)))
            self._sums = np.concatenate((self._sums, np.zeros((len(self.names), more))), axis=1)
        self._unit[start:end], self._variant[start:end], self._first_ms[start:end] = units, variant, first_ms
        self._until_ms[start:end] = _EVER_MS
        if self._is_first_day:
            self._until_ms[start:end] = self._began_ms + ((first_ms - self._began_ms) // DAY_MS + 1) * DAY_MS
        self._sums[:, start:end], self._valued[start:end], self._is_partial[start:end] = 0.0, 0, False
        self._rows.update(zip(units.tolist(), range(start, end), strict=True))
