"""The session index: which sessions hold an item, newest first, and which items a session holds. Streaming VMIS-kNN.

Sessions have numbers that rise by 1. The newest ``index_sessions_max`` are held, the one with number s in slot
s % index_sessions_max, with its first ``index_items_max`` distinct items in the order of their first appearance. For
each item there is a list of the newest ``index_entries_max`` held sessions with it, sorted by session number, and the
count of all held sessions with it.

What holds after every event: *the lists are what they would be if they were made anew from the held sessions*, however
their events were interleaved. A session that is overwritten is the oldest of all, so in the list of each of its
items it is either the first entry or not there, and leaves at once: no entry is ever stale. The sessions of an erased
user leave too, wherever they stand, and older sessions come back into the lists that were full. That is also why the
sessions alone are the state, each with the hash of its user; ``restore`` makes the lists.

Reference: B. Kersbergen, O. Sprangers, S. Schelter, Serenade: Low-Latency Session-Based Recommendation in
e-Commerce at Scale, SIGMOD 2022, section 3.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, UserForgotten
from midstream.core.types import Index, Score
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.sessions.session_lists import (
    COUNT,
    ENTRIES_MAX,
    FIRST,
    PART,
    add_entry,
    age_of,
    ask_for_end,
    empty_slot,
    entries_at,
    entry_at,
    parts_of,
)
from midstream.state.sessions.session_query import (
    EXCLUDED_MAX,
    POWERS,
    RECENT_MAX,
    SessionQuery,
    SessionScratch,
    make_scratch,
    run_query,
    weights_of,
)
from midstream.state.settings import INDEX_ITEMS_MAX, FoldSettings, StateLimits
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import block_ahead, prefetch
from midstream.state.structures.stamped_table import Epochs

_NONE = np.uint64(0)
_NEWEST: Final = 0
_LIVE: Final = 1

Numbers = NDArray[np.int64]
Lengths = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


@kernel
def fold_sessions(
    item_index: Index,
    session_number: Numbers,
    session_user: Hashes,
    items: Index,
    lengths: Lengths,
    users: Hashes,
    postings: Index,
    heads: Index,
    state: Numbers,
) -> None:
    """Fold events, each with its session's number or -1, and its user's hash or 0."""
    slots = items.shape[0]
    item_index, session_number = borrowed((item_index, session_number))
    items, lengths, users, postings, heads = borrowed((items, lengths, users, postings, heads))
    newest_slot = state[_NEWEST] % slots
    for event in range(len(item_index)):
        _look_ahead(event, item_index, session_number, state, newest_slot, items, lengths, users, postings, heads)
        number = session_number[event]
        item = item_index[event]
        if number < 0 or item < 0 or number <= state[_NEWEST] - slots:
            continue
        for begun in range(max(state[_NEWEST] + 1, number - slots + 1), number + 1):
            newest_slot = begun % slots
            state[_LIVE] -= empty_slot(heads, items, lengths, newest_slot, state[ENTRIES_MAX])
            users[newest_slot] = _NONE
        state[_NEWEST] = max(state[_NEWEST], number)
        slot = newest_slot + number - state[_NEWEST]  # a division takes as long as all else
        slot += slots if slot < 0 else 0
        if session_user[event] != _NONE:
            users[slot] = session_user[event]
        length = lengths[slot]
        is_new = length < items.shape[1]
        for place in range(length):
            if items[slot, place] == item:
                is_new = False
        if is_new:
            items[slot, length] = item
            lengths[slot] = length + 1
            state[_LIVE] += length == 0
            add_entry(postings, heads, item, slot, newest_slot, slots, state[ENTRIES_MAX])


@inlined
def _look_ahead(
    event: int,
    item_index: Index,
    session_number: Numbers,
    state: Numbers,
    newest_slot: int,
    items: Index,
    lengths: Lengths,
    users: Hashes,
    postings: Index,
    heads: Index,
) -> None:
    """Ask for what later events need: session and head of the item's list, then the list's end as it is now."""
    count, slots, entries_max = len(item_index), len(items), state[ENTRIES_MAX]
    start, stop = block_ahead(event, count, 2)
    for i in range(start, stop):
        slot = newest_slot + session_number[i] - state[_NEWEST]
        slot += slots if slot < 0 else -slots if slot >= slots else 0
        if session_number[i] >= 0:
            prefetch(items, slot, 0)
            prefetch(lengths, slot, 0)
            prefetch(users, slot, 0)
            prefetch(heads, signed(item_index[i]), 0)
    start, stop = block_ahead(event, count, 1)
    for i in range(start, stop):
        ask_for_end(postings, heads, max(signed(item_index[i]), 0), entries_max)


@inlined
def _ask_ahead(entry: int, items: Index, postings: Index, heads: Index, state: Numbers) -> None:
    """Ask for the heads of the lists of later items than that of an entry, then for where those lists go on."""
    start, stop = block_ahead(entry, len(items), 2)
    for ahead in range(start, stop):
        prefetch(heads, signed(items[ahead]), 0)
    start, stop = block_ahead(entry, len(items), 1)
    for ahead in range(start, stop):
        ask_for_end(postings, heads, signed(items[ahead]), state[ENTRIES_MAX])


@kernel
def is_among(wanted: np.uint64, hashes: Hashes) -> bool:
    """Say whether a hash is one of some in ascending order."""
    low = 0
    high = len(hashes)
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < len(hashes) and bool(hashes[low] == wanted)


@kernel
def forget_sessions(
    forgotten: Hashes,
    items: Index,
    lengths: Lengths,
    users: Hashes,
    postings: Index,
    heads: Index,
    state: Numbers,
    changes: Index,
) -> None:
    """Take the sessions of some users out of the slots and the lists of their items.

    Args:
        forgotten: Hashes of the users, ascending.
        items: This and the following as they are held.
        lengths: Of the sessions.
        users: Of the sessions.
        postings: Lists of all items.
        heads: First entry and count of each.
        state: Newest number, held sessions, the most entries of a list.
        changes: Zeros, one an item: how many of its sessions are taken out, then how many entries its list lacks.
    """
    entries_max = signed(state[ENTRIES_MAX])
    for slot in range(len(lengths)):
        if users[slot] == _NONE:
            continue
        if not is_among(users[slot], forgotten):
            continue
        for each in range(lengths[slot]):
            changes[items[slot, each]] += 1
        state[_LIVE] -= lengths[slot] > 0
        lengths[slot] = 0
        users[slot] = _NONE
    lacking = 0
    for item in range(len(changes)):
        if changes[item] == 0:
            continue
        first = heads[item, FIRST]
        kept = 0
        for place in range(min(heads[item, COUNT], entries_max)):
            slot = postings[entry_at(item, (first + place) % entries_max, len(heads))]
            if lengths[slot] > 0:
                postings[entry_at(item, (first + kept) % entries_max, len(heads))] = slot
                kept += 1
        heads[item, COUNT] -= changes[item]
        changes[item] = min(heads[item, COUNT], entries_max) - kept
        lacking += changes[item]
    fill_lists(lacking, items, lengths, postings, heads, state, changes)


@kernel
def fill_lists(
    lacking: int,
    items: Index,
    lengths: Lengths,
    postings: Index,
    heads: Index,
    state: Numbers,
    changes: Index,
) -> None:
    """Put older sessions before the first entry of the lists that lack some, ``lacking`` in all, newest first."""
    slots = len(lengths)
    newest_slot, entries_max = signed(state[_NEWEST]) % slots, signed(state[ENTRIES_MAX])
    for age in range(slots):
        if lacking == 0:
            break
        slot = newest_slot - age if newest_slot >= age else newest_slot - age + slots
        for place in range(lengths[slot]):
            item = items[slot, place]
            if changes[item] == 0:
                continue
            held = min(heads[item, COUNT], entries_max) - changes[item]
            first = heads[item, FIRST]
            if held > 0 and age_of(signed(postings[entry_at(item, first, len(heads))]), newest_slot, slots) >= age:
                continue
            first = first - 1 if first > 0 else entries_max - 1
            heads[item, FIRST] = first
            postings[entry_at(item, first, len(heads))] = slot
            changes[item] -= 1
            lacking -= 1


@kernel
def pack_sessions(items: Index, lengths: Lengths, oldest: int, lengths_out: Lengths, items_out: Index) -> None:
    """Write lengths and items of the sessions from number ``oldest`` on, end to end."""
    slots = items.shape[0]
    written = 0
    for session in range(len(lengths_out)):
        slot = (oldest + session) % slots
        lengths_out[session] = lengths[slot]
        for place in range(lengths[slot]):
            items_out[written] = items[slot, place]
            written += 1


@kernel
def unpack_sessions(
    lengths_in: Lengths,
    items_in: Index,
    oldest: int,
    items: Index,
    lengths: Lengths,
    postings: Index,
    heads: Index,
    state: Numbers,
) -> None:
    """Enter sessions from number ``oldest`` on in an empty index. The inverse of ``pack_sessions``."""
    slots = items.shape[0]
    read = 0
    for session in range(len(lengths_in)):
        slot = (oldest + session) % slots
        lengths[slot] = lengths_in[session]
        state[_LIVE] += lengths_in[session] > 0
        for place in range(lengths_in[session]):
            _ask_ahead(read, items_in, postings, heads, state)
            item = items_in[read]
            items[slot, place] = item
            add_entry(postings, heads, item, slot, slot, slots, state[ENTRIES_MAX])
            read += 1


class IndexColumns(NamedTuple):
    """Arrays that a query of the index reads, and its room."""

    items: Index
    lengths: Lengths
    postings: Index
    heads: Index
    state: Numbers
    scratch: SessionScratch


def session_index_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits = settings.limits
    sessions = limits.index_sessions_max * (4 * limits.index_items_max + 1 + 8)
    return sessions + limits.items_max * (4 * PART * parts_of(limits.index_entries_max) + 8)


class SessionIndexRows(NamedTuple):
    """Arrays of the table, in the order of ``fold_sessions``."""

    items: Index
    lengths: Lengths
    users: Hashes
    postings: Index
    heads: Index
    state: Numbers


class SessionIndex:
    """Newest sessions and, for each item, the newest of them that hold it."""

    def __init__(self, limits: StateLimits, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        slots = limits.index_sessions_max
        row = min(limits.index_items_max, INDEX_ITEMS_MAX)
        self._items = np.zeros((slots, row), dtype=np.int32)
        self._lengths = np.zeros(slots, dtype=np.uint8)
        self._users = np.zeros(slots, dtype=np.uint64)
        self._postings = np.zeros((parts_of(limits.index_entries_max) * limits.items_max, PART), dtype=np.int32)
        self._heads = np.zeros((limits.items_max, 2), dtype=np.int32)
        self._state = np.array([-1, 0, limits.index_entries_max], dtype=np.int64)
        self.rows = SessionIndexRows(self._items, self._lengths, self._users, self._postings, self._heads, self._state)
        """For the one pass over all tables (``state.one_pass``)."""
        self._scratch: SessionScratch = make_scratch(row, limits.index_entries_max)
        self.epochs = Epochs(self._scratch.sessions, self._scratch.items)
        """Numbers of queries: each query over the room of ``columns`` takes one."""

    def apply(self, step: FoldStep) -> None:
        """Fold a step: of its events, items and sessions are read.

        Cost: about 0.2 µs an event in a large batch, 2 µs for one alone.
        """
        fold_sessions(step.events.item_index, step.sessions.number, step.sessions.user, *self.rows)
        if isinstance(step.change, UserForgotten):
            self.forget(step.change.hashes)

    def forget(self, user_hashes: Hashes) -> None:
        """Take out every session of some users: what is left equals an index of the other sessions.

        Args:
            user_hashes: Ascending.

        Cost: 3 ms for a million sessions, and 30 ms more where a full list has to be filled from older ones.
        """
        forget_sessions(user_hashes, *self.rows, np.zeros(len(self._heads), dtype=np.int32))

    @property
    def columns(self) -> IndexColumns:
        """The arrays themselves: they stay the same for as long as the table is."""
        return IndexColumns(self._items, self._lengths, self._postings, self._heads, self._state, self._scratch)

    @property
    def session_count(self) -> int:
        """Return the number of held sessions."""
        return int(self._state[_LIVE])

    def item_session_count(self, item_index: int) -> int:
        """Return the number of held sessions that hold an item."""
        return int(self._heads[item_index, COUNT])

    def newest_users(self, item_index: int, entries_max: int) -> Hashes:
        """Return the user's hash of each of the newest held sessions with an item, oldest first; 0 = no user.

        Args:
            item_index: Of the item.
            entries_max: At most so many sessions; the list of an item has ``index_entries_max``.
        """
        first, count = self._heads[item_index].tolist()
        places = int(self._state[ENTRIES_MAX])
        held = min(count, places)
        newest = np.arange(held - min(held, entries_max), held, dtype=np.int64)
        found: Hashes = self._users[self._postings[entries_at(item_index, (first + newest) % places, len(self._heads))]]
        return found

    def score(self, query: SessionQuery, recent: Index, excluded: Sequence[int] = ()) -> tuple[Index, Score]:
        """Return the items that belong to the sessions most like this one, best first; equal ones by id hash.

        Args:
            query: What counts how much, and how many.
            recent: Items of the asking session, oldest first, -1 = not known; may hold an item more than once. The
                newest 1,024 are read.
            excluded: Numbers of sessions that are no neighbours: the asking one, and the open ones of its user. The
                newest 64 are read.

        Returns:
            At most ``query.limit`` distinct items and their scores, which compare within one answer only. Nothing
            when no held session has one of the items.
        """
        # A copy, because numba compiles anew for an array that is read-only or of another type.
        recent = np.array(recent[-RECENT_MAX:], dtype=np.int32)
        hidden = recent[-1:] if query.exclude_last_item else recent[:0]
        answer_items = np.empty(query.limit, dtype=np.int32)
        answer_scores = np.empty(query.limit, dtype=np.float32)
        found = run_query(
            self.epochs.next(),
            recent,
            np.array(excluded[-EXCLUDED_MAX:], dtype=np.int64),
            hidden if query.allow_session_items else recent,
            query.last_items_max,
            query.entries_max,
            query.neighbours_max,
            weights_of(query),
            POWERS[query.sharpness],
            self._items,
            self._lengths,
            self._postings,
            self._heads,
            self._state,
            self._vocabulary.item_hash,
            self._scratch,
            answer_items,
            answer_scores,
        )
        return answer_items[:found], answer_scores[:found]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return number of the newest session, length and user of each held one, oldest first, items end to end."""
        newest = int(self._state[_NEWEST])
        held = min(newest + 1, len(self._lengths))
        lengths = np.empty(held, dtype=np.uint8)
        items = np.empty(int(self._lengths.sum(dtype=np.int64)), dtype=np.int32)
        pack_sessions(self._items, self._lengths, newest - held + 1, lengths, items)
        users = self._users[_slots_of(newest, held, len(self._users))]
        return {"newest": self._state[:1].copy(), "length": lengths, "user": users, "item": items}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the index by what ``arrays`` returned. Cost: about 0.1 µs an item of a session."""
        self._lengths[:] = 0
        self._users[:] = 0
        self._heads[:] = 0
        newest = int(arrays["newest"].astype(np.int64)[0])
        self._state[:ENTRIES_MAX] = (newest, 0)
        lengths = arrays["length"].astype(np.uint8)
        items = arrays["item"].astype(np.int32)
        self._users[_slots_of(newest, len(lengths), len(self._users))] = arrays["user"]
        unpack_sessions(
            lengths,
            items,
            newest - len(lengths) + 1,
            self._items,
            self._lengths,
            self._postings,
            self._heads,
            self._state,
        )

    @property
    def bytes_now(self) -> int:
        """Memory of what was touched, about: places where a session came, and parts of lists. Cost: 1 ms."""
        sessions = min(int(self._state[_NEWEST]) + 1, len(self._lengths))
        heads = self._heads[self._heads[:, COUNT] > 0]
        reached = np.minimum(heads.sum(axis=1, dtype=np.int64), self._state[ENTRIES_MAX])
        parts = int(np.sum((reached + PART - 1) // PART))
        placed = sum(each.strides[0] for each in (self._items, self._lengths, self._users))
        return sessions * placed + parts * self._postings.strides[0] + len(heads) * self._heads.strides[0]

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return sum(each.nbytes for each in (self._items, self._lengths, self._users, self._postings, self._heads))


def _slots_of(newest: int, held: int, slots: int) -> NDArray[np.int64]:
    """Return the slots of the newest sessions, the oldest of them first."""
    return (newest - held + 1 + np.arange(held, dtype=np.int64)) % slots
