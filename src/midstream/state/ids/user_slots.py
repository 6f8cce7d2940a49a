"""Slots of users: an exact list from least to most recently seen, and a table from hash to slot.

``users`` holds for each slot the hash and the neighbours in the list, ``meta`` the ends of the list (-1 =
empty), the number of users and of slots that were ever taken, and the slot that was given up last, from which the
other free ones follow. A free slot has hash 0 and is taken again before any other. All steps are O(1), so a million
evictions cost no more than a million visits.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.kernel import inlined, kernel, signed

USER_ROW = np.dtype([("hash", "u8"), ("older", "i4"), ("newer", "i4")])
USER_META = np.dtype(
    [("users", "i8"), ("used", "i8"), ("free", "i8"), ("oldest", "i8"), ("newest", "i8"), ("evicted", "i8")]
)
_NONE = np.uint64(0)


def new_meta() -> NDArray[np.void]:
    """Return the meta of no users, (1,)."""
    meta = np.zeros(1, dtype=USER_META)
    for name in ("free", "oldest", "newest"):
        meta[name] = -1
    return meta


@inlined
def take_user(
    user_hash: np.uint64,
    users: NDArray[np.void],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> tuple[int, bool]:
    """Return the slot of a user, now the most recently seen, and whether it starts cold."""
    slot = find(user_hash, users["hash"], table)
    is_cold = slot < 0
    if is_cold:
        slot = _new_slot(user_hash, users, table, meta)
    else:
        touch(slot, users, meta)
    return slot, is_cold


@kernel
def _new_slot(
    user_hash: np.uint64,
    users: NDArray[np.void],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> int:
    """Return a slot for a user that has none: a free one, a new one, or that of the least recently seen."""
    if meta[0]["free"] >= 0:
        slot = signed(meta[0]["free"])
        meta[0]["free"] = users[slot]["newer"]
        meta[0]["users"] += 1
    elif meta[0]["used"] < len(users):
        slot = signed(meta[0]["used"])
        meta[0]["used"] = slot + 1
        meta[0]["users"] += 1
    else:
        slot = signed(meta[0]["oldest"])
        _unlink(slot, users, meta)
        remove(slot, users["hash"], table)
        meta[0]["evicted"] += 1
    users[slot]["hash"] = user_hash
    _append(slot, users, meta)
    insert(slot, users["hash"], table)
    return slot


@inlined
def touch(slot: int, users: NDArray[np.void], meta: NDArray[np.void]) -> None:
    """Make a slot the most recently seen."""
    if meta[0]["newest"] != slot:
        _unlink(slot, users, meta)
        _append(slot, users, meta)


@kernel
def merge_users(
    into_hash: np.uint64,
    from_hash: np.uint64,
    users: NDArray[np.void],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> tuple[int, int]:
    """Return the slot of a user, now the most recently seen, and that of another who becomes this one.

    The second is -1 when there is nothing to add to the first: the other has no slot, or it became this user's.
    """
    into = find(into_hash, users["hash"], table)
    other = find(from_hash, users["hash"], table)
    if other >= 0 and into < 0:
        remove(other, users["hash"], table)
        users[other]["hash"] = into_hash
        insert(other, users["hash"], table)
        into = other
        other = -1
    if into >= 0:
        touch(into, users, meta)
    return into, other


@kernel
def release_user(slot: int, users: NDArray[np.void], table: NDArray[np.int32], meta: NDArray[np.void]) -> None:
    """Give a slot up."""
    _unlink(slot, users, meta)
    remove(slot, users["hash"], table)
    users[slot]["hash"] = _NONE
    users[slot]["newer"] = meta[0]["free"]
    meta[0]["free"] = slot
    meta[0]["users"] -= 1


@kernel
def write_free(users: NDArray[np.void], meta: NDArray[np.void], free: NDArray[np.int32]) -> None:
    """Write the free slots, the one to be taken next first, to ``free`` (n,)."""
    slot = meta[0]["free"]
    for i in range(len(free)):
        free[i] = slot
        slot = users[slot]["newer"]


@kernel
def read_free(free: NDArray[np.int32], users: NDArray[np.void], meta: NDArray[np.void]) -> None:
    """Make these slots the free ones; the inverse of ``write_free``."""
    meta[0]["free"] = -1
    for i in range(len(free) - 1, -1, -1):
        users[free[i]]["hash"] = _NONE
        users[free[i]]["newer"] = meta[0]["free"]
        meta[0]["free"] = free[i]


@kernel
def write_order(users: NDArray[np.void], meta: NDArray[np.void], order: NDArray[np.int32]) -> None:
    """Write the slots, from least to most recently seen, to ``order`` (n,)."""
    slot = meta[0]["oldest"]
    for i in range(len(order)):
        order[i] = slot
        slot = users[slot]["newer"]


@kernel
def read_order(order: NDArray[np.int32], users: NDArray[np.void], meta: NDArray[np.void]) -> None:
    """Link the slots in this order; the inverse of ``write_order``."""
    meta[0]["oldest"] = -1
    meta[0]["newest"] = -1
    for i in range(len(order)):
        _append(signed(order[i]), users, meta)


@inlined
def _unlink(slot: int, users: NDArray[np.void], meta: NDArray[np.void]) -> None:
    older = users[slot]["older"]
    newer = users[slot]["newer"]
    if older >= 0:
        users[older]["newer"] = newer
    else:
        meta[0]["oldest"] = newer
    if newer >= 0:
        users[newer]["older"] = older
    else:
        meta[0]["newest"] = older


@inlined
def _append(slot: int, users: NDArray[np.void], meta: NDArray[np.void]) -> None:
    newest = meta[0]["newest"]
    users[slot]["older"] = newest
    users[slot]["newer"] = -1
    if newest >= 0:
        users[newest]["newer"] = slot
    else:
        meta[0]["oldest"] = slot
    meta[0]["newest"] = slot
