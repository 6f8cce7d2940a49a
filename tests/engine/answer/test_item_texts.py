"""Attributes put into items that are JSON already: the bytes are those of one encoding of all."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.answers.slates import SlateItem
from midstream.engine.answer.item_texts import with_fields

IDS = st.one_of(
    st.text(),
    st.sampled_from([',"position":0}', '{"id":"', "},{", '\\"', "}"]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=9), IDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(IDS, inner, max_size=3)),
    max_leaves=6,
)
ITEMS = st.lists(
    st.tuples(IDS, st.floats(-9, 9, width=32), st.dictionaries(IDS, VALUES, max_size=3)), min_size=0, max_size=12
)


@given(ITEMS)
def test_items_have_their_own_attributes(items: list[tuple[str, float, dict[str, object]]]) -> None:
    """Whatever ids and values are: also those that look like the end of an item."""
    bare = [SlateItem(name, score, place) for place, (name, score, _) in enumerate(items)]
    whole = [msgspec.structs.replace(one, fields=each) for one, (_, _, each) in zip(bare, items, strict=True)]
    text = memoryview(msgspec.json.encode(bare)[1:-1])
    assert b"[%b]" % with_fields(text, [each for _, _, each in items]) == msgspec.json.encode(whole)
