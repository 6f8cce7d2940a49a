"""A vector in a request's context: two forms, and what is refused with what was sent."""

from base64 import b64encode

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.retrieval.request_vector import read_vector, vector_faults

LENGTH = 3
NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=LENGTH, max_size=LENGTH)


def packed(numbers):
    """As base64 of float32."""
    return b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


@given(NUMBERS.filter(any))
def test_both_forms_say_the_same(numbers):
    """The numbers."""
    for text in (msgspec.json.encode(numbers).decode(), packed(numbers)):
        found = read_vector(text, LENGTH)
        assert not isinstance(found, str)
        assert found.tolist() == numbers
        assert vector_faults(text, LENGTH, "vector") == ()


@pytest.mark.parametrize(
    "sent, came",
    [
        ("[1, 2]", "2 numbers came."),
        ("[1, 2, 3, 4]", "4 numbers came."),
        ("[]", "0 numbers came."),
        ("[0, 0.0, -0.0]", "Zeros came"),
        ("[1, 2, NaN]", "no list of numbers"),
        ("[1, 2, null]", "no list of numbers"),
        ('["1", 2, 3]', "no list of numbers"),
        ("[1, 2, 1e39]", "float32 cannot hold"),
        ("[1, 2, 1e999]", "no list of numbers"),
        ("[1, 2", "no list of numbers"),
        ("[" + "1" * 200 + "]", "A list of 202 characters came."),
        ("[1, 2, \ud800]", "no list of numbers"),
        ("", "0 numbers came."),
        ("lamp", "3 bytes came."),
        ("l*mp", "neither a list nor base64"),
        ("é", "neither a list nor base64"),
        ("A" * 1_000, "1,000 characters came."),
        (packed([1, 2]), "2 numbers came."),
        (packed([1, 2, np.nan]), "float32 cannot hold"),
        (packed([1, 2, np.inf]), "float32 cannot hold"),
        (packed([0, 0, 0]), "Zeros came"),
        (7.5, "7.5 came, which is no text."),
        (True, "True came, which is no text."),
    ],
)
def test_what_is_no_vector_is_refused(sent, came):
    """With its place and what would be right; nothing of it is cut or filled up."""
    (fault,) = vector_faults(sent, LENGTH, "look")
    assert came in fault.came
    assert fault.where == "/context/look"
    assert "3 finite numbers" in fault.right


@given(st.text(max_size=200), st.integers(1, 9))
def test_no_text_breaks_it(text, length):
    """Whatever comes is a vector of that length or a reason."""
    found = read_vector(text, length)
    assert isinstance(found, str) or (found.shape == (length,) and np.isfinite(found).all())
