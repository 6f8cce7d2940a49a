"""Lists of numbers: read from JSON values, and reduced to one number."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from midstream.state.attributes.attributes import number_of
from midstream.state.expressions.program import Columns

Reduction: TypeAlias = Literal["min", "max", "mean", "sum", "first", "last"]
NUMBERS_MAX = 1_000
"""Of a list; later ones are not read."""
_SCALE = 2.0**10
"""More than ``NUMBERS_MAX``: a sum of numbers divided by it fits into float64, and a power of two costs no bit."""


def numbers_of(value: object) -> tuple[float, ...]:
    """Return the numbers of a list, NaN for other entries; of a single number that one, of other values none."""
    if isinstance(value, list):
        return tuple(number_of(each) for each in cast("Sequence[object]", value)[:NUMBERS_MAX])
    number = number_of(value)
    return () if math.isnan(number) else (number,)


def _scaled_sum(numbers: Sequence[float]) -> float:
    """Return the exact sum as a part of ``_SCALE``, so that none is too large on the way."""
    return math.fsum(each / _SCALE for each in numbers)


_REDUCED: Mapping[Reduction, Callable[[Sequence[float]], float]] = {
    "min": min,
    "max": max,
    "mean": lambda numbers: _scaled_sum(numbers) / len(numbers) * _SCALE,
    "sum": lambda numbers: _scaled_sum(numbers) * _SCALE,
    "first": lambda numbers: numbers[0],
    "last": lambda numbers: numbers[-1],
}


def reduced(numbers: Sequence[float], reduction: Reduction) -> float:
    """Return one number of the known ones; NaN = there is none, or their sum is too large for float64.

    Example:
        >>> reduced((3.0, math.nan, 5.0), "mean")
        4.0
    """
    known = [each for each in numbers if math.isfinite(each)]
    found = _REDUCED[reduction](known) if known else math.nan
    return found if math.isfinite(found) else math.nan


def _added(places: Columns) -> NDArray[np.float64]:
    """Return the sums from the first place to the last: one order everywhere, so the same bits."""
    total = np.zeros(places.shape[1])
    for each in places:
        total += each
    return total


_BY_PLACE: Mapping[Reduction, Callable[[Columns], NDArray[np.float64]]] = {
    "min": lambda places: places.min(axis=0),
    "max": lambda places: places.max(axis=0),
    "mean": lambda places: _added(places) / len(places),
    "sum": _added,
    "first": lambda places: places[0],
    "last": lambda places: places[-1],
}


def reduced_rows(places: Columns, reduction: Reduction) -> NDArray[np.float64]:
    """Return one number of each of n lists, (n,), from their numbers by place, (length, n); a NaN makes it NaN."""
    return _BY_PLACE[reduction](places)
