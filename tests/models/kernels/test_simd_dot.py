"""Products of float32 rows: the bits of a plain twin, whatever lies beside a row and however many are made at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.kernels.simd_dot import EIGHT, LANES, inner, inner_eight

ONE = np.float32(1)


def plain_inner(row, query):
    """The twin: lane by lane, then halves onto each other, then what is left over, each sum rounded to float32."""
    whole = len(row) - len(row) % LANES
    sums = np.zeros(LANES, dtype=np.float32)
    for begin in range(0, whole, LANES):
        sums = sums + row[begin : begin + LANES] * query[begin : begin + LANES]
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    total = sums[0]
    for at in range(whole, len(row)):
        total = total + row[at] * query[at]
    return total


def drawn(seed, length):
    """Ten rows and a query of very different sizes, so that another order of adding gives other bits."""
    dice = np.random.default_rng(seed)
    scale = 10.0 ** dice.integers(-4, 5, (EIGHT + 3, length))
    values = (dice.normal(size=(EIGHT + 3, length)) * scale).astype(np.float32)
    return np.ascontiguousarray(values[:-1]), np.ascontiguousarray(values[-1:])


@given(st.integers(0, 2**32), st.integers(1, 70))
def test_a_product_has_the_bits_of_its_twin(seed, length):
    """Of any length; alone and among eight, from any row on."""
    rows, query = drawn(seed, length)
    right = np.array([plain_inner(row, query[0]) for row in rows], dtype=np.float32)
    assert np.array([inner(rows, at, query) for at in range(len(rows))], dtype=np.float32).tobytes() == right.tobytes()
    found = np.zeros(EIGHT, dtype=np.float32)
    inner_eight(rows, 1, query, found, ONE)
    assert found.tobytes() == right[1 : 1 + EIGHT].tobytes()


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, EIGHT - 1))
def test_rows_above_a_threshold_are_told_by_bits(seed, blocks, place):
    """The lowest bit is the first row's; exact for whole blocks, never 0 where one may be above for others."""
    rows, query = drawn(seed, blocks * LANES)
    found = np.zeros(EIGHT, dtype=np.float32)
    threshold = inner(rows, place, query)
    bits = inner_eight(rows, 0, query, found, threshold)
    assert bits == sum(1 << at for at in range(EIGHT) if found[at] > threshold)
    longer, further = drawn(seed, blocks * LANES + 3)
    assert inner_eight(longer, 0, further, found, threshold) == (1 << EIGHT) - 1
