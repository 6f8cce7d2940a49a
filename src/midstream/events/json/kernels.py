"""JSON text straight to rows: the events that are written the plain way, which nearly all are.

An object is taken here when it is an interaction or impression of one item, each field comes once, text has no
escapes, numbers are exact in 53 bits, and the context is flat. Everything else is left to ``decode``, which also says
what is wrong: so nothing is taken that it would refuse, and what is taken becomes the same row, byte for byte.

The body ends in a zero byte, as ``json_value_kernels`` needs it.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.events.json.value_kernels import (
    CLOSE,
    COLON,
    COMMA,
    LINE_END,
    LIST_END,
    OPEN,
    QUOTE,
    SPACE,
    compare,
    copy,
    literal_end,
    plain_value_end,
    read_number,
    read_whole,
    skip,
    text_end,
)
from midstream.events.kernel import kernel, signed
from midstream.events.schema import TIME_SENT
from midstream.events.text_kernels import NO_CONTROLS, WITH_CONTROLS, count_characters, iso_time_ms
from midstream.events.wire import LOG_TIME_MS_END, POSITION_MAX, TIME_MS_END, TIME_MS_MIN

MEMBERS_MAX = 32
"""Of a context that is put in order here: insertion sort, so few."""
TEXT_COUNT = 7
EVENT_ID, ACTION, USER_ID, ITEM_ID, SESSION_ID, REQUEST_ID, CONTEXT = range(TEXT_COUNT)
_TYPE, _TIME, _VALUE, _QUANTITY, _POSITION, _LOG_TIME = 7, 8, 9, 10, 11, 12
_FIELDS = (
    (b"event_id", EVENT_ID),
    (b"type", _TYPE),
    (b"user_id", USER_ID),
    (b"item_id", ITEM_ID),
    (b"session_id", SESSION_ID),
    (b"request_id", REQUEST_ID),
    (b"context", CONTEXT),
    (b"time", _TIME),
    (b"value", _VALUE),
    (b"quantity", _QUANTITY),
    (b"position", _POSITION),
    (b"log_time", _LOG_TIME),
)
_NAMES = np.frombuffer(b"".join(name for name, _ in _FIELDS), dtype=np.uint8)
_NAME_LENGTHS = np.array([len(name) for name, _ in _FIELDS], dtype=np.int64)
_NAME_STARTS = np.cumsum(_NAME_LENGTHS) - _NAME_LENGTHS
_NAME_FIELDS = np.array([field for _, field in _FIELDS], dtype=np.int64)
_FLOAT32_END = (2 - 2**-24) * 2.0**127
_INTERACTION = int(Kind.INTERACTION)

# Columns of ``found``, the scratch of one event: where each text lies, then what its numbers are.
_STARTS, _LENGTHS = 0, TEXT_COUNT
_TIME_MS, _HAS_TIME, _PLACE, _KIND, _MEMBERS, _LOG_TIME_MS = 14, 15, 16, 17, 18, 19
FOUND_COLUMNS = 20


@kernel
def parse_lines(
    text: NDArray[np.uint8],
    length: int,
    types: NDArray[np.uint8],
    type_starts: NDArray[np.int64],
    type_kinds: NDArray[np.uint8],
    limits: NDArray[np.int64],
    rows: NDArray[np.void],
    arena: NDArray[np.uint8],
    event_index: NDArray[np.int32],
    odd: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Take the plain lines of NDJSON, and say where the odd ones are.

    Args:
        text: The body and a zero byte, shape (length + 1,).
        length: Of the body.
        types: Names of the types that are taken here, end to end.
        type_starts: Where each begins, and the end, shape (types + 1,).
        type_kinds: ``Kind`` of each.
        limits: Characters of an id, bytes of a context, 1 where log times are taken.
        rows: Filled with a row for each plain event, shape (events,).
        arena: Filled with their texts, shape (length,): a row repeats nothing.
        event_index: Filled with the number of each row's event.
        odd: Filled with start, stop, number of the event and of the line of each odd one, shape (events, 4).
        counts: Filled with events, rows, bytes of text, odd ones.
    """
    found = np.zeros(FOUND_COLUMNS, dtype=np.int64)
    numbers = np.zeros(2, dtype=np.float64)
    members = np.zeros((MEMBERS_MAX, 4), dtype=np.int64)
    events = taken = used = odds = 0
    at = line = 0
    while at < length:
        line += 1
        start = skip(text, at, SPACE)
        if start >= length or text[start] == LINE_END:
            at = start + 1
            continue
        end = _event(text, start, types, type_starts, type_kinds, limits, found, numbers, members, SPACE)
        if end >= 0:
            end = skip(text, end, SPACE)
            if end < length and text[end] != LINE_END:
                end = -1
        if end >= 0:
            used = _put(text, found, numbers, members, rows, taken, arena, used)
            event_index[taken] = events
            taken += 1
            at = end + 1
        else:
            stop = start
            while stop < length and text[stop] != LINE_END:
                stop += 1
            odd[odds, 0], odd[odds, 1], odd[odds, 2], odd[odds, 3] = start, stop, events, line
            odds += 1
            at = stop + 1
        events += 1
    counts[0], counts[1], counts[2], counts[3] = events, taken, used, odds


@kernel
def parse_list(
    text: NDArray[np.uint8],
    start: int,
    types: NDArray[np.uint8],
    type_starts: NDArray[np.int64],
    type_kinds: NDArray[np.uint8],
    limits: NDArray[np.int64],
    rows: NDArray[np.void],
    arena: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> int:
    """Take the events of the JSON list whose bracket is at ``start``, when all are plain.

    Args are those of ``parse_lines``. Returns the place behind the list, -1 when one is odd or the list does not end.
    """
    found = np.zeros(FOUND_COLUMNS, dtype=np.int64)
    numbers = np.zeros(2, dtype=np.float64)
    members = np.zeros((MEMBERS_MAX, 4), dtype=np.int64)
    at = skip(text, start + 1, LINE_END)
    taken = used = 0
    while taken < len(rows):
        at = _event(text, at, types, type_starts, type_kinds, limits, found, numbers, members, LINE_END)
        if at < 0:
            return -1
        used = _put(text, found, numbers, members, rows, taken, arena, used)
        taken += 1
        at = skip(text, at, LINE_END)
        if text[at] == LIST_END:
            counts[0], counts[1], counts[2], counts[3] = taken, taken, used, 0
            return at + 1
        if text[at] != COMMA:
            return -1
        at = skip(text, at + 1, LINE_END)
    return -1


@kernel
def _event(
    text: NDArray[np.uint8],
    start: int,
    types: NDArray[np.uint8],
    type_starts: NDArray[np.int64],
    type_kinds: NDArray[np.uint8],
    limits: NDArray[np.int64],
    found: NDArray[np.int64],
    numbers: NDArray[np.float64],
    members: NDArray[np.int64],
    also: int,
) -> int:
    """Read one plain event into the scratch; return the place behind it, -1 when it is odd."""
    if text[start] != OPEN:
        return -1
    found[:] = 0
    found[_PLACE] = -1
    numbers[:] = np.nan
    seen = 0
    at = skip(text, start + 1, also)
    while True:
        name = at + 1
        end = text_end(text, at)
        if end < 0:
            return -1
        field = _field_of(text, name, end - 1 - name)
        if field < 0 or seen & (1 << field):
            return -1
        seen |= 1 << field
        at = skip(text, end, also)
        if text[at] != COLON:
            return -1
        at = skip(text, at + 1, also)
        if text[at] == ord("n"):
            at = literal_end(text, at)
        elif field == CONTEXT:
            at = _context(text, at, limits, found, members, also)
        elif field < _TYPE:
            at = _id(text, at, field, limits[0], found)
        elif field == _TYPE:
            at = _type(text, at, types, type_starts, type_kinds, found)
        elif field == _TIME:
            at = _time(text, at, found)
        elif field == _POSITION:
            at = read_whole(text, at, POSITION_MAX, found, _PLACE)
        elif field == _LOG_TIME:
            at = read_whole(text, at, LOG_TIME_MS_END - 1, found, _LOG_TIME_MS) if limits[2] == 1 else -1
        else:
            at = read_number(text, at, numbers, field - _VALUE)
        if at < 0:
            return -1
        at = skip(text, at, also)
        if text[at] == CLOSE:
            break
        if text[at] != COMMA:
            return -1
        at = skip(text, at + 1, also)
    has_who = found[_LENGTHS + USER_ID] > 0 or found[_LENGTHS + SESSION_ID] > 0
    if found[_KIND] == 0 or found[_LENGTHS + ITEM_ID] == 0 or not has_who:
        return -1
    # NaN, not sent, is let through.
    return -1 if abs(numbers[1]) >= _FLOAT32_END else at + 1


@kernel
def _field_of(text: NDArray[np.uint8], start: int, length: int) -> int:
    for at in range(len(_NAME_LENGTHS)):
        if _NAME_LENGTHS[at] == length:
            name = _NAME_STARTS[at]
            same = True
            for step in range(length):
                if text[start + step] != _NAMES[name + step]:
                    same = False
                    break
            if same:
                return signed(_NAME_FIELDS[at])
    return -1


@kernel
def _id(text: NDArray[np.uint8], at: int, field: int, characters_max: int, found: NDArray[np.int64]) -> int:
    end = text_end(text, at)
    if end < 0:
        return -1
    length = end - at - 2
    count = count_characters(text, at + 1, length, NO_CONTROLS)
    if not 0 < count <= characters_max:
        return -1
    found[_STARTS + field] = at + 1
    found[_LENGTHS + field] = length
    return end


@kernel
def _type(
    text: NDArray[np.uint8],
    at: int,
    types: NDArray[np.uint8],
    type_starts: NDArray[np.int64],
    type_kinds: NDArray[np.uint8],
    found: NDArray[np.int64],
) -> int:
    end = text_end(text, at)
    if end < 0:
        return -1
    length = end - at - 2
    for number in range(len(type_kinds)):
        name = type_starts[number]
        if type_starts[number + 1] - name != length:
            continue
        same = True
        for step in range(length):
            if text[at + 1 + step] != types[name + step]:
                same = False
                break
        if same:
            found[_KIND] = signed(type_kinds[number])
            if found[_KIND] == _INTERACTION:
                found[_STARTS + ACTION] = at + 1
                found[_LENGTHS + ACTION] = length
            return end
    return -1


@kernel
def _time(text: NDArray[np.uint8], at: int, found: NDArray[np.int64]) -> int:
    if text[at] == QUOTE:
        end = text_end(text, at)
        if end < 0:
            return -1
        found[_TIME_MS] = iso_time_ms(text, at + 1, end - at - 2)
    else:
        end = read_whole(text, at, TIME_MS_END, found, _TIME_MS)
        if end < 0:
            return -1
    found[_HAS_TIME] = TIME_SENT
    return end if TIME_MS_MIN <= found[_TIME_MS] < TIME_MS_END else -1


@kernel
def _context(
    text: NDArray[np.uint8],
    at: int,
    limits: NDArray[np.int64],
    found: NDArray[np.int64],
    members: NDArray[np.int64],
    also: int,
) -> int:
    """Read a flat context whose values are written as they will be kept; its members end up in order of their names."""
    if text[at] != OPEN:
        return -1
    at = skip(text, at + 1, also)
    if text[at] == CLOSE:
        return at + 1
    count = 0
    length = 1
    while True:
        end = text_end(text, at)
        if end < 0 or count == MEMBERS_MAX:
            return -1
        name, name_length = at + 1, end - at - 2
        if not 0 < count_characters(text, name, name_length, WITH_CONTROLS) <= limits[0]:
            return -1
        at = skip(text, end, also)
        if text[at] != COLON:
            return -1
        at = skip(text, at + 1, also)
        end = plain_value_end(text, at)
        if end < 0:
            return -1
        place = count
        while place > 0:
            order = compare(text, name, name_length, members[place - 1, 0], members[place - 1, 1])
            if order == 0:
                return -1
            if order > 0:
                break
            members[place] = members[place - 1]
            place -= 1
        members[place, 0], members[place, 1] = name, name_length
        members[place, 2], members[place, 3] = at, end - at
        count += 1
        length += name_length + 4 + end - at  # two quotes, colon, and comma or closing brace
        at = skip(text, end, also)
        if text[at] == CLOSE:
            break
        if text[at] != COMMA:
            return -1
        at = skip(text, at + 1, also)
    if length > limits[1]:
        return -1
    found[_MEMBERS] = count
    found[_LENGTHS + CONTEXT] = length
    return at + 1


@kernel
def _put(
    text: NDArray[np.uint8],
    found: NDArray[np.int64],
    numbers: NDArray[np.float64],
    members: NDArray[np.int64],
    rows: NDArray[np.void],
    place: int,
    arena: NDArray[np.uint8],
    used: int,
) -> int:
    """Write the event of the scratch as a row; return the end of its texts."""
    row = rows[place]
    row["kind"] = found[_KIND]
    row["operation"] = 0
    row["flags"] = found[_HAS_TIME]
    row["action_length"] = found[_LENGTHS + ACTION]
    row["position"] = found[_PLACE]
    row["event_id_length"] = found[_LENGTHS + EVENT_ID]
    row["user_id_length"] = found[_LENGTHS + USER_ID]
    row["item_id_length"] = found[_LENGTHS + ITEM_ID]
    row["session_id_length"] = found[_LENGTHS + SESSION_ID]
    row["request_id_length"] = found[_LENGTHS + REQUEST_ID]
    row["text_start"] = used
    row["body_length"] = found[_LENGTHS + CONTEXT]
    row["event_time_ms"] = found[_TIME_MS]
    row["log_time_ms"] = found[_LOG_TIME_MS]
    row["value"] = numbers[0]
    row["quantity"] = np.float32(numbers[1])
    row["unused"] = 0
    for field in range(CONTEXT):
        used = copy(text, found[_STARTS + field], found[_LENGTHS + field], arena, used)
    for number in range(found[_MEMBERS]):
        arena[used] = OPEN if number == 0 else COMMA
        arena[used + 1] = QUOTE
        used = copy(text, members[number, 0], members[number, 1], arena, used + 2)
        arena[used] = QUOTE
        arena[used + 1] = COLON
        used = copy(text, members[number, 2], members[number, 3], arena, used + 2)
    if found[_MEMBERS] > 0:
        arena[used] = CLOSE
        used += 1
    return used
