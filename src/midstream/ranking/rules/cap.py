"""Caps: a maximum number of items of one value in a slate, or in all slates for the user within a time.

An item without a value is not capped. Pins count from the first position on, wherever they are, and are not dropped;
caps hold even where the slate is shorter then.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.durations import Duration
from midstream.core.types import Index, Mask, Moment
from midstream.ranking.filters.served_lately import items_of, recent_of
from midstream.state.items.items import Items

_NONE: Final = {-1}


class Cap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most so many items of one value in a slate."""

    attribute: str
    """Of kind ``category`` or ``tags``; an item of several tags counts for each."""
    max: Annotated[int, msgspec.Meta(ge=1, le=100)]
    within: Duration | None = None
    """Items that this placement served to the same user or session in this time count as well; None = the slate
    alone."""

    @property
    def name(self) -> str:
        """Name in traces and metrics."""
        return f"caps.{self.attribute}" if self.within is None else f"caps.{self.attribute}.{self.within}"


class Caps:
    """Full values while a slate is made."""

    def __init__(
        self,
        caps: Sequence[Cap],
        codes: Sequence[Index],
        order: NDArray[np.intp],
        pinned: Iterable[int],
        before: Sequence[Mapping[int, int]] = (),
    ) -> None:
        """Begin with the pins.

        Args:
            caps: The maxima.
            codes: Value codes of each cap's attribute, a candidate a row, (n, w), -1 = none.
            order: Rows of candidates; other arguments and methods use positions in it.
            pinned: Pinned candidates.
            before: Number of served items of each value that count, by cap; none = no cap is over a time.
        """
        self._codes = [each.T.take(order, axis=1) for each in codes]  # one pass over all rows a value
        self._each: list[tuple[Cap, list[memoryview], dict[int, int], set[int]]] = []
        """Of each cap: the columns of its codes, how often each value came, and which are full."""
        for number, cap in enumerate(caps):
            counts = dict(before[number]) if before else {}
            full = {value for value, count in counts.items() if count >= cap.max}
            self._each.append((cap, [memoryview(column) for column in self._codes[number]], counts, full))
        for at in pinned:
            self.take(at)

    def take(self, at: int) -> list[tuple[int, int]]:
        """Count a candidate; return newly full values: numbers of caps, and values."""
        found: list[tuple[int, int]] = []
        for number, (cap, columns, counts, full) in enumerate(self._each):
            for value in {column[at] for column in columns} - _NONE:
                counts[value] = count = counts.get(value, 0) + 1
                # Above it already: pins passed it, and it is full since then.
                if count == cap.max:
                    full.add(value)
                    found.append((number, value))
        return found

    def full_for(self, at: int) -> Cap | None:
        """Return the first cap of which a candidate has a value that is full; None = no cap keeps it out."""
        for cap, columns, _, full in self._each:
            for column in columns:
                if column[at] in full:
                    return cap
        return None

    def having(self, number: int, value: int) -> Mask:
        """Return which candidates have a value of a cap's attribute, (n,)."""
        codes = self._codes[number]
        found: Mask = codes[0] == value if len(codes) == 1 else np.any(codes == value, axis=0)
        return found

    def capped(self, count: int) -> Mask:
        """Return which of all ``count`` candidates have a value that is full, (n,)."""
        found = np.zeros(count, dtype=np.bool_)
        for codes, (_, _, _, full) in zip(self._codes, self._each, strict=True):
            if full:
                found |= np.isin(codes, list(full)).any(axis=0)
        return found


def served_before(cap: Cap, moment: Moment) -> Mapping[int, int]:
    """Return how often each value of a cap's attribute was served to the user, within its time in this placement."""
    if cap.within is None:
        return {}
    found = items_of(moment, recent_of(moment), cap.within.ms)
    return counted(moment.table(Items).codes(cap.attribute)[found[found >= 0]])


def counted(codes: Index) -> Counter[int]:
    """Return the number of rows of (n, w) that have each value; -1 = none."""
    return Counter(codes[codes >= 0].tolist())
