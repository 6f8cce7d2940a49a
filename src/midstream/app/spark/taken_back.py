"""Acts that were taken back, found by a pass over a log before its acts are read.

A retraction stands behind its act, perhaps at the log's end, so a task that reads a range cannot know of it. Each job
looks for retractions first, range by range, and hands each range those that concern it. A copy of an act that a crash
left in the log is taken back with the first one, as the state takes it for a copy and never counts it.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.app.spark.log_ranges import LogPlace, LogRange, decode_range, encode_range, event_batches, events_at
from midstream.core.types import EventBatch, LogPosition, Mask
from midstream.engine.snapshots.compactions import retracted_acts
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.ids.event_ids import SPAN_S, fingerprints
from midstream.state.ids.retraction_event import ACTS
from midstream.state.structures.hashing import NO_KEY, id_key_of

TAKEN_BACK_SCHEMA: Schema = pa.schema([("log_position", pa.int64()), ("second", pa.int64())])
"""Of an act: its place in the log, and its second of log time, 0 = its user was erased and it is not known."""
_SECOND_MS = 1_000
_KINDS = tuple(ACTS)
_KEY = id_key_of(NO_KEY)
"""Of hashes that tell copies: they stay within a task."""


class TakenBack(msgspec.Struct, frozen=True, array_like=True):
    """Log positions of acts, ascending, and their seconds of log time; packed, for pieces of work."""

    packed_positions: bytes = b""
    packed_seconds: bytes = b""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Log positions, shape (n,), ascending, distinct."""
        return _unpacked(self.packed_positions)

    @property
    def seconds(self) -> NDArray[np.int64]:
        """Seconds of log time, shape (n,); 0 = not known."""
        return _unpacked(self.packed_seconds)

    def within(self, part: LogRange) -> NDArray[np.int64]:
        """Return the positions within a range."""
        start, stop = np.searchsorted(self.positions, (part.first, part.stop)).tolist()
        return self.positions[start:stop]

    def near(self, part: LogRange) -> "TakenBack":
        """Return those of a range, and those before of which a copy may lie in it.

        Log time never goes back, so a range begins no earlier than the last of these acts before it; an id is known for
        ``SPAN_S``.
        """
        positions, seconds = self.positions, self.seconds
        start, stop = np.searchsorted(positions, (part.first, part.stop)).tolist()
        begins = int(seconds[:start].max(initial=0))
        is_near = np.ones(stop, dtype=np.bool_)
        is_near[:start] = (seconds[:start] == 0) | (seconds[:start] >= begins - SPAN_S)
        return packed(positions[:stop][is_near], seconds[:stop][is_near])


NONE_TAKEN_BACK = TakenBack()
"""Of a log of which no act was taken back, and of streams."""


def packed(positions: NDArray[np.int64], seconds: NDArray[np.int64]) -> TakenBack:
    """Return acts by their positions, ascending, and their seconds."""
    return TakenBack(_packed(positions), _packed(seconds)) if len(positions) else NONE_TAKEN_BACK


def _packed(numbers: NDArray[np.int64]) -> bytes:
    return zlib.compress(np.diff(numbers, prepend=0).astype("<i8").tobytes(), level=1)


def _unpacked(told: bytes) -> NDArray[np.int64]:
    return np.cumsum(np.frombuffer(zlib.decompress(told), dtype="<i8")) if told else np.empty(0, dtype=np.int64)


def retractions_of(place: LogPlace, piece: bytes) -> Iterator[Batch]:
    """Yield the acts that the events of a range take back; runs in tasks."""
    for _, batch in event_batches(place, decode_range(piece)):
        found = [(act.log_position, act.log_time // _SECOND_MS) for act in retracted_acts(batch)]
        if found:
            columns = [pa.array(list(column), pa.int64()) for column in zip(*found, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=TAKEN_BACK_SCHEMA)


def joined_acts(found: Iterable[tuple[int, int]]) -> TakenBack:
    """Return acts, each once, by position and second.

    >>> joined_acts([(7, 20), (3, 10), (7, 0)]).seconds.tolist()  # the second retraction of 7 lost its user
    [10, 20]
    """
    second_of = dict[int, int]()
    for position, second in found:
        second_of[position] = max(second, second_of.get(position, 0))
    positions = sorted(second_of)
    return packed(
        np.array(positions, dtype=np.int64), np.array([second_of[each] for each in positions], dtype=np.int64)
    )


def taken_back_here(place: LogPlace, first: int) -> TakenBack:
    """Return the acts that were taken back by the events of a log from a position on; runs in one process."""
    pieces = (encode_range(each) for each in place.ranges(first, place.end))
    batches = chain.from_iterable(retractions_of(place, piece) for piece in pieces)
    return joined_acts(chain.from_iterable(zip(*batch.to_pydict().values(), strict=True) for batch in batches))


class KeptEvents:
    """Tells which events of a range, as they come, are no act that was taken back and no copy of one."""

    def __init__(self, place: LogPlace, part: LogRange, taken_back: TakenBack) -> None:
        """Read the acts before a range of which copies may lie in it, each by itself.

        Raises:
            LogRewritten: The folder has another log, or another writing of it.
            LogDamaged: It cannot be trusted.
        """
        self._taken_back = replace(NOTHING, acts=taken_back.positions)
        self._second_of = dict[tuple[int, int], int]()
        """Of each act that was taken back so far, by its fingerprint."""
        acts = taken_back.positions
        for first, batch in events_at(place, acts[(acts >= place.begin) & (acts < part.first)]):
            self.of(first, batch)

    def of(self, first: LogPosition, batch: EventBatch) -> Mask:
        """Return which of the next events stay, shape (n,)."""
        is_kept = np.ones(len(batch), dtype=np.bool_)
        acts = self._taken_back.acts_within(first, len(batch))
        acts = acts[np.isin(batch.rows["kind"][acts], _KINDS)]
        is_kept[acts] = False
        if not len(acts) and not self._second_of:
            return is_kept
        prints = fingerprints(batch, _KEY)
        known = np.fromiter((id_hash for id_hash, _ in self._second_of), np.uint64, count=len(self._second_of))
        wanted = np.isin(prints.id_hash, np.concatenate((known, prints.id_hash[acts]))) & (prints.id_hash != 0)
        for row in np.flatnonzero(wanted).tolist():
            told, second = (int(prints.id_hash[row]), int(prints.check[row])), int(batch.rows["log_time_ms"][row])
            second //= _SECOND_MS
            if not is_kept[row]:
                self._second_of[told] = second
            elif second - self._second_of.get(told, second - SPAN_S - 1) <= SPAN_S:
                is_kept[row] = False
        return is_kept
