"""JSON text straight to rows: the events that are written the plain way, which nearly all are.

An object is taken here when it is an interaction or impression of one item, each field comes once, text has no
escapes, numbers are exact in 53 bits, and the context is flat. Everything else is left to ``decode``, which also says
what is wrong: so nothing is taken that it would refuse, and what is taken becomes the same row, byte for byte.

The body ends in ``memory.SLACK`` zero bytes, as ``value_kernels`` needs it, and what is written has as many behind it.
All but the kernels that are called from outside pass addresses, not arrays (``memory`` says why).
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.events.json.memory import byte_at, bytes_of, float_at, int_at, put_float, put_int, word_at
from midstream.events.json.value_kernels import (
    CLOSE,
    COLON,
    COMMA,
    LINE_END,
    LIST_END,
    OPEN,
    QUOTE,
    SPACE,
    characters_of,
    compare,
    copy,
    literal_end,
    plain_value_end,
    put,
    read_number,
    read_whole,
    skip,
    text_end,
)
from midstream.events.kernel import kernel
from midstream.events.schema import TIME_SENT
from midstream.events.text_kernels import NO_CONTROLS, WITH_CONTROLS, iso_time_ms
from midstream.events.wire import LOG_TIME_MS_END, POSITION_MAX, TIME_MS_END, TIME_MS_MIN

MEMBERS_MAX = 32
"""Of a context that is put in order here: insertion sort, so few."""
TEXT_COUNT = 7
EVENT_ID, ACTION, USER_ID, ITEM_ID, SESSION_ID, REQUEST_ID, CONTEXT = range(TEXT_COUNT)
_TYPE, _TIME, _VALUE, _QUANTITY, _POSITION, _LOG_TIME = 7, 8, 9, 10, 11, 12
_WORDS = {
    name: np.uint64(int.from_bytes(name.encode()[:8], "little"))
    for name in (
        "event_id", "type", "user_id", "item_id", "session_id", "request_id", "context", "time", "value", "quantity",
        "position", "log_time",
    )
}  # fmt: skip
"""The first eight bytes of each name."""
_EVENT_ID_NAME, _TYPE_NAME, _USER_ID_NAME, _ITEM_ID_NAME = (
    _WORDS[each] for each in ("event_id", "type", "user_id", "item_id")
)
_SESSION_ID_NAME, _REQUEST_ID_NAME, _CONTEXT_NAME, _TIME_NAME = (
    _WORDS[each] for each in ("session_id", "request_id", "context", "time")
)
_VALUE_NAME, _QUANTITY_NAME, _POSITION_NAME, _LOG_TIME_NAME = (
    _WORDS[each] for each in ("value", "quantity", "position", "log_time")
)
_LOW = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
"""Masks of the first bytes of a word."""
_FLOAT32_END = (2 - 2**-24) * 2.0**127
_INTERACTION = int(Kind.INTERACTION)

# Columns of ``found``, the scratch of one event: where each text lies, then what its numbers are.
_STARTS, _LENGTHS = 0, TEXT_COUNT
_TIME_MS, _HAS_TIME, _PLACE, _KIND, _MEMBERS, _LOG_TIME_MS = 14, 15, 16, 17, 18, 19
FOUND_COLUMNS = 20
_FIRST_MEMBER = FOUND_COLUMNS + 2
SCRATCH_COLUMNS = _FIRST_MEMBER + 4 * MEMBERS_MAX
"""Behind ``found`` value and quantity, and start and length of the name and of the value of each member."""
_NUMBER_BYTES = 8
_MEMBER_BYTES = 4 * _NUMBER_BYTES


@kernel
def parse_lines(
    text: NDArray[np.uint8],
    length: int,
    types: NDArray[np.uint8],
    type_starts: NDArray[np.int64],
    type_kinds: NDArray[np.int64],
    limits: NDArray[np.int64],
    rows: NDArray[np.void],
    arena: NDArray[np.uint8],
    scratch: NDArray[np.int64],
    event_index: NDArray[np.int32],
    odd: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Take the plain lines of NDJSON, and say where the odd ones are.

    Args:
        text: The body and zeros, shape (length + SLACK,).
        length: Of the body.
        types: Names of the types that are taken here, end to end.
        type_starts: Where each begins, and the end, shape (types + 1,).
        type_kinds: ``Kind`` of each.
        limits: Characters of an id, bytes of a context, 1 where log times are taken.
        rows: Filled with a row for each plain event, shape (events,).
        arena: Filled with their texts, shape (length + SLACK,): a row repeats nothing.
        scratch: Of one event, shape (SCRATCH_COLUMNS,). Whoever calls holds it: its address is all that is used here.
        event_index: Filled with the number of each row's event.
        odd: Filled with start, stop, number of the event and of the line of each odd one, shape (events, 4).
        counts: Filled with events, rows, bytes of text, odd ones, rows with a quantity below 0, which none may have.
    """
    found, body = scratch.ctypes.data, text.ctypes.data
    terms = (types.ctypes.data, type_starts.ctypes.data, type_kinds.ctypes.data, len(type_kinds), limits.ctypes.data)
    texts = arena.ctypes.data
    events = taken = odds = negatives = 0
    used = texts
    at = line = 0
    while at < length:
        line += 1
        start = skip(body, at, SPACE)
        if start >= length or byte_at(body + start) == LINE_END:
            at = start + 1
            continue
        end = _event(body, start, terms, found, SPACE)
        if end >= 0:
            end = skip(body, end, SPACE)
            if end < length and byte_at(body + end) != LINE_END:
                end = -1
        if end >= 0:
            negatives += _put_row(rows[taken], found, used - texts)
            used = _put_texts(body, found, used)
            event_index[taken] = events
            taken += 1
            at = end + 1
        else:
            stop = start
            while stop < length and byte_at(body + stop) != LINE_END:
                stop += 1
            odd[odds, 0], odd[odds, 1], odd[odds, 2], odd[odds, 3] = start, stop, events, line
            odds += 1
            at = stop + 1
        events += 1
    counts[0], counts[1], counts[2], counts[3], counts[4] = events, taken, used - texts, odds, negatives


@kernel
def parse_list(
    text: NDArray[np.uint8],
    start: int,
    types: NDArray[np.uint8],
    type_starts: NDArray[np.int64],
    type_kinds: NDArray[np.int64],
    limits: NDArray[np.int64],
    rows: NDArray[np.void],
    arena: NDArray[np.uint8],
    scratch: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> int:
    """Take the events of the JSON list whose bracket is at ``start``, when all are plain.

    Args are those of ``parse_lines``. Returns the place behind the list, -1 when one is odd or the list does not end.
    """
    found, body = scratch.ctypes.data, text.ctypes.data
    terms = (types.ctypes.data, type_starts.ctypes.data, type_kinds.ctypes.data, len(type_kinds), limits.ctypes.data)
    texts = arena.ctypes.data
    at = skip(body, start + 1, LINE_END)
    taken = negatives = 0
    used = texts
    while taken < len(rows):
        at = _event(body, at, terms, found, LINE_END)
        if at < 0:
            return -1
        negatives += _put_row(rows[taken], found, used - texts)
        used = _put_texts(body, found, used)
        taken += 1
        at = skip(body, at, LINE_END)
        if byte_at(body + at) == LIST_END:
            counts[0], counts[1], counts[2], counts[3], counts[4] = taken, taken, used - texts, 0, negatives
            return at + 1
        if byte_at(body + at) != COMMA:
            return -1
        at = skip(body, at + 1, LINE_END)
    return -1


@kernel
def _event(text: int, start: int, terms: tuple[int, int, int, int, int], found: int, also: int) -> int:
    """Read one plain event into the scratch; return the place behind it, -1 when it is odd.

    ``terms`` are the addresses of the types, of their starts and kinds, their number, and the address of the limits.
    """
    if byte_at(text + start) != OPEN:
        return -1
    limits = terms[4]
    for column in range(FOUND_COLUMNS):
        put_int(found + _NUMBER_BYTES * column, 0)
    put_int(found + _NUMBER_BYTES * _PLACE, -1)
    numbers = found + _NUMBER_BYTES * FOUND_COLUMNS
    put_float(numbers, np.nan)
    put_float(numbers + _NUMBER_BYTES, np.nan)
    seen = 0
    at = skip(text, start + 1, also)
    while True:
        name = at + 1
        end = text_end(text, at)
        if end < 0:
            return -1
        field = _field_of(text + name, end - 1 - name)
        if field < 0 or seen & (1 << field):
            return -1
        seen |= 1 << field
        at = skip(text, end, also)
        if byte_at(text + at) != COLON:
            return -1
        at = skip(text, at + 1, also)
        if byte_at(text + at) == ord("n"):
            at = literal_end(text, at)
        elif field == CONTEXT:
            at = _context(text, at, limits, found, also)
        elif field < _TYPE:
            at = _id(text, at, field, int_at(limits), found)
        elif field == _TYPE:
            at = _type(text, at, terms, found)
        elif field == _TIME:
            at = _time(text, at, found)
        elif field == _POSITION:
            at = read_whole(text, at, POSITION_MAX, found + _NUMBER_BYTES * _PLACE)
        elif field == _LOG_TIME:
            is_taken = int_at(limits + 2 * _NUMBER_BYTES) == 1
            at = read_whole(text, at, LOG_TIME_MS_END - 1, found + _NUMBER_BYTES * _LOG_TIME_MS) if is_taken else -1
        else:
            at = read_number(text, at, numbers + _NUMBER_BYTES * (field - _VALUE))
        if at < 0:
            return -1
        at = skip(text, at, also)
        if byte_at(text + at) == CLOSE:
            break
        if byte_at(text + at) != COMMA:
            return -1
        at = skip(text, at + 1, also)
    has_who = _of(found, _LENGTHS + USER_ID) > 0 or _of(found, _LENGTHS + SESSION_ID) > 0
    if _of(found, _KIND) == 0 or _of(found, _LENGTHS + ITEM_ID) == 0 or not has_who:
        return -1
    # NaN, not sent, is let through.
    return -1 if abs(float_at(numbers + _NUMBER_BYTES)) >= _FLOAT32_END else at + 1


@kernel
def _of(found: int, column: int) -> int:
    return int_at(found + _NUMBER_BYTES * column)


@kernel
def _put_span(found: int, field: int, start: int, length: int) -> None:
    put_int(found + _NUMBER_BYTES * (_STARTS + field), start)
    put_int(found + _NUMBER_BYTES * (_LENGTHS + field), length)


@kernel
def _field_of(name: int, length: int) -> int:
    """Return the field of the name at an address, -1 where it is none."""
    word = word_at(name)
    if length < len(_LOW):
        word &= _LOW[length]
    if length == 4:
        return _TYPE if word == _TYPE_NAME else _TIME if word == _TIME_NAME else -1
    if length == 7:
        if word == _USER_ID_NAME:
            return USER_ID
        return ITEM_ID if word == _ITEM_ID_NAME else CONTEXT if word == _CONTEXT_NAME else -1
    if length == 8:
        if word == _EVENT_ID_NAME:
            return EVENT_ID
        if word == _QUANTITY_NAME:
            return _QUANTITY
        return _POSITION if word == _POSITION_NAME else _LOG_TIME if word == _LOG_TIME_NAME else -1
    if length == 5:
        return _VALUE if word == _VALUE_NAME else -1
    if length != 10 or byte_at(name + 8) != ord("i") or byte_at(name + 9) != ord("d"):
        return -1
    return SESSION_ID if word == _SESSION_ID_NAME else REQUEST_ID if word == _REQUEST_ID_NAME else -1


@kernel
def _id(text: int, at: int, field: int, characters_max: int, found: int) -> int:
    end = text_end(text, at)
    if end == -1 or not 0 < characters_of(text, at + 1, end, NO_CONTROLS) <= characters_max:
        return -1
    end = abs(end)
    _put_span(found, field, at + 1, end - at - 2)
    return end


@kernel
def _type(text: int, at: int, terms: tuple[int, int, int, int, int], found: int) -> int:
    types, starts, kinds, count, _ = terms
    end = abs(text_end(text, at))  # a type that is not ASCII is compared byte by byte too
    length = end - at - 2
    for number in range(count):
        name = int_at(starts + _NUMBER_BYTES * number)
        if int_at(starts + _NUMBER_BYTES * (number + 1)) - name != length:
            continue
        same = True
        for step in range(length):
            if byte_at(text + at + 1 + step) != byte_at(types + name + step):
                same = False
                break
        if same:
            kind = int_at(kinds + _NUMBER_BYTES * number)
            put_int(found + _NUMBER_BYTES * _KIND, kind)
            if kind == _INTERACTION:
                _put_span(found, ACTION, at + 1, length)
            return end
    return -1


@kernel
def _time(text: int, at: int, found: int) -> int:
    if byte_at(text + at) == QUOTE:
        end = text_end(text, at)
        if end < 0:
            return -1
        time_ms = iso_time_ms(bytes_of(text + at + 1, end - at - 2), 0, end - at - 2)
        put_int(found + _NUMBER_BYTES * _TIME_MS, time_ms)
    else:
        end = read_whole(text, at, TIME_MS_END, found + _NUMBER_BYTES * _TIME_MS)
        if end < 0:
            return -1
    put_int(found + _NUMBER_BYTES * _HAS_TIME, TIME_SENT)
    return end if TIME_MS_MIN <= _of(found, _TIME_MS) < TIME_MS_END else -1


@kernel
def _context(text: int, at: int, limits: int, found: int, also: int) -> int:
    """Read a flat context whose values are written as they will be kept; its members end up in order of their names."""
    if byte_at(text + at) != OPEN:
        return -1
    at = skip(text, at + 1, also)
    if byte_at(text + at) == CLOSE:
        return at + 1
    members = found + _NUMBER_BYTES * _FIRST_MEMBER
    count = 0
    length = 1
    while True:
        end = text_end(text, at)
        if end == -1 or count == MEMBERS_MAX:
            return -1
        name = at + 1
        if not 0 < characters_of(text, name, end, WITH_CONTROLS) <= int_at(limits):
            return -1
        end = abs(end)
        name_length = end - at - 2
        at = skip(text, end, also)
        if byte_at(text + at) != COLON:
            return -1
        at = skip(text, at + 1, also)
        end = plain_value_end(text, at)
        if end < 0:
            return -1
        member = members + _MEMBER_BYTES * count
        while member > members:
            before = member - _MEMBER_BYTES
            order = compare(text, name, name_length, int_at(before), _of(before, 1))
            if order == 0:
                return -1
            if order > 0:
                break
            for column in range(4):
                put_int(member + _NUMBER_BYTES * column, _of(before, column))
            member = before
        put_int(member, name)
        put_int(member + _NUMBER_BYTES, name_length)
        put_int(member + 2 * _NUMBER_BYTES, at)
        put_int(member + 3 * _NUMBER_BYTES, end - at)
        count += 1
        length += name_length + 4 + end - at  # two quotes, colon, and comma or closing brace
        at = skip(text, end, also)
        if byte_at(text + at) == CLOSE:
            break
        if byte_at(text + at) != COMMA:
            return -1
        at = skip(text, at + 1, also)
    if length > int_at(limits + _NUMBER_BYTES):
        return -1
    put_int(found + _NUMBER_BYTES * _MEMBERS, count)
    put_int(found + _NUMBER_BYTES * (_LENGTHS + CONTEXT), length)
    return at + 1


@kernel
def _put_row(row: np.void, found: int, text_start: int) -> int:
    """Write the numbers of the scratch as a row whose texts begin there; return 1 where its quantity is below 0."""
    numbers = found + _NUMBER_BYTES * FOUND_COLUMNS
    row["kind"] = _of(found, _KIND)
    row["operation"] = 0
    row["flags"] = _of(found, _HAS_TIME)
    row["action_length"] = _of(found, _LENGTHS + ACTION)
    row["position"] = _of(found, _PLACE)
    row["event_id_length"] = _of(found, _LENGTHS + EVENT_ID)
    row["user_id_length"] = _of(found, _LENGTHS + USER_ID)
    row["item_id_length"] = _of(found, _LENGTHS + ITEM_ID)
    row["session_id_length"] = _of(found, _LENGTHS + SESSION_ID)
    row["request_id_length"] = _of(found, _LENGTHS + REQUEST_ID)
    row["text_start"] = text_start
    row["body_length"] = _of(found, _LENGTHS + CONTEXT)
    row["event_time_ms"] = _of(found, _TIME_MS)
    row["log_time_ms"] = _of(found, _LOG_TIME_MS)
    row["value"] = float_at(numbers)
    quantity = np.float32(float_at(numbers + _NUMBER_BYTES))
    row["quantity"] = quantity
    row["unused"] = 0
    return 1 if quantity < 0.0 else 0


@kernel
def _put_texts(text: int, found: int, used: int) -> int:
    """Write the texts of the scratch from an address on; return the one behind them."""
    for field in range(CONTEXT):
        used = copy(text + _of(found, _STARTS + field), _of(found, _LENGTHS + field), used)
    member = found + _NUMBER_BYTES * _FIRST_MEMBER
    count = _of(found, _MEMBERS)
    for number in range(count):
        used = put(put(used, OPEN if number == 0 else COMMA), QUOTE)
        used = copy(text + int_at(member), _of(member, 1), used)
        used = put(put(used, QUOTE), COLON)
        used = copy(text + _of(member, 2), _of(member, 3), used)
        member += _MEMBER_BYTES
    return put(used, CLOSE) if count > 0 else used
