"""Indexing kernel: one call gives the events of a batch indices for their ids, in log order.

Only interactions with a configured action and user events make a user, only those interactions and item
events make an item. Deletes, merges, impressions and served slates look up what is there. Duplicates touch nothing.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import Mask
from midstream.events.schema import TIME_SENT
from midstream.state.ids.item_slots import COLLIDES, take_item
from midstream.state.ids.user_slots import take_user, touch
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.hash_table import find
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch
from midstream.state.structures.windows import LATE_MS_MAX

AHEAD_MS_MAX = 300_000
"""An event further than this (5 min) ahead of log time is set to log time: clocks differ that much, not more."""
BEHIND_MS_MAX = 300_000
"""An event further than this behind log time is counted as late; that is all."""
_INTERACTION = int(Kind.INTERACTION)
_IMPRESSION = int(Kind.IMPRESSION)
_ITEM = int(Kind.ITEM)
_USER = int(Kind.USER)
_DELETE = int(Operation.DELETE)
_MERGE = int(Operation.MERGE)
_NONE = np.uint64(0)


class VocabularyCount(IntEnum):
    """What is counted of the events, each its place in ``Vocabulary.counts``."""

    FUTURE = 0
    """More than 5 min ahead of log time, set to it."""
    LATE = 1
    """More than 5 min behind log time, at most 24 h."""
    TOO_LATE = 2
    """More than 24 h behind log time."""
    UNKNOWN_ACTION = 3
    """Interactions whose action is not configured: kept in the log, not folded into anything."""
    ITEM_REFUSED = 4
    """Events whose item had no room, or is not in the catalogue where that is asked for."""
    USER_EVICTED = 5
    DUPLICATE = 6
    """Events that were folded before, conflicts included."""
    CONFLICT = 7
    """Duplicates by id with other content."""
    ERASED = 8
    """Late copies of events of erased users: passed by."""
    ITEM_COLLISION = 9
    """Events that name another id than the item that has its hash: by chance one of a billion shops has such a pair."""


_FUTURE = int(VocabularyCount.FUTURE)
_LATE = int(VocabularyCount.LATE)
_TOO_LATE = int(VocabularyCount.TOO_LATE)
_UNKNOWN_ACTION = int(VocabularyCount.UNKNOWN_ACTION)
_ITEM_REFUSED = int(VocabularyCount.ITEM_REFUSED)
_USER_EVICTED = int(VocabularyCount.USER_EVICTED)
_DUPLICATES = int(VocabularyCount.DUPLICATE)
_ITEM_COLLISION = int(VocabularyCount.ITEM_COLLISION)


@kernel
def index_events(
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    folded: Mask,
    makes_items: bool,  # noqa: FBT001  # kernels take no keywords
    hashes: NDArray[np.uint64],
    action: NDArray[np.int16],
    times: NDArray[np.int64],
    indices: NDArray[np.int32],
    is_new: Mask,
    users: NDArray[np.void],
    user_table: NDArray[np.int32],
    user_meta: NDArray[np.void],
    item_hash: NDArray[np.uint64],
    item_start: NDArray[np.int64],
    in_catalogue: Mask,
    item_text: NDArray[np.uint8],
    item_table: NDArray[np.int32],
    meta: NDArray[np.void],
    counts: NDArray[np.int64],
) -> None:
    """Write event times, indices and whether a slot starts cold, making users and items as they come; count."""
    evicted_before = user_meta[0]["evicted"]
    text, users, user_table, user_meta, item_hash = borrowed((text, users, user_table, user_meta, item_hash))
    item_start, in_catalogue, item_text, item_table = borrowed((item_start, in_catalogue, item_text, item_table))
    for i in range(len(rows)):
        _look_ahead(i, hashes, users, user_table, item_hash, item_start, item_text, item_table)
        row = rows[i]
        kind = row["kind"]
        indices[:, i] = -1
        is_new[i] = False
        times[0, i] = _event_time(row, folded[i], counts)
        if not folded[i]:
            counts[_DUPLICATES] += 1
            continue
        acts = action[i] >= 0
        deletes = row["operation"] == _DELETE
        if kind == _INTERACTION and not acts:
            counts[_UNKNOWN_ACTION] += 1
        if hashes[0, i] != _NONE:
            if acts or (kind == _USER and not deletes and row["operation"] != _MERGE):
                indices[0, i], is_new[i] = take_user(hashes[0, i], users, user_table, user_meta)
            else:
                indices[0, i] = find(hashes[0, i], users["hash"], user_table)
                is_new[i] = kind == _USER and deletes and indices[0, i] >= 0
                if kind == _IMPRESSION and indices[0, i] >= 0:
                    touch(signed(indices[0, i]), users, user_meta)
        if hashes[1, i] != _NONE:
            start = signed(row["text_start"]) + signed(row["event_id_length"]) + signed(row["action_length"])
            start += signed(row["user_id_length"])
            index = take_item(
                kind == _ITEM and not deletes,
                acts and makes_items,
                hashes[1, i],
                text,
                start,
                signed(row["item_id_length"]),
                item_hash,
                item_start,
                in_catalogue,
                item_text,
                item_table,
                meta,
            )
            indices[1, i] = max(index, -1)
            if index == COLLIDES:
                hashes[1, i] = ~hashes[1, i]  # what goes by hash alone is not to take it for the other item
            if index < 0 and (acts or (kind == _ITEM and not deletes)):
                counts[_ITEM_COLLISION if index == COLLIDES else _ITEM_REFUSED] += 1
    counts[_USER_EVICTED] += user_meta[0]["evicted"] - evicted_before


@inlined
def _look_ahead(
    event: int,
    hashes: NDArray[np.uint64],
    users: NDArray[np.void],
    user_table: NDArray[np.int32],
    item_hash: NDArray[np.uint64],
    item_start: NDArray[np.int64],
    item_text: NDArray[np.uint8],
    item_table: NDArray[np.int32],
) -> None:
    """Ask for what later events need: the entries of the tables, then what those name, then what that does."""
    count, users_mask, items_mask = hashes.shape[1], len(user_table) - 1, len(item_table) - 1
    start, stop = block_ahead(event, count, 3)
    for i in range(start, stop):
        prefetch(user_table, signed(hashes[0, i]) & users_mask, 0)
        prefetch(item_table, signed(hashes[1, i]) & items_mask, 0)
    start, stop = block_ahead(event, count, 2)
    for i in range(start, stop):
        prefetch(users, max(signed(user_table[signed(hashes[0, i]) & users_mask]) - 1, 0), 0)
        item = max(signed(item_table[signed(hashes[1, i]) & items_mask]) - 1, 0)
        prefetch(item_hash, item, 0)
        prefetch(item_start, item, 0)
    start, stop = block_ahead(event, count, 1)
    for i in range(start, stop):
        item = max(signed(item_table[signed(hashes[1, i]) & items_mask]) - 1, 0)
        prefetch(item_text, signed(item_start[item]), 0)
        user = max(signed(user_table[signed(hashes[0, i]) & users_mask]) - 1, 0)
        prefetch(users, signed(users[user]["older"]), 0)
        prefetch(users, max(signed(users[user]["newer"]), 0), 0)


@inlined
def _event_time(row: np.void, is_folded: bool, counts: NDArray[np.int64]) -> int:  # noqa: FBT001
    """Return the event time by the rule of lateness, and count what was not on time."""
    now = signed(row["log_time_ms"])
    if (row["flags"] & TIME_SENT) == 0:
        return now
    time = signed(row["event_time_ms"])
    if time > now + AHEAD_MS_MAX:
        if is_folded:
            counts[_FUTURE] += 1
        return now
    if is_folded and time < now - LATE_MS_MAX:
        counts[_TOO_LATE] += 1
    elif is_folded and time < now - BEHIND_MS_MAX:
        counts[_LATE] += 1
    return time
