"""The words of one cell: windows as running totals, and distinct counts.

A window is twelve buckets and what is ahead of log time. Its total holds all that was folded since the first bucket
kept, and a ring holds for each bucket what the total was before it, so that a reader takes one word from another
instead of adding twelve. The first bucket kept is the one eleven before that of the row's log time; what was before it
is taken off whenever the row reaches another bucket, so the ring's word for it is 0.

Counts are exact as long as they are below 2^53. A sum of n values in floating point is off by n * 2^-53 times the
largest total that the row held in twice the length of the window, at most: nothing older leaves anything behind.

Reference: P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, HyperLogLog: the analysis of a near-optimal cardinality
estimation algorithm, AofA 2007.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.cell_layout import BUCKETS, REGISTERS
from midstream.state.kernel import kernel, signed
from midstream.state.logarithm import log2_of

_ALPHA: Final = 0.709
_FEW: Final = 2.5
_LN2: Final = 0.6931471805599453
_RANK_MAX: Final = 57
"""With a higher rank the sum of 64 registers would not fit into 64 bits; one in 2^57 has one."""
_UNIT: Final = 1.0 / 2.0**_RANK_MAX
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_TOP = np.uint64(_RANK_MAX)
_REGISTER_BITS = np.uint64(6)
_EXPONENT_BITS: Final = 52
_EXPONENT_BIAS: Final = 1023

Words = NDArray[np.float64]
Octets = NDArray[np.uint8]


@kernel
def total_before(words: Words, total: int, ahead: int, ring: int, held: int, bucket: int) -> float:
    """Return the total before a bucket, of a window whose row's log time is in the bucket ``held``.

    0 = before what is kept.
    """
    if bucket <= held - BUCKETS:
        return 0.0
    if bucket <= held:
        return float(words[ring + bucket % BUCKETS])
    if bucket == held + 1:
        return float(words[total])
    return float(words[total] + words[ahead])


@kernel
def advance_window(words: Words, total: int, ahead: int, ring: int, held: int, bucket: int) -> None:
    """Bring a window from one bucket to a later one; the words of its total, of what is ahead, and of its ring."""
    begun, whole = words[total], words[total] + words[ahead]
    at = (held + 1) % BUCKETS
    for late in range(held + 1, min(bucket, held + BUCKETS) + 1):
        words[ring + at] = begun if late == held + 1 else whole
        at = at + 1 if at + 1 < BUCKETS else 0
    if bucket > held + BUCKETS:
        words[ring : ring + BUCKETS] = whole
    gone = words[ring + (bucket + 1) % BUCKETS]
    words[total] = whole - gone
    words[ahead] = 0.0
    if gone != 0.0:
        for slot in range(ring, ring + BUCKETS):
            words[slot] -= gone


@kernel
def add_late(words: Words, total: int, ring: int, bucket: int, back: int, taken: float) -> None:
    """Add to a bucket so many before that of the row's log time, ``bucket``, if it is held."""
    if back < BUCKETS:
        words[total] += taken
        for late in range(bucket - back + 1, bucket + 1):
            words[ring + late % BUCKETS] += taken


@kernel
def add_window(
    words: Words,
    total: int,
    ahead: int,
    ring: int,
    bucket: int,
    other_words: Words,
    other_total: int,
    other_ahead: int,
    other_ring: int,
    held: int,
) -> None:
    """Add another window, as of the bucket ``held``, to one that has been brought to ``bucket``, not an earlier one."""
    first = bucket - BUCKETS + 1
    gone = total_before(other_words, other_total, other_ahead, other_ring, held, first)
    for late in range(first, bucket + 1):
        before = total_before(other_words, other_total, other_ahead, other_ring, held, late)
        words[ring + late % BUCKETS] += before - gone
    words[total] += total_before(other_words, other_total, other_ahead, other_ring, held, bucket + 1) - gone
    if held == bucket:
        words[ahead] += other_words[other_ahead]


@kernel
def add_distinct(octets: Octets, place: int, hashed: np.uint64) -> None:
    """Note one of what is counted: the register that its last bits name holds the longest run of zeros before them."""
    if hashed == _NONE:
        return
    rest = (hashed >> _REGISTER_BITS) | (_ONE << (_TOP - _ONE))
    lowest = np.float64(rest & (~rest + _ONE))  # a power of two: exact
    rank = (np.int64(lowest.view(np.int64)) >> _EXPONENT_BITS) - _EXPONENT_BIAS + 1
    register = place + signed(hashed & np.uint64(REGISTERS - 1))
    octets[register] = max(octets[register], np.uint8(rank))


@kernel
def distinct_of(octets: Octets, place: int) -> float:
    """Return about how many different ones were noted."""
    total = _NONE
    empty = 0
    registers = octets[place : place + REGISTERS]
    for register in range(REGISTERS):
        rank = registers[register]
        empty += rank == 0
        total += _ONE << (_TOP - np.uint64(rank))
    found = _ALPHA * REGISTERS * REGISTERS / (np.float64(total) * _UNIT)
    if found <= _FEW * REGISTERS and empty > 0:
        return REGISTERS * _LN2 * log2_of(REGISTERS / empty)
    return found
