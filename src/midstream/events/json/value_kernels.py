"""The values of JSON, read by kernels: each reads what begins at a place and returns the place behind it.

-1 = ask the other way: it is something else, or written in a form that is not plain. The bytes end in a zero, which is
neither text nor space in JSON, so no loop needs to look for their end.

Reference: W. Clinger, How to Read Floating Point Numbers Accurately, PLDI 1990 (the exact case).
"""

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import kernel, signed
from midstream.events.text_kernels import WITH_CONTROLS, count_characters

QUOTE, BACKSLASH, COMMA, COLON = ord('"'), ord("\\"), ord(","), ord(":")
OPEN, CLOSE, LIST_END, LINE_END, SPACE = ord("{"), ord("}"), ord("]"), ord("\n"), ord(" ")
_MINUS, _POINT, _ZERO, _NINE = ord("-"), ord("."), ord("0"), ord("9")
_TENS = np.array([10.0**power for power in range(23)])
_MANTISSA_MAX = 1 << 53
_DIGITS_MAX = 18
_FLOAT_DIGITS_MAX = 15
"""A decimal of at most 15 digits is the shortest text of the float64 nearest to it."""
_ZEROS_MAX = 2
"""Behind the point: smaller numbers may be written with an exponent."""


@kernel
def skip(text: NDArray[np.uint8], at: int, also: int) -> int:
    """Return the next place that is not JSON's space; ``also`` says whether the end of a line is one of it."""
    while text[at] == SPACE or text[at] == ord("\t") or text[at] == ord("\r") or text[at] == also:
        at += 1
    return at


@kernel
def text_end(text: NDArray[np.uint8], at: int) -> int:
    """Return the place behind the text in quotes that begins here, -1 when none does or it has an escape."""
    if text[at] != QUOTE:
        return -1
    at += 1
    while text[at] != QUOTE:
        if text[at] < SPACE or text[at] == BACKSLASH:
            return -1
        at += 1
    return at + 1


@kernel
def literal_end(text: NDArray[np.uint8], at: int) -> int:
    """Return the place behind ``null``, ``true`` or ``false``, -1 when none of them begins here."""
    if text[at] == ord("n") and text[at + 1] == ord("u") and text[at + 2] == ord("l") and text[at + 3] == ord("l"):
        return at + 4
    if text[at] == ord("t") and text[at + 1] == ord("r") and text[at + 2] == ord("u") and text[at + 3] == ord("e"):
        return at + 4
    if text[at] == ord("f") and text[at + 1] == ord("a") and text[at + 2] == ord("l") and text[at + 3] == ord("s"):
        return at + 5 if text[at + 4] == ord("e") else -1
    return -1


@kernel
def read_whole(text: NDArray[np.uint8], at: int, value_max: int, found: NDArray[np.int64], column: int) -> int:
    """Read a whole number from 0 on; -1 for any other number."""
    start = at
    value = 0
    while _ZERO <= text[at] <= _NINE:
        value = value * 10 + signed(text[at]) - _ZERO
        at += 1
        if at - start > _DIGITS_MAX:
            return -1
    if at == start or (text[start] == _ZERO and at > start + 1) or value > value_max:
        return -1
    if text[at] == _POINT or text[at] == ord("e") or text[at] == ord("E"):
        return -1
    found[column] = value
    return at


@kernel
def read_number(text: NDArray[np.uint8], at: int, numbers: NDArray[np.float64], place: int) -> int:
    """Read a number that a float64 holds after one exact step; -1 for any other."""
    is_negative = text[at] == _MINUS
    if is_negative:
        at += 1
    start = at
    mantissa = digits = 0
    while _ZERO <= text[at] <= _NINE:
        mantissa = mantissa * 10 + signed(text[at]) - _ZERO
        at += 1
        digits += 1
        if digits > _DIGITS_MAX:
            return -1
    if digits == 0 or (text[start] == _ZERO and digits > 1):
        return -1
    power = 0
    if text[at] == _POINT:
        at += 1
        before = digits
        while _ZERO <= text[at] <= _NINE:
            mantissa = mantissa * 10 + signed(text[at]) - _ZERO
            at += 1
            digits += 1
            if digits > _DIGITS_MAX:
                return -1
        if digits == before:
            return -1
        power = before - digits
    if text[at] == ord("e") or text[at] == ord("E"):
        return -1
    if mantissa > _MANTISSA_MAX or (mantissa == 0 and is_negative):
        return -1
    value = mantissa / _TENS[-power]
    numbers[place] = -value if is_negative else value
    return at


@kernel
def plain_value_end(text: NDArray[np.uint8], at: int) -> int:
    """Return the place behind text without escapes, a truth value or a number in its one form; -1 for all else."""
    if text[at] == QUOTE:
        end = text_end(text, at)
        if end < 0 or count_characters(text, at + 1, end - at - 2, WITH_CONTROLS) < 0:
            return -1
        return end
    if text[at] == ord("t") or text[at] == ord("f"):
        return literal_end(text, at)
    is_negative = text[at] == _MINUS
    start = at + 1 if is_negative else at
    at = start
    while _ZERO <= text[at] <= _NINE:
        at += 1
    whole = at - start
    if whole == 0 or whole > _DIGITS_MAX or (text[start] == _ZERO and whole > 1):
        return -1
    if text[at] != _POINT:
        is_zero = text[start] == _ZERO and is_negative
        return -1 if is_zero or text[at] == ord("e") or text[at] == ord("E") else at
    at += 1
    point = at
    zeros = 0
    while _ZERO <= text[at] <= _NINE:
        zeros += 1 if text[at] == _ZERO and zeros == at - point else 0
        at += 1
    decimals = at - point
    is_short = decimals > 0 and whole + decimals <= _FLOAT_DIGITS_MAX
    ends_well = decimals == 1 or text[at - 1] != _ZERO
    is_tiny = text[start] == _ZERO and zeros > _ZEROS_MAX
    if not is_short or not ends_well or is_tiny or text[at] == ord("e") or text[at] == ord("E"):
        return -1
    return at


@kernel
def compare(text: NDArray[np.uint8], one: int, one_length: int, other: int, other_length: int) -> int:
    """Return below, at or above 0 as one text comes before the other in the order of their bytes, and so of UTF-8."""
    for step in range(min(one_length, other_length)):
        difference = signed(text[one + step]) - signed(text[other + step])
        if difference != 0:
            return difference
    return one_length - other_length


@kernel
def copy(text: NDArray[np.uint8], start: int, length: int, arena: NDArray[np.uint8], used: int) -> int:
    """Write a piece of the text behind what is used of an arena; return the end of that."""
    for step in range(length):
        arena[used + step] = text[start + step]
    return used + length
