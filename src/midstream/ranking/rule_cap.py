"""Caps: at most so many items of one value in a slate.

An item without a value is not capped. Pins count from the first place on, wherever they stand, and are not dropped;
caps are kept even where the slate is shorter then.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask


class Cap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """At most so many items of one value in a slate."""

    attribute: str
    """Of kind ``category`` or ``tags``; an item of several tags counts for each."""
    max: Annotated[int, msgspec.Meta(ge=1, le=100)]

    @property
    def name(self) -> str:
        """Name in traces and metrics."""
        return f"caps.{self.attribute}"


class Caps:
    """What is full while a slate is made."""

    def __init__(
        self, caps: Sequence[Cap], codes: Sequence[Index], order: NDArray[np.intp], pinned: Iterable[int]
    ) -> None:
        """Begin with the pins.

        Args:
            caps: What the maxima are.
            codes: Value codes of each cap's attribute, a candidate a row, (n, w), -1 = none.
            order: Rows of candidates: numbers of places in it are what the others speak of.
            pinned: Those that come for sure.
        """
        self._caps = caps
        self._codes = [np.ascontiguousarray(each[order].T) for each in codes]  # one pass over all rows a value
        self._counts = [Counter[int]() for _ in caps]
        self.dropped: list[tuple[Cap, Mask]] = [(cap, np.zeros(len(order), dtype=np.bool_)) for cap in caps]
        """Which candidates have a value that is full, by cap."""
        for at in pinned:
            self.take(at)

    def take(self, at: int) -> bool:
        """Count a candidate; return whether a value is full that was not."""
        is_fuller = False
        for codes, counts, (cap, full) in zip(self._codes, self._counts, self.dropped, strict=True):
            values = set(codes[:, at].tolist()) - {-1}
            counts.update(values)
            # Above it already: pins passed it, and it is full since then.
            for value in values:
                if counts[value] == cap.max:
                    np.logical_or(full, (codes == value).any(axis=0), out=full)
                    is_fuller = True
        return is_fuller
