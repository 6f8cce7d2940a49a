"""Events of units, by batch of the log: served records are exposures, interactions are what a unit did.

The unit of an event is that which a request of the same user, else of the same session, would have. Ids are hashed
here, which needs nothing but the key of the log; whom a merged user stands for is looked up in the state by ``united``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.events.schema import text_column
from midstream.events.served_body import decode_body
from midstream.feedback.slate_labels import segment_of
from midstream.state.cells.fold import SENT_MAX
from midstream.state.ids.aliases import Aliases
from midstream.state.structures.hashing import IdKey, hashes_of

_SERVED, _INTERACTION = int(Kind.SERVED), int(Kind.INTERACTION)
_SESSION = np.uint64(0x9E3779B97F4A7C15)
"""Tells the session of a text from the user of the same text."""


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The first fields of a served record: decoding stops looking at the others."""

    version: int
    log_position: int
    request_id: str
    placement: str


_head = msgspec.msgpack.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Askers:
    """Who the events of a batch are of, as hashes of the ids that were sent."""

    user: NDArray[np.uint64]
    """(n,), 0 = none."""
    session: NDArray[np.uint64]
    """(n,), 0 = none."""

    def united(self, aliases: Aliases) -> NDArray[np.uint64]:
        """Return the unit of each, after merges; 0 = it has neither user nor session."""
        users = self.user.copy()
        aliases.resolve_all(users)
        return np.where(users != 0, users, np.where(self.session != 0, self.session ^ _SESSION, np.uint64(0)))


@dataclass(frozen=True, slots=True)
class Exposures:
    """Slates of some placements."""

    askers: Askers
    placement: NDArray[np.int16]
    """Number of the placement, (n,)."""
    time_ms: NDArray[np.int64]
    """Log time, (n,)."""
    is_empty: NDArray[np.bool_]
    """The slate has no item, (n,)."""
    took_us: NDArray[np.float64]
    """From the request's admission to the slate, whole microseconds, (n,); NaN = not measured."""
    segments: tuple[tuple[str, ...], ...] = ()
    """Of each slate the values of the keys that were asked for, in order; empty = none was."""


@dataclass(frozen=True, slots=True)
class UnitActs:
    """Interactions."""

    askers: Askers
    column: NDArray[np.intp]
    """Number of the action, (n,)."""
    value: NDArray[np.float64]
    """Value x quantity, (n,); a quantity that was not sent is 1, a value 0; numbers beyond 1e18 count as not sent."""
    time_ms: NDArray[np.int64]
    """Log time, (n,)."""
    position: NDArray[np.int64]
    """Log position, (n,)."""


def exposures_of(
    batch: EventBatch, numbers: Mapping[str, int], key: IdKey, segment_keys: Sequence[str] = ()
) -> Exposures:
    """Return the slates of some placements in a batch. Cost: 1 µs a slate, 5 µs one of these placements.

    Args:
        batch: Of the log.
        numbers: Of the placements, by name.
        key: Of the log.
        segment_keys: Keys of the request's context, whose values are read too.
    """
    rows = np.flatnonzero(batch.rows["kind"] == _SERVED)
    told = [numbers.get(_placement(body), -1) for body in text_column(batch, "body", rows)]
    placement = np.array(told, dtype=np.int16)
    rows, placement = rows[placement >= 0], placement[placement >= 0]
    bodies = [decode_body(body) for body in text_column(batch, "body", rows)]
    empty = np.array([not each.ids for each in bodies], dtype=np.bool_)
    took_us = np.array([math.nan if each.took_us is None else each.took_us for each in bodies], dtype=np.float64)
    segments = tuple(tuple(segment_of(each, name) for name in segment_keys) for each in bodies) if segment_keys else ()
    return Exposures(askers_of(batch, rows, key), placement, _time_ms(batch, rows), empty, took_us, segments)


def acts_of(batch: EventBatch, numbers: Mapping[bytes, int], key: IdKey, position: NDArray[np.int64]) -> UnitActs:
    """Return the interactions of some actions in a batch.

    Args:
        batch: Of the log.
        numbers: Of the actions, by name in UTF-8.
        key: Of the log.
        position: Log position of each event of the batch, (n,).
    """
    rows = np.flatnonzero(batch.rows["kind"] == _INTERACTION)
    column = np.array([numbers.get(each, -1) for each in text_column(batch, "action", rows)], dtype=np.intp)
    rows, column = rows[column >= 0], column[column >= 0]
    # As in the join of outcomes, so that no event makes a sum infinite: NaN is beyond the maximum too.
    value, quantity = batch.rows["value"][rows].astype(np.float64), batch.rows["quantity"][rows].astype(np.float64)
    value = np.where(np.abs(value) <= SENT_MAX, value, 0.0) * np.where(np.abs(quantity) <= SENT_MAX, quantity, 1.0)
    return UnitActs(askers_of(batch, rows, key), column, value, _time_ms(batch, rows), position[rows])


def askers_of(batch: EventBatch, rows: NDArray[np.integer], key: IdKey) -> Askers:
    """Return who some events are of."""
    return Askers(
        _hashes(text_column(batch, "user_id", rows), key), _hashes(text_column(batch, "session_id", rows), key)
    )


def _time_ms(batch: EventBatch, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.asarray(batch.rows["log_time_ms"][rows], dtype=np.int64)


def _placement(body: bytes) -> str:
    """Return the placement of a served record; empty = it is none, such as a blanked one."""
    try:
        return _head.decode(body).placement
    except msgspec.MsgspecError:
        return ""


def _hashes(texts: Sequence[bytes], key: IdKey) -> NDArray[np.uint64]:
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in texts], out=starts[1:])
    return hashes_of(np.frombuffer(b"".join(texts), dtype=np.uint8), starts, key)
