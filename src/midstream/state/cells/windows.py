"""The words of one cell: windows as running totals, and distinct counts.

A window is twelve buckets and what is ahead of log time. Its total holds all that was folded since the first bucket
kept, what is ahead included, and a ring holds for each bucket what the total was before it, so that a reader takes one
word from another instead of adding twelve. The first bucket kept is the one eleven before that of the row's log time;
what was before it is taken off whenever the row reaches another bucket. So its word would be 0: what is ahead stands
there. As of any later bucket, a reader needs the word of the ring that has that bucket's place plus one, and no other:
the total before the first bucket it keeps, or, when it keeps none of the row's own, what is ahead.

A distinct count is 64 registers and a word that says what they add up to, for readers: how many are in use, in the
highest bits, and below them how much less than 64 the sum of their powers is. It is a whole number, and as float64
neither infinite nor NaN.

Counts are exact as long as they are below 2^53. A sum of n values in floating point is off by n * 2^-53 times the
largest total that the row held in twice the length of the window, at most: nothing older leaves anything behind.

Reference: P. Flajolet, É. Fusy, O. Gandouet, F. Meunier, HyperLogLog: the analysis of a near-optimal cardinality
estimation algorithm, AofA 2007.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.state.cells.layout import BUCKETS, REGISTERS
from midstream.state.structures.exact_math import log2_of
from midstream.state.structures.kernel import kernel, signed

_ALPHA: Final = 0.709
_FEW: Final = 2.5
_LN2: Final = 0.6931471805599453
_RANK_MAX: Final = 50
"""With a higher rank the sum of 64 registers and the number in use would not fit into 64 bits; one in 2^50 has one."""
_UNIT: Final = 1.0 / 2.0**_RANK_MAX
_SUM_BITS: Final = 56
_SUM: Final = REGISTERS << _RANK_MAX
_BELOW: Final = (1 << _SUM_BITS) - 1
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_TOP = np.uint64(_RANK_MAX)
_REGISTER_BITS = np.uint64(6)
_EXPONENT_BITS: Final = 52
_EXPONENT_BIAS: Final = 1023

Words = NDArray[np.float64]
Octets = NDArray[np.uint8]


@kernel
def total_before(words: Words, total: int, ring: int, held: int, bucket: int) -> float:
    """Return the total before a bucket, of a window whose row's log time is in the bucket ``held``.

    0 = before what is kept.
    """
    if bucket <= held - BUCKETS + 1:
        return 0.0
    if bucket <= held:
        return float(words[ring + bucket % BUCKETS])
    if bucket == held + 1:
        return float(words[total] - words[ring + bucket % BUCKETS])
    return float(words[total])


@kernel
def advance_window(words: Words, total: int, ring: int, held: int, bucket: int) -> None:
    """Bring a window from one bucket to a later one; the words of its total and of its ring."""
    whole, at = words[total], (held + 1) % BUCKETS
    words[ring + at] = whole - words[ring + at]
    for _late in range(held + 2, min(bucket, held + BUCKETS) + 1):
        at = at + 1 if at + 1 < BUCKETS else 0
        words[ring + at] = whole
    if bucket > held + BUCKETS:
        words[ring : ring + BUCKETS] = whole
    first = ring + (bucket + 1) % BUCKETS
    gone = words[first]
    words[total] = whole - gone
    if gone != 0.0:
        for slot in range(ring, ring + BUCKETS):
            words[slot] -= gone
    words[first] = 0.0


@kernel
def add_ahead(words: Words, total: int, ring: int, bucket: int, taken: float) -> None:
    """Add to what is ahead of the bucket of the row's log time."""
    words[total] += taken
    words[ring + (bucket + 1) % BUCKETS] += taken


@kernel
def add_late(words: Words, total: int, ring: int, bucket: int, back: int, taken: float) -> None:
    """Add to a bucket so many before that of the row's log time, ``bucket``, if it is held."""
    if back < BUCKETS:
        words[total] += taken
        for late in range(bucket - back + 1, bucket + 1):
            words[ring + late % BUCKETS] += taken


@kernel
def add_window(
    words: Words, total: int, ring: int, bucket: int, other_words: Words, other_total: int, other_ring: int, held: int
) -> None:
    """Add another window, as of the bucket ``held``, to one that has been brought to ``bucket``, not an earlier one."""
    first = bucket - BUCKETS + 1
    gone = total_before(other_words, other_total, other_ring, held, first)
    for late in range(first + 1, bucket + 1):
        before = total_before(other_words, other_total, other_ring, held, late)
        words[ring + late % BUCKETS] += before - gone
    words[total] += other_words[other_total] - gone
    if held == bucket:
        words[ring + first % BUCKETS] += other_words[other_ring + first % BUCKETS]


@kernel
def add_distinct(words: Words, octets: Octets, place: int, registers: int, hashed: np.uint64) -> None:
    """Note one of what is counted: the register that its last bits name holds the longest run of zeros before them.

    Args:
        words: Hold the count.
        octets: The same memory.
        place: The word that says what the registers add up to.
        registers: The first word of those.
        hashed: 0 = none.
    """
    if hashed == _NONE:
        return
    rest = (hashed >> _REGISTER_BITS) | (_ONE << (_TOP - _ONE))
    lowest = np.float64(rest & (~rest + _ONE))  # a power of two: exact
    rank = (np.int64(lowest.view(np.int64)) >> _EXPONENT_BITS) - _EXPONENT_BIAS + 1
    raise_register(words, octets, place, 8 * registers + signed(hashed & np.uint64(REGISTERS - 1)), signed(rank))


@kernel
def raise_register(words: Words, octets: Octets, place: int, register: int, rank: int) -> None:
    """Let a register, a place in ``octets``, be at least so high, and the word of its count say so."""
    held = signed(octets[register])
    if rank > held:
        octets[register] = rank
        added = (1 << (_RANK_MAX - held)) - (1 << (_RANK_MAX - rank)) + (0 if held else 1 << _SUM_BITS)
        bits = np.int64(np.float64(words[place]).view(np.int64)) + added
        words[place] = np.int64(bits).view(np.float64)


@kernel
def distinct_of(word: float) -> float:
    """Return about how many different ones were noted, by the word that says what their registers add up to."""
    bits = np.int64(np.float64(word).view(np.int64))
    empty = REGISTERS - (bits >> _SUM_BITS)
    found = _ALPHA * REGISTERS * REGISTERS / (np.float64(_SUM - (bits & _BELOW)) * _UNIT)
    if found <= _FEW * REGISTERS and empty > 0:
        return REGISTERS * _LN2 * log2_of(REGISTERS / empty)
    return found
