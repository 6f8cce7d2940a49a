"""Places of open sessions: a list from least to most recently used, a table from name to place, a chain a user.

``sessions`` holds for each place the session and its neighbours in the list and in the chain of its user's bucket,
newest number first; ``meta`` the ends of the list (-1 = empty), the first free place and the counts. All steps are
O(1), or O(sessions of a user).
"""

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.hashing import combine
from midstream.state.structures.kernel import inlined, kernel, signed

_NONE = np.uint64(0)
_USER_SALT = np.uint64(0x75736572)
"""Keeps the session that a user id names apart from a session id of the same text."""
SESSION = np.dtype(
    [
        ("key", "u8"),
        ("user", "u8"),
        ("number", "i8"),
        ("last_ms", "i8"),
        ("older", "i4"),
        ("newer", "i4"),
        ("previous_of_user", "i4"),
        ("next_of_user", "i4"),
        ("added", "i4"),
        ("unused", "i4"),
        ("first_ms", "i8"),
    ]
)
"""64 bytes: one line of memory."""
SESSION_BYTES = SESSION.itemsize
"""Of an open session, beside its items."""
SESSION_META = np.dtype(
    [
        ("open", "i8"),
        ("used", "i8"),
        ("free", "i8"),
        ("oldest", "i8"),
        ("newest", "i8"),
        ("next_number", "i8"),
        ("expired", "i8"),
        ("evicted", "i8"),
        ("gap_ms", "i8"),
    ]
)


@inlined
def key_of(session_hash: np.uint64, user_hash: np.uint64) -> np.uint64:
    """Return the name of a session as a hash, 0 when nothing names it."""
    if session_hash != _NONE:
        return session_hash
    if user_hash != _NONE:
        return combine(user_hash, _USER_SALT) | np.uint64(1)
    return _NONE


@inlined
def open_session(
    key: np.uint64,
    sessions: NDArray[np.void],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
    meta: NDArray[np.void],
) -> int:
    """Begin a session, in the place of the least recently used one when there is no other."""
    if meta[0]["open"] == len(sessions):
        close_session(signed(meta[0]["oldest"]), sessions, table, user_heads, meta)
        meta[0]["evicted"] += 1
    if meta[0]["free"] >= 0:
        slot = signed(meta[0]["free"])
        meta[0]["free"] = sessions[slot]["newer"]
    else:
        slot = signed(meta[0]["used"])
        meta[0]["used"] = slot + 1
    sessions[slot]["key"] = key
    sessions[slot]["user"] = _NONE
    sessions[slot]["number"] = meta[0]["next_number"]
    sessions[slot]["added"] = 0
    meta[0]["next_number"] += 1
    meta[0]["open"] += 1
    _append(slot, sessions, meta)
    insert(slot, sessions["key"], table)
    return slot


@kernel
def close_session(
    slot: int,
    sessions: NDArray[np.void],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Take a session out of the list, the table and its user's chain, and free its place."""
    _unlink(slot, sessions, meta)
    remove(slot, sessions["key"], table)
    if sessions[slot]["user"] != _NONE:
        _leave_user(slot, sessions, user_heads)
    sessions[slot]["newer"] = meta[0]["free"]
    meta[0]["free"] = slot
    meta[0]["open"] -= 1


@inlined
def _unlink(slot: int, sessions: NDArray[np.void], meta: NDArray[np.void]) -> None:
    older = sessions[slot]["older"]
    newer = sessions[slot]["newer"]
    if older >= 0:
        sessions[older]["newer"] = newer
    else:
        meta[0]["oldest"] = newer
    if newer >= 0:
        sessions[newer]["older"] = older
    else:
        meta[0]["newest"] = older


@inlined
def _append(slot: int, sessions: NDArray[np.void], meta: NDArray[np.void]) -> None:
    newest = meta[0]["newest"]
    sessions[slot]["older"] = newest
    sessions[slot]["newer"] = -1
    if newest >= 0:
        sessions[newest]["newer"] = slot
    else:
        meta[0]["oldest"] = slot
    meta[0]["newest"] = slot


@inlined
def touch_session(slot: int, sessions: NDArray[np.void], meta: NDArray[np.void]) -> None:
    """Make a session the most recently used."""
    _unlink(slot, sessions, meta)
    _append(slot, sessions, meta)


@inlined
def join_user(slot: int, sessions: NDArray[np.void], user_heads: NDArray[np.int32]) -> None:
    """Put a session into the chain of its user's bucket, newest number first.

    Almost always that is the front; only a session whose user became known late walks past younger ones.
    """
    bucket = signed(sessions[slot]["user"]) & (len(user_heads) - 1)
    before = -1
    after = signed(user_heads[bucket]) - 1
    while after >= 0 and sessions[after]["number"] > sessions[slot]["number"]:
        before = after
        after = signed(sessions[after]["next_of_user"])
    sessions[slot]["previous_of_user"] = before
    sessions[slot]["next_of_user"] = after
    if before >= 0:
        sessions[before]["next_of_user"] = slot
    else:
        user_heads[bucket] = slot + 1
    if after >= 0:
        sessions[after]["previous_of_user"] = slot


@kernel
def _leave_user(slot: int, sessions: NDArray[np.void], user_heads: NDArray[np.int32]) -> None:
    before = sessions[slot]["previous_of_user"]
    after = sessions[slot]["next_of_user"]
    if before >= 0:
        sessions[before]["next_of_user"] = after
    else:
        user_heads[signed(sessions[slot]["user"]) & (len(user_heads) - 1)] = after + 1
    if after >= 0:
        sessions[after]["previous_of_user"] = before


@kernel
def link_sessions(
    count: int,
    sessions: NDArray[np.void],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Put the first ``count`` places into the list, in this order, the table and the chains."""
    for slot in range(count):
        _append(slot, sessions, meta)
        insert(slot, sessions["key"], table)
        if sessions[slot]["user"] != _NONE:
            join_user(slot, sessions, user_heads)


@kernel
def merge_sessions(
    into: np.uint64,
    other: np.uint64,
    sessions: NDArray[np.void],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
) -> None:
    """Let the sessions of one user be another's; the one without an id takes that user's name, if it is free."""
    slot = signed(user_heads[signed(other) & (len(user_heads) - 1)]) - 1
    while slot >= 0:
        after = signed(sessions[slot]["next_of_user"])
        if sessions[slot]["user"] == other:
            _leave_user(slot, sessions, user_heads)
            sessions[slot]["user"] = into
            join_user(slot, sessions, user_heads)
        slot = after
    slot = find(key_of(_NONE, other), sessions["key"], table)
    key = key_of(_NONE, into)
    if slot >= 0 and find(key, sessions["key"], table) < 0:
        remove(slot, sessions["key"], table)
        sessions[slot]["key"] = key
        insert(slot, sessions["key"], table)


@kernel
def forget_sessions(
    user: np.uint64,
    sessions: NDArray[np.void],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Close every session of a user."""
    slot = signed(user_heads[signed(user) & (len(user_heads) - 1)]) - 1
    while slot >= 0:
        after = signed(sessions[slot]["next_of_user"])
        if sessions[slot]["user"] == user:
            close_session(slot, sessions, table, user_heads, meta)
        slot = after
