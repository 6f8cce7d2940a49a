"""Vectors of items: what counts as one, what comes back, and that an item without one costs no memory."""

import math
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.events.wire import FLOAT32_MAX
from midstream.state.attributes.vectors import CHANGES_MAX, LENGTH_MAX, Vectors, vector_of

ITEMS, LENGTH = 12, 3
_NUMBERS = st.integers(-(10**400), 10**400) | st.integers(-9, 9) | st.floats() | st.floats(width=32)
_ENTRIES = _NUMBERS | st.booleans() | st.none() | st.text(max_size=2) | st.lists(st.integers(), max_size=1)
VALUES = st.lists(_NUMBERS, min_size=LENGTH, max_size=LENGTH) | st.lists(_ENTRIES, max_size=5) | _ENTRIES
SETS = st.lists(st.tuples(st.integers(0, ITEMS - 1), VALUES), max_size=30)
EVERYTHING = np.arange(-1, ITEMS, dtype=np.int32)
MEBIBYTE = 1 << 20


def changed_since(table, change):
    """The rows that changed since then, which the table still knows."""
    found = table.changed_since(change)
    assert found is not None
    return found.tolist()


def plain_vector(value):
    """The numbers of a vector, rounded one by one, or None."""
    if not isinstance(value, list) or len(value) != LENGTH:
        return None
    found = []
    for each in value:
        # A comparison with a whole number is exact, however large that is; NaN is not below anything.
        if isinstance(each, bool) or not isinstance(each, int | float) or not abs(each) <= FLOAT32_MAX:
            return None
        found.append(float(np.float32(float(each))))
    return found


def filled(sets):
    """The table, and by item what it should hold."""
    table, expected = Vectors(ITEMS, LENGTH), {}
    for item, value in sets:
        table.set(item, value)
        expected[item] = plain_vector(value)
    return table, expected


@given(SETS)
def test_the_last_value_is_what_is_read(sets):
    """As float32; what is no vector takes away what was there, and nobody has none that was not set."""
    table, expected = filled(sets)
    nothing = [math.nan] * LENGTH
    rows = [nothing, *(expected.get(item) or nothing for item in range(ITEMS))]
    np.testing.assert_array_equal(table.read(EVERYTHING), np.array(rows, dtype=np.float32))


@given(SETS, SETS)
def test_a_restored_table_is_the_other(sets, others):
    """Also where it held something else, and to the byte, whichever way it came there."""
    table, expected = filled(sets)
    again, _ = filled(others)
    again.restore(*(each.copy() for each in table.arrays(ITEMS)))
    fresh, _ = filled([(item, value) for item, value in expected.items() if value is not None])
    for other in (again, fresh):
        assert other.read(EVERYTHING).tobytes() == table.read(EVERYTHING).tobytes()
        assert [each.tobytes() for each in other.arrays(ITEMS)] == [each.tobytes() for each in table.arrays(ITEMS)]


def plain_scale(row):
    """The inverse of a length, exactly, rounded once; 0 for what has no direction."""
    length = math.sqrt(sum((float(each) ** 2 for each in row), 0.0))
    return np.float32(1.0 / length) if 1.0 / LENGTH_MAX <= length <= LENGTH_MAX else np.float32(0.0)


@given(SETS, SETS)
def test_the_scale_is_the_inverse_length(sets, others):
    """Of what is there, however it came there; a vector that float32 cannot multiply has none."""
    table, expected = filled(sets)
    scales = [plain_scale(expected.get(item) or ()) for item in range(ITEMS)]
    np.testing.assert_array_equal(table.scale, np.array(scales, dtype=np.float32))
    again, _ = filled(others)
    again.restore(*(each.copy() for each in table.arrays(ITEMS)))
    assert again.scale.tobytes() == table.scale.tobytes()


@given(SETS, SETS)
def test_who_reads_what_changed_has_what_is_there(before, after):
    """From any count on, and no more than changed; a table that was restored may have changed anywhere."""
    table, _ = filled(before)
    seen, held = table.change_count, table.values.copy()
    for item, value in after:
        table.set(item, value)
    changed = table.changed_since(seen)
    assert changed is not None
    assert set(changed.tolist()) <= {item for item, _ in after}
    held[changed] = table.values[changed]
    assert held.tobytes() == table.values.tobytes()
    table.restore(*(each.copy() for each in table.arrays(ITEMS)))
    assert table.changed_since(seen) is None
    assert changed_since(table, table.change_count) == []


def test_changes_are_remembered_up_to_a_maximum():
    """What is further behind reads everything."""
    table = Vectors(2, 1)
    for number in range(CHANGES_MAX + 1):
        table.set(number % 2, [number])
    assert table.changed_since(0) is None
    assert changed_since(table, 1) == [0, 1]
    table.set(0, [0.5])
    seen = table.change_count
    table.set(0, [0.5])
    assert changed_since(table, seen) == []


def test_views_of_the_table_cannot_be_written_to():
    """Nobody changes a vector past ``set``."""
    table, _ = filled([(0, [1, 2, 3])])
    for view in (table.values, table.scale):
        assert not view.flags.writeable


def test_arrays_are_of_the_first_items_only():
    """Ascending, a row for each that has a vector."""
    table, _ = filled([(5, [1, 2, 3]), (2, [4, 5, 6]), (9, [7, 8, 9]), (3, [1])])
    items, values = table.arrays(9)
    assert items.tolist() == [2, 5]
    assert values.tolist() == [[4, 5, 6], [1, 2, 3]]


def test_what_is_read_is_a_copy():
    """Nobody can write to the table by it."""
    table, _ = filled([(0, [1, 2, 3])])
    table.read(EVERYTHING)[:] = 9
    assert table.read(EVERYTHING)[1].tolist() == [1, 2, 3]


@given(st.lists(st.floats(-FLOAT32_MAX, FLOAT32_MAX), min_size=1, max_size=9))
def test_every_number_within_bounds_is_finite(numbers):
    """Rounding to float32 makes no infinity of one."""
    found = vector_of(numbers, len(numbers))
    assert found is not None
    assert np.isfinite(found).all()


FEW_OF_MANY = """
from pathlib import Path

import numpy as np

from midstream.state.attributes.vectors import Vectors


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


Vectors(1, 1).set(0, [1])  # loads the kernel
before = resident_bytes()
table = Vectors(1_000_000, 200)
for item in range(100):
    table.set(item, [item] * 200)
for item in range(100, 1_000_000, 997):
    table.set(item, "none")
table.restore(*table.arrays(1_000_000))
assert np.isnan(table.read(np.arange(0, 1_000_000, 7_919, dtype=np.int32))).any()
assert table.byte_count() == 805_000_000
print(resident_bytes() - before)
"""


def test_an_item_without_a_vector_has_no_pages():
    """Of 805 MB that are reserved few are touched: marks, and those of the vectors there are; also after a restore.

    In a process of its own: what others have freed is not new, so it would be cleared, and touched.
    """
    told = subprocess.run([sys.executable, "-c", FEW_OF_MANY], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 64 * MEBIBYTE
