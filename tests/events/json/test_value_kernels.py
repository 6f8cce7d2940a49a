"""Values of JSON that kernels read, against regular expressions: what is plain is read whole, all else is not.

Each text has a zero behind it, and something before it that is not read.
"""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.events.json.value_kernels import (
    characters_of,
    compare,
    copy,
    literal_end,
    plain_value_end,
    read_number,
    read_whole,
    text_end,
)
from midstream.events.text_kernels import NO_CONTROLS, WITH_CONTROLS

PLAIN_NUMBER = re.compile(r"(-?)(0|[1-9]\d{0,17})(?:\.(\d+)(?![\deE])|(?![\d.eE]))")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+(?![\deE])|(?![\d.eE]))")
LITERALS = ("null", "true", "false")
NUMBERS = st.from_regex(r"\A-?[0-9]{1,19}(\.[0-9]{0,17})?[eE,.\]]?\Z") | st.floats(-1e6, 1e6).map(repr)


PLACE = np.zeros(1_024, dtype=np.uint8)
"""Where a text lies while it is read."""


def laid(raw):
    """The address of bytes, with zeros behind them."""
    PLACE[:] = 0
    PLACE[: len(raw)] = np.frombuffer(raw, dtype=np.uint8)
    return PLACE.ctypes.data


def bytes_of(text):
    """The address of a text as kernels get it, behind two others."""
    return laid(b'"x' + text.encode())


def end_of(size):
    """The place behind so many characters of a text, -1 = it is not plain."""
    return -1 if size is None else 2 + size


def plain_size(text):
    """How long the plain value is that a text begins with, None = it begins with none."""
    if (literal := next((each for each in LITERALS[1:] if text.startswith(each)), None)) is not None:
        return len(literal)
    if found := re.match(r'"[^"\\\x00-\x1f]*"', text):
        return len(found[0].encode())
    found = PLAIN_NUMBER.match(text)
    if found is None:
        return None
    minus, whole, decimals = found.groups()
    if decimals is None:
        return None if minus and whole == "0" else found.end()
    is_short = len(whole) + len(decimals) <= 15
    is_tiny = whole == "0" and re.match("000", decimals)
    return found.end() if is_short and not is_tiny and (len(decimals) == 1 or decimals[-1] != "0") else None


@pytest.mark.parametrize("literal", LITERALS)
def test_a_literal_has_all_of_its_letters(literal):
    """One letter that is another makes it none, and what stands behind it is not looked at."""
    for more in ("", ",", "x"):
        assert literal_end(bytes_of(literal + more), 2) == end_of(len(literal))
    for at in range(len(literal)):
        for other in "aNx\x00":
            wrong = literal[:at] + other + literal[at + 1 :]
            assert literal_end(bytes_of(wrong), 2) == (end_of(len(literal)) if wrong == literal else -1)
        assert literal_end(bytes_of(literal[:at]), 2) == -1


@given(NUMBERS | st.sampled_from([*LITERALS, "nul", "falze", '"a', '"é"', '"a\\n"', '"\x1f"', "-", "[1]"]))
@example("-0")
@example("0.001")
@example("0.0001")
@example("1.50")
@example("1.0")
@example("123456789012345678")
@example("1234567.12345678")
@example("1234567.123456789")
def test_a_plain_value_is_one_in_its_one_form(text):
    """Text without escapes, a truth value, or a number that is written the same when it was read."""
    assert plain_value_end(bytes_of(text), 2) == end_of(plain_size(text))


@given(NUMBERS)
@example("9007199254740992")
@example("9007199254740993")
@example("0.0.")
@example("0.3")
def test_a_number_is_the_one_that_python_reads(text):
    """Wherever one exact step gives it; else it is not touched."""
    numbers = np.array([7.0, 7.0])
    end = read_number(bytes_of(text), 2, numbers.ctypes.data + 8)
    found = NUMBER.match(text)
    digits = 0 if found is None else len(re.sub(r"\D", "", found[0]))
    mantissa = 0 if found is None else int(re.sub(r"\D", "", found[0]))
    is_read = found is not None and digits <= 18 and mantissa <= 1 << 53 and not (text[0] == "-" and mantissa == 0)
    assert end == (end_of(found.end()) if found is not None and is_read else -1)
    assert numbers.tolist() == [7.0, float(found[0]) if found is not None and is_read else 7.0]


@given(NUMBERS, st.sampled_from([0, 9, 32_766, 10**18]))
def test_a_whole_number_is_within_its_most(text, most):
    """From 0 on, without zeros before it, and without what makes it another number."""
    found = np.array([7, 7], dtype=np.int64)
    end = read_whole(bytes_of(text), 2, most, found.ctypes.data + 8)
    whole = re.match(r"(0|[1-9]\d{0,17})(?![\d.eE])", text)
    is_read = whole is not None and int(whole[0]) <= most
    assert end == (end_of(whole.end()) if whole is not None and is_read else -1)
    assert found.tolist() == [7, int(whole[0]) if whole is not None and is_read else 7]


@given(st.text("ab\x01é\\", max_size=6), st.text("ab\x01é\\", max_size=6))
@example("b", "ba")
@example("ba", "b")
@example("", "a")
def test_texts_end_at_their_quote_and_compare_by_their_bytes(one, other):
    """An escape or a control character makes a text one to be asked elsewhere."""
    whole = f'"{one}"'
    is_plain = not re.search(r"[\x00-\x1f\\]", one)
    sign = 1 if re.fullmatch(r"[\x00-\x7e]*", one) else -1
    assert text_end(bytes_of(whole), 2) == (sign * (2 + len(whole.encode())) if is_plain else -1)
    assert text_end(bytes_of(one), 2) == -1
    left, right = one.encode(), other.encode()
    sign = compare(laid(left + right), 0, len(left), len(left), len(right))
    assert (sign > 0) - (sign < 0) == (left > right) - (left < right)


MARKS = (
    b'"',
    b"\\",
    b"\x1f",
    b"\x00",
    b" ",
    b"!",
    b"[",
    b"]",
    b"\x7e",
    b"\x7f",
    b"\x80",
    b"\xa2",
    b"\xdc",
    b"\xff",
    "é".encode(),
)
"""Bytes beside those that a word is searched for, and those that differ from them by their highest bit."""


def simple_end(raw):
    """What ``text_end`` is to say of a text at its beginning, byte by byte."""
    is_odd = False
    for at, byte in enumerate(raw[1:], start=1):
        if byte == ord('"'):
            return -(at + 1) if is_odd else at + 1
        if byte < 0x20 or byte == ord("\\"):
            return -1
        is_odd = is_odd or byte >= 0x7F
    return -1


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("other", [b"a", b"\x21", b"\x80", b"\x7f", b'"', b"\x23"])
def test_a_text_ends_where_it_ends_wherever_its_words_begin(mark, other):
    """Every kind of byte at every place of three words, before, beside and behind its neighbours."""
    for length in range(26):
        for place in range(length + 1):
            raw = b'"' + b"b" * place + mark + other + b"c" * (length - place) + b'"' + b"d" * 9
            assert text_end(laid(raw), 0) == simple_end(raw), raw


@given(st.binary(max_size=60), st.booleans())
def test_a_text_of_any_bytes_ends_and_counts_as_python_says(raw, with_controls):
    """Ids take no control characters, names and values of a context do."""
    raw = b'"' + raw + b'"'
    end = text_end(laid(raw), 0)
    assert end == simple_end(raw)
    if end == -1:
        return
    try:
        text = raw[1 : abs(end) - 1].decode()
    except UnicodeDecodeError:
        expected = -1
    else:
        is_right = with_controls or not any(0x7F <= ord(each) < 0xA0 for each in text)
        expected = len(text) if is_right else -1
    assert characters_of(laid(raw), 1, end, WITH_CONTROLS if with_controls else NO_CONTROLS) == expected


@given(st.binary(max_size=40), st.integers(0, 9))
def test_a_copy_is_whole_and_writes_no_further_than_its_slack(raw, start):
    """What is written too many lies within the seven bytes behind it."""
    source = np.frombuffer(b"x" * start + raw + b"\xaa" * 8, dtype=np.uint8)
    arena = np.full(64, 0xEE, dtype=np.uint8)
    end = copy(source.ctypes.data + start, len(raw), arena.ctypes.data)
    assert end == arena.ctypes.data + len(raw)
    assert arena[: len(raw)].tobytes() == raw
    assert (arena[len(raw) + 7 :] == 0xEE).all()
