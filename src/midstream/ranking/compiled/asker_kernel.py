"""The kernels that find who asks: hashes of ids, the open session with its items, the user's last items.

The twin of ``Fold.moment`` and of ``state.users.recent_items``.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index
from midstream.ranking.compiled.room import (
    EXCLUDED,
    GIVEN,
    ITEMS,
    KNOWN,
    LENGTHS,
    NOW,
    OWN_SESSIONS_MAX,
    RECENT,
    REQUEST_BYTES,
    REQUEST_HASH,
    RESOLVED_HASH,
    SENT,
    SESSION_BYTES,
    SESSION_HASH,
    SESSION_NUMBER,
    USER,
    USER_BYTES,
    USER_HASH,
    AnswerRoom,
)
from midstream.state.ids.aliases import AliasColumns
from midstream.state.ids.item_slots import find_items
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.sessions.session_slots import key_of
from midstream.state.sessions.sessions import OpenColumns
from midstream.state.structures.hash_table import find
from midstream.state.structures.hashing import IdKey, hash_id
from midstream.state.structures.kernel import kernel, signed
from midstream.state.users.user_rows import ADDED, RING_MAX, RingColumns, act_at

_NONE: Final = np.uint64(0)


@kernel
def hash_or_none(arena: NDArray[np.uint8], start: int, length: int, key: IdKey) -> np.uint64:
    """Return the hash of an id, 0 = the empty one, which stands for none."""
    found = _NONE
    if length > 0:
        found = hash_id(arena, start, length, key)
    return found


@kernel
def read_hashes(ids: IdColumns, aliases: AliasColumns, room: AnswerRoom) -> int:
    """Write the hashes of the question's user, session and request; return where its items begin in the arena."""
    ask, hashes, arena = room.ask, room.hashes, room.arena
    user_bytes, session_bytes, request_bytes = ask[USER_BYTES], ask[SESSION_BYTES], ask[REQUEST_BYTES]
    hashes[USER_HASH] = hash_or_none(arena, 0, user_bytes, ids.key)
    hashes[SESSION_HASH] = hash_or_none(arena, user_bytes, session_bytes, ids.key)
    hashes[REQUEST_HASH] = hash_or_none(arena, user_bytes + session_bytes, request_bytes, ids.key)
    user = hashes[USER_HASH]
    if user != _NONE:
        alias = find(user, aliases.rows["hash"], aliases.table)
        if alias >= 0:
            user = aliases.into[alias]
    hashes[RESOLVED_HASH] = user
    return signed(user_bytes + session_bytes + request_bytes)


@kernel
def read_session(held: OpenColumns, room: AnswerRoom) -> int:
    """Write number and items of the open session that asks; return how many items."""
    hashes, facts, recent = room.hashes, room.facts, room.recent
    facts[SESSION_NUMBER] = -1
    count = 0
    key = key_of(hashes[SESSION_HASH], hashes[RESOLVED_HASH])
    if key != _NONE:
        slot = find(key, held.sessions["key"], held.table)
        if slot >= 0 and room.ask[NOW] - held.sessions[slot]["last_ms"] <= held.meta[0]["gap_ms"]:
            facts[SESSION_NUMBER] = held.sessions[slot]["number"]
            kept = held.items.shape[1]
            added = signed(held.sessions[slot]["added"])
            count = min(added, kept)
            start = 0 if added <= kept else added % kept
            for place in range(count):
                at = start + place
                recent[place] = held.items[slot, at if at < kept else at - kept]
    return count


@kernel
def read_given(ids: IdColumns, room: AnswerRoom, start: int, before: int) -> int:
    """Write the items of the caller, whose ids begin at ``start`` behind ``before`` others; return how many exist."""
    given = room.given[: room.ask[GIVEN]]
    lengths = room.ask[LENGTHS + before : LENGTHS + before + len(given)]
    find_items(
        room.arena[start:], lengths, ids.key, given, ids.item_hash, ids.item_start, ids.item_text, ids.item_table
    )
    known = 0
    for each in range(len(given)):
        known += given[each] >= 0
    return known


@kernel
def read_asker(ids: IdColumns, aliases: AliasColumns, held: OpenColumns, room: AnswerRoom) -> None:
    """Write what is known of a question's ids: its session with what was sent, what it excludes, and what it gives."""
    ask, facts, sent = room.ask, room.facts, room.sent
    items, excluded = ask[ITEMS], ask[EXCLUDED]
    start = read_hashes(ids, aliases, room)
    count = read_session(held, room)
    places = (ids.item_hash, ids.item_start, ids.item_text, ids.item_table)
    known = 0
    if items > 0:
        find_items(room.arena[start:], ask[LENGTHS : LENGTHS + items], ids.key, sent[:items], *places)
        for each in range(items):
            start += ask[LENGTHS + each]
            if sent[each] >= 0:
                sent[known] = sent[each]
                known += 1
        for each in range(known):
            room.recent[count + each] = sent[each]
    if excluded > 0:
        lengths = ask[LENGTHS + items : LENGTHS + items + excluded]
        find_items(room.arena[start:], lengths, ids.key, room.excluded[:excluded], *places)
    facts[KNOWN] = 0
    if ask[GIVEN] > 0:
        for each in range(excluded):
            start += ask[LENGTHS + items + each]
        facts[KNOWN] = read_given(ids, room, signed(start), items + excluded)
    facts[RECENT] = count + known
    facts[SENT] = known
    user = room.hashes[RESOLVED_HASH]
    facts[USER] = find(user, ids.users["hash"], ids.user_table) if user != _NONE else -1


@kernel
def read_history(rings: RingColumns, user: int, items_max: int, history: Index) -> int:
    """Write the user's last items on which an act was no act against them, oldest first; return how many.

    No more than ``history`` has cells.
    """
    count = 0
    if user >= 0 and items_max > 0:
        ring_max = rings.at[RING_MAX]
        added = signed(rings.ints[user, ADDED])
        most = min(items_max, len(history))
        for back in range(1, min(added, ring_max) + 1):
            place = (added - back) % ring_max
            item, action = act_at(rings.ints, rings.tails, rings.at, user, place)
            if rings.is_positive[action]:
                history[count] = item
                count += 1
                if count == most:
                    break
        for place in range(count // 2):
            other = history[place]
            history[place] = history[count - 1 - place]
            history[count - 1 - place] = other
    return count


@kernel
def read_own_sessions(held: OpenColumns, room: AnswerRoom) -> int:
    """Write the numbers of the asking session and of the user's open ones; return how many, -1 = more than there may.

    In the order of the pipeline: those of the user, the newest first, and behind them the asking one if it is none.
    """
    own, user, number = room.own, room.hashes[RESOLVED_HASH], room.facts[SESSION_NUMBER]
    count = 0
    is_own = False
    if user != _NONE:
        slot = signed(held.user_heads[signed(user) & (len(held.user_heads) - 1)]) - 1
        since_ms = room.ask[NOW] - held.meta[0]["gap_ms"]
        while slot >= 0 and count <= OWN_SESSIONS_MAX:
            if held.sessions[slot]["user"] == user and held.sessions[slot]["last_ms"] >= since_ms:
                if count < OWN_SESSIONS_MAX:
                    own[count] = held.sessions[slot]["number"]
                    is_own = is_own or own[count] == number
                count += 1
            slot = signed(held.sessions[slot]["next_of_user"])
    if number >= 0 and not is_own:
        if count < OWN_SESSIONS_MAX:
            own[count] = number
        count += 1
    return count if count <= OWN_SESSIONS_MAX else -1
