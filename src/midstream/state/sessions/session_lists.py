"""The lists of the session index: for each item the slots of the newest held sessions with it, a ring a list.

Most items have few sessions, and a page is paid when touched. So a ring lies in parts: all items' first parts come
first, then all second ones, and so on. Lists of 1,000 entries each would touch a page for the first entry of any item.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.state.structures.kernel import inlined, signed
from midstream.state.structures.prefetch import prefetch

FIRST: Final = 0
COUNT: Final = 1
"""Columns of ``heads``, shape (items, 2): place of the oldest entry, and number of held sessions with the item."""
ENTRIES_MAX: Final = 2
"""Cell of the index's state: the most entries of a list."""
_PART_BITS: Final = 7
PART: Final = 1 << _PART_BITS
"""Entries that lie together, 512 bytes: a read of 500 goes on at five places."""


def parts_of(entries_max: int) -> int:
    """Return how many parts a list of so many entries has."""
    return -(-entries_max // PART)


def entries_at(item: int, places: NDArray[np.int64], items: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where an item's entries lie, as ``entry_at`` does for one."""
    return (places >> _PART_BITS) * items + item, places & (PART - 1)


@inlined
def entry_at(item: int, place: int, items: int) -> tuple[int, int]:
    """Return where an item's entry lies in ``postings``, shape (parts * items, PART): its row and its column."""
    return (place >> _PART_BITS) * items + item, place & (PART - 1)


@inlined
def age_of(slot: int, newest_slot: int, slots: int) -> int:
    """Return how many numbers below the newest the session in a slot has."""
    age = newest_slot - slot
    return age if age >= 0 else age + slots


@inlined
def add_entry(
    postings: Index, heads: Index, item: int, slot: int, newest_slot: int, slots: int, entries_max: int
) -> None:
    """Enter a held session in the list of one of its items, where its number belongs.

    Cost: one step for each entry with a higher number, which were begun later but had the item earlier.
    """
    items = len(heads)
    count = heads[item, COUNT]
    heads[item, COUNT] = count + 1
    first = heads[item, FIRST]
    age = age_of(slot, newest_slot, slots)
    if count < entries_max or age_of(postings[entry_at(item, first, items)], newest_slot, slots) >= age:
        if count >= entries_max:
            first = first + 1 if first + 1 < entries_max else 0
            heads[item, FIRST] = first
            count = entries_max - 1
        place = first + count
        if place >= entries_max:
            place -= entries_max
        is_older = False
        while count > 0 and not is_older:
            before = place - 1 if place > 0 else entries_max - 1
            other = postings[entry_at(item, before, items)]
            is_older = age_of(other, newest_slot, slots) >= age
            if not is_older:
                postings[entry_at(item, place, items)] = other
                place = before
                count -= 1
        postings[entry_at(item, place, items)] = slot


@inlined
def empty_slot(heads: Index, items: Index, lengths: NDArray[np.uint8], slot: int, entries_max: int) -> bool:
    """Take the oldest held session out of the lists of its items; return whether it had any."""
    length = lengths[slot]
    for place in range(length):
        item = items[slot, place]
        if heads[item, COUNT] <= entries_max:
            first = heads[item, FIRST] + 1
            heads[item, FIRST] = first if first < entries_max else 0
        heads[item, COUNT] -= 1
    lengths[slot] = 0
    return bool(length > 0)


@inlined
def ask_for_end(postings: Index, heads: Index, item: int, entries_max: int) -> None:
    """Ask for the place where the list of an item goes on, as it is now."""
    place = signed(heads[item, FIRST]) + min(signed(heads[item, COUNT]), entries_max)
    row, column = entry_at(item, place if place < entries_max else place - entries_max, len(heads))
    prefetch(postings, row, column * postings.itemsize)
