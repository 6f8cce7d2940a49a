"""The entry of an object that is wrong is found, and what is wrong as a whole stays where it is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Fault
from midstream.engine.requests.faults import reading, refusal_of
from midstream.engine.requests.schema import RecommendationQuestion, read_deadline


def faults_of(document: object) -> tuple[Fault, ...]:
    """Return what is wrong with a question."""
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(document, RecommendationQuestion, dec_hook=read_deadline)
    return refusal_of(raised.value, document, RecommendationQuestion, reading(read_deadline)).faults


@given(st.integers(1, 60), st.data())
def test_the_wrong_entry_of_many_is_found(count: int, data: st.DataObject) -> None:
    """Wherever it stands among those that are right."""
    wrong = data.draw(st.integers(0, count - 1))
    document = {"context": {f"k{number}": None if number == wrong else number for number in range(count)}}
    right = "A text. Or a number. Or true or false."
    assert faults_of(document) == (Fault(f"/context/k{wrong}", "null came.", right, "/docs/http.md"),)


@pytest.mark.parametrize(
    "document, where, right",
    [
        ({"context": 5}, "/context", "An object of length up to 64."),
        ({"context": {f"k{number}": None for number in range(65)}}, "/context", "An object of length up to 64."),
        ({"n": 0}, "/n", "A whole number from 1 to 100."),
        ({"user": 1}, "/user", "One of: context, cursor, deadline"),
        ({"deadline": "soon"}, "/deadline", "A whole number and ms or s, such as 50ms, from 1ms to 10s."),
    ],
)
def test_what_is_wrong_as_a_whole_stays_where_it_is(document: dict[str, object], where: str, right: str) -> None:
    """A wrong type, too many entries, which are not looked into, what is no entry, and what a hook refuses."""
    (fault,) = faults_of(document)
    assert (fault.where, fault.right[: len(right)]) == (where, right)
