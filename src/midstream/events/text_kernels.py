"""Text kernels: whether bytes are UTF-8, how many characters they have, whether they are a time, or the same.

Each function gives the answer that Python gives for the same bytes, or -1 for "ask Python": nothing is ever taken
here that decoding in Python would refuse.
"""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import inlined, intrinsic, kernel, signed

WORD_BYTES: Final = 8
NO_CONTROLS, WITH_CONTROLS = 0, 1
_ISO_SECONDS = 19
"""``2026-01-31T12:00:00``"""
_DAYS_IN_MONTH = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], dtype=np.int64)


@kernel
def count_characters(text: NDArray[np.uint8], start: int, length: int, with_controls: int) -> int:
    """Return the number of characters of UTF-8, -1 where it is none, or holds a control character that may not be.

    Args:
        text: Bytes, shape (n,).
        start: Of the text in them.
        length: Of the text, bytes.
        with_controls: 1 = control characters may be in it, 0 = not.
    """
    count = 0
    at = start
    end = start + length
    while at < end:
        first = signed(text[at])
        if first < 0x80:
            if with_controls == 0 and (first < 0x20 or first == 0x7F):
                return -1
            at += 1
            count += 1
            continue
        if 0xC2 <= first < 0xE0:
            more, lowest, code = 1, 0x80, first & 0x1F
        elif 0xE0 <= first < 0xF0:
            more, lowest, code = 2, 0x800, first & 0x0F
        elif 0xF0 <= first < 0xF5:
            more, lowest, code = 3, 0x10000, first & 0x07
        else:
            return -1
        if at + more >= end:
            return -1
        for step in range(1, more + 1):
            part = signed(text[at + step])
            if part & 0xC0 != 0x80:
                return -1
            code = (code << 6) | (part & 0x3F)
        if code < lowest or 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            return -1
        if with_controls == 0 and code < 0xA0:
            return -1
        at += more + 1
        count += 1
    return count


@kernel
def copy_spans(
    text: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Write pieces of a text end to end into ``out``, which is as long as all of them together."""
    used = 0
    for number in range(len(starts)):
        start = starts[number]
        for step in range(lengths[number]):
            out[used + step] = text[start + step]
        used += lengths[number]


@kernel
def iso_time_ms(text: NDArray[np.uint8], start: int, length: int) -> int:
    """Return the milliseconds since 1970 of ``2026-01-31T12:00:00`` with 0, 3 or 6 decimals and ``Z`` or ``+01:00``.

    -1 = any other form, or not a time at all. Years from 1970 on.
    """
    if length < _ISO_SECONDS + 1:
        return -1
    year, month, day = _digits(text, start, 4), _digits(text, start + 5, 2), _digits(text, start + 8, 2)
    hour, minute = _digits(text, start + 11, 2), _digits(text, start + 14, 2)
    second = _digits(text, start + 17, 2)
    marks = (
        text[start + 4] == ord("-")
        and text[start + 7] == ord("-")
        and text[start + 10] == ord("T")
        and text[start + 13] == ord(":")
        and text[start + 16] == ord(":")
    )
    if not marks or year < 1970 or not 1 <= month <= 12 or not 0 <= hour < 24:
        return -1
    if not 0 <= minute < 60 or not 0 <= second < 60:
        return -1
    is_leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    days_max = 29 if month == 2 and is_leap else _DAYS_IN_MONTH[month - 1]
    if not 1 <= day <= days_max:
        return -1
    at = start + _ISO_SECONDS
    end = start + length
    thousandths = 0
    if text[at] == ord("."):
        decimals = 0
        while at + 1 + decimals < end and ord("0") <= text[at + 1 + decimals] <= ord("9"):
            decimals += 1
        if decimals not in (3, 6):
            return -1
        thousandths = _digits(text, at + 1, 3)
        at += 1 + decimals
    if at == end:
        return -1
    ahead = 0
    if text[at] == ord("Z"):
        at += 1
    elif end - at == 6 and text[at + 3] == ord(":") and (text[at] == ord("+") or text[at] == ord("-")):
        hours, minutes = _digits(text, at + 1, 2), _digits(text, at + 4, 2)
        if not 0 <= hours < 24 or not 0 <= minutes < 60:
            return -1
        ahead = (hours * 60 + minutes) * (1 if text[at] == ord("+") else -1)
        at += 6
    if at != end:
        return -1
    seconds = (_days_since_1970(year, month, day) * 24 + hour) * 3_600 + (minute - ahead) * 60 + second
    return seconds * 1_000 + thousandths if seconds >= 0 else -1


@kernel
def _digits(text: NDArray[np.uint8], start: int, count: int) -> int:
    """Return the number that ``count`` digits are, far below 0 where one of them is none."""
    found = 0
    for at in range(start, start + count):
        digit = signed(text[at]) - ord("0")
        found = found * 10 + digit if 0 <= digit <= 9 else -1_000_000
    return found


@kernel
def _days_since_1970(year: int, month: int, day: int) -> int:
    """Reference: H. Hinnant, chrono-Compatible Low-Level Date Algorithms, 2013, ``days_from_civil``."""
    shifted = year - 1 if month <= 2 else year
    era = shifted // 400
    year_of_era = shifted - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


def _read_word(_typing: Any, array: Any, _at: Any) -> Any:  # noqa: ANN401  # numba's own
    from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types
    from numba import types

    signature = types.uint64(array, types.int64)  # put together from single bytes it takes 25 instructions

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        found = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = ir.IntType(64)
        address = builder.add(builder.ptrtoint(found.data, word), arguments[1])
        return builder.load(builder.inttoptr(address, word.as_pointer()), align=1)

    return signature, generate


if TYPE_CHECKING:

    def read_word(array: NDArray[np.uint8], at: int) -> np.uint64:
        """Return the eight bytes from a place on, the first one lowest. All lie in the array, end to end."""
        ...
else:
    read_word = intrinsic(_read_word)


@inlined
def is_same_text(text: NDArray[np.uint8], at: int, other_text: NDArray[np.uint8], other: int, length: int) -> bool:
    """Return whether ``length`` bytes of two arrays are the same."""
    same, done = True, 0
    while same and done + WORD_BYTES <= length:
        same = read_word(text, at + done) == read_word(other_text, other + done)
        done += WORD_BYTES
    while same and done < length:
        same = text[at + done] == other_text[other + done]
        done += 1
    return same
