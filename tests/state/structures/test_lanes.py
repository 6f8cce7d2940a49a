"""Numbers looked at together are what they are one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.aligned import aligned_zeros
from midstream.state.structures.kernel import kernel
from midstream.state.structures.lanes import LANES, equal_lanes, first_equal, lowest_bit, lowest_lane
from midstream.state.structures.prefetch import BLOCK, LINE_BYTES, block_ahead


@kernel
def look(array, row, start, value):
    """Return which are the value, where the first of them is, and the smallest of all."""
    bits = equal_lanes(array, row, start, value)
    return bits, lowest_bit(bits), lowest_lane(array, row, start)


@kernel
def place(items, line, start, count, item):
    """Return where a number is."""
    return first_equal(items, line, start, count, item)


@kernel
def asked(event, count, blocks):
    """Return what is asked for at an event."""
    return block_ahead(event, count, blocks)


NUMBERS = st.lists(st.integers(-3, 3) | st.integers(-(2**31), 2**31 - 1), min_size=3 * LANES, max_size=3 * LANES)


@given(NUMBERS, st.sampled_from((np.int32, np.int64)), st.integers(0, 2), st.integers(0, 3), st.integers(-3, 3))
def test_all_at_once_is_one_by_one(numbers, dtype, row, start, value):
    """In any line, from any place on, of 4 and of 8 bytes, below 0 too."""
    array = np.zeros((3, LANES + 5), dtype=dtype)
    array[:, :LANES] = np.array(numbers).reshape(3, LANES)
    held = array[row, start : start + LANES].tolist()
    bits, first, low = look(array, row, start, dtype(value))
    assert [bits >> each & 1 for each in range(LANES)] == [each == value for each in held]
    assert first == (held.index(value) if value in held else LANES)
    assert low == min(held)


@given(NUMBERS, st.integers(0, 5), st.integers(0, 2 * LANES + 3), st.integers(-3, 3))
def test_the_first_place_is_that_of_a_list(numbers, start, count, item):
    """Of as many as there are, more than are looked at together and fewer; what lies behind them is not looked at."""
    line = np.array([numbers], dtype=np.int32)
    held = numbers[start : start + count]
    assert place(line, 0, start, count, item) == (held.index(item) if item in held else -1)


@pytest.mark.parametrize("dtype", [np.dtype(np.int64), np.dtype([("a", "u8"), ("b", "i4", (14,))])])
def test_rows_begin_where_lines_of_memory_do(dtype):
    """And are zeros that may be written."""
    for count in (1, 3, 70_000):
        array = aligned_zeros((count, 8) if dtype == np.int64 else (count,), dtype)
        assert (array.ctypes.data % LINE_BYTES, array.nbytes) == (0, 64 * count)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not array.tobytes().strip(b"\0")


@given(st.integers(0, 6 * BLOCK), st.integers(0, 3))
def test_each_event_is_asked_for_once_and_ahead(count, blocks):
    """By the first events of blocks, of which the very first asks for all up to its reach."""
    found: list[int] = []
    for event in range(count):
        start, stop = asked(event, count, blocks)
        if event % BLOCK:
            assert stop <= start
        assert event == 0 or start >= min(event + blocks * BLOCK, count)
        found.extend(range(start, stop))
    assert found == list(range(count))
