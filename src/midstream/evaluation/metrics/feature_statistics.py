"""Statistics of features: a row of figures a column, written beside a training set and compared later.

A value that is not finite is missing. Quantiles are values that occurred: the least one that at least that share of the
known values does not exceed (Hyndman and Fan, type 1), of weights the share of the weight.

Beside the figures stands the distribution function of each column, exact up to ``STEPS_MAX`` distinct values and else
at so many of its quantiles, so that two-sample tests need no training data.

Reference: T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
1979. J. Vitter, "Random Sampling with a Reservoir", ACM TOMS 1985, algorithm R.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.core.types import Mask, Score

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""Which stand in ``ColumnStatistics.quantiles``, in this order."""
DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
STEPS_MAX = 512
"""Distinct values of an exact distribution function; beyond it one step is at most 1 / 512 of all high: 0.002."""
SAMPLE_ROWS_MAX = 200_000
"""Rows kept by ``StreamingStatistics``: 32 MB of 40 columns; a share of them is within 0.3 % with 99 % confidence."""
FILE_BYTES_MAX = 16 << 20
"""256 columns of 512 steps of two numbers of 20 characters are 5 MB."""
ROUNDING = 1e-6
"""By which sums of shares may be off."""
PAGE = "/docs/features.md"
Values = NDArray[np.float64]


class StepFunction(msgspec.Struct, frozen=True):
    """A distribution function: ``shares[i]`` of the known values are at most ``values[i]``. Both (k,), rising."""

    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()


class ColumnStatistics(msgspec.Struct, frozen=True):
    """One column. ``None`` = there is no known value to say it of."""

    name: str
    known: int
    """Rows with a value."""
    null_ratio: float | None
    """Share of the rows, or of their weight, without one; None = no rows."""
    mean: float | None
    deviation: float | None
    """Of the population: sqrt(mean of squares - square of the mean)."""
    quantiles: tuple[float, ...]
    """At ``QUANTILES``; empty = no known value."""
    distinct: int
    is_distinct_exact: bool
    """False = there are at least so many: they were counted in a sample of the rows."""
    edges: tuple[float, ...]
    """Upper ends of the bins of ``shares`` but the last, rising: the distinct deciles."""
    shares: tuple[float, ...]
    """Share of the known values in each bin; with deciles that are all different about a tenth each."""
    steps: StepFunction


class FeatureStatistics(msgspec.Struct, frozen=True):
    """All columns of a set of rows."""

    rows: int
    columns: tuple[ColumnStatistics, ...]

    def column(self, name: str) -> ColumnStatistics | None:
        """Return one column, None = there is none of that name."""
        return next((each for each in self.columns if each.name == name), None)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read_statistics(path: Path) -> FeatureStatistics:
    """Return what ``FeatureStatistics.write`` wrote.

    Raises:
        Invalid: The file is not there, too long, or holds something else, or figures that do not fit each other.
    """
    right = "A file of statistics, as midstream features as-of and midstream examples write them."
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise Invalid((Fault(str(path), f"It has more than {FILE_BYTES_MAX} bytes.", right, PAGE),))
        found = msgspec.json.decode(path.read_bytes(), type=FeatureStatistics)
    except OSError as error:
        raise Invalid((Fault(str(path), f"It cannot be read: {error.strerror}.", right, PAGE),)) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Invalid((Fault(str(path), f"{error}.", right, PAGE),)) from error
    unfit = [f'"{each.name}"' for at, each in enumerate(found.columns) if not _fits(each, found, at)]
    if unfit:
        came = f"The figures of {', '.join(unfit[:5])} do not fit each other, or the column comes twice."
        raise Invalid((Fault(str(path), came, right, PAGE),))
    return found


def _fits(column: ColumnStatistics, whole: FeatureStatistics, at: int) -> bool:
    """Return whether a column can be compared: lengths, orders and shares as ``StreamingStatistics`` gives them."""
    is_known = column.known > 0
    ratio = column.null_ratio
    return (
        0 <= column.known <= whole.rows
        and (ratio is None or -ROUNDING <= ratio <= 1.0 + ROUNDING)
        and all(each.name != column.name for each in whole.columns[:at])
        and len(column.quantiles) == (len(QUANTILES) if is_known else 0)
        and len(column.shares) == (len(column.edges) + 1 if is_known else 0)
        and bool(column.edges) == bool(column.steps.values)
        and len(column.steps.values) == len(column.steps.shares)
        and (is_known or not column.edges)
        and all(_rises(each) for each in (column.edges, column.steps.values, column.steps.shares))
        and (not column.edges or column.edges[0] >= column.quantiles[0])
        and _sums_to_one(column.shares, np.diff(column.steps.shares, prepend=0.0).tolist())
    )


def _rises(numbers: Sequence[float]) -> bool:
    return bool((np.diff(numbers) > 0.0).all())


def _sums_to_one(*parts: Sequence[float]) -> bool:
    """Return whether each has no negative number and a sum of 1; an empty one says nothing."""
    return all(not each or (min(each) >= -ROUNDING and abs(sum(each) - 1.0) <= ROUNDING) for each in parts)


def statistics_of(names: Sequence[str], values: Score, weights: Values | None = None) -> FeatureStatistics:
    """Return the figures of every column, all of them exact.

    Args:
        names: Of the columns, in order.
        values: (n, len(names)); what is not finite is missing.
        weights: Of each row, (n,), at least 0; None = all the same.

    Cost: sorting each column.
    """
    gathered = StreamingStatistics(names, rows_max=max(1, len(values)))
    gathered.add(values, weights)
    return gathered.statistics()


class StreamingStatistics:
    """Figures of rows that come in pieces, in bounded memory: however they are cut, the same figures to rounding.

    Rows, nulls, mean, deviation, least and most are of all rows; the rest is of ``rows_max`` of them, drawn evenly.
    """

    def __init__(self, names: Sequence[str], rows_max: int = SAMPLE_ROWS_MAX, seed: int = 1) -> None:
        """Start without rows."""
        count = len(names)
        self.names = tuple(names)
        self._rng = np.random.default_rng(seed)
        self._sample = np.empty((rows_max, count), dtype=np.float32)
        self._sample_weight = np.empty(rows_max)
        self._rows = 0
        self._weight = 0.0
        self._known = np.zeros(count, dtype=np.int64)
        self._known_weight = np.zeros(count)
        self._mean = np.zeros(count)
        self._squares = np.zeros(count)
        self._least = np.full(count, np.inf)
        self._most = np.full(count, -np.inf)

    def add(self, values: Score, weights: Values | None = None) -> None:
        """Take rows, (n, columns), each of a weight, (n,), or of 1."""
        weight = np.ones(len(values)) if weights is None else weights
        if len(values):
            self._keep(values, weight)
            self._rows += len(values)
            self._weight += float(weight.sum())
            for at in range(len(self.names)):
                self._add_column(at, values[:, at].astype(np.float64), weight)

    def statistics(self) -> FeatureStatistics:
        """Return the figures of the rows so far."""
        return FeatureStatistics(self._rows, tuple(self._column(at) for at in range(len(self.names))))

    def _add_column(self, at: int, value: Values, weight: Values) -> None:
        is_known: Mask = np.isfinite(value) & (weight > 0.0)
        value, weight = value[is_known], weight[is_known]
        total = float(weight.sum())
        if total <= 0.0:
            return
        mean = float((value * weight).sum() / total)
        before, apart = self._known_weight[at], mean - self._mean[at]
        both = before + total
        self._mean[at] += apart * total / both
        self._squares[at] += float((weight * (value - mean) ** 2).sum()) + apart * apart * before * total / both
        self._known_weight[at] = both
        self._known[at] += len(value)
        self._least[at] = min(self._least[at], value.min())
        self._most[at] = max(self._most[at], value.max())

    def _keep(self, values: Score, weight: Values) -> None:
        """Keep each of all rows with the same chance."""
        room = len(self._sample)
        free = max(0, min(len(values), room - self._rows))
        self._sample[self._rows : self._rows + free] = values[:free]
        self._sample_weight[self._rows : self._rows + free] = weight[:free]
        # The row after t others takes one of t + 1 places; a later row of the same place wins.
        place = self._rng.integers(0, np.arange(self._rows + free + 1, self._rows + len(values) + 1))
        taken = np.flatnonzero(place < room)
        self._sample[place[taken]] = values[free:][taken]
        self._sample_weight[place[taken]] = weight[free:][taken]

    def _column(self, at: int) -> ColumnStatistics:
        name, held = self.names[at], min(self._rows, len(self._sample))
        null_ratio = float(1.0 - self._known_weight[at] / self._weight) if self._weight > 0.0 else None
        if not self._known[at]:
            return ColumnStatistics(
                name,
                0,
                null_ratio,
                None,
                None,
                (),
                0,
                is_distinct_exact=True,
                edges=(),
                shares=(),
                steps=StepFunction(),
            )
        spread = distribution(self._sample[:held, at], self._sample_weight[:held])
        edges = np.unique(spread.at(DECILES)) if len(spread.values) else np.empty(0)
        quantiles = [*spread.at(QUANTILES).tolist()] if len(spread.values) else [0.0] * len(QUANTILES)
        quantiles[0], quantiles[-1] = float(self._least[at]), float(self._most[at])
        return ColumnStatistics(
            name,
            int(self._known[at]),
            null_ratio,
            float(self._mean[at]),
            float(np.sqrt(self._squares[at] / self._known_weight[at])),
            tuple(quantiles),
            len(spread.values),
            is_distinct_exact=self._rows <= len(self._sample),
            edges=tuple(edges.tolist()),
            shares=tuple(np.diff(spread.upto(edges), prepend=0.0, append=1.0).tolist()),
            steps=spread.steps(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """A distribution function of known values: ``share[i]`` of them are at most ``values[i]``. Both (k,), rising."""

    values: Values
    share: Values

    def at(self, shares: Sequence[float]) -> Values:
        """Return quantiles: of each share the least value that so many do not exceed."""
        place = np.searchsorted(self.share, np.asarray(shares), side="left")
        return self.values[np.minimum(place, len(self.values) - 1)]

    def upto(self, values: Values) -> Values:
        """Return the share that is at most each value."""
        return np.concatenate(([0.0], self.share))[np.searchsorted(self.values, values, side="right")]

    def before(self, values: Values) -> Values:
        """Return the share that is below each value."""
        return np.concatenate(([0.0], self.share))[np.searchsorted(self.values, values, side="left")]

    def steps(self) -> StepFunction:
        """Return at most ``STEPS_MAX`` of its steps, evenly by share, each as high as it is here."""
        kept = np.arange(len(self.values))
        if len(kept) > STEPS_MAX:
            shares = np.arange(1, STEPS_MAX + 1) / STEPS_MAX
            kept = np.unique(np.minimum(np.searchsorted(self.share, shares, side="left"), len(kept) - 1))
        return StepFunction(tuple(self.values[kept].tolist()), tuple(self.share[kept].tolist()))


def distribution(values: Score | Values, weights: Values | None = None) -> Distribution:
    """Return the distribution function of a column, (n,), missing ones left out; empty when all are."""
    is_known: Mask = np.isfinite(values)
    if weights is not None:
        is_known &= weights > 0.0
    order = np.argsort(values[is_known], kind="stable")
    value = values[is_known].astype(np.float64)[order]
    weight = np.ones(len(value)) if weights is None else weights[is_known][order]
    last = np.flatnonzero(np.append(value[1:] != value[:-1], np.True_)) if len(value) else np.empty(0, np.intp)
    total = np.cumsum(weight)
    return Distribution(value[last], total[last] / total[-1] if len(total) else total)
