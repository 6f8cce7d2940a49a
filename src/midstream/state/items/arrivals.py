"""The items that the catalogue named last: in which order they came, and when.

A ring of fixed size. An item enters it once, at the first item event that names it, and leaves it when as many as the
ring holds came after it; an item that is deleted keeps its place. Whether one may be served is not known here.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index


class Arrivals:
    """The last items by arrival in the catalogue, with the log time of each."""

    def __init__(self, length_max: int) -> None:
        """Start empty, with room for ``length_max``."""
        self._item = np.zeros(length_max, dtype=np.int32)
        self._log_time_ms = np.zeros(length_max, dtype=np.int64)
        self._added = 0

    def add(self, item_index: int, log_time_ms: int) -> None:
        """Add an item; full, the one that came first leaves."""
        place = self._added % len(self._item)
        self._item[place] = item_index
        self._log_time_ms[place] = log_time_ms
        self._added += 1

    def newest(self) -> tuple[Index, NDArray[np.int64]]:
        """Return the items, the newest first, and the log time at which each came, never rising. Both (n,)."""
        places = self._places()[::-1]
        return self._item[places], self._log_time_ms[places]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the items and times, oldest first."""
        places = self._places()
        return {"item": self._item[places], "log_time_ms": self._log_time_ms[places]}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the ring by what ``arrays`` returned."""
        self._added = len(arrays["item"])
        self._item[: self._added] = arrays["item"]
        self._log_time_ms[: self._added] = arrays["log_time_ms"]

    def byte_count(self) -> int:
        """Return the bytes reserved."""
        return self._item.nbytes + self._log_time_ms.nbytes

    def _places(self) -> NDArray[np.int64]:
        """Return the filled places, oldest first."""
        length = len(self._item)
        return np.arange(max(0, self._added - length), self._added, dtype=np.int64) % length
