"""Exact top-k of many vectors from half of their bytes: bfloat16 products exclude most vectors.

A scan of 100,000 vectors waits for memory. So each number is kept a second time, rounded to bfloat16, with the length
of its vector: the product of a query with the rounded vector is off the true one by at most c ‖v‖ ‖q‖, whatever the
numbers are, and a vector whose product and that bound together do not reach the k-th best so far is passed by. All
others, some k ln(n / k), are multiplied out as ``top_k`` does it, so rows and scores have the same bits as there.

The bound: rounding to 8 bits of significand changes a number by at most 2^-8 of it, so the sum of all by at most 2^-8
Σ|v q|, which Cauchy and Schwarz bound by 2^-8 ‖v‖ ‖q‖. Both sums are of at most d additions, each off by 2^-24 of what
Σ|v q| bounds (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1); 24 more stand for products and
for the additions of the bound itself. Numbers below the normal ones are off by a constant, which is added. Where a
rounded number is no number, the length is infinite, and the vector is always looked at.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.models.kernels.bf16_kernel import scan_halves
from midstream.models.kernels.simd_dot import LANES
from midstream.models.kernels.top_k import answer_of, top_k
from midstream.models.kernels.top_k_kernels import frozen

HALVES_MIN: Final = 8_192
"""Vectors from which on the second copy pays: fewer of 64 numbers lie in a core's own cache."""
_ROUNDED = 2.0**-8
_ADDED = 2.0**-24
_TILES = 512
"""Rounded at once: 4 MB of float64 of 64 dimensions."""
_LARGE = 2.0**126
"""No sum of fewer products than this by a length of one is beyond float32."""
_SMALL = 2.0**-60
"""Added to each length: 2^-8 of it is more than all that numbers below the normal ones (2^-126) can be off by."""


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """Vectors, and half of the bits of each of their numbers."""

    items: NDArray[np.float32]
    """(n, d), read-only."""
    high: NDArray[np.uint32]
    """The upper 16 bits of each number, rounded: (n / 16, pairs, 16), a word of each vector of a tile for two
    dimensions, the first of them in its lower half, filled up with 0. Empty below ``HALVES_MIN``."""
    length: NDArray[np.float32]
    """Of each vector, or more; inf where a rounded number is none, (16 tiles,)."""
    longest: float
    """The greatest of the lengths that are numbers."""

    @classmethod
    def of(cls, items: NDArray[np.float32]) -> "Halves":
        """Round vectors (n, d). Cost: half of their memory, and about 2 ms a MB."""
        exact = frozen(items)
        count, width = exact.shape
        if count < HALVES_MIN:
            return cls(exact, np.empty((0, 0, LANES), dtype=np.uint32), np.empty(0, dtype=np.float32), 0.0)
        tiles, pairs = -(-count // LANES), 2 * -(-width // 4)
        high = np.zeros((tiles, pairs, LANES), dtype=np.uint32)
        length = np.zeros(tiles * LANES, dtype=np.float32)
        for tile in range(0, tiles, _TILES):  # so that no copy of all is made on the way
            part = exact[tile * LANES : (tile + _TILES) * LANES]
            many = -(-len(part) // LANES)
            rounded = np.zeros((many * LANES, 2 * pairs), dtype=np.uint32)
            rounded[: len(part), :width] = _rounded(part)
            words = rounded[:, ::2] | rounded[:, 1::2] << np.uint32(16)
            high[tile : tile + many] = words.reshape(many, LANES, pairs).transpose(0, 2, 1)
            length[tile * LANES : tile * LANES + len(part)] = _lengths(part, rounded[: len(part)])
        longest = float(length[np.isfinite(length)].max(initial=0.0))
        return cls(exact, frozen(high), frozen(length), longest)

    def top_k(self, query: NDArray[np.float32], k: int) -> tuple[Index, Score]:
        """Return what ``top_k`` does of a query (d,), to the bit. Cost: about half of it where vectors are many."""
        wanted = min(k, len(self.items))
        if not len(self.high) or wanted < 1:
            return top_k(query, self.items, k)
        asked = np.zeros(2 * self.high.shape[1], dtype=np.float32)
        asked[: len(query)] = query
        off = self._off(query)
        keys, maybe = np.empty(2 * wanted + 64, dtype=np.int64), np.empty(len(self.items), dtype=np.int64)
        found = scan_halves(
            frozen(query[None, :]), self.items, frozen(asked), self.high, self.length, off, wanted, keys, maybe
        )
        return answer_of(maybe[:found], wanted)

    def _off(self, query: NDArray[np.float32]) -> np.float32:
        """Return by how much of a vector's length its product may be off; inf where sums may be too large."""
        exact = query.astype(np.float64)
        norm = float(np.sqrt(exact @ exact))
        if not norm * self.longest < _LARGE:
            return np.float32(np.inf)
        share = _ROUNDED + 2 * (len(query) + 24) * _ADDED
        return np.float32(np.nextafter(np.float32(min(share * norm, _LARGE)), np.float32(np.inf)))


def _rounded(numbers: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the upper 16 bits of the nearest numbers that have no others, of two as near the even one."""
    bits = numbers.view(np.uint32)
    found: NDArray[np.uint32] = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return found


def _lengths(vectors: NDArray[np.float32], rounded: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return the length of each vector, rounded up; inf where a number was rounded to none."""
    exact = vectors.astype(np.float64)
    with np.errstate(over="ignore"):
        length = (np.sqrt(np.einsum("ij,ij->i", exact, exact)) + _SMALL).astype(np.float32)
    is_number = ((rounded & np.uint32(0x7F80)) != np.uint32(0x7F80)).all(axis=1)
    return np.where(is_number, np.nextafter(length, np.float32(np.inf)), np.float32(np.inf))
