"""Logarithms and exponentials that have the same bits on every CPU, for scores that a rerun must find again.

``log`` and ``exp`` differ between mathematical libraries in the last bit. Here both rest on sums, products and
square roots alone, which IEEE 754 rounds exactly.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.kernel import kernel

_PARTS = 4096
_PART_BITS = 12
_MANTISSA_BITS = 52
_MANTISSA_MASK = (1 << _MANTISSA_BITS) - 1
_EXPONENT_BIAS = 1023
_REST_BITS = _MANTISSA_BITS - _PART_BITS
_REST_MASK = (1 << _REST_BITS) - 1
_REST_UNIT = 1.0 / (1 << _REST_BITS)
_HALVINGS = 10
_TERMS = 12
_RATE_MAX = 700.0


def binary_logarithms() -> NDArray[np.float64]:
    """Return log2(1 + j/4096) for j = 0..4096, each within 1e-14.

    Each squaring of a number in [1, 2) gives the next binary digit of its logarithm.
    """
    rest = 1.0 + np.arange(_PARTS, dtype=np.float64) / _PARTS
    table = np.zeros(_PARTS + 1, dtype=np.float64)
    table[_PARTS] = 1.0
    digit = 1.0
    for _ in range(_MANTISSA_BITS):
        digit /= 2.0
        rest = rest * rest
        above = rest >= 2.0  # noqa: PLR2004  # the number that halves
        table[:_PARTS] += np.where(above, digit, 0.0)
        rest = np.where(above, rest / 2.0, rest)
    return table


TABLE = binary_logarithms()


@kernel
def log2_of(value: float) -> float:
    """Return log2 of a number of at least 1, within 1e-8: a table and a straight line between its entries.

    Strictly rising over whole numbers up to 2^32, so a difference of two logarithms has the sign it should have.
    """
    bits = np.int64(np.float64(value).view(np.int64))
    mantissa = bits & _MANTISSA_MASK
    part = mantissa >> _REST_BITS
    rest = float(mantissa & _REST_MASK) * _REST_UNIT
    low = float(TABLE[part])
    return float((bits >> _MANTISSA_BITS) - _EXPONENT_BIAS) + low + (float(TABLE[part + 1]) - low) * rest


def fading(rate: float, length: int) -> NDArray[np.float64]:
    """Return exp(-rate * j) for j = 0..length-1, for rates from 0 to 700; within 1e-12, relative."""
    small = -min(max(rate, 0.0), _RATE_MAX) / (1 << _HALVINGS)
    base = 1.0
    for term in range(_TERMS, 0, -1):
        base = 1.0 + base * small / term
    for _ in range(_HALVINGS):
        base *= base
    weights = np.ones(length, dtype=np.float64)
    for j in range(1, length):
        weights[j] = weights[j - 1] * base
    return weights
