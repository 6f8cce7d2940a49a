"""The fast way from JSON to a batch: plain events by a kernel, the odd ones among them by the caller.

Both ways give the same rows; which one an event took cannot be seen afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import RESERVED_TYPES, Kind
from midstream.core.types import EventBatch, Index
from midstream.events.json.kernels import SCRATCH_COLUMNS, parse_lines, parse_list
from midstream.events.json.memory import SLACK
from midstream.events.schema import ROW, concat, pick
from midstream.events.wire import Accept

PLAIN_BYTES_MIN = 1_024
"""A shorter body is decoded before the kernel's arguments are laid out: 20 µs."""
EVENT_BYTES_MIN = 40
"""Of a plain event and the comma behind it: ``{"type":"a","item_id":"b","user_id":"c"},``; so many rows are enough."""
_COUNTS = 5
_ZEROS = b"\0" * SLACK
_Types: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


class OddLine(NamedTuple):
    """A line that the kernel left to the caller."""

    event: int
    """Number of its event among those of the body."""
    line: int
    """From 1, empty lines counted."""
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class PlainLines:
    """What the kernel made of NDJSON."""

    batch: EventBatch
    event_index: Index
    odd: Sequence[OddLine]
    event_count: int


def plain_lines(body: bytes, accept: Accept) -> PlainLines | None:
    """Return the plain events of NDJSON and the lines that are not; None when they are to be decoded one by one.

    That is when no type may be taken this way, or a quantity is below 0: which line it stands in is not kept.

    Cost: about 0.3 µs an event of 180 bytes.
    """
    types = _types_of(accept.actions, accept.open_types)
    if not len(types[2]):
        return None
    events_max = _count(body, b"\n") + 1
    rows = np.empty(events_max, dtype=ROW)
    arena = np.empty(len(body) + SLACK, dtype=np.uint8)
    event_index = np.empty(events_max, dtype=np.int32)
    odd = np.empty((events_max, 4), dtype=np.int64)
    counts = np.empty(_COUNTS, dtype=np.int64)
    parse_lines(_ended(body), len(body), *types, _limits_of(accept), rows, arena, _scratch(), event_index, odd, counts)
    events, taken, used, odd_count, negative_count = counts.tolist()
    if negative_count:
        return None
    return PlainLines(
        EventBatch(rows[:taken], arena[:used].tobytes()),
        event_index[:taken],
        [OddLine(event, line, body[start:stop]) for start, stop, event, line in odd[:odd_count].tolist()],
        events,
    )


def plain_list(body: bytes, start: int, end: bytes, accept: Accept) -> EventBatch | None:
    """Return the events of the JSON list at ``start``, a row each; None unless all of them are plain.

    Args:
        body: All that came.
        start: Where the list begins in it.
        end: What must stand behind the list, beside space: ``}`` of an envelope, or nothing.
        accept: The terms on which events are taken.
    """
    types = _types_of(accept.actions, accept.open_types)
    if not len(types[2]):
        return None
    rows = np.empty(min(len(body) // EVENT_BYTES_MIN, accept.limits.events_max) + 1, dtype=ROW)
    arena = np.empty(len(body) + SLACK, dtype=np.uint8)
    counts = np.empty(_COUNTS, dtype=np.int64)
    stop = parse_list(_ended(body), start, *types, _limits_of(accept), rows, arena, _scratch(), counts)
    if stop < 0 or body[stop:].strip(b" \t\r\n") != end:
        return None
    _, taken, used, _, negative_count = counts.tolist()
    if negative_count:
        return None
    return EventBatch(rows[:taken], arena[:used].tobytes())


def in_order(one: EventBatch, one_index: Index, other: EventBatch, other_index: Index) -> tuple[EventBatch, Index]:
    """Return the rows of both in the order of their events' numbers, which each part has ascending already."""
    if not len(other):
        return one, one_index
    if not len(one):
        return other, other_index
    index = np.concatenate((one_index, other_index))
    order = np.argsort(index, kind="stable")
    return pick(concat((one, other)), order), index[order]


def _ended(body: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(body + _ZEROS, dtype=np.uint8)


def _count(body: bytes, octet: bytes) -> int:
    """Return how often an octet is in a body; ``bytes.count`` takes twice as long where it is every hundredth."""
    return int(np.count_nonzero(np.frombuffer(body, dtype=np.uint8) == octet[0]))


def _scratch() -> NDArray[np.int64]:
    return np.empty(SCRATCH_COLUMNS, dtype=np.int64)


def _limits_of(accept: Accept) -> NDArray[np.int64]:
    return np.array((accept.limits.id_chars_max, accept.limits.free_bytes_max, int(accept.trusted)), dtype=np.int64)


@lru_cache(maxsize=8)
def _types_of(actions: frozenset[str], open_types: frozenset[str]) -> _Types:
    """Return the types that the kernel may take: names end to end, where each begins, and their kinds."""
    names = [(name.encode(), int(Kind.INTERACTION)) for name in sorted(actions - set(RESERVED_TYPES))]
    if "impression" in open_types and "impression" not in actions:
        names.append((b"impression", int(Kind.IMPRESSION)))
    starts = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum([len(name) for name, _ in names], out=starts[1:])
    text = np.frombuffer(b"".join(name for name, _ in names) + b"\0", dtype=np.uint8)
    return text, starts, np.array([kind for _, kind in names], dtype=np.int64)
