"""Exponential decay whose weights have the same bits on every CPU.

Forward decay: an event at time t adds 2^((t - L) / h) to a cell, for a landmark L before it and a half-life
h, and a reader at time n multiplies the cell by 2^((L - n) / h). Nothing has to be touched as time goes by.
``exp`` and ``pow`` differ between mathematical libraries, so the power is a table entry 2^(j/4096), made
with square roots and products (which IEEE 754 rounds exactly), times a power of two put together from its
bits. The step is h / 4096: 5 s at 6 h.

Landmarks are multiples of 32 half-lives, so they move at fixed log times, and what moves a cell from one to
the next is an exact power of two. A cell thus grows to 2^33 times the weight of an event at most, far from
any limit of float32.

Reference: G. Cormode, V. Shkapenyuk, D. Srivastava, B. Xu, Forward Decay: A Practical Time Decay Model for
Streaming Systems, ICDE 2009.
"""

import math

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.kernel import inlined, kernel

STEPS = 4096
"""Table entries a half-life."""
LANDMARK_HALF_LIVES = 32
"""Half-lives between landmarks."""
_STEP_BITS = 12
_EXPONENT_BIAS = 1023
_EXPONENT_MIN = -1022
_EXPONENT_MAX = 1023
_MANTISSA_BITS = 52


def fractions_of_two() -> NDArray[np.float64]:
    """Return 2^(j/4096) for j = 0..4095: rising, each within 2e-15 of the true value, relative."""
    roots: list[float] = []
    root = 2.0
    for _ in range(_STEP_BITS):
        root = math.sqrt(root)
        roots.append(root)
    table = np.ones(STEPS, dtype=np.float64)
    for j in range(STEPS):
        value = 1.0
        for bit, each in enumerate(roots):
            if j >> (_STEP_BITS - 1 - bit) & 1:
                value *= each
        table[j] = value
    return table


TABLE = fractions_of_two()


@inlined
def power_of_two(exponent: int) -> float:
    """Return 2^exponent exactly; 0 below the smallest normal float64, 2^1023 at most."""
    if exponent < _EXPONENT_MIN:
        return 0.0
    bits = (min(exponent, _EXPONENT_MAX) + _EXPONENT_BIAS) << _MANTISSA_BITS
    return float(np.int64(bits).view(np.float64))


@inlined
def decay_weight(time_ms: int, landmark_ms: int, half_life_ms: int) -> float:
    """Return 2^((time - landmark) / half-life), the time rounded down to 1/4096 of a half-life.

    Below 1 when the time lies before the landmark. All three are int64 in other kernels. Cost: about 2 ns.
    """
    steps = (time_ms - landmark_ms) * STEPS // half_life_ms
    return float(TABLE[steps & (STEPS - 1)]) * power_of_two(steps >> _STEP_BITS)


def decay_weights(time_ms: NDArray[np.int64], landmark_ms: int, half_life_ms: int) -> NDArray[np.float64]:
    """Return ``decay_weight`` of each time, shape (n,): for readers, in NumPy, of times not after the landmark."""
    steps = (time_ms - landmark_ms) * STEPS // half_life_ms
    weights: NDArray[np.float64] = np.ldexp(TABLE[steps & (STEPS - 1)], steps >> _STEP_BITS)
    return weights


@kernel
def landmark_at(log_time_ms: int, half_life_ms: int) -> int:
    """Return the landmark that holds at a log time: the last multiple of 32 half-lives."""
    span = half_life_ms * LANDMARK_HALF_LIVES
    return log_time_ms // span * span


@kernel
def rebase_factor(old_landmark_ms: int, new_landmark_ms: int, half_life_ms: int) -> float:
    """Return what a cell is multiplied by when its landmark moves: an exact power of two."""
    return power_of_two((old_landmark_ms - new_landmark_ms) // half_life_ms)
