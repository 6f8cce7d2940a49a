"""Ids become indices: users by slot, items by first appearance.

A user's slot is taken from the least recently seen user when all are taken, exactly and by log order; only
this table refers to slots, everything else holds the 64-bit hash of the user id. An item keeps its index
for good. Items known only from interactions have a maximum of their own, so made-up ids cannot fill the
catalogue. Of two item ids of one hash the first is an item and the other is refused; of users the hash is all that is
kept.

Only interactions with a configured action and user events make a user, only those interactions and item
events make an item. Deletes, merges, impressions and served slates look up what is there. Duplicates touch nothing,
nor do late copies of an erased user's events. An id that was merged into another is that other one.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, Index, IndexedBatch, LogPosition, Mask
from midstream.events.schema import TIME_SENT
from midstream.state.ids.aliases import Aliases
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.ids.erased_users import Erasures
from midstream.state.ids.event_columns import read_columns
from midstream.state.ids.item_slots import COLLIDES, ITEM_META, find_items, number_items, take_item
from midstream.state.ids.user_slots import (
    USER_ROW,
    merge_users,
    new_meta,
    read_free,
    read_order,
    release_user,
    take_user,
    touch,
    write_free,
    write_order,
)
from midstream.state.settings import FoldSettings
from midstream.state.structures.hash_table import fill, find, find_each, table_size
from midstream.state.structures.hashing import id_hash
from midstream.state.structures.kernel import frozen_columns, kernel, signed
from midstream.state.structures.prefetch import AHEAD, FURTHER, NEAR, prefetch

AHEAD_MS_MAX = 300_000
"""An event further than this (5 min) ahead of log time is set to log time: clocks differ that much, not more."""
LATE_MS_MAX = 86_400_000
"""An event further than this (24 h) behind log time feeds decayed counters only."""
BEHIND_MS_MAX = 300_000
"""An event further than this behind log time is counted as late; that is all."""
ITEM_ID_BYTES_MEAN = 128
"""Bytes reserved for each item id: 128 ASCII characters; when longer ones have used them up, items are refused."""
_BYTES_EACH = 17
"""Of an item: hash, start, and whether it is in the catalogue."""
_PAGE_BYTES = 4_096
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
_ERASED = int(VocabularyCount.ERASED)
_ITEM_COLLISION = int(VocabularyCount.ITEM_COLLISION)


class Vocabulary:
    """Every id that the state knows, and the counts of what events did not fit."""

    def __init__(self, settings: FoldSettings, dropped: Dropped = NOTHING) -> None:
        """Reserve the maxima; pages are paid when touched."""
        self.dropped = dropped
        limits = settings.limits
        names = settings.action_names()
        self.id_key = settings.hash_key()
        """Under which ids are hashed."""
        self._actions = np.array([id_hash(name, self.id_key) for name in names], dtype=np.uint64)
        self._makes_items = settings.unknown_items != "reject"
        self._users = np.zeros(limits.users_max, dtype=USER_ROW)
        self._user_table = np.zeros(table_size(limits.users_max), dtype=np.int32)
        self._item_hash = np.zeros(limits.items_max, dtype=np.uint64)
        self._item_start = np.zeros(limits.items_max + 1, dtype=np.int64)
        self._in_catalogue = np.zeros(limits.items_max, dtype=np.bool_)
        self._item_table = np.zeros(table_size(limits.items_max), dtype=np.int32)
        self._item_text = np.zeros(limits.items_max * ITEM_ID_BYTES_MEAN, dtype=np.uint8)
        self._user_meta = new_meta()
        self.aliases = Aliases(limits.aliases_max)
        """Ids that stand for others. A table of its own; only the fold changes it."""
        self.erasures = Erasures(limits.erased_max)
        """Who was erased. A table of its own; only the fold changes it."""
        self._id_texts: list[str | None] = [None] * limits.items_max
        """Ids that were read before, as texts. No state: a slot is never reused, so a text is never wrong."""
        self._meta = np.zeros(1, dtype=ITEM_META)
        self._meta["click_items_max"] = min(limits.click_items_max, limits.items_max)
        self.counts = np.zeros(len(VocabularyCount), dtype=np.int64)
        """How many of each ``VocabularyCount``. Part of the state."""

    @property
    def user_count(self) -> int:
        """Number of users that have a slot."""
        return int(self._user_meta["users"][0])

    @property
    def item_count(self) -> int:
        """Number of items: indices below it are taken."""
        return int(self._meta["items"][0])

    @property
    def click_item_count(self) -> int:
        """Number of items known only from interactions."""
        return int(self._meta["click_items"][0])

    @property
    def item_hash(self) -> NDArray[np.uint64]:
        """64-bit hash of each item's id, by index: what breaks ties. A view."""
        return self._item_hash[: self.item_count]

    @property
    def in_catalogue(self) -> Mask:
        """True for each item that an item event named, by index. A view."""
        return self._in_catalogue[: self.item_count]

    @property
    def bytes_now(self) -> int:
        """Memory of what is in use, about."""
        items = self.item_count * _BYTES_EACH + int(self._meta["text_used"][0])
        tables = min(self._user_table.nbytes, self.user_count * _PAGE_BYTES)
        tables += min(self._item_table.nbytes, self.item_count * _PAGE_BYTES)
        return self.user_count * USER_ROW.itemsize + items + tables

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        held = (self._users, self._user_table, self._item_hash, self._item_start, self._in_catalogue)
        return sum(each.nbytes for each in held) + self._item_table.nbytes + self._item_text.nbytes

    def index(self, first: LogPosition, batch: EventBatch, folded: Mask) -> IndexedBatch:
        """Return the events with indices for ids, making users and items as they come.

        Args:
            first: Log position before the first event.
            batch: Stamped events.
            folded: True for each event to fold, shape (n,); False for duplicates.

        Returns:
            Columns of all events, in order. Of an event that is not folded, indices are -1. Late copies of erased
            users are not folded either. Aliases and erasures are those that stand before the first event.
        """
        n = len(batch)
        hashes = np.empty((4, n), dtype=np.uint64)
        times = np.empty((2, n), dtype=np.int64)
        indices = np.empty((2, n), dtype=np.int32)
        codes = np.empty((2, n), dtype=np.uint8)
        action = np.empty(n, dtype=np.int16)
        is_new = np.empty(n, dtype=np.bool_)
        value = np.empty(n, dtype=np.float64)
        quantity = np.empty(n, dtype=np.float32)
        rows, text = frozen_columns(batch)
        read_columns(rows, text, self.id_key, self._actions, codes, hashes, action, times, value, quantity)
        folded = self._less_erased(batch, hashes[0], folded)
        self.aliases.resolve_all(hashes[0])
        self._pass_by_dropped(first, codes, hashes[1], action, folded)
        _index(
            rows,
            text,
            folded,
            self._makes_items,
            hashes,
            action,
            times,
            indices,
            is_new,
            self._users,
            self._user_table,
            self._user_meta,
            self._item_hash,
            self._item_start,
            self._in_catalogue,
            self._item_text,
            self._item_table,
            self._meta,
            self.counts,
        )
        return IndexedBatch(
            first=first,
            kind=codes[0],
            operation=codes[1],
            action=action,
            folded=folded,
            user_index=indices[0],
            user_hash=hashes[0],
            user_is_new=is_new,
            item_index=indices[1],
            item_hash=hashes[1],
            session_hash=hashes[2],
            request_hash=hashes[3],
            event_time_ms=times[0],
            log_time_ms=times[1],
            value=value,
            quantity=quantity,
            source=batch,
        )

    @property
    def user_slots_used(self) -> int:
        """1 + the highest slot that a user ever had."""
        return int(self._user_meta["used"][0])

    def user_hash_of(self, user_id: str) -> int:
        """Return the hash of the user that an id stands for; 0 = no id."""
        return self.aliases.resolve(id_hash(user_id, self.id_key))

    def user_index(self, user_id: str) -> int:
        """Return the slot of a user, -1 when it is not known. Changes nothing, not even who goes next."""
        return self.user_slot(self.user_hash_of(user_id))

    def user_slot(self, user_hash: int) -> int:
        """Return the slot of the user of a hash, -1 when it has none."""
        return find(np.uint64(user_hash), self._users["hash"], self._user_table) if user_hash else -1

    def merge_users(self, into_hash: int, from_hash: int) -> tuple[int, int]:
        """Return the slots of a user, and of another who becomes this one; of that -1 when nothing is to be added.

        The other's slot is still its own: ``release`` it when its row has been added.
        """
        return merge_users(np.uint64(into_hash), np.uint64(from_hash), self._users, self._user_table, self._user_meta)

    def release(self, user_index: int) -> None:
        """Give the slot of a user up: it is the next to be taken."""
        release_user(user_index, self._users, self._user_table, self._user_meta)

    def user_hash(self, user_index: int) -> int:
        """Return the 64-bit hash of the id of the user in a slot."""
        return int(self._users["hash"][user_index])

    def item_index(self, item_id: str) -> int:
        """Return the index of an item, -1 when it is not known."""
        return int(self.item_indices((item_id,))[0])

    def item_indices(self, item_ids: Sequence[str]) -> Index:
        """Return the index of each item, in order; -1 = not known. Cost: about 0.2 µs an item."""
        texts = [item_id.encode() for item_id in item_ids]
        lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        arena = np.frombuffer(b"".join(texts) or b"\0", dtype=np.uint8)
        found = np.empty(len(texts), dtype=np.int32)
        items = (self._item_hash, self._item_start, self._item_text, self._item_table)
        find_items(arena, lengths, self.id_key, found, *items)
        return found

    def item_indices_of_hashes(self, hashes: NDArray[np.uint64]) -> Index:
        """Return the index of the item of each hash, in order; -1 = none. Cost: about 0.1 µs an item."""
        found = np.empty(len(hashes), dtype=np.int32)
        find_each(np.ascontiguousarray(hashes, dtype=np.uint64), self._item_hash, self._item_table, found)
        return found

    def item_id(self, item_index: int) -> str:
        """Return the id of an item."""
        start, stop = self._item_start[item_index : item_index + 2].tolist()
        return self._item_text[start:stop].tobytes().decode()

    def item_ids(self, item_index: Index) -> list[str]:
        """Return the id of each item, in order. Cost: 1 µs for 20 that were asked for before, else 0.5 µs each."""
        known = self._id_texts
        indices: list[int] = item_index.tolist()
        found: list[str] = []
        for index in indices:
            text = known[index]
            if text is None:
                text = known[index] = self.item_id(index)
            found.append(text)
        return found

    def item_numbers(self, item_index: Index) -> NDArray[np.uint64]:
        """Return XXH64 of the id of each item, in order: the same in every log, for models that may come from another.

        Cost: 20 ns an item.
        """
        found = np.empty(len(item_index), dtype=np.uint64)
        number_items(item_index, self._item_start, self._item_text, found)
        return found

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return users by slot, the slots from least to most recently seen and the free ones, items, and the counts."""
        items = self.item_count
        used = int(self._user_meta["used"][0])
        order = np.empty(self.user_count, dtype=np.int32)
        write_order(self._users, self._user_meta, order)
        free = np.empty(used - self.user_count, dtype=np.int32)
        write_free(self._users, self._user_meta, free)
        return {
            "user_hash": self._users["hash"][:used].copy(),
            "user_order": order,
            "user_free": free,
            "item_hash": self._item_hash[:items].copy(),
            "item_start": self._item_start[: items + 1].copy(),
            "item_text": self._item_text[: self._item_start[items]].copy(),
            "in_catalogue": self._in_catalogue[:items].copy(),
            "counts": self.counts.copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the vocabulary whose ``arrays`` these are."""
        used = len(arrays["user_hash"])
        items = len(arrays["item_hash"])
        self._users["hash"][:used] = arrays["user_hash"]
        self._id_texts = [None] * len(self._id_texts)
        self._item_hash[:items] = arrays["item_hash"]
        self._item_start[: items + 1] = arrays["item_start"]
        self._item_text[: len(arrays["item_text"])] = arrays["item_text"]
        self._in_catalogue[:] = False
        self._in_catalogue[:items] = arrays["in_catalogue"]
        self.counts[:] = arrays["counts"]
        self._user_meta["used"] = used
        self._user_meta["users"] = len(arrays["user_order"])
        self._meta["items"] = items
        self._meta["click_items"] = items - np.count_nonzero(arrays["in_catalogue"])
        self._meta["text_used"] = len(arrays["item_text"])
        read_order(arrays["user_order"].astype(np.int32), self._users, self._user_meta)
        read_free(arrays["user_free"].astype(np.int32), self._users, self._user_meta)
        fill(self._users["hash"], used, self._user_table)
        fill(self._item_hash, items, self._item_table)

    def _less_erased(self, batch: EventBatch, user_hash: NDArray[np.uint64], folded: Mask) -> Mask:
        """Return which events are to be folded when late copies of erased users are not."""
        refused = self.erasures.refused(batch.rows, user_hash)
        if refused is None or not (refused := refused & folded).any():
            return folded
        count = np.count_nonzero(refused)
        self.counts[_ERASED] += count
        self.counts[_DUPLICATES] -= count  # as which everything counts that is not to be folded
        return folded & ~refused

    def _pass_by_dropped(
        self,
        first: LogPosition,
        codes: NDArray[np.uint8],
        item_hash: NDArray[np.uint64],
        action: NDArray[np.int16],
        folded: Mask,
    ) -> None:
        """Let events that name dropped items name none; acts and what puts one count as without room for it."""
        passed_by = self.dropped.are_passed_by(first, item_hash)
        if passed_by is not None:
            item_hash[passed_by] = _NONE
            wants = (action >= 0) | ((codes[0] == _ITEM) & (codes[1] != _DELETE))
            self.counts[_ITEM_REFUSED] += np.count_nonzero(passed_by & folded & wants)


@kernel
def _index(
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
    evicted_before = user_meta[0]["evicted"]
    for i in range(len(rows)):
        _look_ahead(i, hashes, users, user_table, item_hash, item_start, item_table)
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
            start = signed(row["text_start"]) + signed(row["event_id_length"])
            start += signed(row["action_length"]) + signed(row["user_id_length"])
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


@kernel
def _look_ahead(
    i: int,
    hashes: NDArray[np.uint64],
    users: NDArray[np.void],
    user_table: NDArray[np.int32],
    item_hash: NDArray[np.uint64],
    item_start: NDArray[np.int64],
    item_table: NDArray[np.int32],
) -> None:
    """Ask for what the events after one need: first the entries of the tables, then what those name."""
    last = hashes.shape[1] - 1
    user, item = hashes[0, min(i + FURTHER, last)], hashes[1, min(i + FURTHER, last)]
    prefetch(user_table, signed(user) & (len(user_table) - 1), 0)
    prefetch(item_table, signed(item) & (len(item_table) - 1), 0)
    user, item = hashes[0, min(i + AHEAD, last)], hashes[1, min(i + AHEAD, last)]
    place = signed(user_table[signed(user) & (len(user_table) - 1)]) - 1
    prefetch(users, place, 0)
    place = signed(item_table[signed(item) & (len(item_table) - 1)]) - 1
    prefetch(item_hash, place, 0)
    prefetch(item_start, place, 0)
    place = signed(user_table[signed(hashes[0, min(i + NEAR, last)]) & (len(user_table) - 1)]) - 1
    if place >= 0:
        prefetch(users, signed(users[place]["older"]), 0)
        prefetch(users, signed(users[place]["newer"]), 0)


@kernel
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
