"""Choosing and sorting keys: what NumPy's sort says, for any number of them and within the part that is asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.top_k_keys import (
    key_of,
    largest_key,
    order_by_hash,
    place_of,
    rank_keys,
    sort_keys,
    value_of,
)

SEEDS = st.integers(0, 2**32 - 1)
FLOATS = st.floats(0.0, 2.0**127, width=32)


def distinct(seed, count):
    """As many distinct keys of 64 bits, in any order."""
    random = np.random.default_rng(seed)
    found = np.unique(random.integers(1, 2**64 - 1, 2 * count + 8, dtype=np.uint64))
    return random.permutation(found)[:count]


@given(SEEDS, st.integers(0, 200), st.integers(0, 5), st.integers(0, 5))
def test_a_part_is_sorted_largest_first_and_the_rest_stays(seed, count, before, behind):
    """Runs of sixteen are merged: more than one run, an odd number of them, and one that is not full."""
    keys = distinct(seed, before + count + behind)
    sorted_keys, spare = keys.copy(), np.zeros_like(keys)
    sort_keys(sorted_keys, spare, before, before + count)
    part = slice(before, before + count)
    np.testing.assert_array_equal(sorted_keys[part], np.sort(keys[part])[::-1])
    for other in (slice(0, before), slice(before + count, None)):
        np.testing.assert_array_equal(sorted_keys[other], keys[other])


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16])
def test_a_few_keys_are_ranked(count):
    """In place."""
    keys = distinct(count, count + 2)
    ranked = keys.copy()
    rank_keys(ranked, np.zeros_like(keys), 1, 1 + count)
    np.testing.assert_array_equal(ranked[1 : 1 + count], np.sort(keys[1 : 1 + count])[::-1])
    assert (ranked[0], ranked[-1]) == (keys[0], keys[-1])


@given(SEEDS, st.integers(0, 60), st.integers(1, 60))
def test_the_largest_key_of_a_rank_is_found_by_a_heap(seed, count, rank):
    """0 where there are not more than so many."""
    keys = distinct(seed, count)
    found = largest_key(keys, count, rank, np.zeros(rank, dtype=np.uint64))
    assert found == (np.sort(keys)[::-1][rank - 1] if count > rank else 0)


@given(FLOATS, FLOATS, st.integers(0, 2**32 - 1))
def test_keys_are_in_the_order_of_their_values_and_hold_their_place(one, other, low):
    """Equal values by what stands below."""
    key = key_of(one, low)
    assert (value_of(key), place_of(key)) == (np.float32(one), low)
    if one != other:
        assert (key > key_of(other, low)) == (one > other)
    assert key_of(one, 2**32 - 1) >= key


def test_keys_of_equal_upper_hashes_are_in_the_order_of_the_whole_hash_then_of_the_index():
    """The lower 32 bits tell most of them apart; equal hashes are told apart by the item."""
    upper = 7 << 32
    item_hash = np.array([upper | 3, upper | 1, upper | 1, upper | 2, 8 << 32], dtype=np.uint64)
    items = np.array([0, 2, 1, 3, 4], dtype=np.int32)
    keys = np.array([(9 << 32) | place for place in range(4)] + [(5 << 32) | 4], dtype=np.uint64)
    order_by_hash(keys, 0, 5, items, item_hash)
    assert [int(items[place_of(key)]) for key in keys] == [1, 2, 3, 0, 4]
