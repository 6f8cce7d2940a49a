"""Open sessions: which session an interaction belongs to, and what the session holds so far.

A session is named by its id, or without one by its user. It goes on until nothing was added for
``session_gap`` of log time; then, or when the maximum of open sessions needs its place (least recently used
first, counted), it is over, and the next interaction of the same name begins a new one with a new number.
Numbers rise by one from 0 in log order.

Only an act in favour of an item (a weight above 0) of at most 24 h ago belongs to a session. As log time
never goes back, the list from least to most recently used is also the list by time, so closing costs O(1)
an event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ActRetracted, FoldStep, SessionColumns, UserChange, UserForgotten, UserMerged
from midstream.core.kinds import Kind
from midstream.core.types import Index, IndexedBatch, Mask
from midstream.state.sessions.session_slots import (
    SESSION,
    SESSION_BYTES,
    SESSION_META,
    close_session,
    forget_sessions,
    join_user,
    key_of,
    link_sessions,
    merge_sessions,
    open_session,
    touch_session,
)
from midstream.state.settings import PAIR_ITEMS_MAX, FoldSettings
from midstream.state.structures.aligned import aligned_zeros
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.hash_table import find, table_size
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch
from midstream.state.structures.windows import LATE_MS_MAX

_INTERACTION = int(Kind.INTERACTION)
_NONE = np.uint64(0)


@dataclass(frozen=True, slots=True, eq=False)
class Open:
    """An open session."""

    number: int
    item_index: Index
    """Its last items, oldest first; an item may be there more than once."""


class OpenColumns(NamedTuple):
    """Arrays in which kernels find open sessions."""

    sessions: NDArray[np.void]
    items: NDArray[np.int32]
    table: NDArray[np.int32]
    user_heads: NDArray[np.int32]
    meta: NDArray[np.void]


def session_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits = settings.limits
    row = SESSION_BYTES + 4 * limits.session_items_max
    return limits.sessions_max * row + 2 * 4 * table_size(limits.sessions_max)


class SessionRows(NamedTuple):
    """Arrays of the table, and the weights of the actions."""

    weights: NDArray[np.float64]
    sessions: NDArray[np.void]
    items: NDArray[np.int32]
    table: NDArray[np.int32]
    user_heads: NDArray[np.int32]
    meta: NDArray[np.void]


class Sessions:
    """The open sessions, by id and by user."""

    def __init__(self, settings: FoldSettings) -> None:
        """Reserve the maximum; pages are paid when touched."""
        limits = settings.limits
        types = settings.types
        self._weights = np.array([types[name].weight for name in settings.action_names()], dtype=np.float64)
        self._sessions = aligned_zeros((limits.sessions_max,), SESSION)
        self._items = np.zeros((limits.sessions_max, limits.session_items_max), dtype=np.int32)
        self._table = np.zeros(table_size(limits.sessions_max), dtype=np.int32)
        self._user_heads = np.zeros(table_size(limits.sessions_max), dtype=np.int32)
        self.before_max = min(limits.pair_items_max, PAIR_ITEMS_MAX)
        """Items of a session that ``SessionColumns.before`` holds at most."""
        self._meta = np.zeros(1, dtype=SESSION_META)
        self._meta["free"] = self._meta["oldest"] = self._meta["newest"] = -1
        self._meta["gap_ms"] = settings.session_gap.ms
        self.rows = SessionRows(self._weights, self._sessions, self._items, self._table, self._user_heads, self._meta)
        """For the one pass over all tables (``state.one_pass``)."""

    def __len__(self) -> int:
        """Return the number of sessions that no event has closed yet."""
        return int(self._meta["open"][0])

    @property
    def columns(self) -> OpenColumns:
        """The arrays themselves: they stay the same for as long as the table is."""
        return OpenColumns(self._sessions, self._items, self._table, self._user_heads, self._meta)

    @property
    def next_number(self) -> int:
        """Number that the next session will have: how many there have been."""
        return int(self._meta["next_number"][0])

    @property
    def expired_count(self) -> int:
        """Sessions that silence closed."""
        return int(self._meta["expired"][0])

    @property
    def evicted_count(self) -> int:
        """Sessions that were closed early because all places were taken."""
        return int(self._meta["evicted"][0])

    @property
    def bytes_now(self) -> int:
        """Memory of what has been used, about."""
        used = int(self._meta["used"][0])
        tables = min(self._table.nbytes, used * 4_096) + min(self._user_heads.nbytes, used * 4_096)
        return used * (SESSION_BYTES + self._items.shape[1] * 4) + tables

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return self._sessions.nbytes + self._items.nbytes + self._table.nbytes + self._user_heads.nbytes

    def apply(self, step: FoldStep) -> None:
        """Fold a step: its sessions."""
        step.sessions = self.number(step.events)
        if step.change is not None:
            self._follow(step.change)

    def _follow(self, change: UserChange) -> None:
        if isinstance(change, UserMerged):
            self.merge(change.into_hash, change.other_hash)
        elif isinstance(change, UserForgotten):
            self.forget(change.user_hash)
        elif isinstance(change, ActRetracted) and not change.is_impression and self._has(change):
            self.retract(change)

    def _has(self, act: ActRetracted) -> bool:
        """Return whether an act was one that belongs to a session."""
        is_late = act.log_time_ms - act.time_ms > LATE_MS_MAX
        return act.action >= 0 and act.item_index >= 0 and self._weights[act.action] > 0.0 and not is_late

    def number(self, batch: IndexedBatch) -> SessionColumns:
        """Fold a batch; return which session each event goes on with, and what that had before."""
        found = np.empty(len(batch), dtype=np.int64)
        before = np.empty((len(batch), self.before_max), dtype=np.int32)
        user = np.empty(len(batch), dtype=np.uint64)
        number_events(
            batch.kind,
            batch.action,
            batch.folded,
            batch.item_index,
            batch.user_hash,
            batch.session_hash,
            batch.event_time_ms,
            batch.log_time_ms,
            self._weights,
            found,
            before,
            user,
            self._sessions,
            self._items,
            self._table,
            self._user_heads,
            self._meta,
        )
        return SessionColumns(found, before, user)

    def merge(self, into_hash: int, from_hash: int) -> None:
        """Let the open sessions of one user be another's; the one without an id goes on unless that user has one."""
        hashes = (np.uint64(into_hash), np.uint64(from_hash))
        merge_sessions(*hashes, self._sessions, self._table, self._user_heads)

    def forget(self, user_hash: int) -> None:
        """Close the open sessions of a user, as if they had never been open: they are counted nowhere."""
        forget_sessions(np.uint64(user_hash), self._sessions, self._table, self._user_heads, self._meta)

    def retract(self, act: ActRetracted) -> None:
        """Let the open session that an act belongs to be without its item, of several the newest place of it.

        A session that was closed since stays as it is. Cost: about 20 µs.
        """
        key = key_of(np.uint64(act.session_hash), np.uint64(act.user_hash))
        slot = find(np.uint64(key), self._sessions["key"], self._table) if key else -1
        if slot < 0 or act.log_time_ms < self._sessions["first_ms"][slot]:
            return
        items = self._items_of(slot)
        places = np.flatnonzero(items == act.item_index)
        if len(places):
            left = np.delete(items, places[-1])
            self._items[slot] = 0
            self._items[slot, : len(left)] = left
            self._sessions["added"][slot] = len(left)

    def find(self, session_hash: int, user_hash: int, now_ms: int) -> Open | None:
        """Return the session that an interaction at ``now_ms`` would go on with; None when it would begin one.

        Args:
            session_hash: Hash of the session id; 0 = none, then the user names the session.
            user_hash: Hash of the user id; 0 = none.
            now_ms: Log time.
        """
        key = key_of(np.uint64(session_hash), np.uint64(user_hash))
        if not key:
            return None
        slot = find(np.uint64(key), self._sessions["key"], self._table)
        if slot < 0 or now_ms - int(self._sessions["last_ms"][slot]) > int(self._meta["gap_ms"][0]):
            return None
        return Open(int(self._sessions["number"][slot]), self._items_of(slot))

    def open_of_user(self, user_hash: int, now_ms: int) -> NDArray[np.int64]:
        """Return the numbers of a user's open sessions at a log time, newest first."""
        numbers: NDArray[np.int64] = self._sessions["number"][self._slots_of(user_hash, now_ms)]
        return numbers

    def sessions_of(self, user_hash: int, now_ms: int) -> list[Open]:
        """Return a user's open sessions at a log time, newest first."""
        slots: list[int] = self._slots_of(user_hash, now_ms).tolist()
        return [Open(int(self._sessions["number"][slot]), self._items_of(slot)) for slot in slots]

    def _slots_of(self, user_hash: int, now_ms: int) -> NDArray[np.intp]:
        """Return the places of a user's open sessions, newest first."""
        slots: list[int] = []
        slot = int(self._user_heads[user_hash & (len(self._user_heads) - 1)]) - 1 if user_hash else -1
        since_ms = now_ms - int(self._meta["gap_ms"][0])
        while slot >= 0:
            held = self._sessions[slot]
            if int(held["user"]) == user_hash and held["last_ms"] >= since_ms:
                slots.append(slot)
            slot = int(held["next_of_user"])
        return np.array(slots, dtype=np.intp)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the sessions from least to most recently used, their items end to end, and the counters."""
        slots: list[int] = []
        slot = int(self._meta["oldest"][0])
        newer: list[int] = self._sessions["newer"].tolist() if slot >= 0 else []
        while slot >= 0:
            slots.append(slot)
            slot = newer[slot]
        held = self._sessions[slots]
        items = [self._items_of(slot) for slot in slots]
        return {
            "key": held["key"].copy(),
            "user": held["user"].copy(),
            "number": held["number"].copy(),
            "first_ms": held["first_ms"].copy(),
            "last_ms": held["last_ms"].copy(),
            "length": np.array([len(each) for each in items], dtype=np.int32),
            "items": np.concatenate([np.empty(0, dtype=np.int32), *items]),
            "counters": np.array([self.next_number, self.expired_count, self.evicted_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the sessions by what ``arrays`` returned."""
        count = len(arrays["key"])
        for name in ("key", "user", "number", "first_ms", "last_ms"):
            self._sessions[name][:count] = arrays[name]
        self._sessions["added"][:count] = arrays["length"]
        filled = np.arange(self._items.shape[1]) < arrays["length"].astype(np.int64)[:, np.newaxis]
        self._items[:count][filled] = arrays["items"]
        self._table[:] = 0
        self._user_heads[:] = 0
        counters: list[int] = arrays["counters"].tolist()
        for name, value in zip(("next_number", "expired", "evicted"), counters, strict=True):
            self._meta[name] = value
        self._meta["open"] = self._meta["used"] = count
        self._meta["free"] = self._meta["oldest"] = self._meta["newest"] = -1
        link_sessions(count, self._sessions, self._table, self._user_heads, self._meta)

    def _items_of(self, slot: int) -> Index:
        """Return the last items of a session, oldest first."""
        added = int(self._sessions["added"][slot])
        kept = self._items.shape[1]
        if added <= kept:
            return self._items[slot, :added].copy()
        start = added % kept
        return np.concatenate((self._items[slot, start:], self._items[slot, :start]))


@kernel
def number_events(
    kind: NDArray[np.uint8],
    action: NDArray[np.int16],
    folded: Mask,
    item_index: NDArray[np.int32],
    user_hash: NDArray[np.uint64],
    session_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    weights: NDArray[np.float64],
    found: NDArray[np.int64],
    before: NDArray[np.int32],
    user: NDArray[np.uint64],
    sessions: NDArray[np.void],
    items: NDArray[np.int32],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Fold the events of a batch; write which session each goes on with, and what that had before."""
    session_hash, user_hash, before = borrowed((session_hash, user_hash, before))
    sessions, items, table, user_heads, meta = borrowed((sessions, items, table, user_heads, meta))
    for i in range(len(kind)):
        _look_ahead(i, session_hash, user_hash, sessions, items, table, user_heads)
        found[i] = -1
        for place in range(before.shape[1]):
            before[i, place] = -1
        user[i] = _NONE
        now = log_time_ms[i]
        while meta[0]["oldest"] >= 0 and now - sessions[meta[0]["oldest"]]["last_ms"] > meta[0]["gap_ms"]:
            close_session(signed(meta[0]["oldest"]), sessions, table, user_heads, meta)
            meta[0]["expired"] += 1
        if not folded[i] or kind[i] != _INTERACTION or action[i] < 0 or item_index[i] < 0:
            continue
        if weights[action[i]] <= 0.0 or now - event_time_ms[i] > LATE_MS_MAX:
            continue
        key = key_of(session_hash[i], user_hash[i])
        if key == _NONE:
            continue
        slot = find(key, sessions["key"], table)
        if slot < 0:
            slot = open_session(key, sessions, table, user_heads, meta)
            sessions[slot]["first_ms"] = now
        else:
            touch_session(slot, sessions, meta)
        if sessions[slot]["user"] == _NONE and user_hash[i] != _NONE:
            sessions[slot]["user"] = user_hash[i]
            join_user(slot, sessions, user_heads)
        sessions[slot]["last_ms"] = now
        _look_back(slot, i, sessions, items, before)
        _add(slot, item_index[i], sessions, items)
        found[i] = sessions[slot]["number"]
        user[i] = sessions[slot]["user"]


@inlined
def _look_ahead(
    event: int,
    session_hash: NDArray[np.uint64],
    user_hash: NDArray[np.uint64],
    sessions: NDArray[np.void],
    items: NDArray[np.int32],
    table: NDArray[np.int32],
    user_heads: NDArray[np.int32],
) -> None:
    """Ask for what later events need: the entry of the table, then the session it names, then its neighbours."""
    count, mask = len(session_hash), len(table) - 1
    start, stop = block_ahead(event, count, 3)
    for i in range(start, stop):
        prefetch(table, signed(key_of(session_hash[i], user_hash[i])) & mask, 0)
    start, stop = block_ahead(event, count, 2)
    for i in range(start, stop):
        slot = signed(table[signed(key_of(session_hash[i], user_hash[i])) & mask]) - 1
        if slot >= 0:
            prefetch(sessions, slot, 0)
            prefetch(items, slot, 0)
        else:
            prefetch(user_heads, signed(user_hash[i]) & (len(user_heads) - 1), 0)
    start, stop = block_ahead(event, count, 1)
    for i in range(start, stop):
        slot = max(signed(table[signed(key_of(session_hash[i], user_hash[i])) & mask]) - 1, 0)
        prefetch(items, slot, items.itemsize * signed(sessions[slot]["added"]))
        prefetch(sessions, max(signed(sessions[slot]["older"]), 0), 0)
        prefetch(sessions, max(signed(sessions[slot]["newer"]), 0), 0)


@inlined
def _add(slot: int, item: int, sessions: NDArray[np.void], items: NDArray[np.int32]) -> None:
    """Add an item to a session; full, its oldest goes."""
    kept = items.shape[1]
    added = sessions[slot]["added"]
    items[slot, added if added < kept else added - kept] = item
    # Kept below twice the length: its remainder is the place of the oldest, and it never overflows.
    sessions[slot]["added"] = added + 1 if added + 1 < 2 * kept else kept


@inlined
def _look_back(
    slot: int, event: int, sessions: NDArray[np.void], items: NDArray[np.int32], before: NDArray[np.int32]
) -> None:
    """Write the last distinct items of a session to ``before``, newest first. Cost: the acts that it keeps at most."""
    kept = items.shape[1]
    added = signed(sessions[slot]["added"])
    count = 0
    at = added if added <= kept else added - kept
    left = min(added, kept)
    while left > 0 and count < before.shape[1]:
        at = at - 1 if at > 0 else kept - 1
        item = items[slot, at]
        is_new = True
        for place in range(count):
            if before[event, place] == item:
                is_new = False
        if is_new:
            before[event, count] = item
            count += 1
        left -= 1
