"""The entry of an object that is wrong is found without its key being named."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Fault
from midstream.engine.requests.faults import first_fault, named, value_at
from midstream.engine.requests.schema import RecommendationQuestion, read_deadline


def find(document: object) -> Fault | None:
    """Return the first fault of a question."""
    try:
        msgspec.convert(document, RecommendationQuestion, dec_hook=read_deadline)
    except msgspec.ValidationError as error:
        return first_fault(error, document, RecommendationQuestion).faults[0]
    return None


@given(st.integers(1, 60), st.data())
def test_the_wrong_entry_of_many_is_found(count: int, data: st.DataObject) -> None:
    """Wherever it stands among those that are right."""
    wrong = data.draw(st.integers(0, count - 1))
    document = {"context": {f"k{number}": None if number == wrong else number for number in range(count)}}
    fault = find(document)
    assert fault is not None
    assert fault.where == "/context"
    told = named(document, fault, find)
    assert (told.where, told.right, told.came) == (f"/context/k{wrong}", fault.right, f'{{"k{wrong}":null}} came.')
    assert value_at(document, told.where) is None


@pytest.mark.parametrize(
    "document", [{"context": 5}, {"context": {f"k{number}": 1 for number in range(65)}}, {"n": 0}, {"user": 1}]
)
def test_what_is_wrong_as_a_whole_stays_where_it_is(document: dict[str, object]) -> None:
    """A wrong type, too many entries, and what is no entry."""
    fault = find(document)
    assert fault is not None
    assert named(document, fault, find) == fault
