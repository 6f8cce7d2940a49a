"""Merged people: which ids are one user along a log, as its merges and what is known from before it make them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from midstream.core.types import EventBatch
from midstream.events.schema import event_at
from midstream.state.ids.erased_users import hash_column
from midstream.state.structures.hashing import IdKey, id_hash

_USER_TEXT = 2


@dataclass(frozen=True, slots=True)
class KnownPeople:
    """Merges and erases from before the beginning of a log, by hashes of ids, as its base state has them."""

    log_position: int
    """Where the log begins; what the base repeats as events lies before it."""
    aliases: Mapping[int, int] = field(default_factory=dict[int, int])
    """Hash of each id that stands for another to the hash of that."""
    refused: Mapping[int, int] = field(default_factory=dict[int, int])
    """Hash of each id that was erased a short while before to the log time of the erase."""


class MergedPeople:
    """Which ids are one user, as merges make them, by hash; an id has a name once an event has it.

    Unlike the fold's aliases, none goes for want of room: an id that the fold forgot is the same user's still.
    """

    def __init__(self, key: IdKey) -> None:
        """Know of no merge; ``key`` hashes ids."""
        self._key = key
        self._user_of: dict[int, int] = {}
        self._ids_of: dict[int, list[int]] = {}
        self._wanted = np.empty(0, dtype=np.uint64)
        """Hashes of ids that were merged before any event named them, ascending."""
        self.names: dict[int, str] = {}

    def hash_of(self, user_id: str) -> int:
        """Return the hash of an id, which has this name from here on."""
        found = id_hash(user_id, self._key)
        self.names[found] = user_id
        return found

    def merge(self, into_hash: int, from_hash: int) -> None:
        """Let all ids of one user be another's."""
        into, other = (self._user_of.get(each, each) for each in (into_hash, from_hash))
        if into != other:
            moved = self._ids_of.pop(other, [other])
            self._ids_of.setdefault(into, [into]).extend(moved)
            self._user_of.update(dict.fromkeys(moved, into))

    def begin_with(self, aliases: Mapping[int, int]) -> None:
        """Take in merges of ids without names; ``look`` finds those."""
        for alias, into in aliases.items():
            self.merge(into, alias)
        self._wanted = np.array(sorted({*aliases, *aliases.values()}), dtype=np.uint64)

    def look(self, batch: EventBatch) -> None:
        """Remember the names of ids that were merged without them. Cost: nothing where there are none."""
        if not len(self._wanted):
            return
        for place in np.flatnonzero(np.isin(hash_column(batch, _USER_TEXT, self._key), self._wanted)).tolist():
            self.hash_of(event_at(batch, place).user_id)

    def forget(self, user_hash: int) -> tuple[int, ...]:
        """Return all ids of a user; from here on each is a user of its own."""
        user = self._user_of.get(user_hash, user_hash)
        group = tuple(self._ids_of.pop(user, [user]))
        for each in group:
            self._user_of.pop(each, None)
        return group
