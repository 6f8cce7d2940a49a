"""Messages of protocol buffers: what is written is read again, and what is cut or no message is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid
from midstream.models.onnx.wire import (
    BYTES,
    bytes_field,
    bytes_of,
    fields,
    number_field,
    number_of,
    numbers,
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
    for read, told in ((bytes_of, 3), (number_of, memoryview(b"a")), (text_of, memoryview(b"\xff"))):
        with pytest.raises(ArtifactInvalid):
            read(told)
    with pytest.raises(ArtifactInvalid, match="wire type 3"):
        list(fields(memoryview(b"\x0b")))
    assert np.array(list(fields(memoryview(b"")))).size == 0
