"""Parity of features: values kept with served slates against values computed from the log as of the same position.

Both are computed by the same code from the same log, so they are equal to the bit; a difference means that the served
state was not the one that training reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from midstream.core.types import FeatureFrame, Mask, Score
from midstream.features.declarations import Declarations
from midstream.features.readers.external import TableColumns
from midstream.features.readers.item_inputs import ItemDifference

EXAMPLES_MAX = 3
"""Kept of each column."""


@dataclass(frozen=True, slots=True)
class Unequal:
    """One value that differs."""

    request_id: str
    item_id: str
    logged: float
    as_of: float


@dataclass(slots=True)
class ColumnParity:
    """Result of one column."""

    name: str
    compared: int = 0
    mismatched: int = 0
    worst: float = 0.0
    """Largest difference; infinite where only one of the two is known."""
    examples: list[Unequal] = field(default_factory=list[Unequal])


class Parity:
    """Compares slate by slate."""

    def __init__(self, tolerance: float = 0.0) -> None:
        """Compare bit by bit, or let values differ a little.

        Args:
            tolerance: Largest difference that counts as equal, of values beyond 1 as a share of them. 0 = equal bits;
                NaN is equal to NaN, and to nothing else.
        """
        self._tolerance = tolerance
        self.slates = 0
        self.columns: dict[str, ColumnParity] = {}

    @property
    def compared(self) -> int:
        """Number of values."""
        return sum(each.compared for each in self.columns.values())

    @property
    def mismatched(self) -> int:
        """Number of values that differ."""
        return sum(each.mismatched for each in self.columns.values())

    def add(self, request_id: str, items: Sequence[str], names: Sequence[str], logged: Score, as_of: Score) -> None:
        """Compare one slate.

        Args:
            request_id: Of the slate.
            items: Ids, (n,).
            names: Of the columns.
            logged: Values that the request read, (n, columns).
            as_of: Values computed from the log, of the same shape.
        """
        self.slates += 1
        is_bad = unequal(logged, as_of, self._tolerance)
        for number, name in enumerate(names):
            found = self.columns.setdefault(name, ColumnParity(name))
            rows = np.flatnonzero(is_bad[:, number])
            found.compared += len(items)
            found.mismatched += len(rows)
            for row in rows.tolist():
                pair = float(logged[row, number]), float(as_of[row, number])
                apart = abs(pair[0] - pair[1])
                found.worst = max(found.worst, float("inf") if np.isnan(apart) else apart)
                if len(found.examples) < EXAMPLES_MAX:
                    found.examples.append(Unequal(request_id, items[row], *pair))

    def add_logged(self, request_id: str, items: Sequence[str], logged: FeatureFrame, found: FeatureFrame) -> None:
        """Compare the columns that two frames of one slate have in common."""
        common = [name for name in logged.names if name in found.names]
        mine = logged.values[:, [logged.names.index(name) for name in common]]
        theirs = found.values[:, [found.names.index(name) for name in common]]
        self.add(request_id, items, common, np.ascontiguousarray(mine), np.ascontiguousarray(theirs))


def unequal(logged: Score, as_of: Score, tolerance: float) -> Mask:
    """Return where two arrays of one shape differ; see ``Parity``."""
    is_same: Mask = (logged.view(np.uint32) == as_of.view(np.uint32)) | (np.isnan(logged) & np.isnan(as_of))
    if tolerance > 0:
        room = tolerance * np.maximum(1.0, np.abs(logged.astype(np.float64)))
        is_same |= np.abs(logged.astype(np.float64) - as_of.astype(np.float64)) <= room
    return np.logical_not(is_same)


def comparable(declared: Declarations, *, tables: bool = True) -> tuple[str, ...]:
    """Return the features that can be read again for the items of a slate alone.

    Others depend on the candidates that were not chosen, which are not kept.

    Args:
        declared: All features.
        tables: Whether the external tables are available.
    """
    unknown = (ItemDifference,) if tables else (ItemDifference, TableColumns)
    return tuple(
        each.name
        for each in declared.features
        if not any(isinstance(told.reader, unknown) for told in declared.program(each.name).inputs)
    )
