"""Shards of a log: the events of one item, or of one session, together and in the order of the log.

A shard is folded by tables of the state that keep nothing across its border, so what they hold is what the whole state
holds. Items stand for themselves; a session is that of its id or, without one, of its user, and users who were merged
count as one throughout. Changes of the catalogue go to every shard of sessions, for they decide which items there are;
merges, deletions and erasures of users go to all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.app.spark.log_ranges import LogPlace, LogRange, decode_range, event_batches
from midstream.app.spark.taken_back import TakenBack
from midstream.core.kinds import Kind, Operation
from midstream.core.types import EventBatch, Mask
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.events.schema import ROW, TEXTS, concat, event_at, pick
from midstream.events.values import merged_id
from midstream.state.ids.erased_users import hash_column
from midstream.state.structures.hashing import NO_KEY, id_hash, id_key_of

By: TypeAlias = Literal["item", "session"]
SHARD_SCHEMA: Schema = pa.schema([("shard", pa.int32()), ("first", pa.int64()), ("events", pa.binary())])
"""Events of a shard from one range: position of the first one, and all of them as ``pack`` writes them."""
_USER_TEXT, _ITEM_TEXT, _SESSION_TEXT = (TEXTS.index(name) for name in ("user_id", "item_id", "session_id"))
_EVERYWHERE, _NOWHERE = -1, -2
_KEY = id_key_of(NO_KEY)
"""Of hashes that share events out: they stay within a job."""


class MergedUsers(msgspec.Struct, frozen=True, array_like=True):
    """Users who were merged: the hash of each, ascending, and that of the one who stands for it."""

    hashes: bytes = b""
    stand_for: bytes = b""

    def resolve(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the hash that stands for each."""
        known = np.frombuffer(self.hashes, dtype="<u8")
        if not len(known):
            return hashes
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        return np.where(known[at] == hashes, np.frombuffer(self.stand_for, dtype="<u8")[at], hashes)


@dataclass(frozen=True, slots=True)
class Sharding:
    """How events are shared out."""

    by: By
    shards: int
    merged: MergedUsers


class ShardEvents(NamedTuple):
    """Events of a shard from one range."""

    events: EventBatch
    taken_back: NDArray[np.int64]
    """Acts among them that were taken back, by number, ascending. They stay, for the sake of their ids: a copy that a
    crash left further on is still none of its own."""


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    rows: bytes
    text: bytes
    taken_back: bytes


class _Piece(msgspec.Struct, frozen=True, array_like=True):
    first: int
    stop: int
    taken_back: bytes


def pack(shard: ShardEvents) -> bytes:
    """Return events as bytes: rows and texts as they are in memory."""
    rows = np.ascontiguousarray(shard.events.rows).tobytes()
    return msgspec.msgpack.encode(_Packed(rows, shard.events.text, shard.taken_back.tobytes()))


def unpack(packed: bytes) -> ShardEvents:
    """Return the events of ``pack``."""
    told = msgspec.msgpack.decode(packed, type=_Packed)
    events = EventBatch(np.frombuffer(told.rows, dtype=ROW).copy(), told.text)
    return ShardEvents(events, np.frombuffer(told.taken_back, dtype=np.int64))


def encode_piece(part: LogRange, taken_back: TakenBack) -> bytes:
    """Return a range, with the acts of it that were taken back, as it goes to a task that shares out events."""
    return msgspec.msgpack.encode(_Piece(*part, taken_back.within(part).tobytes()))


def merges_of(place: LogPlace, piece: bytes) -> Iterator[Batch]:
    """Yield the merges of users in a range, as pairs of ids; runs in tasks."""
    for _, batch in event_batches(place, decode_range(piece)):
        rows = batch.rows
        found = np.flatnonzero((rows["kind"] == Kind.USER) & (rows["operation"] == Operation.MERGE))
        events = [event_at(batch, at) for at in found.tolist()]
        if events:
            pairs = [(each.user_id, merged_id(each.body)) for each in events]
            columns = [pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1)]
            yield pa.RecordBatch.from_arrays(columns, schema=MERGE_SCHEMA)


MERGE_SCHEMA: Schema = pa.schema([("into", pa.string()), ("other", pa.string())])


def joined_users(merges: Sequence[tuple[str, str]]) -> MergedUsers:
    """Return who stands for whom when all users of a chain of merges are one.

    >>> one = joined_users([("ann", "b"), ("b", "c")])
    >>> len(set(one.resolve(np.array([id_hash(x, _KEY) for x in ("ann", "b", "c")], np.uint64)).tolist()))
    1
    """
    parent: dict[int, int] = {}

    def root(user: int) -> int:
        while parent.setdefault(user, user) != user:
            parent[user] = parent[parent[user]]
            user = parent[user]
        return user

    for into, other in merges:
        one, two = root(id_hash(into, _KEY)), root(id_hash(other, _KEY))
        parent[max(one, two)] = min(one, two)
    users = sorted(parent)
    hashes, stand_for = np.array(users, "<u8"), np.array([root(user) for user in users], "<u8")
    return MergedUsers(hashes.tobytes(), stand_for.tobytes())


def sharded(place: LogPlace, sharding: Sharding, piece: bytes) -> Iterator[Batch]:
    """Yield the events of a range by shard, one row a shard that has any; runs in tasks.

    Memory: that of the range, twice.
    """
    told = msgspec.msgpack.decode(piece, type=_Piece)
    part = LogRange(told.first, told.stop)
    read = [batch for _, batch in event_batches(place, part)]
    if not read:
        return
    events = concat(read)
    taken_back = np.frombuffer(told.taken_back, dtype=np.int64) - part.first
    shard = _shards_of(events, sharding)
    everywhere = np.flatnonzero(shard == _EVERYWHERE)
    numbers = range(sharding.shards) if len(everywhere) else np.unique(shard[shard >= 0]).tolist()
    for number in numbers:
        own = np.flatnonzero((shard == number) | (shard == _EVERYWHERE))
        shared = ShardEvents(pick(events, own), np.flatnonzero(np.isin(own, taken_back)))
        column = pa.array([pack(shared)], pa.binary())
        place_columns = [pa.array([number], pa.int32()), pa.array([part.first], pa.int64())]
        yield pa.RecordBatch.from_arrays([*place_columns, column], schema=SHARD_SCHEMA)


def _shards_of(events: EventBatch, sharding: Sharding) -> NDArray[np.int64]:
    """Return the shard of each event, (n,); -1 = all of them, -2 = none."""
    kind, operation = events.rows["kind"], events.rows["operation"]
    ends_user: Mask = (kind == Kind.USER) & np.isin(operation, (Operation.MERGE, Operation.DELETE))
    to_all: Mask = ends_user | (kind == Kind.ERASE)
    if sharding.by == "item":
        own: Mask = np.isin(kind, (Kind.INTERACTION, Kind.IMPRESSION, Kind.ITEM))
        hashes = hash_column(events, _ITEM_TEXT, _KEY)
    else:
        own = kind == Kind.INTERACTION
        to_all = to_all | (kind == Kind.ITEM)
        session = hash_column(events, _SESSION_TEXT, _KEY)
        user = sharding.merged.resolve(hash_column(events, _USER_TEXT, _KEY))
        hashes = np.where(session > 0, session, user)
    found = np.where(own & (hashes > 0), (hashes % np.uint64(sharding.shards)).astype(np.int64), _NOWHERE)
    return np.where(to_all, _EVERYWHERE, found)
