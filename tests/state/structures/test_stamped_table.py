"""The marked hash table against a set, filled as far as it may be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.stamped_table import PLACE, STAMP, cell_of, leave_out, table_bits, table_size

KEYS = st.lists(st.one_of(st.integers(0, 200), st.integers(0, 2**31 - 1)), max_size=200, unique=True)


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_every_key_has_a_cell_of_its_own_and_older_queries_leave_none(queries):
    """What a query marked is found again, nothing else is, and nothing was cleared in between."""
    table = np.zeros((table_size(max(map(len, queries))), 2), dtype=np.int64)
    for epoch, keys in enumerate(queries, start=1):
        bits = table_bits(len(keys))
        assert len(keys) * 2 <= 1 << bits <= len(table)
        for place, key in enumerate(keys):
            stamp = epoch << 32 | key
            cell = cell_of(table, bits, stamp)
            assert table[cell, STAMP] >> 32 != epoch
            table[cell] = stamp, place
        cells = [cell_of(table, bits, epoch << 32 | key) for key in keys]
        assert len(set(cells)) == len(keys)
        assert [int(table[cell, PLACE]) for cell in cells] == list(range(len(keys)))


def test_a_key_that_is_left_out_is_met_and_has_no_place():
    """Its cell is taken, with -1 for a place."""
    table = np.zeros((table_size(1), 2), dtype=np.int64)
    leave_out(7, 3, table_bits(1), table)
    assert table[cell_of(table, table_bits(1), 3 << 32 | 7)].tolist() == [3 << 32 | 7, -1]
