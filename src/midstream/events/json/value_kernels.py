"""The values of JSON, read by kernels: each reads what begins at a place and returns the place behind it.

-1 = ask the other way: it is something else, or written in a form that is not plain. The bytes are given by their
address and end in zeros (``memory.SLACK``), which are neither text nor space in JSON, so no loop looks for their end.

Reference: W. Clinger, How to Read Floating Point Numbers Accurately, PLDI 1990 (the exact case).
"""

import numpy as np

from midstream.events.json.memory import byte_at, bytes_of, first_byte, put_byte, put_float, put_int, put_word, word_at
from midstream.events.kernel import kernel
from midstream.events.text_kernels import WITH_CONTROLS, count_characters

QUOTE, BACKSLASH, COMMA, COLON = ord('"'), ord("\\"), ord(","), ord(":")
OPEN, CLOSE, LIST_END, LINE_END, SPACE = ord("{"), ord("}"), ord("]"), ord("\n"), ord(" ")
_MINUS, _POINT, _ZERO, _NINE = ord("-"), ord("."), ord("0"), ord("9")
_TENS = np.array([10.0**power for power in range(23)])
_MANTISSA_MAX = 1 << 53
_DIGITS_MAX = 18
_FLOAT_DIGITS_MAX = 15
"""A decimal of at most 15 digits is the shortest text of the float64 nearest to it."""
_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_QUOTES, _BACKSLASHES = np.uint64(QUOTE) * _ONES, np.uint64(BACKSLASH) * _ONES
_SPACES, _DELETES = np.uint64(SPACE) * _ONES, np.uint64(0x7F) * _ONES
_FOUR_BYTES, _FIVE_BYTES = np.uint64((1 << 32) - 1), np.uint64((1 << 40) - 1)
_NULL, _TRUE, _FALSE = (np.uint64(int.from_bytes(word, "little")) for word in (b"null", b"true", b"false"))
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_WORD_BYTES = 8
_ZEROS_MAX = 2
"""Behind the point: smaller numbers may be written with an exponent."""


@kernel
def skip(text: int, at: int, also: int) -> int:
    """Return the next place that is not JSON's space; ``also`` says whether the end of a line is one of it."""
    found = byte_at(text + at)
    while found <= SPACE and (found in (SPACE, also) or found == ord("\t") or found == ord("\r")):
        at += 1
        found = byte_at(text + at)
    return at


@kernel
def text_end(text: int, at: int) -> int:
    """Return the place behind the text in quotes that begins here, -1 when none does or it has an escape.

    Below -1 it is minus that place: the text has bytes that are not ASCII, or a DEL, so that its characters have to be
    looked at one by one.
    """
    if byte_at(text + at) != QUOTE:
        return -1
    at += 1
    odd = _NONE
    while True:
        word = word_at(text + at)
        quotes, backslashes, deletes = word ^ _QUOTES, word ^ _BACKSLASHES, word ^ _DELETES
        # A mark above the lowest one of its kind may be none, so only the lowest of all is believed.
        stops = (
            ((quotes - _ONES) & ~quotes) | ((backslashes - _ONES) & ~backslashes) | ((word - _SPACES) & ~word)
        ) & _HIGHS
        others = (((deletes - _ONES) & ~deletes) | word) & _HIGHS
        if stops != _NONE:
            odd |= others & ((stops & (_NONE - stops)) - _ONE)
            at += first_byte(stops)
            if byte_at(text + at) != QUOTE:
                return -1
            return -(at + 1) if odd != _NONE else at + 1
        odd |= others
        at += _WORD_BYTES


@kernel
def characters_of(text: int, start: int, end: int, with_controls: int) -> int:
    """Return the number of characters of the text whose end ``text_end`` gave; -1 as ``count_characters`` has it.

    Args:
        text: Address of the bytes.
        start: Of the text in them, behind its quote.
        end: As ``text_end`` gave it.
        with_controls: As there.
    """
    if end > 0:
        return end - 1 - start
    length = -end - 1 - start
    return count_characters(bytes_of(text + start, length), 0, length, with_controls)


@kernel
def literal_end(text: int, at: int) -> int:
    """Return the place behind ``null``, ``true`` or ``false``, -1 when none of them begins here."""
    word = word_at(text + at)
    four = word & _FOUR_BYTES
    if four in (_NULL, _TRUE):
        return at + 4
    return at + 5 if word & _FIVE_BYTES == _FALSE else -1


@kernel
def read_whole(text: int, at: int, value_max: int, found: int) -> int:
    """Read a whole number from 0 on into the int64 at ``found``; -1 for any other number."""
    start = at
    value = 0
    while _ZERO <= byte_at(text + at) <= _NINE:
        value = value * 10 + byte_at(text + at) - _ZERO
        at += 1
        if at - start > _DIGITS_MAX:
            return -1
    if at == start or (byte_at(text + start) == _ZERO and at > start + 1) or value > value_max:
        return -1
    if byte_at(text + at) == _POINT or byte_at(text + at) == ord("e") or byte_at(text + at) == ord("E"):
        return -1
    put_int(found, value)
    return at


@kernel
def read_number(text: int, at: int, found: int) -> int:
    """Read a number that a float64 holds after one exact step into that at ``found``; -1 for any other."""
    is_negative = byte_at(text + at) == _MINUS
    if is_negative:
        at += 1
    start = at
    mantissa = digits = 0
    while _ZERO <= byte_at(text + at) <= _NINE:
        mantissa = mantissa * 10 + byte_at(text + at) - _ZERO
        at += 1
        digits += 1
        if digits > _DIGITS_MAX:
            return -1
    if digits == 0 or (byte_at(text + start) == _ZERO and digits > 1):
        return -1
    power = 0
    if byte_at(text + at) == _POINT:
        at += 1
        before = digits
        while _ZERO <= byte_at(text + at) <= _NINE:
            mantissa = mantissa * 10 + byte_at(text + at) - _ZERO
            at += 1
            digits += 1
            if digits > _DIGITS_MAX:
                return -1
        if digits == before:
            return -1
        power = before - digits
    if byte_at(text + at) == ord("e") or byte_at(text + at) == ord("E"):
        return -1
    if mantissa > _MANTISSA_MAX or (mantissa == 0 and is_negative):
        return -1
    value = mantissa / _TENS[-power]
    put_float(found, -value if is_negative else value)
    return at


@kernel
def plain_value_end(text: int, at: int) -> int:
    """Return the place behind text without escapes, a truth value or a number in its one form; -1 for all else."""
    if byte_at(text + at) == QUOTE:
        end = text_end(text, at)
        if end == -1 or characters_of(text, at + 1, end, WITH_CONTROLS) < 0:
            return -1
        return abs(end)
    if byte_at(text + at) == ord("t") or byte_at(text + at) == ord("f"):
        return literal_end(text, at)
    is_negative = byte_at(text + at) == _MINUS
    start = at + 1 if is_negative else at
    at = start
    while _ZERO <= byte_at(text + at) <= _NINE:
        at += 1
    whole = at - start
    if whole == 0 or whole > _DIGITS_MAX or (byte_at(text + start) == _ZERO and whole > 1):
        return -1
    if byte_at(text + at) != _POINT:
        is_zero = byte_at(text + start) == _ZERO and is_negative
        return -1 if is_zero or byte_at(text + at) == ord("e") or byte_at(text + at) == ord("E") else at
    at += 1
    point = at
    zeros = 0
    while _ZERO <= byte_at(text + at) <= _NINE:
        zeros += 1 if byte_at(text + at) == _ZERO and zeros == at - point else 0
        at += 1
    decimals = at - point
    is_short = decimals > 0 and whole + decimals <= _FLOAT_DIGITS_MAX
    ends_well = decimals == 1 or byte_at(text + at - 1) != _ZERO
    is_tiny = byte_at(text + start) == _ZERO and zeros > _ZEROS_MAX
    if not is_short or not ends_well or is_tiny or byte_at(text + at) == ord("e") or byte_at(text + at) == ord("E"):
        return -1
    return at


@kernel
def compare(text: int, one: int, one_length: int, other: int, other_length: int) -> int:
    """Return below, at or above 0 as one text comes before the other in the order of their bytes, and so of UTF-8."""
    for step in range(min(one_length, other_length)):
        difference = byte_at(text + one + step) - byte_at(text + other + step)
        if difference != 0:
            return difference
    return one_length - other_length


@kernel
def copy(start: int, length: int, place: int) -> int:
    """Write so many bytes from one address on to another one, and up to seven more; return the end of those meant."""
    step = 0
    while step < length:
        put_word(place + step, word_at(start + step))
        step += _WORD_BYTES
    return place + length


@kernel
def put(place: int, value: int) -> int:
    """Write a byte at an address; return the one behind it."""
    put_byte(place, value)
    return place + 1
