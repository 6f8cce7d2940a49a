"""Training data of item models: the acts of a log, in one pass with bounded memory, as the fold takes them.

Copies, items without room, deleted items and merged ids are decided by the same tables as in the state (event ids,
vocabulary, items, sessions), so a training has the acts of the state. The tables are those of the state's compaction
too: freed slots have room for new items here as well. The end of the log decides: acts of a merged id belong to its
user; acts from before a user was deleted, and those of erased users, have no owner; deleted items are left out.

Memory: 44 bytes an act while they are read, as much again while they are sorted; the newest ``acts_max`` are kept.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, Index, IndexedBatch, LogPosition, Mask
from midstream.events.schema import texts_of
from midstream.events.values import merged_id
from midstream.models.descriptions import Description, description_of
from midstream.models.histories import Histories, Interactions
from midstream.models.vocabulary import ItemVocabulary
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import blanked_hashes
from midstream.state.ids.event_ids import EventAdmission
from midstream.state.steps import parts, step_of, steps
from midstream.state.structures.hashing import id_hash

Hidden: TypeAlias = Callable[[LogPosition, EventBatch], Mask]
"""Returns which events of a batch are of erased users."""
ACT_BYTES = 128
"""Of an act, at most, while acts are put in order."""
ACTS_MAX = 20_000_000
"""2.5 GB of them."""
_BODY = 6
Number = TypeVar("Number", np.uint64, np.int64)


@dataclass(frozen=True, slots=True)
class ActOptions:
    """Which acts, and how they are put together."""

    weights: Mapping[str, float]
    """Action to weight, above 0; others are left out."""
    by_session: bool = False
    """Whether a history is that of a session; else that of a user, and of a session where no user is known."""
    history_acts_max: int = 1_000
    """Newest acts of each history."""
    acts_max: int = ACTS_MAX
    """Newest acts of all."""
    first: int = 0
    """Log position from which on."""
    stop: int | None = None
    """Log position before which; None = the end."""
    since_ms: int | None = None
    """Log time from which on."""
    until_ms: int | None = None
    """Log time before which."""
    is_described: bool = False
    """Whether catalogue items without acts are included, with the content of each item."""


@dataclass(frozen=True, slots=True, eq=False)
class Acts:
    """Acts in log order. All columns (n,)."""

    owner: NDArray[np.uint64]
    """Owner of each act: the hash of a user, of a session without one, or the number of a session."""
    item: Index
    """Row in the vocabulary."""
    weight: NDArray[np.float32]
    time_ms: NDArray[np.int64]
    """Event time."""
    position: NDArray[np.int64]
    """Log position before the event; rising."""
    vocabulary: ItemVocabulary
    """The items of these acts, and with ``is_described`` those of the catalogue, in the order in which the log first
    named them."""
    log_time_ms: tuple[int, int]
    """Of the first and the last act; zeros where there is none."""
    left_out: Mapping[str, int]
    """Acts that weigh something and are not here, by why."""
    described: Sequence[Description] = ()
    """Content of each item at the end of the log, by row; empty unless ``is_described``."""

    def __len__(self) -> int:
        """Return the number of acts."""
        return len(self.owner)

    def owners(self) -> int:
        """Return the number of histories. Cost: a sort."""
        return len(np.unique(self.owner))

    def cut(self, share: float) -> int:
        """Return the log position that has the newest ``share`` of the acts behind it."""
        if not len(self):
            return 0
        kept = len(self) - round(share * len(self))
        return int(self.position[kept]) if kept < len(self) else int(self.position[-1]) + 1

    def histories(
        self, history_acts_max: int, first: int = 0, stop: int | None = None
    ) -> tuple[Histories, NDArray[np.uint64]]:
        """Return the acts between two log positions as histories, and the owner of each, ascending; none is empty.

        Args:
            history_acts_max: Newest acts of each.
            first: First log position.
            stop: Position after the last; None = the end.
        """
        end = len(self) if stop is None else int(np.searchsorted(self.position, stop))
        chosen = slice(int(np.searchsorted(self.position, first)), end)
        owner = self.owner[chosen]
        order = np.argsort(owner, kind="stable")
        whose, begin, count = np.unique(owner[order], return_index=True, return_counts=True)
        place = np.arange(len(order)) - np.repeat(begin, count)
        newest = place >= np.repeat(count - history_acts_max, count)
        order = order[newest]
        sizes = np.minimum(count, history_acts_max)
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        found = Histories(self.item[chosen][order], self.weight[chosen][order], start, self.time_ms[chosen][order])
        return found, whose

    def interactions(self, history_acts_max: int, stop: int | None = None) -> Interactions:
        """Return the training data of a model: the acts before a log position, with the vocabulary of all of them."""
        return Interactions(self.vocabulary, self.histories(history_acts_max, stop=stop)[0], self.described)


class ActReader:
    """Reads a log batch by batch, from where it begins."""

    def __init__(self, fold: Fold, options: ActOptions, hidden: Hidden) -> None:
        """Begin with the state at the beginning of a log.

        Args:
            fold: Of that beginning. Its event ids, vocabulary, items and sessions fold the events; it cannot answer any
                more.
            options: Selection of acts.
            hidden: Returns the events of erased users.
        """
        self._fold = fold
        self._options = options
        self._hidden = hidden
        names = fold.settings.action_names()
        self._weights = np.array([options.weights.get(name, 0.0) for name in names], dtype=np.float32)
        self._parts: deque[_Part] = deque()
        self._held = 0
        self._users = _Users()
        self._left: dict[str, int] = {}

    def add(self, first: LogPosition, batch: EventBatch) -> None:
        """Take the next events. Cost: about 1 µs an act, 3.5 µs where every second event changes an item or a user."""
        found = self._fold.event_ids.admit(
            self._fold.event_ids.fingerprints(batch), batch.rows["log_time_ms"].astype(np.int64)
        )
        hidden = self._hidden(first, batch) & (batch.rows["kind"] != Kind.ERASE)  # what they refuse stays refused
        is_new = found == int(EventAdmission.NEW)
        gone = self._fold.vocabulary.dropped.acts_within(first, len(batch))
        self._count("taken_back", np.count_nonzero(is_new[gone] & (batch.rows["kind"][gone] == Kind.INTERACTION)))
        self._count("erased", np.count_nonzero(hidden & is_new & (batch.rows["kind"] == Kind.INTERACTION)))
        folded = is_new & ~hidden
        for step in steps(first, batch):
            is_folded = folded[step.first - first :][: len(step.source)]
            indexed = self._fold.vocabulary.index(step.first, step.source, is_folded)
            late = is_folded & ~indexed.folded & (indexed.kind == Kind.INTERACTION)
            self._count("erased", np.count_nonzero(late))
            self._take(indexed)

    def acts(self) -> Acts:
        """Return what was read; the reader is empty after it."""
        part = _joined(tuple(self._parts))
        self._parts.clear()
        owner = part.owner if self._options.by_session else self._users.settled(part.owner, part.position)
        vocabulary = self._fold.vocabulary
        deleted = np.zeros(vocabulary.item_count, dtype=np.bool_)
        deleted[self._fold.items.deleted()] = True
        known = ~deleted[part.item]
        if self._fold.settings.unknown_items != "accept":
            known &= vocabulary.in_catalogue[part.item]  # the others are never served
        self._count("item_deleted", np.count_nonzero(~known))
        is_somebodys = np.ones(len(owner), dtype=np.bool_) if self._options.by_session else owner != 0
        self._count("user_deleted", np.count_nonzero(known & ~is_somebodys))
        kept = np.flatnonzero(known & is_somebodys)
        item_index = np.unique(part.item[kept])
        described: tuple[Description, ...] = ()
        if self._options.is_described:
            item_index = np.union1d(item_index, np.flatnonzero(vocabulary.in_catalogue & ~deleted)).astype(np.int32)
            kinds, items = self._fold.settings.attributes, self._fold.items
            described = tuple(description_of(items.document(index), kinds) for index in item_index.tolist())
        row = np.searchsorted(item_index, part.item[kept])
        ids = vocabulary.item_ids(item_index)
        times = part.log_time_ms[kept]
        return Acts(
            owner[kept],
            row.astype(np.int32),
            part.weight[kept],
            part.time_ms[kept],
            part.position[kept],
            ItemVocabulary.of(ids),
            (int(times[0]), int(times[-1])) if len(times) else (0, 0),
            dict(self._left),
            described,
        )

    def _take(self, batch: IndexedBatch) -> None:
        """Take events of which at most the only one is a merge or an erasure."""
        step = step_of(batch)
        self._fold.sessions.apply(step)
        for part in parts(step):
            self._fold.items.apply(part)
        self._collect(batch, step.sessions.number)
        for place in np.flatnonzero((batch.kind == Kind.USER) & batch.folded).tolist():
            self._change_user(batch, place)
        if batch.kind[0] == Kind.ERASE and batch.folded[0]:
            self._erase(batch)
        self._fold.vocabulary.erasures.expire(int(batch.log_time_ms[-1]))

    def _erase(self, batch: IndexedBatch) -> None:
        """Erase a user; a carried-out erase, with hashes alone, only refuses late copies."""
        vocabulary, user_hash = self._fold.vocabulary, int(batch.user_hash[0])
        if not user_hash:
            hashes = blanked_hashes(texts_of(batch.source, 0)[_BODY])
            log_time_ms = int(batch.log_time_ms[0])
            vocabulary.erasures.add(hashes, log_time_ms, batch.first, log_time_ms, is_pending=False)
            return
        vocabulary.aliases.forget(user_hash)
        self._fold.sessions.forget(user_hash)
        self._users.forget(user_hash)

    def _collect(self, batch: IndexedBatch, sessions: NDArray[np.int64]) -> None:
        """Keep the acts of a batch that are wanted."""
        weight = np.where(batch.action >= 0, self._weights[batch.action], np.float32(0))
        position = batch.first + np.arange(len(batch), dtype=np.int64)
        counts = batch.folded & (weight > 0) & self._is_in_range(position, batch.log_time_ms)
        owner = np.where(batch.user_hash != 0, batch.user_hash, batch.session_hash)
        has_owner = owner != 0
        if self._options.by_session:
            owner, has_owner = sessions.astype(np.uint64), sessions >= 0
        has_item = batch.item_index >= 0
        is_dropped = (batch.item_hash == 0) & (batch.source.rows["item_id_length"] > 0)  # by a compaction, as deleted
        self._count("item_deleted", np.count_nonzero(counts & is_dropped))
        self._count("without_room_for_the_item", np.count_nonzero(counts & ~has_item & ~is_dropped))
        self._count("of_nobody", np.count_nonzero(counts & has_item & ~has_owner))
        rows = np.flatnonzero(counts & has_item & has_owner)
        if len(rows):
            part = _Part(owner, batch.item_index, weight, batch.event_time_ms, batch.log_time_ms, position)
            self._parts.append(part.take(rows))
            self._held += len(rows)
            self._drop_oldest()

    def _is_in_range(self, position: NDArray[np.int64], log_time_ms: NDArray[np.int64]) -> Mask:
        """Return which events are of the wanted part of the log."""
        options = self._options
        found = position >= options.first
        if options.stop is not None:
            found &= position < options.stop
        if options.since_ms is not None:
            found &= log_time_ms >= options.since_ms
        if options.until_ms is not None:
            found &= log_time_ms < options.until_ms
        return found

    def _drop_oldest(self) -> None:
        """Keep the newest ``acts_max``."""
        while self._held > self._options.acts_max:
            oldest = self._parts.popleft()
            gone = min(len(oldest.owner), self._held - self._options.acts_max)
            self._held -= gone
            self._count("older_than_the_newest_kept", gone)
            if gone < len(oldest.owner):
                self._parts.appendleft(oldest.take(slice(gone, None)))

    def _change_user(self, batch: IndexedBatch, place: int) -> None:
        """Let a user be another, or begin anew."""
        user_hash = int(batch.user_hash[place])
        if batch.operation[place] == Operation.DELETE:
            self._users.clear(user_hash, batch.first + place)
        elif batch.operation[place] == Operation.MERGE:
            other = id_hash(merged_id(texts_of(batch.source, place)[_BODY]), self._fold.vocabulary.id_key)
            row = batch.source.rows[place : place + 1]
            if self._fold.vocabulary.erasures.refused(row, np.array([other], dtype=np.uint64)):
                return
            pair = self._fold.vocabulary.aliases.merge(user_hash, other)
            if pair is not None:
                self._fold.sessions.merge(*pair)
                self._users.merge(*pair)

    def _count(self, why: str, count: "np.intp | int") -> None:
        if count:
            self._left[why] = self._left.get(why, 0) + int(count)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Acts of one batch. All columns (n,)."""

    owner: NDArray[np.uint64]
    item: Index
    weight: NDArray[np.float32]
    time_ms: NDArray[np.int64]
    log_time_ms: NDArray[np.int64]
    position: NDArray[np.int64]

    def take(self, rows: slice | NDArray[np.intp]) -> "_Part":
        """Return some of the acts."""
        return _Part(
            self.owner[rows],
            self.item[rows],
            self.weight[rows],
            self.time_ms[rows],
            self.log_time_ms[rows],
            self.position[rows],
        )


def _joined(held: Sequence[_Part]) -> _Part:
    """Return the acts of all parts, in order."""
    none = np.empty(0, dtype=np.int64)
    empty = _Part(np.empty(0, np.uint64), np.empty(0, np.int32), np.empty(0, np.float32), none, none, none)
    every = (empty, *held)
    return _Part(
        np.concatenate([each.owner for each in every]),
        np.concatenate([each.item for each in every]),
        np.concatenate([each.weight for each in every]),
        np.concatenate([each.time_ms for each in every]),
        np.concatenate([each.log_time_ms for each in every]),
        np.concatenate([each.position for each in every]),
    )


@dataclass(slots=True)
class _Users:
    """Final user of each hash, and the log position from which its acts count."""

    into: dict[int, int] = field(default_factory=dict[int, int])
    cleared: dict[int, int] = field(default_factory=dict[int, int])
    """Hash of an id to the log position before which its acts have no owner."""

    def merge(self, into_hash: int, other_hash: int) -> None:
        """Let all acts of one be another's."""
        for each in [one for one, user in self.into.items() if user == other_hash]:
            self.into[each] = into_hash
        self.into[other_hash] = into_hash
        self.into.pop(into_hash, None)

    def forget(self, user_hash: int) -> None:
        """Separate all ids of a user, and drop the owner of their acts until now."""
        for each in [one for one, user in self.into.items() if user == user_hash]:
            del self.into[each]

    def clear(self, user_hash: int, position: int) -> None:
        """Drop the owner of a user's acts before a log position."""
        for each in (user_hash, *(one for one, user in self.into.items() if user == user_hash)):
            self.cleared[each] = position

    def settled(self, owner: NDArray[np.uint64], position: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return the user of each act, 0 = none. Cost: a search an act."""
        gone = position < _looked_up(self.cleared, owner, np.zeros(len(owner), dtype=np.int64))
        return np.where(gone, np.uint64(0), _looked_up(self.into, owner, owner))


def _looked_up(told: Mapping[int, int], keys: NDArray[np.uint64], otherwise: NDArray[Number]) -> NDArray[Number]:
    """Return the value of each key, and of missing ones the default."""
    if not told:
        return otherwise
    known = np.array(sorted(told), dtype=np.uint64)
    values = np.array([told[each] for each in known.tolist()], dtype=otherwise.dtype)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], otherwise)
