"""Rows from columns: what is checked of each text and written, for a whole table in one call."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.events.json.memory import byte_at, bytes_of, word_at
from midstream.events.kernel import kernel, signed
from midstream.events.text_kernels import NO_CONTROLS, count_characters, iso_time_ms

_TEXT_COUNT = 7
_ACTION, _USER_ID, _ITEM_ID, _SESSION_ID, _BODY = 1, 2, 3, 4, 6
_INTERACTION = int(Kind.INTERACTION)
_WORD_BYTES = 8
_ONES, _SPACES, _DELETES, _HIGHS = (
    np.uint64(int(f"{byte:02x}" * _WORD_BYTES, 16)) for byte in (0x01, 0x20, 0x7F, 0x80)
)
_NONE = np.uint64(0)


@kernel
def assemble(
    sources: tuple[NDArray[np.uint8], ...],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    marks: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    wholes: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    numbers: tuple[NDArray[np.float64], NDArray[np.float64]],
    characters_max: int,
    odd: NDArray[np.bool_],
    rows: NDArray[np.void],
    arena: NDArray[np.uint8],
    index: NDArray[np.int32],
) -> tuple[int, int]:
    """Write a row for each event that is not odd, and mark as odd those whose ids turn out to be.

    Args:
        sources: Bytes in which the seven texts of ``schema.TEXTS`` lie, each its own array.
        starts: Of each text of each event, shape (7, n).
        lengths: Bytes of each, -1 = not sent, shape (7, n).
        marks: ``Kind``, and ``TIME_SENT`` or 0; each (n,).
        wholes: Event time and log time in ms, 0 = not sent; position, -1 = not sent; each (n,).
        numbers: Value and quantity, NaN = not sent; each (n,).
        characters_max: Of an id.
        odd: Events that are passed by, (n,); written to.
        rows: Filled, (n,).
        arena: Filled with the texts.
        index: Filled with the number of each row's event, (n,).

    Returns:
        Rows and bytes of text.
    """
    taken = used = 0
    # Addresses: what refers to an array is counted, for each text of each event, in a place that all cores see.
    texts = np.empty(_TEXT_COUNT, dtype=np.int64)
    for field in range(_TEXT_COUNT):
        texts[field] = signed(sources[field].ctypes.data)
    for i in range(len(odd)):
        if odd[i]:
            continue
        if not _has_plain_ids(texts, starts, lengths, i, characters_max):
            odd[i] = True
            continue
        row = rows[taken]
        row["kind"] = marks[0][i]
        row["operation"] = 0
        row["flags"] = marks[1][i]
        row["position"] = wholes[2][i]
        row["text_start"] = used
        row["event_time_ms"] = wholes[0][i]
        row["log_time_ms"] = wholes[1][i]
        row["value"] = numbers[0][i]
        row["quantity"] = np.float32(numbers[1][i])
        row["unused"] = 0
        for field in range(_TEXT_COUNT):
            length = max(lengths[field, i], 0)
            source = bytes_of(texts[field] + starts[field, i], length)
            for step in range(length):
                arena[used + step] = source[step]
            used += length
        row["event_id_length"] = max(lengths[0, i], 0)
        row["action_length"] = max(lengths[1, i], 0)
        row["user_id_length"] = max(lengths[2, i], 0)
        row["item_id_length"] = max(lengths[3, i], 0)
        row["session_id_length"] = max(lengths[4, i], 0)
        row["request_id_length"] = max(lengths[5, i], 0)
        row["body_length"] = max(lengths[6, i], 0)
        index[taken] = i
        taken += 1
    return taken, used


@kernel
def _has_plain_ids(
    texts: NDArray[np.int64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    i: int,
    characters_max: int,
) -> bool:
    """Say whether an event has an item, a user or session, and no id that must be refused."""
    is_plain = lengths[_ITEM_ID, i] >= 1 and (lengths[_USER_ID, i] >= 1 or lengths[_SESSION_ID, i] >= 1)
    for field in range(_BODY):
        length = lengths[field, i]
        if is_plain and field != _ACTION and length >= 0:
            is_plain = 0 < _characters_of(texts[field] + starts[field, i], length) <= characters_max
    return bool(is_plain)


@kernel
def _characters_of(text: int, length: int) -> int:
    """Return what ``count_characters`` does without controls, of the bytes from an address on, eight at a time.

    A byte that is no printable character of ASCII leaves a mark in its word, or one in a later byte; who finds none
    knows that there is none.
    """
    odd, at = _NONE, 0
    while at + _WORD_BYTES <= length:
        word = word_at(text + at)
        odd |= (word | (word - _SPACES) | ((word ^ _DELETES) - _ONES)) & _HIGHS
        at += _WORD_BYTES
    while at < length:
        byte = byte_at(text + at)
        odd |= np.uint64(byte < 0x20 or byte >= 0x7F)
        at += 1
    return length if odd == _NONE else count_characters(bytes_of(text, length), 0, length, NO_CONTROLS)


@kernel
def iso_times(
    text: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], found: NDArray[np.int64]
) -> None:
    """Fill in the milliseconds of each ISO 8601 text, -1 = null or another form."""
    for i in range(len(found)):
        found[i] = iso_time_ms(text, starts[i], lengths[i]) if lengths[i] > 0 else -1
