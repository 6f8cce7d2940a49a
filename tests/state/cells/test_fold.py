"""What one event adds to a cell: numbers as they count, and folds that are no sum, against plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.cells.fold import SENT_MAX, begin_row, fold_number, sent, set_taken
from midstream.state.cells.layout import LAST, MAX, MIN, MODE, PLACE, SPEC_ROWS, TAKES

NUMBERS = st.none() | st.floats(-1e18, 1e18) | st.sampled_from([1.1e18, -3e30, math.inf, 0.0, -0.0])


def plain_sent(number):
    """A number as it counts: nothing where it was not sent, or no sum could hold it."""
    return number if number is not None and abs(number) <= SENT_MAX else math.nan


@given(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 2**41))
def test_what_is_taken_of_an_event_has_an_order(weight, value, quantity, time_ms):
    """One, the weight, the value, its square, the quantity, the time, and whether a value came; in sums NaN is 0."""
    weight = 1.0 if weight is None else weight
    taken, sums = np.full(TAKES + 1, np.nan), np.full(TAKES + 1, np.nan)
    set_taken(
        taken, sums, weight, math.nan if value is None else value, math.nan if quantity is None else quantity, time_ms
    )
    worth = plain_sent(value)
    expected = [
        1.0, plain_sent(weight), worth, worth * worth, plain_sent(quantity), float(time_ms),
        math.nan if math.isnan(worth) else 1.0,
    ]  # fmt: skip
    np.testing.assert_array_equal(taken[:TAKES], expected)
    np.testing.assert_array_equal(sums[:TAKES], [0.0 if math.isnan(each) else each for each in expected])


@given(st.sampled_from([MIN, MAX, LAST]), st.lists(st.tuples(st.floats(-9, 9) | st.just(math.nan), st.integers(0, 5))))
def test_a_cell_that_is_no_sum_is_the_least_the_most_or_the_last(mode, events):
    """Of what was sent; the last by its own time, and of equal times by the order in which they came."""
    words = np.array([7.0, 7.0, 7.0, 7.0])
    spec = np.zeros((SPEC_ROWS, 1), dtype=np.int64)
    spec[MODE], spec[PLACE] = mode, 1
    begin_row(words, 0, 3, spec, 0, 1)
    for number, time_ms in events:
        fold_number(words, 1, mode, number, time_ms)
    known = [(time_ms, at, number) for at, (number, time_ms) in enumerate(events) if not math.isnan(number)]
    numbers = [number for _, _, number in known]
    expected = {MIN: min(numbers, default=math.nan), MAX: max(numbers, default=math.nan)}
    expected[LAST] = max(known)[2] if known else math.nan
    np.testing.assert_array_equal(words[[0, 1, 3]], [0.0, expected[mode], 7.0])


@pytest.mark.parametrize("number, counts", [(SENT_MAX, True), (-SENT_MAX, True), (1.0000001 * SENT_MAX, False)])
def test_the_largest_number_that_counts(number, counts):
    """Above it one number would leave nothing of all others."""
    assert (sent(number) == number) is counts
    assert math.isnan(sent(number)) is not counts
