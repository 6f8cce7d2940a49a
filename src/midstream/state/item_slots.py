"""Indices of items: by first appearance, for good, found by hash and told apart by text.

``item_hash`` (items,) and ``item_start`` (items + 1,) say by index what the hash is and where in
``item_text`` the id lies; ``meta`` holds the numbers in use.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask
from midstream.state.hashing import hash_id
from midstream.state.kernel import kernel, signed

ITEM_ID_BYTES_MAX = 512
"""Bytes of one item id: 128 characters of 4 bytes."""
ITEM_META = np.dtype(
    [
        ("items", "i8"),
        ("click_items", "i8"),
        ("click_items_max", "i8"),
        ("text_used", "i8"),
    ]
)


@kernel
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
    """Return the index of an item, made if it is not there and may be; else -1."""
    at = item_slot(wanted, text, start, length, item_hash, item_start, item_text, table)
    if at >= 0:
        index = signed(table[at] - 1)
    else:
        if not (is_catalogue or makes_items) or not _has_room(is_catalogue, length, item_hash, item_text, meta):
            return -1
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
    if is_catalogue and not in_catalogue[index]:
        in_catalogue[index] = True
        meta[0]["click_items"] -= 1
    return index


@kernel
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
    """Return the place in the table that holds an item, or -1 minus the free place where it belongs."""
    mask = len(table) - 1
    at = signed(wanted) & mask
    while table[at] != 0:
        index = table[at] - 1
        if item_hash[index] == wanted and item_start[index + 1] - item_start[index] == length:
            same = True
            for j in range(length):
                if item_text[item_start[index] + j] != text[start + j]:
                    same = False
                    break
            if same:
                return at
        at = (at + 1) & mask
    return -1 - at


@kernel
def find_items(
    arena: NDArray[np.uint8],
    lengths: NDArray[np.int64],
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
            wanted = hash_id(arena, start, length)
            at = item_slot(wanted, arena, start, length, item_hash, item_start, item_text, table)
            if at >= 0:
                found[i] = table[at] - 1
        start += length


@kernel
def _has_room(
    is_catalogue: bool,  # noqa: FBT001  # kernels take no keywords
    id_length: int,
    item_hash: NDArray[np.uint64],
    item_text: NDArray[np.uint8],
    meta: NDArray[np.void],
) -> bool:
    if id_length > ITEM_ID_BYTES_MAX or meta[0]["text_used"] + id_length > len(item_text):
        return False
    if meta[0]["items"] >= len(item_hash):
        return False
    return bool(is_catalogue or meta[0]["click_items"] < meta[0]["click_items_max"])
