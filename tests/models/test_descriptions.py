"""What an item is comes from its attributes: values where they are values, words where they are text."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.models.descriptions import VALUES_MAX, Description, description_of

KINDS = {"colour": "category", "tags": "tags", "price": "number", "fresh": "boolean", "taste": "vector:2"}


def test_values_are_named_and_texts_are_words() -> None:
    """A category may be a number; numbers and vectors say nothing; lists of texts are values, declared or not."""
    document = {
        "colour": "red",
        "tags": ["light", "home"],
        "price": 3.5,
        "taste": [0.5, 1.0],
        "fresh": True,
        "title": "Red desk lamp",
        "note": "old",
        "materials": ["wood", 7],
        "year": 1990,
        "maker": None,
        "size": {"width": 3},
    }
    values = ("colour=red", "fresh=true", "materials=wood", "tags=light", "tags=home")
    assert description_of(document, KINDS) == Description(values, "old Red desk lamp")
    assert description_of({"colour": 7}, KINDS) == Description(("colour=7",))
    assert description_of({}, KINDS) == Description()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*KINDS, "title", "x"]), JSON), st.randoms())
def test_any_document_has_a_description_that_does_not_hang_on_order(document, dice) -> None:
    """Whatever was sent; each value is named after its attribute."""
    shuffled = list(document.items())
    dice.shuffle(shuffled)
    found = description_of(document, KINDS)
    assert description_of(dict(shuffled), KINDS) == found
    assert all(each.partition("=")[0] in document for each in found.values)


def test_long_lists_are_cut() -> None:
    """At a stated number of values."""
    found = description_of({"tags": [str(number) for number in range(1_000)]}, KINDS)
    assert len(found.values) == VALUES_MAX
