"""Alike by attributes against plain Python: every value counted, every item rated."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.items.attribute_similarity import HEAT_WORTH, alike
from midstream.state.structures.exact_math import log2_of
from midstream.state.structures.top_k_keys import key_of, value_of
from tests.support.frozen_shop import StillShop

NAMES = [f"i{number}" for number in range(9)]
shelves = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.one_of(st.none(), st.sampled_from(("hats", "toys", "light"))),
        st.lists(st.sampled_from(("new", "red", "brass", "sale")), max_size=4),
        st.booleans(),
    ),
    max_size=20,
)
acts = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 3)), max_size=6)


def shop_of(entries, acted):
    """Return a shop with these items and acts; a later entry of an item takes the place of an earlier one."""
    shop = StillShop()
    for name, category, tags, available in entries:
        attributes = {"tags": tags, "available": available}
        shop.put(name, **attributes | ({} if category is None else {"category": category}))
    for name, times in acted:
        shop.act("view", "ann", *[name] * times)
    return shop


def values_of(shop, index):
    """Return the values of an item in the order in which they count: attributes by name."""
    document = shop.fold.items.document(index)
    category = [("category", document["category"])] if "category" in document else []
    return [*category, *(("tags", tag) for tag in dict.fromkeys(document.get("tags", [])))]


def expected(shop, index, limit):
    """Return items and scores from documents alone."""
    items, hashes = shop.fold.items, shop.fold.vocabulary.item_hash
    others = [each for each in range(items.count) if items.available[each] and each != index]
    values = values_of(shop, index)
    having = {value: [each for each in others if value in values_of(shop, each)] for value in values}
    whole = log2_of(float(len(others) + 1))
    worth = {value: whole - log2_of(float(len(found))) if found else 0.0 for value, found in having.items()}
    total = max(float(np.array(list(worth.values())).sum()), 1e-9)
    heat, factor = items.heat_of_all()
    rated = []
    for each in others:
        shared = [value for value in values if each in having[value]]
        if shared:
            score = 0.0
            for value in shared:
                score += worth[value] / total
            warm = heat[each] * factor
            rated.append((each, value_of(key_of(score + HEAT_WORTH * (warm / (1.0 + warm)), 0))))
    rated.sort(key=lambda pair: (-pair[1], int(hashes[pair[0]]), pair[0]))
    return rated[:limit]


@given(shelves, acts, st.integers(1, 9), st.data())
def test_alike_is_what_documents_say(entries, acted, limit, data):
    """Items, order and scores, to the last bit; the item itself and what cannot be served are not there."""
    shop = shop_of(entries, acted)
    if shop.fold.items.count == 0:
        return
    index = data.draw(st.integers(0, shop.fold.items.count - 1))
    found, scores = alike(shop.fold.items, shop.fold.vocabulary, index, limit)
    assert list(zip(found.tolist(), scores, strict=True)) == expected(shop, index, limit)
    assert index not in found.tolist()


def test_more_values_than_there_are_bits_are_left_aside():
    """The first 64 count; nothing breaks at the edge."""
    settings = StillShop().fold.settings
    attributes = {f"t{number:02}": "tags" for number in range(5)}
    shop = StillShop(msgspec.structs.replace(settings, attributes=attributes))
    tags = [f"v{number}" for number in range(16)]
    shop.put("a", **dict.fromkeys(attributes, tags))
    shop.put("b", t03=["v15"])
    shop.put("c", t04=["v0"])
    index = shop.fold.vocabulary.item_index
    found, _ = alike(shop.fold.items, shop.fold.vocabulary, index("a"), 5)
    assert found.tolist() == [index("b")]


def test_a_value_that_everybody_has_says_little_and_one_that_nobody_else_has_nothing():
    """Rare values decide."""
    shop = StillShop()
    shop.put("a", category="all", tags=["rare", "mine alone"])
    for name in "bcd":
        shop.put(name, category="all", tags=["rare"] if name == "d" else [])
    found, scores = alike(shop.fold.items, shop.fold.vocabulary, 0, 5)
    assert shop.ids(found.tolist())[0] == "d"
    assert scores[0] == 1.0
    assert 0.0 < scores[1] < 0.5
