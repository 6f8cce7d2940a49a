"""Lists reduced to one number: exact where float64 holds it, and never an error."""

import math
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.features.readers.lists import NUMBERS_MAX, Reduction, reduced

ANY = st.floats() | st.sampled_from([9e307, -9e307, 1.7e308])


@given(st.lists(ANY, max_size=8), st.sampled_from(get_args(Reduction)))
def test_no_list_raises(numbers, reduction):
    """A finite number or NaN comes out, whatever is in it."""
    assert not math.isinf(reduced(numbers, reduction))


@given(st.lists(st.floats(-1.7e308, 1.7e308, allow_subnormal=False).filter(lambda x: not x or abs(x) > 1e-300)))
def test_a_sum_is_rounded_once(numbers):
    """Numbers that are too large on the way do not matter: only their sum does."""
    exact = sum(map(Fraction, numbers))
    try:
        expected = float(exact) if numbers else math.nan
    except OverflowError:
        expected = math.nan
    if exact and abs(exact) < Fraction(1e-300):
        return
    np.testing.assert_equal(reduced(numbers, "sum"), expected)


@pytest.mark.parametrize("reduction,expected", [("sum", math.nan), ("mean", 9e307), ("max", 9e307)])
def test_large_numbers(reduction, expected):
    """A sum that float64 cannot hold is not known; a mean of the same numbers is."""
    np.testing.assert_equal(reduced([9e307] * NUMBERS_MAX, reduction), expected)
