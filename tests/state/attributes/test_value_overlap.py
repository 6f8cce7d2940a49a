"""What items share with others: the kernel gives what comparing every pair gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.attributes.value_overlap import shared_values

ROWS = st.lists(st.lists(st.integers(0, 6) | st.integers(0, 70_000), max_size=3, unique=True), max_size=8)


def codes(rows):
    """Rows of three codes, -1 = none."""
    found = np.full((len(rows), 3), -1, dtype=np.int32)
    for row, values in enumerate(rows):
        found[row, : len(values)] = values
    return found


def twin(others, asked, *, is_among):
    """Pair by pair."""
    found = []
    for number, values in enumerate(asked):
        beside = [row for place, row in enumerate(others) if row and not (is_among and place == number)]
        pairs = [value in row for value in values for row in beside]
        found.append(sum(pairs) / len(pairs) if pairs else np.nan)
    return found


@given(ROWS, ROWS)
def test_the_kernel_is_its_plain_twin(others, asked):
    """To the bit; NaN where there is nothing to compare."""
    table = codes(others + asked)
    index = np.arange(len(table), dtype=np.int32)
    found = shared_values(table, index[: len(others)], index[len(others) :], is_among=False)
    np.testing.assert_array_equal(found, twin(others, asked, is_among=False))


@given(ROWS)
def test_an_item_is_not_compared_with_itself(rows):
    """Where the asked items are the others."""
    index = np.arange(len(rows), dtype=np.int32)
    found = shared_values(codes(rows), index, index, is_among=True)
    np.testing.assert_array_equal(found, twin(rows, rows, is_among=True))


@given(ROWS, ROWS)
def test_an_item_that_is_not_known_has_no_value(others, asked):
    """Index -1 counts for nothing among the others, and is NaN among the asked; categories are a column of one."""
    table = codes(others + asked)[:, 0].copy()
    index = np.arange(len(table), dtype=np.int32)
    with_none = np.append(index[: len(others)], np.int32(-1)), np.append(index[len(others) :], np.int32(-1))
    found = shared_values(table, *with_none, is_among=False)
    firsts = [row[:1] for row in others], [row[:1] for row in [*asked, []]]
    np.testing.assert_array_equal(found, twin(*firsts, is_among=False))
