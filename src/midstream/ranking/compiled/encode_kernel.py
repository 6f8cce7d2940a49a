"""The kernel that writes a slate: its items as JSON, and the fields of the served record that are about items.

The bytes are those of msgspec for ``SlateItem`` and ``ServedBody``. A float32 times a power of ten up to 10^11 is exact
in a float64 (24 and 26 bits), so rounding the product gives the digits of ``%.7g``; of two equally near numbers the
even one. Smaller ones are multiplied by the halves of a power up to 10^22 (52 bits), each of which gives an exact
product; larger ones are whole numbers.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.ranking.compiled.decision_kernel import ANSWERED, UNUSUAL
from midstream.ranking.compiled.room import CHOSEN, DRAWN, RECORD_END, TEXT_END, AnswerRoom
from midstream.state.ids.vocabulary import IdColumns
from midstream.state.structures.kernel import inlined, kernel, signed

Octets = NDArray[np.uint8]


def _octets(text: bytes) -> Octets:
    return np.frombuffer(text, dtype=np.uint8).copy()


_ID: Final = _octets(b'{"id":"')
_SCORE: Final = _octets(b'","score":')
_POSITION: Final = _octets(b',"position":')
_SMALLEST: Final = 1e-16
"""What is smaller is left to the pipeline: no float64 is the power of ten that its digits would need."""
_SCORE_MIN: Final = 1e-5
"""What is smaller has an exponent."""
_SCORE_END: Final = 1e7
"""From here on a score has more digits before its point than are written of it: the others are 0."""
_LARGEST: Final = 1e16
"""From here on a score has an exponent: it is left to the pipeline."""
_HALF: Final = 134_217_729.0
"""2^27 + 1: what a float64 times it lacks to a multiple of a larger power of two are its low bits (Veltkamp)."""
_EXACT: Final = 22
"""Powers of ten to here are float64."""
_PLAIN: Final = 5
"""Of a negative exponent: not written as one."""
_FIRST_PLAIN: Final = _octets(b"0.00001")
"""10^-5, the first number without an exponent, which float32 below it are rounded to."""
_DIGITS: Final = 7
_PLACES_MAX: Final = 11
_LEAST: Final = 10 ** (_DIGITS - 1)
_END: Final = 10**_DIGITS
_ZERO: Final = ord("0")
_MINUS: Final = ord("-")
_QUOTE: Final = ord('"')
_BACKSLASH: Final = ord("\\")
_SPACE: Final = ord(" ")


@kernel
def put(out: Octets, at: int, text: Octets, start: int, stop: int) -> int:
    """Copy bytes; return where the next one goes."""
    for place in range(start, stop):
        out[at] = text[place]
        at += 1
    return at


@kernel
def put_whole(out: Octets, at: int, value: int) -> int:
    """Write a whole number of at least 0 in decimal digits."""
    power = 1
    while power * 10 <= value:
        power *= 10
    while power > 0:
        out[at] = _ZERO + value // power % 10
        power //= 10
        at += 1
    return at


@inlined
def put_small(out: Octets, at: int, value: float) -> int:
    """Write a number below 10^-5 in seven significant digits; return where the next byte goes, -1 = it is too small.

    None lies in the middle of two numbers of seven digits: it would be a multiple of a power of two that is larger.
    """
    places = _PLACES_MAX
    power, whole, low = 1e11, 0.0, 0.0
    while places < _EXACT and whole - _LEAST + low < 0.0:  # near 0 the difference is exact, and so is a sum's sign
        places += 1
        power *= 10.0
        high = _HALF * power
        high -= high - power
        whole, low = value * high, value * (power - high)
    if whole - _LEAST + low < 0.0:
        return -1
    digits = signed(np.floor(whole))
    if whole - digits - 0.5 + low > 0.0:
        digits += 1
    exponent = places - (_DIGITS - 1)
    if digits == _END:  # rounding gave a digit more, which is a 0
        digits = _LEAST
        exponent -= 1
    if exponent == _PLAIN:
        return put(out, at, _FIRST_PLAIN, 0, len(_FIRST_PLAIN))
    one = _LEAST
    out[at] = _ZERO + digits // one
    at += 1
    rest = digits % one
    if rest > 0:
        out[at] = ord(".")
        at += 1
    while rest > 0:
        one //= 10
        out[at] = _ZERO + rest // one
        rest %= one
        at += 1
    out[at], out[at + 1] = ord("e"), _MINUS
    return put_whole(out, at + 2, exponent)


@inlined
def put_large(out: Octets, at: int, value: float) -> int:
    """Write a whole number from 10^7 to 10^16 in seven significant digits; return where the next byte goes."""
    digits, one = signed(value), 1
    while digits // one >= _END:
        one *= 10
    rest = digits % one
    digits //= one
    if 2 * rest > one or (2 * rest == one and digits & 1):
        digits += 1
    at = put_whole(out, at, digits * one)
    out[at], out[at + 1] = ord("."), _ZERO
    return at + 2


@kernel
def put_score(out: Octets, at: int, score: np.float32) -> int:
    """Write a score in seven significant digits, as JSON has them; return where the next byte goes, -1 = unusual."""
    value = np.float64(score)
    if np.signbit(value):
        out[at] = _MINUS
        at += 1
        value = -value
    if value == 0.0:
        out[at], out[at + 1], out[at + 2] = _ZERO, ord("."), _ZERO
        return at + 3
    if not _SMALLEST <= value < _LARGEST:
        return -1
    if value < _SCORE_MIN:
        return put_small(out, at, value)
    if value >= _SCORE_END:
        return put_large(out, at, value)
    places = 0
    power = 1.0
    while value * power < _LEAST and places < _PLACES_MAX:
        places += 1
        power *= 10.0
    digits = signed(np.rint(value * power))
    if digits == _END and places > 0:  # rounding gave a digit more, which is a 0
        digits //= 10
        places -= 1
    one = 1
    for _ in range(places):
        one *= 10
    at = put_whole(out, at, digits // one)
    out[at] = ord(".")
    at += 1
    rest = digits % one
    if rest == 0:
        out[at] = _ZERO
        at += 1
    while rest > 0:
        one //= 10
        out[at] = _ZERO + rest // one
        rest %= one
        at += 1
    return at


@kernel
def put_length(out: Octets, at: int, length: int, small: int, small_end: int, wide: int) -> int:
    """Write the head of a MessagePack array, text or binary of a length below 65,536.

    Args:
        out: Written to.
        at: Where.
        length: What the head says.
        small: Head of the smallest, which has the length in its low bits.
        small_end: First length for which that is too small.
        wide: Head with one byte of length behind it; that with two is one more. An array has none with one: then minus
            the head with two.
    """
    if length < small_end:
        out[at] = small | length
        return at + 1
    if wide > 0 and length < 1 << 8:
        out[at], out[at + 1] = wide, length
        return at + 2
    out[at] = wide + 1 if wide > 0 else -wide
    out[at + 1], out[at + 2] = length >> 8, length & 0xFF
    return at + 3


@kernel
def put_array(out: Octets, at: int, length: int) -> int:
    """Write the head of an array."""
    return put_length(out, at, length, 0x90, 16, -0xDC)


@kernel
def put_text(out: Octets, at: int, text: Octets, start: int, stop: int) -> int:
    """Write a text."""
    return put(out, put_length(out, at, stop - start, 0xA0, 32, 0xD9), text, start, stop)


@kernel
def put_binary(out: Octets, at: int, length: int) -> int:
    """Write the head of bytes."""
    return put_length(out, at, length, 0, 0, 0xC4)


@kernel
def put_number(out: Octets, at: int, value: int) -> int:
    """Write a whole number from 0 to 65,535."""
    if value < 1 << 7:
        out[at] = value
        return at + 1
    if value < 1 << 8:
        out[at], out[at + 1] = 0xCC, value
        return at + 2
    out[at], out[at + 1], out[at + 2] = 0xCD, value >> 8, value & 0xFF
    return at + 3


@kernel
def put_items(ids: IdColumns, room: AnswerRoom) -> int:
    """Write the items of the slate as the inner part of a JSON array; return its end, -1 = unusual."""
    out, at = room.text, 0
    for position in range(room.counts[CHOSEN]):
        item = room.distinct[room.rows[position]]
        if position > 0:
            out[at] = ord(",")
            at += 1
        at = put(out, at, _ID, 0, len(_ID))
        for place in range(ids.item_start[item], ids.item_start[item + 1]):
            octet = ids.item_text[place]
            if octet < _SPACE:
                return -1
            if octet in (_QUOTE, _BACKSLASH):
                out[at] = _BACKSLASH
                at += 1
            out[at] = octet
            at += 1
        at = put(out, at, _SCORE, 0, len(_SCORE))
        at = put_score(out, at, room.score[position])
        if at < 0:
            return -1
        at = put(out, at, _POSITION, 0, len(_POSITION))
        at = put_whole(out, at, position)
        out[at] = ord("}")
        at += 1
    return at


@kernel
def put_floats(out: Octets, at: int, values: NDArray[np.float32], count: int) -> int:
    """Write the first of some numbers as the record has them."""
    at = put_binary(out, at, 4 * count)
    for position in range(count):
        bits = signed(np.float32(values[position]).view(np.uint32))
        for shift in range(0, 32, 8):
            out[at] = bits >> shift & 0xFF
            at += 1
    return at


@kernel
def put_record(ids: IdColumns, room: AnswerRoom) -> int:
    """Write ids, scores, propensities and bits of sources as the record has them; return the end."""
    out, count = room.record, room.counts[CHOSEN]
    at = put_array(out, 0, count)
    for position in range(count):
        item = room.distinct[room.rows[position]]
        at = put_text(out, at, ids.item_text, signed(ids.item_start[item]), signed(ids.item_start[item + 1]))
    at = put_floats(out, at, room.score, signed(count))
    at = put_floats(out, at, room.propensity, signed(count) * room.counts[DRAWN])  # none: each was certain
    at = put_array(out, at, count)
    for position in range(count):
        at = put_number(out, at, room.bits[position])
    return at


@kernel
def encode(ids: IdColumns, room: AnswerRoom) -> int:
    """Write both texts; return ``ANSWERED``, or why the pipeline has to answer."""
    end = put_items(ids, room)
    if end < 0:
        return UNUSUAL
    room.counts[TEXT_END] = end
    room.counts[RECORD_END] = put_record(ids, room)
    return ANSWERED
