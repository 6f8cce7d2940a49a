"""Logarithms and exponentials against those of the standard library."""

import math

from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.exact_math import TABLE, fading, log2_of


def test_table_is_right_to_the_last_digits():
    """Each entry is within 1e-14 of the logarithm."""
    assert all(abs(entry - math.log2(1 + j / 4096)) < 1e-14 for j, entry in enumerate(TABLE.tolist()))


@given(st.integers(1, 2**32))
def test_log2_is_near_and_rises_with_every_whole_number(value):
    """Within 1e-7, and strictly larger for the next number."""
    assert abs(log2_of(float(value)) - math.log2(value)) < 1e-7
    assert log2_of(float(value)) < log2_of(float(value + 1))


@given(st.floats(0.0, 10.0))
def test_fading_is_the_exponential_function(rate):
    """Each weight is within a relative 1e-11 of exp(-rate * j)."""
    for j, weight in enumerate(fading(rate, 64).tolist()):
        assert math.isclose(weight, math.exp(-rate * j), rel_tol=1e-11, abs_tol=1e-300)
