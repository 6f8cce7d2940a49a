"""Rings of rows with a hash table: what they hand out and take back, wherever their oldest row lies."""

import numpy as np
import pytest

from midstream.state.structures.hash_ring import HashRing
from midstream.state.structures.hash_table import fill, find, table_size

LENGTH = 7


def ring_at(head: int, count: int) -> HashRing:
    """Return a ring whose oldest row lies at ``head``; of number n the hash is n + 1."""
    ring = HashRing(LENGTH, {"hash": np.uint64, "number": np.int32})
    for number in range(count):
        place = (head + number) % LENGTH
        ring.columns[0][place], ring.columns[1][place] = number + 1, number
    ring.meta["head"], ring.meta["count"] = head, count
    fill(ring.columns[0], LENGTH, ring.table)
    return ring


@pytest.mark.parametrize("head", range(LENGTH))
@pytest.mark.parametrize("count", [0, 1, LENGTH - 1, LENGTH])
def test_rows_are_handed_out_and_taken_back_in_their_order(head, count):
    """Into another ring, and into itself, whose columns may be what was handed out."""
    ring, other = ring_at(head, count), HashRing(LENGTH, {"hash": np.uint64, "number": np.int32})
    assert ring.arrays()["number"].tolist() == list(range(count))
    for each in (other, ring):
        each.restore(ring.arrays())
        assert {name: array.tolist() for name, array in each.arrays().items()} == {
            "hash": list(range(1, count + 1)),
            "number": list(range(count)),
        }
        assert [find(np.uint64(n + 1), each.columns[0], each.table) for n in range(LENGTH)] == [
            n if n < count else -1 for n in range(LENGTH)
        ]


def test_rows_that_have_not_come_round_are_views():
    """A snapshot of millions of ids takes no second memory for them."""
    ring = ring_at(2, 4)
    assert all(np.shares_memory(*pair) for pair in zip(ring.arrays().values(), ring.columns, strict=True))


@pytest.mark.parametrize("head", range(10))
def test_a_table_that_grows_finds_the_rows_in_use_and_no_others(head):
    """Once; rows that were forgotten leave their hashes in the column, and none of them is entered anew."""
    count, room = 4, 10
    ring = HashRing(room, {"hash": np.uint64, "number": np.int32}, table_begin=8)
    ring.columns[0][:] = 100 + np.arange(room, dtype=np.uint64)  # of rows before
    for number in range(count):
        place = (head + number) % room
        ring.columns[0][place], ring.columns[1][place] = number + 1, number
    ring.meta["head"], ring.meta["count"] = head, count
    before = ring.table
    assert not ring.make_room(0)
    assert ring.table is before
    assert ring.make_room(1)
    assert len(ring.table) == table_size(room)
    assert not ring.make_room(room)
    found = [find(np.uint64(n + 1), ring.columns[0], ring.table) for n in range(count)]
    assert ring.columns[1][found].tolist() == ring.arrays()["number"].tolist() == list(range(count))
    assert all(find(np.uint64(100 + n), ring.columns[0], ring.table) == -1 for n in range(room))


def test_a_table_is_as_long_as_what_is_restored_needs():
    """It never shrinks, and what it says of its bytes is what it may have."""
    whole = HashRing(100, {"hash": np.uint64})
    whole.columns[0][:50], whole.meta["count"] = np.arange(1, 51), 50
    ring = HashRing(100, {"hash": np.uint64}, table_begin=8)
    assert ring.bytes_max == whole.bytes_max
    ring.restore({"hash": whole.arrays()["hash"][:4]})
    assert len(ring.table) == 8
    ring.restore(whole.arrays())
    assert [find(np.uint64(n), ring.columns[0], ring.table) for n in range(52)][1:] == [*range(50), -1]
    assert len(ring.table) == len(whole.table)
