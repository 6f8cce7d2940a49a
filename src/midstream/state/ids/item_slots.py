"""Indices of items: by first appearance, for good, found by hash, of which no two items have the same.

An id with the hash of another item's is no item: it is refused, and told from one for which there is no room. So
whoever knows items by hash alone, such as a model or a slate, never takes one for another.

``item_hash`` (items,) and ``item_start`` (items + 1,) say by index what the hash is and where in
``item_text`` the id lies; ``meta`` holds the numbers in use.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask
from midstream.events.text_kernels import is_same_text
from midstream.state.structures.hashing import IdKey, hash_id, xxh64
from midstream.state.structures.kernel import inlined, kernel, signed

ITEM_ID_BYTES_MAX = 512
"""Bytes of one item id: 128 characters of 4 bytes."""
COLLIDES = -2
"""In the place of an index: another item has this id's hash. -1 = it is not there, and is not made."""
ITEM_META = np.dtype(
    [
        ("items", "i8"),
        ("click_items", "i8"),
        ("click_items_max", "i8"),
        ("text_used", "i8"),
    ]
)
_TAKEN = -(1 << 62)
"""In the place of a place: the hash is another item's."""


@inlined
def take_item(
    is_catalogue: bool,  # noqa: FBT001  # kernels take no keywords
    makes_items: bool,  # noqa: FBT001
    wanted: np.uint64,
    text: NDArray[np.uint8],
    start: int,
    length: int,
    item_hash: NDArray[np.uint64],
    item_start: NDArray[np.int64],
    in_catalogue: Mask,
    item_text: NDArray[np.uint8],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> int:
    """Return the index of an item, made if it is not there and may be; else -1, or ``COLLIDES``."""
    at = item_slot(wanted, text, start, length, item_hash, item_start, item_text, table)
    index = COLLIDES if at == _TAKEN else -1
    if at >= 0:
        index = signed(table[at] - 1)
    elif index == -1 and (is_catalogue or makes_items) and _has_room(is_catalogue, length, item_hash, item_text, meta):
        index = signed(meta[0]["items"])
        used = meta[0]["text_used"]
        for j in range(length):
            item_text[used + j] = text[start + j]
        item_hash[index] = wanted
        item_start[index + 1] = used + length
        table[-1 - at] = index + 1
        meta[0]["items"] = index + 1
        meta[0]["text_used"] = used + length
        meta[0]["click_items"] += 1
    if index >= 0 and is_catalogue and not in_catalogue[index]:
        in_catalogue[index] = True
        meta[0]["click_items"] -= 1
    return index


@inlined
def item_slot(
    wanted: np.uint64,
    text: NDArray[np.uint8],
    start: int,
    length: int,
    item_hash: NDArray[np.uint64],
    item_start: NDArray[np.int64],
    item_text: NDArray[np.uint8],
    table: NDArray[np.int32],
) -> int:
    """Return the place in the table that holds an item, or -1 minus the free place where it belongs, or ``_TAKEN``.

    One way out: with two, numba counts references to the arrays, which took 50 ns an event.
    """
    mask = len(table) - 1
    at = signed(wanted) & mask
    found, is_found = 0, False
    while not is_found:
        held = signed(table[at])
        if held == 0:
            found, is_found = -1 - at, True
        elif item_hash[held - 1] == wanted:
            begin = signed(item_start[held - 1])
            same = signed(item_start[held]) - begin == length
            same = same and is_same_text(item_text, begin, text, start, length)
            found, is_found = at if same else _TAKEN, True
        at = (at + 1) & mask
    return found


@kernel
def find_items(
    arena: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    key: IdKey,
    found: NDArray[np.int32],
    item_hash: NDArray[np.uint64],
    item_start: NDArray[np.int64],
    item_text: NDArray[np.uint8],
    table: NDArray[np.int32],
) -> None:
    """Write the index of each id, -1 when it is not known, to ``found`` (n,)."""
    start = 0
    for i in range(len(lengths)):
        length = lengths[i]
        found[i] = -1
        if length > 0:
            wanted = hash_id(arena, start, length, key)
            at = item_slot(wanted, arena, start, length, item_hash, item_start, item_text, table)
            if at >= 0:
                found[i] = table[at] - 1
        start += length


@kernel
def number_items(
    item_index: Index, item_start: NDArray[np.int64], item_text: NDArray[np.uint8], found: NDArray[np.uint64]
) -> None:
    """Write XXH64 of the id of each item to ``found`` (n,)."""
    for i in range(len(item_index)):
        start, stop = signed(item_start[item_index[i]]), signed(item_start[item_index[i] + 1])
        found[i] = xxh64(item_text, start, stop - start, np.uint64(0))


@kernel
def _has_room(
    is_catalogue: bool,  # noqa: FBT001  # kernels take no keywords
    id_length: int,
    item_hash: NDArray[np.uint64],
    item_text: NDArray[np.uint8],
    meta: NDArray[np.void],
) -> bool:
    has_room = id_length <= ITEM_ID_BYTES_MAX and meta[0]["text_used"] + id_length <= len(item_text)
    has_room = has_room and meta[0]["items"] < len(item_hash)
    return bool(has_room and (is_catalogue or meta[0]["click_items"] < meta[0]["click_items_max"]))
