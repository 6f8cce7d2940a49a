"""Values of JSON that kernels read, against regular expressions: what is plain is read whole, all else is not.

Each text has a zero behind it, and something before it that is not read.
"""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.events.json.value_kernels import compare, literal_end, plain_value_end, read_number, read_whole, text_end

PLAIN_NUMBER = re.compile(r"(-?)(0|[1-9]\d{0,17})(?:\.(\d+)(?![\deE])|(?![\d.eE]))")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+(?![\deE])|(?![\d.eE]))")
LITERALS = ("null", "true", "false")
NUMBERS = st.from_regex(r"\A-?[0-9]{1,19}(\.[0-9]{0,17})?[eE,.\]]?\Z") | st.floats(-1e6, 1e6).map(repr)


def bytes_of(text):
    """A text as kernels get it, behind two others."""
    return np.frombuffer(b'"x' + text.encode() + b"\0", dtype=np.uint8)


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
    end = read_number(bytes_of(text), 2, numbers, 1)
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
    end = read_whole(bytes_of(text), 2, most, found, 1)
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
    assert text_end(bytes_of(whole), 2) == (2 + len(whole.encode()) if is_plain else -1)
    assert text_end(bytes_of(one), 2) == -1
    left, right = one.encode(), other.encode()
    sign = compare(np.frombuffer(left + right + b"\0", np.uint8), 0, len(left), len(left), len(right))
    assert (sign > 0) - (sign < 0) == (left > right) - (left < right)
