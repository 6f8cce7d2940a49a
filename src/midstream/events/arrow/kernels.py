"""Rows from columns: what is checked of each text and written, for a whole table in one call."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.events.kernel import kernel
from midstream.events.text_kernels import NO_CONTROLS, count_characters, iso_time_ms

_TEXT_COUNT = 7
_ACTION, _USER_ID, _ITEM_ID, _SESSION_ID, _BODY = 1, 2, 3, 4, 6
_INTERACTION = int(Kind.INTERACTION)


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
    for i in range(len(odd)):
        if odd[i]:
            continue
        if not _has_plain_ids(sources, starts, lengths, i, characters_max):
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
            start = starts[field, i]
            source = sources[field]
            for step in range(length):
                arena[used + step] = source[start + step]
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
    sources: tuple[NDArray[np.uint8], ...],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    i: int,
    characters_max: int,
) -> bool:
    """Say whether an event has an item, a user or session, and no id that must be refused."""
    if lengths[_ITEM_ID, i] < 1 or (lengths[_USER_ID, i] < 1 and lengths[_SESSION_ID, i] < 1):
        return False
    for field in range(_BODY):
        length = lengths[field, i]
        if field != _ACTION and length >= 0:
            count = count_characters(sources[field], starts[field, i], length, NO_CONTROLS)
            if not 0 < count <= characters_max:
                return False
    return True


@kernel
def iso_times(
    text: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], found: NDArray[np.int64]
) -> None:
    """Fill in the milliseconds of each ISO 8601 text, -1 = null or another form."""
    for i in range(len(found)):
        found[i] = iso_time_ms(text, starts[i], lengths[i]) if lengths[i] > 0 else -1
