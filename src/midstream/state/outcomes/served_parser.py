"""Parser of served records in place: placement, plan, tier, items and the place of bins, read from their bytes.

The join needs these and nothing else, so nothing else is made an object of: a record is walked, head by head, however
many items the caller sent fields of. What is no record as ``events.served_body`` writes them has no slate.

Reference: the MessagePack specification, version 5.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.events.served_body import RECORD_VERSION, REQUIRED_COUNT, ServedBody
from midstream.state.structures.hashing import IdKey, hash_id
from midstream.state.structures.kernel import kernel, signed

PLACEMENT, PLAN, TIER, IDS = 0, 2, 4, 6
"""Columns of what ``find_slates`` finds: where a text begins, then its bytes; where the ids begin, then how many."""
COUNT: Final = IDS + 1
"""-1 = there is no slate."""
BINS: Final = COUNT + 1
"""Where the bins of models that learn online begin; -1 = there are none."""
SPANS: Final = BINS + 1
_VERSION_AT, _PLACEMENT_AT, _PLAN_AT, _TIER_AT, _IDS_AT, _BINS_AT = map(
    ServedBody.__struct_fields__.index, ("version", "placement", "config_hash", "tier", "ids", "bins")
)
_BAD, _SMALL, _TEXT, ARRAY, _MAP, OTHER = range(6)
_MAPS, _ARRAYS, _TEXTS, _BY_TABLE, _NEGATIVE = 0x80, 0x90, 0xA0, 0xC0, 0xE0
_B, _T, _A, _M, _O = _BAD, _TEXT, ARRAY, _MAP, OTHER
# Of the heads from 0xC0 to 0xDF: nil, -, booleans, bytes, extensions, floats, unsigned, signed, extensions of a fixed
# size, texts, arrays, maps.
_KIND = np.array([_O, _B, *[_O] * 23, _T, _T, _T, _A, _A, _M, _M], dtype=np.int64)
_LENGTH_BYTES = np.array([0, 0, 0, 0, 1, 2, 4, 1, 2, 4, *[0] * 15, 1, 2, 4, 2, 4, 2, 4], dtype=np.int64)
_CONTENT_BYTES = np.array(
    [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17, *[0] * 7], dtype=np.int64
)
Bytes: TypeAlias = NDArray[np.uint8]
Numbers: TypeAlias = NDArray[np.int64]


@kernel
def find_slates(rows: NDArray[np.void], text: Bytes, places: Numbers, found: Numbers) -> None:
    """Find what each of some served events of a batch says.

    Args:
        rows: Of the batch.
        text: Of the batch.
        places: Of the served events, (m,).
        found: Is given the spans, as places in ``text``, (m, ``SPANS``).

    Cost: 2 ns each value in the body, of a record of ten items 0.1 µs.
    """
    for number in range(len(places)):
        row = rows[places[number]]
        begin = signed(row["text_start"]) + signed(row["event_id_length"]) + signed(row["action_length"])
        begin += signed(row["user_id_length"]) + signed(row["item_id_length"])
        begin += signed(row["session_id_length"]) + signed(row["request_id_length"])
        found[number, COUNT] = _find(text, begin, begin + signed(row["body_length"]), found[number])


@kernel
def hash_ids(text: Bytes, found: Numbers, starts: Numbers, key: IdKey, hashes: NDArray[np.uint64]) -> None:
    """Write the hash of each id of each slate.

    Args:
        text: Of the batch.
        found: In it, by ``find_slates``.
        starts: Where the hashes of each slate go; as many as fit before those of the next one, (m + 1,).
        key: Of ids.
        hashes: Is given them.
    """
    for number in range(len(found)):
        at = found[number, IDS]
        for each in range(starts[number], starts[number + 1]):
            _, length, at = head(text, at, len(text))
            hashes[each] = hash_id(text, at, length, key)
            at += length


@kernel
def hash_placements(text: Bytes, found: Numbers, key: IdKey, hashes: NDArray[np.uint64]) -> None:
    """Write the hash of the placement of each slate.

    Args:
        text: Of the batch.
        found: In it, by ``find_slates``.
        key: Of ids.
        hashes: Is given them, (m,); 0 = there is no slate.
    """
    for number in range(len(found)):
        is_slate = found[number, COUNT] >= 0
        hashes[number] = hash_id(text, found[number, PLACEMENT], found[number, PLACEMENT + 1] if is_slate else 0, key)


@kernel
def _find(text: Bytes, begin: int, stop: int, spans: Numbers) -> int:
    """Write the spans of one body; return the number of its items, -1 when it is no record."""
    kind, size, at = head(text, begin, stop)
    if kind != ARRAY or size < REQUIRED_COUNT:
        return -1
    count = 0
    spans[BINS] = -1
    for number in range(size):
        kind, length, content = head(text, at, stop)
        if number == _VERSION_AT:
            if kind != _SMALL or length < 1 or length > RECORD_VERSION:
                return -1
        elif number in (_PLACEMENT_AT, _PLAN_AT, _TIER_AT):
            column = PLACEMENT if number == _PLACEMENT_AT else PLAN if number == _PLAN_AT else TIER
            spans[column] = content
            spans[column + 1] = length
            if kind != _TEXT:
                return -1
        elif number == _IDS_AT:
            spans[IDS] = content
            count = length
            if kind != ARRAY or not _are_texts(text, content, stop, length):
                return -1
        elif number == _BINS_AT and kind == ARRAY and length > 0:
            spans[BINS] = at
        at = after(text, at, stop)
        if at < 0:
            return -1
    return count if at == stop else -1


@kernel
def _are_texts(text: Bytes, at: int, stop: int, count: int) -> bool:
    for _ in range(count):
        kind, length, at = head(text, at, stop)
        if kind != _TEXT:
            return False
        at += length
    return True


@kernel
def after(text: Bytes, at: int, stop: int) -> int:
    """Return where the value ends that begins at a place, with all that is in it; -1 = it does not before ``stop``."""
    left = 1
    while left > 0:
        kind, size, at = head(text, at, stop)
        left -= 1
        if kind == ARRAY:
            left += size
        elif kind == _MAP:
            left += 2 * size
        elif kind != _SMALL:
            at += size
        if kind == _BAD or at + left > stop:
            return -1
    return at


@kernel
def head(text: Bytes, at: int, stop: int) -> tuple[int, int, int]:
    """Return the kind of a value, its size and where its content begins.

    The size is in bytes, of an array in values, of a map in pairs; a number from 0 to 127 is its own size.
    """
    if at >= stop:
        return _BAD, 0, at
    byte = signed(text[at])
    if byte < _MAPS:
        return _SMALL, byte, at + 1
    if byte < _BY_TABLE:
        kind = _MAP if byte < _ARRAYS else ARRAY if byte < _TEXTS else _TEXT
        return kind, byte & (0x1F if kind == _TEXT else 0x0F), at + 1
    if byte >= _NEGATIVE:
        return OTHER, 0, at + 1
    number = byte - _BY_TABLE
    content = at + 1 + _LENGTH_BYTES[number]
    if content > stop:
        return _BAD, 0, at
    length = 0
    for each in range(at + 1, content):
        length = length * 256 + signed(text[each])
    return _KIND[number], length + _CONTENT_BYTES[number], content
