"""A vector in a request's context: two forms, and what is refused with what was sent."""

import math
from base64 import b64encode

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.retrieval.request_vector import read_vector, vector_faults
from midstream.state.attributes.vectors import Vectors

LENGTH = 3
NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=LENGTH, max_size=LENGTH)


def packed(numbers):
    """As base64 of float32."""
    return b64encode(np.array(numbers, dtype="<f4").tobytes()).decode()


@given(NUMBERS.filter(lambda numbers: 2.0**-56 <= math.hypot(*numbers) <= 2.0**56))
@example([2.0**56, 0.0, 0.0])
@example([0.0, 2.0**-56, 0.0])
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
        ("[1e-161, 1e-161, 0]", "A vector of the length 1.41e-161 came."),
        ("[0, 0, 5e-324]", "A vector of the length 4.94e-324 came."),
        (
            msgspec.json.encode([0.0, math.nextafter(2.0**-56, 0.0), 0.0]).decode(),
            "A vector of the length 1.39e-17 came.",
        ),
        (msgspec.json.encode([2.0**56, 2.0**40, 0.0]).decode(), "A vector of the length 7.21e+16 came."),
        (packed([3e38, 3e38, 0]), "A vector of the length 4.24e+38 came."),
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


@given(st.floats(-80, 80), st.sampled_from((float, np.float32)))
def test_a_vector_of_an_item_and_of_a_request_have_the_same_bounds(power, number):
    """Either both have a direction or neither has."""
    size = float(np.float32(2.0**power))
    column = Vectors(1, LENGTH)
    column.set(0, [0.0, size, 0.0])
    text = packed([0.0, size, 0.0]) if number is np.float32 else msgspec.json.encode([0.0, size, 0.0]).decode()
    assert (column.scale[0] > 0.0) == (not isinstance(read_vector(text, LENGTH), str))
