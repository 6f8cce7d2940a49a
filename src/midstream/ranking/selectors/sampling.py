"""Seeded randomness of a request: all draws come from its seed, so that a rerun draws the same.

NumPy's generators are not used, since another version may draw other numbers.

Reference: G. Steele, D. Lea and C. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64).
"""

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
LOGGED, COUNTED, WATCHED, CHOSEN = 1, 2, 3, 4
"""What is drawn for: each draws its own, independent of the others and of what else the seed decides."""


def is_sampled(seed: int, share: float, purpose: int) -> bool:
    """Return whether a request is among a share of all, 0 to 1."""
    return share > 0 and _mixed(seed + purpose * _STEP) < share * (_MASK + 1)


def uniforms(seed: int, purpose: int, count: int) -> NDArray[np.float64]:
    """Return numbers of (0, 1), (count,), equal on every machine; a longer array begins with the same numbers."""
    start = np.uint64(_mixed(seed + purpose * _STEP))
    value = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_STEP)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    # 52 bits and a half: with one more the highest would be rounded to 1.
    bits = (value ^ (value >> np.uint64(31))) >> np.uint64(12)
    return bits.astype(np.float64) * 2.0**-52 + 2.0**-53


def drawn_of(share: NDArray[np.float64], chance: float) -> tuple[int, float]:
    """Return the index drawn by a number of (0, 1) from shares (n,), at least one above 0, and its probability."""
    edges = np.cumsum(share)
    whole = float(edges[-1])
    at = int(np.searchsorted(edges, chance * whole, side="right"))
    if at == len(share):  # the number times the sum came out as the sum
        at = int(np.argmax(edges))
    return at, float(share[at]) / whole


def _mixed(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
