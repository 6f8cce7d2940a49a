"""Rows to JSON lines: what an export of plain events writes, without an object for each."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.events.kernel import kernel, signed
from midstream.events.schema import TIME_SENT

WordTables: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
FIXED_BYTES_MAX = 512
"""Of a line: names, quotes and whole numbers take 260 bytes, two floats 50, a type or operation of the tables 20."""
_INTERACTION = int(Kind.INTERACTION)
_QUOTE, _BACKSLASH, _SPACE, _COMMA, _COLON = ord('"'), ord("\\"), ord(" "), ord(","), ord(":")
_NAMES = (
    b'{"type":"',
    b',"event_id":"',
    b',"user_id":"',
    b',"session_id":"',
    b',"item_id":"',
    b',"time":',
    b',"value":',
    b',"quantity":',
    b',"position":',
    b',"request_id":"',
    b',"operation":"',
    b',"context":',
    b',"attributes":',
    b',"log_time":',
)
_ARENA = np.frombuffer(b"".join(_NAMES), dtype=np.uint8)
_ENDS = np.cumsum(np.array([len(name) for name in _NAMES], dtype=np.int64))
_TYPE, _EVENT_ID, _USER_ID, _SESSION_ID, _ITEM_ID, _TIME, _VALUE, _QUANTITY, _POSITION = range(9)
_REQUEST_ID, _OPERATION, _CONTEXT, _ATTRIBUTES, _LOG_TIME = range(9, 14)


@kernel
def write_lines(
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    tables: WordTables,
    codes: tuple[NDArray[np.int32], NDArray[np.int32]],
    with_log_time: int,
    odd: NDArray[np.bool_],
    out: NDArray[np.uint8],
    ends: NDArray[np.int64],
) -> None:
    """Write a line for each event that is not odd, and mark as odd those whose texts have control characters.

    Args:
        rows: Events, (n,).
        text: Their texts.
        tables: Words end to end, and where those of each kind, of each operation and of each number begin and end:
            word i of a table goes from its element i to element i + 1.
        codes: Number of the word of each value and quantity, -1 = not sent; each (n,).
        with_log_time: 1 = log times are written.
        odd: Events that are passed by, (n,); written to.
        out: Filled; ``FIXED_BYTES_MAX`` for each event, and twice the bytes of its texts.
        ends: Filled with the end of each line, (n,).
    """
    used = 0
    for i in range(len(rows)):
        start = used
        if not odd[i]:
            used = _line(rows[i], text, tables, codes[0][i], codes[1][i], with_log_time, out, used)
        if used < 0:
            odd[i] = True
            used = start
        ends[i] = used


@kernel
def _line(
    row: np.void,
    text: NDArray[np.uint8],
    tables: WordTables,
    value: int,
    quantity: int,
    with_log_time: int,
    out: NDArray[np.uint8],
    used: int,
) -> int:
    """Write the line of one event; return its end, -1 when a text has control characters."""
    words, kinds, operations, numbers = tables
    kind = signed(row["kind"])
    event_id = signed(row["text_start"])
    action = event_id + signed(row["event_id_length"])
    user_id = action + signed(row["action_length"])
    item_id = user_id + signed(row["user_id_length"])
    session_id = item_id + signed(row["item_id_length"])
    request_id = session_id + signed(row["session_id_length"])
    body = request_id + signed(row["request_id_length"])
    end = body + signed(row["body_length"])
    used = _name(out, used, _TYPE)
    if kind == _INTERACTION:
        used = _escaped(text, action, user_id, out, used)
    else:
        used = _escaped(words, kinds[kind], kinds[kind + 1], out, used)
    if used >= 0:
        out[used] = _QUOTE
        used += 1
    used = _text(text, event_id, action, _EVENT_ID, out, used)
    used = _text(text, user_id, item_id, _USER_ID, out, used)
    used = _text(text, session_id, request_id, _SESSION_ID, out, used)
    used = _text(text, item_id, session_id, _ITEM_ID, out, used)
    if row["flags"] & TIME_SENT:
        used = _whole(_TIME, signed(row["event_time_ms"]), out, used)
    used = _word(words, numbers, value, _VALUE, out, used)
    used = _word(words, numbers, quantity, _QUANTITY, out, used)
    if row["position"] >= 0:
        used = _whole(_POSITION, signed(row["position"]), out, used)
    used = _text(text, request_id, body, _REQUEST_ID, out, used)
    if row["operation"] > 0 and used >= 0:
        used = _word(words, operations, signed(row["operation"]), _OPERATION, out, used)
        out[used] = _QUOTE
        used += 1
    if end > body and used >= 0:
        used = _raw(text, body, end, out, _name(out, used, _CONTEXT if kind <= 2 else _ATTRIBUTES))
    if with_log_time:
        used = _whole(_LOG_TIME, signed(row["log_time_ms"]), out, used)
    if used >= 0:
        out[used], out[used + 1] = ord("}"), ord("\n")
        used += 2
    return used


@kernel
def _raw(text: NDArray[np.uint8], start: int, stop: int, out: NDArray[np.uint8], used: int) -> int:
    for at in range(start, stop):
        out[used + at - start] = text[at]
    return used + stop - start


@kernel
def _name(out: NDArray[np.uint8], used: int, number: int) -> int:
    return _raw(_ARENA, _ENDS[number - 1] if number > 0 else 0, _ENDS[number], out, used)


@kernel
def _escaped(text: NDArray[np.uint8], start: int, stop: int, out: NDArray[np.uint8], used: int) -> int:
    """Write text as it stands between quotes; -1 when it has control characters."""
    for at in range(start, stop):
        if text[at] < _SPACE:
            return -1
        if text[at] == _QUOTE or text[at] == _BACKSLASH:
            out[used] = _BACKSLASH
            used += 1
        out[used] = text[at]
        used += 1
    return used


@kernel
def _text(text: NDArray[np.uint8], start: int, stop: int, number: int, out: NDArray[np.uint8], used: int) -> int:
    """Write a field that is text, unless it is empty; what is -1 already stays so."""
    if used < 0 or start == stop:
        return used
    used = _escaped(text, start, stop, out, _name(out, used, number))
    if used >= 0:
        out[used] = _QUOTE
        used += 1
    return used


@kernel
def _word(
    words: NDArray[np.uint8], starts: NDArray[np.int64], code: int, number: int, out: NDArray[np.uint8], used: int
) -> int:
    if used < 0 or code < 0:
        return used
    return _raw(words, starts[code], starts[code + 1], out, _name(out, used, number))


@kernel
def _whole(number: int, value: int, out: NDArray[np.uint8], used: int) -> int:
    """Write a field that is a whole number."""
    if used < 0:
        return used
    used = _name(out, used, number)
    if value < 0:
        out[used] = ord("-")
        used += 1
    # Digits are taken from below 0, where the smallest number has room too.
    rest = value if value < 0 else -value
    count = 1
    while rest <= -10:
        rest = -(-rest // 10)
        count += 1
    rest = value if value < 0 else -value
    for place in range(count - 1, -1, -1):
        tenth = -(-rest // 10)
        out[used + place] = ord("0") + (tenth * 10 - rest)
        rest = tenth
    return used + count
