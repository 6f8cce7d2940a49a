"""Layout of rows of users: a head of fixed size for each slot, and blocks for those who need more.

A head holds when a user was here, counts, affinities and the first places of the ring of interactions, as many as three
lines of memory have room for. The other places lie in a block, and the items that the user has seen in another one.
Both are taken from pools at the first event that needs them, and given back when the slot starts cold, so that most
users pay for what they did and not for what they might do. There is a block of each kind for every user, so no pool
ever runs dry.

A place of the ring is three words: the item, the low half of the event time, and the high quarter of the time with the
action above it. Which block a user has is layout; which content a row has is said by the packed row (``row_dtype``),
one fixed layout for all users, from which digests are taken.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.prefetch import LINE_BYTES
from midstream.state.users.affinities import AFFINITIES_MAX

ACTIONS_MAX: Final = 16
"""Configured actions: a packed row has a count of each, 4 bytes; a head has those that are configured."""
HEAD_BYTES: Final = 3 * LINE_BYTES
"""Of a head without affinities: of five actions, 11 interactions. Half of the users of most shops do fewer."""
ADDED: Final = 4
SEEN_LENGTH: Final = 5
RING_BLOCK: Final = 6
SEEN_BLOCK: Final = 7
COUNTS: Final = 8
"""Words of 4 bytes of a head; behind the counts, the first places of the ring. A block's number is kept plus 1."""
RING: Final = 0
INLINE: Final = 1
RING_MAX: Final = 2
WORDS: Final = 3
"""Places of ``UserRows.at``: where the ring begins in a head, in words of 4 bytes, how many of its places lie there,
how many there are, and where affinities begin, in words of 8 bytes."""
USED: Final = 0
RING_POOL: Final = 1
SEEN_POOL: Final = 3
"""Places of ``UserRows.used``: heads that are in use; of each pool how many blocks were ever taken, and the number plus
1 of the one that was given back last, whose first word names the one before."""
PLACE_WORDS: Final = 3
ACTION_BITS: Final = 16
_HIGH: Final = 0xFFFF
_WORD_BYTES: Final = 8


class UserRows(NamedTuple):
    """Heads, blocks, and where in them everything lies."""

    at: NDArray[np.int64]
    ints: NDArray[np.int32]
    """Heads, (users, bytes / 4)."""
    longs: NDArray[np.int64]
    """The same memory."""
    tails: NDArray[np.int32]
    """Blocks of further places of rings, (users, words)."""
    seen: NDArray[np.int32]
    """Blocks of seen items: items, seconds and counts, each of all places, (users, words)."""
    shorts: NDArray[np.uint16]
    """The same memory, of which counts are read."""
    used: NDArray[np.int64]


class PackedRows(NamedTuple):
    """Some packed rows, as numbers of each kind, and where in a row which lie (``packed_places``)."""

    at: NDArray[np.int64]
    octets: NDArray[np.uint8]
    shorts: NDArray[np.uint16]
    ints: NDArray[np.int32]
    longs: NDArray[np.int64]


class RingColumns(NamedTuple):
    """Arrays in which kernels read the last interactions of a user."""

    ints: NDArray[np.int32]
    tails: NDArray[np.int32]
    at: NDArray[np.int64]
    is_positive: Mask  # by the action's number


class RowSizes(NamedTuple):
    """Bytes of a head, of a block of further places, and of a block of seen items."""

    head: int
    tail: int
    seen: int


def inline_places(ring_max: int, action_count: int) -> int:
    """Return how many places of the ring lie in a head."""
    return min(ring_max, (HEAD_BYTES // 4 - COUNTS - action_count) // PLACE_WORDS)


def row_sizes(ring_max: int, action_count: int, attribute_count: int) -> RowSizes:
    """Return the bytes of the parts of a row."""
    inline = inline_places(ring_max, action_count)
    main = 4 * (COUNTS + action_count + PLACE_WORDS * inline)
    main += -main % _WORD_BYTES + attribute_count * (8 + 8 * AFFINITIES_MAX)
    tail, seen = 4 * PLACE_WORDS * (ring_max - inline), 10 * ring_max
    return RowSizes(main + -main % LINE_BYTES, tail + -tail % _WORD_BYTES, seen + -seen % _WORD_BYTES)


def head_dtype(ring_max: int, action_count: int, attribute_count: int) -> np.dtype[np.void]:
    """Return the layout of a head."""
    main = [
        ("first_ms", "<i8"),
        ("last_ms", "<i8"),
        ("added", "<i4"),
        ("seen_length", "<i4"),
        ("ring_block", "<i4"),
        ("seen_block", "<i4"),
        ("counts", "<i4", (action_count,)),
        ("ring", "<i4", (inline_places(ring_max, action_count), PLACE_WORDS)),
    ]
    unused = -np.dtype(main).itemsize % _WORD_BYTES
    fields = [*main, ("unused", "u1", (unused,)), *_affinity_fields(attribute_count)]
    rest = -np.dtype(fields).itemsize % LINE_BYTES
    return np.dtype([*fields, ("rest", "u1", (rest,))])


def row_dtype(ring_max: int, attribute_count: int) -> np.dtype[np.void]:
    """Return the layout of a packed row: 88 bytes, 21 for each place of the ring, 136 for each category attribute.

    Rings are in no order to read them by: ``added`` says how many came and thus where the oldest lies.
    """
    main = [
        ("first_ms", "<i8"),
        ("last_ms", "<i8"),
        ("counts", "<i4", (ACTIONS_MAX,)),
        ("added", "<i4"),
        ("seen_length", "<i4"),
        ("ring_item", "<i4", (ring_max,)),
        ("ring_time_low", "<i4", (ring_max,)),
        ("seen_item", "<i4", (ring_max,)),
        ("seen_second", "<i4", (ring_max,)),
        ("ring_time_high", "<u2", (ring_max,)),
        ("seen_count", "<u2", (ring_max,)),
        ("ring_action", "i1", (ring_max,)),
    ]
    unused = -np.dtype(main).itemsize % _WORD_BYTES
    return np.dtype([*main, ("unused", "u1", (unused,)), *_affinity_fields(attribute_count)])


def _affinity_fields(attribute_count: int) -> list[tuple[str, str] | tuple[str, str, tuple[int]]]:
    return [
        field
        for number in range(attribute_count)
        for field in (
            (f"affinity_landmark_{number}", "<i8"),
            (f"affinity_code_{number}", "<i4", (AFFINITIES_MAX,)),
            (f"affinity_weight_{number}", "<f4", (AFFINITIES_MAX,)),
        )
    ]


def head_places(dtype: np.dtype[np.void], ring_max: int) -> NDArray[np.int64]:
    """Return ``UserRows.at``."""
    inline = _fields(dtype)["ring"][0].shape[0]
    return np.array([_offset(dtype, "ring"), inline, ring_max, _affinities_at(dtype)], dtype=np.int64)


_PACKED_PLACES = (
    "counts",
    "added",
    "seen_length",
    "ring_item",
    "ring_time_low",
    "seen_item",
    "seen_second",
    "ring_time_high",
    "seen_count",
    "ring_action",
)
(
    _COUNTS_AT,
    _ADDED_AT,
    _SEEN_LENGTH_AT,
    _RING_ITEM_AT,
    _RING_LOW_AT,
    _SEEN_ITEM_AT,
    _SEEN_SECOND_AT,
    _RING_HIGH_AT,
    _SEEN_COUNT_AT,
    _RING_ACTION_AT,
    _WORDS_AT,
    _ROW_WORDS_AT,
) = range(len(_PACKED_PLACES) + 2)


def packed_places(dtype: np.dtype[np.void]) -> NDArray[np.int64]:
    """Return where each of the fields of a packed row lies, then where affinities begin and the row ends, in words."""
    ends = (_affinities_at(dtype), dtype.itemsize // _WORD_BYTES)
    return np.array([*(_offset(dtype, name) for name in _PACKED_PLACES), *ends], dtype=np.int64)


def affinity_places(dtype: np.dtype[np.void], number: int) -> NDArray[np.int64]:
    """Return where landmark, codes and weights of one attribute lie in a head, each in units of its type."""
    names = ("affinity_landmark", "affinity_code", "affinity_weight")
    return np.array([_offset(dtype, f"{name}_{number}") for name in names], dtype=np.int64)


def packed_room(dtype: np.dtype[np.void], count: int) -> tuple[NDArray[np.void], PackedRows]:
    """Return memory for some packed rows, all zero, as rows and as what ``pack_rows`` fills."""
    rows = np.zeros(count, dtype=dtype)
    octets = rows.view(np.uint8).reshape(count, dtype.itemsize)
    at = packed_places(dtype)
    return rows, PackedRows(at, octets, octets.view(np.uint16), octets.view(np.int32), octets.view(np.int64))


@inlined
def act_at(
    ints: NDArray[np.int32], tails: NDArray[np.int32], at: NDArray[np.int64], user: int, place: int
) -> tuple[int, int]:
    """Return the item and the action at a place of a user's ring, which must be filled."""
    if place < at[INLINE]:
        word = at[RING] + PLACE_WORDS * place
        item, told = ints[user, word], ints[user, word + 2]
    else:
        block, word = signed(ints[user, RING_BLOCK]) - 1, PLACE_WORDS * (place - at[INLINE])
        item, told = tails[block, word], tails[block, word + 2]
    return signed(item), signed(told) >> ACTION_BITS


@kernel
def take_block(blocks: NDArray[np.int32], used: NDArray[np.int64], pool: int) -> int:
    """Return the number plus 1 of a block of zeros: the one given back last, or one that nobody had."""
    free = used[pool + 1]
    if free > 0:
        used[pool + 1] = blocks[free - 1, 0]
        blocks[free - 1, 0] = 0
        return signed(free)
    used[pool] += 1
    return signed(used[pool])


@kernel
def _give_back(blocks: NDArray[np.int32], used: NDArray[np.int64], pool: int, number: int) -> None:
    """Give a block back, all zero but for the one given back before."""
    if number > 0:
        blocks[number - 1, :] = 0
        blocks[number - 1, 0] = used[pool + 1]
        used[pool + 1] = number


@kernel
def release_blocks(
    user: int,
    ints: NDArray[np.int32],
    tails: NDArray[np.int32],
    seen: NDArray[np.int32],
    used: NDArray[np.int64],
) -> None:
    """Give back the blocks of a user, whose head is emptied then."""
    _give_back(tails, used, RING_POOL, signed(ints[user, RING_BLOCK]))
    _give_back(seen, used, SEEN_POOL, signed(ints[user, SEEN_BLOCK]))


@kernel
def pack_rows(first: int, rows: UserRows, packed: PackedRows) -> None:
    """Write the packed rows of the slots from ``first`` on into memory that is all zero.

    Cost: 0.15 µs a row with ten interactions.
    """
    at, to = rows.at, packed.at
    inline, ring_max = at[INLINE], at[RING_MAX]
    for number in range(len(packed.longs)):
        user = first + number
        packed.longs[number, 0] = rows.longs[user, 0]
        packed.longs[number, 1] = rows.longs[user, 1]
        for each in range(at[RING] - COUNTS):
            packed.ints[number, to[_COUNTS_AT] + each] = rows.ints[user, COUNTS + each]
        added, length = signed(rows.ints[user, ADDED]), signed(rows.ints[user, SEEN_LENGTH])
        packed.ints[number, to[_ADDED_AT]] = added
        packed.ints[number, to[_SEEN_LENGTH_AT]] = length
        block = signed(rows.ints[user, RING_BLOCK]) - 1
        for place in range(min(added, ring_max)):
            if place < inline:
                word = at[RING] + PLACE_WORDS * place
                item, low, told = rows.ints[user, word], rows.ints[user, word + 1], rows.ints[user, word + 2]
            else:
                word = PLACE_WORDS * (place - inline)
                item, low, told = rows.tails[block, word], rows.tails[block, word + 1], rows.tails[block, word + 2]
            packed.ints[number, to[_RING_ITEM_AT] + place] = item
            packed.ints[number, to[_RING_LOW_AT] + place] = low
            packed.shorts[number, to[_RING_HIGH_AT] + place] = signed(told) & _HIGH
            packed.octets[number, to[_RING_ACTION_AT] + place] = signed(told) >> ACTION_BITS
        block = signed(rows.ints[user, SEEN_BLOCK]) - 1
        for place in range(length):
            packed.ints[number, to[_SEEN_ITEM_AT] + place] = rows.seen[block, place]
            packed.ints[number, to[_SEEN_SECOND_AT] + place] = rows.seen[block, ring_max + place]
            packed.shorts[number, to[_SEEN_COUNT_AT] + place] = rows.shorts[block, 4 * ring_max + place]
        for word in range(to[_ROW_WORDS_AT] - to[_WORDS_AT]):
            packed.longs[number, to[_WORDS_AT] + word] = rows.longs[user, at[WORDS] + word]


def _fields(dtype: np.dtype[np.void]) -> Mapping[str, tuple[np.dtype[np.generic], int]]:
    return cast("Mapping[str, tuple[np.dtype[np.generic], int]]", dtype.fields)


def _offset(dtype: np.dtype[np.void], name: str) -> int:
    """Return the place of a field in units of its own elements."""
    field = _fields(dtype)[name]
    return int(field[1]) // field[0].base.itemsize


def _affinities_at(dtype: np.dtype[np.void]) -> int:
    """Return where affinities begin, in words of 8 bytes."""
    unused = _fields(dtype)["unused"]
    return (int(unused[1]) + unused[0].itemsize) // _WORD_BYTES
