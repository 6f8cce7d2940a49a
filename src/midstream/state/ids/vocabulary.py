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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ActRetracted, FoldStep, UserChange, UserForgotten, UserMerged, UserRestarted
from midstream.core.kinds import IMPRESSION, Kind, Operation
from midstream.core.types import EventBatch, Index, IndexedBatch, LogPosition, Mask
from midstream.events.schema import texts_of
from midstream.events.values import merged_id
from midstream.state.control.retractions import Retractions, retracted_act
from midstream.state.ids.aliases import Aliases
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.ids.erased_users import Erasures
from midstream.state.ids.event_columns import read_columns
from midstream.state.ids.event_ids import EventAdmission
from midstream.state.ids.id_indexing import VocabularyCount, index_events
from midstream.state.ids.item_slots import ITEM_META, find_items, number_items
from midstream.state.ids.user_slots import (
    USER_ROW,
    merge_users,
    new_meta,
    read_free,
    read_order,
    release_user,
    write_free,
    write_order,
)
from midstream.state.settings import FoldSettings
from midstream.state.structures.hash_table import fill, find, find_each, table_size
from midstream.state.structures.hashing import IdKey, id_hash
from midstream.state.structures.kernel import frozen_columns

ITEM_ID_BYTES_MEAN = 128
"""Bytes reserved for each item id: 128 ASCII characters; when longer ones have used them up, items are refused."""
_BYTES_EACH = 17
"""Of an item: hash, start, and whether it is in the catalogue."""
_PAGE_BYTES = 4_096
_ITEM = int(Kind.ITEM)
_USER = int(Kind.USER)
_DELETE = int(Operation.DELETE)
_MERGE = int(Operation.MERGE)
_ERASE = int(Kind.ERASE)
_RETRACTION = int(Kind.RETRACTION)
_NONE = np.uint64(0)
_BODY = 6
# As plain numbers: NumPy asks an enum's member for its array protocols at each comparison, which costs 1 µs.
_NEW = int(EventAdmission.NEW)
_CONFLICT = int(EventAdmission.CONFLICT)
_CONFLICTS = int(VocabularyCount.CONFLICT)
_ITEM_REFUSED = int(VocabularyCount.ITEM_REFUSED)
_DUPLICATES = int(VocabularyCount.DUPLICATE)
_ERASED = int(VocabularyCount.ERASED)


def vocabulary_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    users_max, items_max = settings.limits.users_max, settings.limits.items_max
    users = users_max * USER_ROW.itemsize + 4 * table_size(users_max)
    return users + items_max * (_BYTES_EACH + ITEM_ID_BYTES_MEAN) + 8 + 4 * table_size(items_max)


class IdColumns(NamedTuple):
    """Arrays in which kernels look up users and items, and read ids of items."""

    key: IdKey
    users: NDArray[np.void]
    user_table: NDArray[np.int32]
    item_hash: NDArray[np.uint64]
    item_start: NDArray[np.int64]
    item_text: NDArray[np.uint8]
    item_table: NDArray[np.int32]


class VocabularyRows(NamedTuple):
    """Arrays of the table, and what decides which ids it takes in."""

    key: IdKey
    actions: NDArray[np.uint64]
    makes_items: bool
    users: NDArray[np.void]
    user_table: NDArray[np.int32]
    user_meta: NDArray[np.void]
    item_hash: NDArray[np.uint64]
    item_start: NDArray[np.int64]
    in_catalogue: Mask
    item_text: NDArray[np.uint8]
    item_table: NDArray[np.int32]
    meta: NDArray[np.void]
    counts: NDArray[np.int64]


class Vocabulary:
    """Every id that the state knows, and the counts of what events did not fit."""

    def __init__(self, settings: FoldSettings, dropped: Dropped = NOTHING) -> None:
        """Reserve the maxima; pages are paid when touched."""
        self.dropped = dropped
        limits = settings.limits
        names = self._names = settings.action_names()
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
        self.retractions = Retractions()
        """Acts that were taken back. A table of its own; only the fold changes it."""
        self._id_texts: list[str | None] = [None] * limits.items_max
        """Ids that were read before, as texts. No state: a slot is never reused, so a text is never wrong."""
        self._meta = np.zeros(1, dtype=ITEM_META)
        self._meta["click_items_max"] = min(limits.click_items_max, limits.items_max)
        self.counts = np.zeros(len(VocabularyCount), dtype=np.int64)
        """How many of each ``VocabularyCount``. Part of the state."""
        self.rows = VocabularyRows(
            self.id_key, self._actions, self._makes_items, self._users, self._user_table, self._user_meta,
            self._item_hash, self._item_start, self._in_catalogue, self._item_text, self._item_table, self._meta,
            self.counts,
        )  # fmt: skip
        """For the one pass over all tables (``state.one_pass``)."""

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
    def columns(self) -> IdColumns:
        """The arrays themselves: they stay the same for as long as the table is."""
        items = (self._item_hash, self._item_start, self._item_text, self._item_table)
        return IdColumns(self.id_key, self._users, self._user_table, *items)

    @property
    def item_hash(self) -> NDArray[np.uint64]:
        """64-bit hash of each item's id, by index: what breaks ties. A view."""
        return self._item_hash[: self.item_count]

    @property
    def in_catalogue(self) -> Mask:
        """True for each item that an item event named, by index. A view."""
        return self._in_catalogue[: self.item_count]

    @property
    def item_text_share(self) -> float:
        """Share of the room for ids of items that is in use."""
        return int(self._meta["text_used"][0]) / len(self._item_text)

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

    def apply(self, step: FoldStep) -> None:
        """Fold a step: its events with indices, and what becomes of the user whom it is about."""
        found = step.admission
        step.events = self.index(step.first, step.source, found == _NEW)
        self.counts[_CONFLICTS] += np.count_nonzero(found == _CONFLICT)
        if step.changes_user and step.events.folded[0]:
            step.change = self._change(step.events)

    def index(self, first: LogPosition, batch: EventBatch, folded: Mask) -> IndexedBatch:
        """Return the events with indices for ids, making users and items as they come.

        Args:
            first: Log position before the first event.
            batch: Stamped events.
            folded: True for each event to fold, shape (n,); False for duplicates.

        Returns:
            Columns of all events, in order. Of an event that is not folded, indices are -1. Late copies of erased
            users are not folded either, and acts that the settings pass by are ticks. Aliases and erasures are those
            that stand before the first event.
        """
        batch = self.dropped.less_acts(first, batch)
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
        index_events(
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

    def id_hash_of(self, text: str) -> int:
        """Return the hash of an id as it was sent, of a user who may be another one by now; 0 = no id."""
        return id_hash(text, self.id_key)

    def user_index(self, user_id: str) -> int:
        """Return the slot of a user, -1 when it is not known. Changes nothing, not even who goes next."""
        return self.user_slot(self.user_hash_of(user_id))

    def user_slot(self, user_hash: int) -> int:
        """Return the slot of the user of a hash, -1 when it has none."""
        return find(np.uint64(user_hash), self._users["hash"], self._user_table) if user_hash else -1

    def forget(self, user_hash: int) -> UserForgotten:
        """Give up the slot of a user; return what all other tables need to be without it, under every id."""
        hashes = np.array(sorted((user_hash, *self.aliases.members(user_hash).tolist())), dtype=np.uint64)
        slot = self.user_slot(user_hash)
        if slot >= 0:
            self.release(slot)
        return UserForgotten(slot, user_hash, hashes)

    def _change(self, event: IndexedBatch) -> UserChange | None:
        """Return what an event about a user makes of it, None = nothing: a blanked erasure, a void merge."""
        user_hash = int(event.user_hash[0])
        if event.kind[0] == _RETRACTION:
            return self._retract(event, user_hash)
        if event.kind[0] == _ERASE:
            return self.forget(user_hash) if user_hash else None
        if event.operation[0] == _MERGE:
            return self._merge(event, user_hash)
        return UserRestarted(int(event.user_index[0]), user_hash)

    def _retract(self, event: IndexedBatch, user_hash: int) -> ActRetracted | None:
        """Return what a retraction takes back, None = nothing: an act that was taken back before, or is passed by."""
        act = retracted_act(texts_of(event.source, 0)[_BODY])
        if act is None or not 0 <= act.log_position < event.first or self.dropped.has(act.log_position):
            return None
        if not self.retractions.takes(LogPosition(act.log_position)):
            return None
        action = self._names.index(act.type) if act.type in self._names else -1
        return ActRetracted(
            act.log_position,
            int(event.user_index[0]),
            user_hash,
            int(event.session_hash[0]),
            int(event.item_index[0]),
            action,
            act.type == IMPRESSION,
            act.time,
            act.log_time,
        )

    def _merge(self, event: IndexedBatch, into_hash: int) -> UserMerged | None:
        """Give up the slot of the user that a merge names, None = it is void, or was erased: then it is counted."""
        from_hash = id_hash(merged_id(texts_of(event.source, 0)[_BODY]), self.id_key)
        if self.erasures.refused(event.source.rows, np.array([from_hash], dtype=np.uint64)):
            self.counts[_ERASED] += 1
            return None
        pair = self.aliases.pair(into_hash, from_hash)
        if pair is None:
            return None
        hashes = np.array(pair, dtype=np.uint64)
        into, other = merge_users(hashes[0], hashes[1], self._users, self._user_table, self._user_meta)
        if other >= 0:
            self.release(other)
        return UserMerged(into, other, *pair)

    def release(self, user_index: int) -> None:
        """Give the slot of a user up: it is the next to be taken."""
        release_user(user_index, self._users, self._user_table, self._user_meta)

    def user_hash(self, user_index: int) -> int:
        """Return the 64-bit hash of the id of the user in a slot."""
        return int(self._users["hash"][user_index])

    def user_hashes(self, user_index: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the 64-bit hashes of the ids of the users in slots, (n,); 0 = nobody."""
        found: NDArray[np.uint64] = self._users["hash"][user_index]
        return found

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
        """Replace the vocabulary by what ``arrays`` returned."""
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
