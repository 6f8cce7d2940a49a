"""Bitmap of counted acts: the log positions of what was added to the units of an experiment, a bit a position.

A retraction names a log position. Whether its act was counted depends on what was known of its unit then: its first
slate, and whom its id stood for. So it is remembered, of the newest positions of the log.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask

_CHUNK_BITS = 18
_CHUNK = 1 << _CHUNK_BITS
"""Positions whose bits are reserved and dropped together: 32 KiB."""
_WITHIN = _CHUNK - 1


class CountedActs:
    """Log positions of counted acts, bounded: those far before the newest one are forgotten."""

    def __init__(self, positions_max: int) -> None:
        """Remember nothing.

        Args:
            positions_max: Positions before the newest counted act of which acts are remembered, about.
        """
        self.positions_max = positions_max
        self._chunks: dict[int, NDArray[np.uint8]] = {}

    def add(self, position: NDArray[np.int64]) -> None:
        """Remember acts that were counted. Cost: 0.1 µs each.

        Args:
            position: Of each, (n,), rising.
        """
        if not len(position):
            return
        chunk = position >> _CHUNK_BITS
        for number in range(int(chunk[0]), int(chunk[-1]) + 1):
            within = position[chunk == number] & _WITHIN
            bits = self._chunks.setdefault(number, np.zeros(_CHUNK >> 3, dtype=np.uint8))
            np.bitwise_or.at(bits, within >> 3, _bit_of(within))
        oldest = int(chunk[-1]) - max(1, self.positions_max >> _CHUNK_BITS)
        for number in [each for each in self._chunks if each < oldest]:
            del self._chunks[number]

    def remove(self, position: NDArray[np.int64]) -> Mask:
        """Forget acts, and return which of them were remembered, (n,): each is at most once.

        Args:
            position: Of each, (n,), distinct.
        """
        found, chunk = np.zeros(len(position), dtype=np.bool_), position >> _CHUNK_BITS
        for number in set(chunk.tolist()) & self._chunks.keys():
            mine, bits = chunk == number, self._chunks[number]
            within = position[mine] & _WITHIN
            found[mine] = (bits[within >> 3] & _bit_of(within)) != 0
            np.bitwise_and.at(bits, within >> 3, ~_bit_of(within))
        return found


def _bit_of(within: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.asarray(np.left_shift(1, within & 7), dtype=np.uint8)
