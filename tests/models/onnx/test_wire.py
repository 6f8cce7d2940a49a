"""Messages of protocol buffers: what is written is read again, and what is cut or no message is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, Invalid
from midstream.models.onnx.wire import (
    BYTES,
    VARINT,
    Budget,
    MessageForm,
    bytes_field,
    bytes_of,
    fields,
    number32_of,
    number_field,
    number_of,
    numbers,
    read,
    text_of,
    written,
)

WHOLE = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(st.integers(1, 2**28), st.one_of(WHOLE, st.binary(max_size=300)))))
def test_what_is_written_is_read_again(parts):
    """In its order, numbers with their sign."""
    message = written(number_field(n, each) if isinstance(each, int) else bytes_field(n, each) for n, each in parts)
    found = [
        (number, number_of(each) if isinstance(each, int) else bytes(each))
        for number, _, each in fields(memoryview(message))
    ]
    assert found == parts


@given(st.lists(WHOLE))
def test_packed_numbers_are_the_same_as_single_ones(values):
    """Both forms are in files."""
    single = written(number_field(1, each) for each in values)
    packed = b"".join(written([number_field(1, each)])[1:] for each in values)
    assert [each for _, kind, value in fields(memoryview(single)) for each in numbers(kind, value)] == values
    assert list(numbers(BYTES, memoryview(packed))) == values


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(content):
    """With the one error, and nothing is read past the end."""
    try:
        size = sum(len(each) for _, _, each in fields(memoryview(content)) if not isinstance(each, int))
    except ArtifactInvalid:
        return
    assert size <= len(content)


def test_a_message_that_is_cut_short_is_refused():
    """At every place that is not between two fields."""
    message = written([number_field(1, 300), bytes_field(2, "abcdef"), number_field(3, -1)])
    whole = {0, 3, 11, len(message)}
    for cut in range(len(message) + 1):
        if cut in whole:
            list(fields(memoryview(message[:cut])))
            continue
        with pytest.raises(ArtifactInvalid, match=r"cut short|no message"):
            list(fields(memoryview(message[:cut])))


def test_another_type_than_the_field_has_is_refused():
    """A number for bytes, bytes for a number, groups, and a name that is no text."""
    for reading, told in ((bytes_of, 3), (number_of, memoryview(b"a")), (text_of, memoryview(b"\xff"))):
        with pytest.raises(ArtifactInvalid):
            reading(told)
    with pytest.raises(ArtifactInvalid, match="wire type 3"):
        list(fields(memoryview(b"\x0b")))
    assert np.array(list(fields(memoryview(b"")))).size == 0


@pytest.mark.parametrize(
    "content",
    [b"\x8a\x80\x80\x80\x10\x01a", b"\x02\x01a", b"\x8a\x00\x01a", b"\x0a\x81\x00a", b"\x08\x80\x00",
     b"\x08" + b"\xff" * 9 + b"\x02"],
    ids=["tag of 33 bits", "field 0", "long tag", "long length", "long number", "66 bits"],
)  # fmt: skip
def test_what_two_readers_could_read_otherwise_is_refused(content):
    """Protocol buffers cut a tag to 32 bits: here it would be field 2^29 + 1, there field 1."""
    with pytest.raises(ArtifactInvalid, match=r"no message|more than 64 bits, or longer"):
        list(fields(memoryview(content)))


def test_a_number_of_32_bits_is_not_cut():
    """2^32 + 1 is 1 for other readers."""
    assert number32_of((1 << 64) - 1) == -1
    for value in (1 << 32 | 1, 1 << 31, (1 << 64) - (1 << 31) - 1):
        with pytest.raises(ArtifactInvalid, match="32 bits"):
            number32_of(value)


FORM = MessageForm("a thing", {1: (BYTES,), 2: (VARINT,), 3: (VARINT,)}, {4: (VARINT, BYTES)}, frozenset({2, 3}))
A, TWO, THREE, FOUR = bytes_field(1, "a"), number_field(2, 2), number_field(3, 3), number_field(4, 4)


@pytest.mark.parametrize("parts", [[], [A, TWO], [THREE, A], [FOUR, A, FOUR, bytes_field(4, b"\x01")]])
def test_a_message_of_a_form_is_read(parts):
    """Fields in any order, repeated where that is right."""
    message = written(parts)
    assert list(read(memoryview(message), FORM, Budget())) == list(fields(memoryview(message)))


@pytest.mark.parametrize(
    "parts, match",
    [([A, A], "field 1 came twice in a thing"), ([TWO, TWO], "field 2 came twice"), ([TWO, THREE], "3 came twice"),
     ([number_field(5, 1)], "field 5 came in a thing"), ([number_field(1, 1)], "1 of a thing came with wire type"),
     ([bytes_field(2, "a")], "field 2 of a thing came with")],
)  # fmt: skip
def test_a_message_of_another_form_is_refused(parts, match):
    """What others merge, leave out, or let the last one win."""
    with pytest.raises(ArtifactInvalid, match=match):
        list(read(memoryview(written(parts)), FORM, Budget()))


def test_reading_ends_where_the_budget_ends():
    """Fields and messages count, over all messages of a file."""
    budget = Budget(25)
    message = memoryview(written([FOUR] * 4))
    list(read(message, FORM, budget))
    with pytest.raises(Invalid, match="more than 2,000,000 fields"):
        list(read(message, FORM, budget))
