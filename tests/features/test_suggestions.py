"""Suggested features: whatever the figures, declarations that can be used, each once, always the same."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import IMPRESSION
from midstream.features.checking import feature_faults
from midstream.features.kinds.kinds import Affinity, Category, Count, Rate, columns_of
from midstream.features.suggestions import (
    COLUMNS_MAX,
    DAY_MS,
    AttributeLook,
    Look,
    TypeLook,
    name_of,
    suggestions,
)
from midstream.state.settings import EventType

NAMES = st.sampled_from(["view", "Add to cart", "größe", "7", "price", "a_b", "item", "colour", "_x", "view_rate", ""])
COUNTS = st.integers(0, 5_000)
TYPES = st.dictionaries(
    NAMES, st.builds(TypeLook, COUNTS, st.integers(0, 50), st.sampled_from([-1.0, 0.0, 1.0])), max_size=5
)
TEXTS = st.lists(st.sampled_from(["red", "Blue", "", "ä" * 70, "x y", "green"]), unique=True, max_size=6).map(tuple)
ATTRIBUTES = st.dictionaries(
    NAMES.filter(bool),
    st.builds(
        lambda kind, items, coverage, values, more: AttributeLook(
            kind, is_declared=True, items=items, coverage=coverage, values=values, distinct=len(values) + more
        ),
        st.sampled_from(["number", "boolean", "category", "tags", "vector:3", "vector:1024"]),
        COUNTS,
        st.sampled_from([0.1, 0.5, 1.0]),
        TEXTS,
        st.sampled_from([0, 0, 100, 30_000]),
    ),
    max_size=6,
)
LOOKS = st.builds(
    Look,
    types=st.builds(lambda types, seen: {**types, IMPRESSION: TypeLook(seen, 0, 0.0)}, TYPES, COUNTS),
    span_ms=st.integers(0, 90 * DAY_MS),
    users=COUNTS,
    items=COUNTS,
    sessions=COUNTS,
    context=st.lists(st.sampled_from(["user_agent", "referer", "page"]), unique=True).map(tuple),
    attributes=ATTRIBUTES,
)


@given(LOOKS)
def test_what_is_suggested_can_be_declared(look):
    """Free of faults, within bounds, each name and column once, the same again."""
    found = suggestions(look)
    features = [each.feature for each in found]
    types = {name: EventType(each.weight) for name, each in look.types.items() if name != IMPRESSION}
    attributes = {name: each.kind for name, each in look.attributes.items()}
    assert list(feature_faults(features, attributes, types)) == []
    assert sum(map(len, columns_of(features).values())) <= COLUMNS_MAX
    assert all(each.why for each in found)
    assert suggestions(look) == found


def _look(types, attributes=(), span_days=30, users=1_000):
    return Look(types, span_days * DAY_MS, users, 500, 2_000, (), dict(attributes))


def test_windows_follow_span_and_density():
    """Of 3,000 views in 30 days a window of a day has 100 on average; one of 30 days is longer than half the log."""
    found = [each.feature for each in suggestions(_look({"view": TypeLook(3_000, 0, 1.0)}))]
    (windows,) = [each.windows for each in found if isinstance(each, Count) and each.windows]
    assert [str(each) for each in windows] == ["1d", "7d"]


def test_rates_are_of_impressions_where_there_are_some():
    """Else of the most frequent interaction; one that is rare or speaks against the item has none."""
    types = {
        "view": TypeLook(900, 0, 1.0),
        "buy": TypeLook(50, 0, 8.0),
        "hide": TypeLook(90, 0, -1.0),
        "wish": TypeLook(3, 0, 1.0),
    }
    bare = [each.feature for each in suggestions(_look(types)) if isinstance(each.feature, Rate)]
    assert [(each.actions, each.per) for each in bare] == [(("buy",), ("view",))]
    seen = {**types, IMPRESSION: TypeLook(9_000, 0, 0.0)}
    shown = [each.feature for each in suggestions(_look(seen)) if isinstance(each.feature, Rate)]
    assert [(each.actions, each.per) for each in shown] == [(("view",), (IMPRESSION,)), (("buy",), (IMPRESSION,))]


def _category(items, coverage, values, distinct):
    return AttributeLook("category", is_declared=True, items=items, coverage=coverage, values=values, distinct=distinct)


def test_a_category_is_told_by_its_number_of_values():
    """A column each, a list, buckets; of a title, which each item has of its own, nothing."""
    few = _category(400, 0.8, ("blue", "red"), 2)
    some = _category(400, 0.8, tuple(f"b{each}" for each in range(30)), 30)
    many = _category(400, 0.8, tuple(f"c{each}" for each in range(64)), 200)
    title = _category(400, 0.8, tuple(f"t{each}" for each in range(64)), 390)
    rare = _category(40, 0.1, ("x", "y"), 2)
    look = _look(
        {"view": TypeLook(900, 0, 1.0)}, {"few": few, "some": some, "many": many, "title": title, "rare": rare}.items()
    )
    found = {each.feature.attribute: each.feature for each in suggestions(look) if isinstance(each.feature, Category)}
    assert {name: each.form for name, each in found.items()} == {"few": "one_hot", "many": "hashed", "some": "index"}
    assert found["many"].buckets == 512
    leans = [each.feature.attribute for each in suggestions(look) if isinstance(each.feature, Affinity)]
    assert sorted(leans) == ["few", "many", "some"]


def test_names_are_those_that_features_may_have():
    """Small letters, digits and ``_``, a letter first."""
    assert name_of("item", "Add to cart") == "item_add_to_cart"
    assert name_of("7up") == "f_7up"
    assert name_of("größe") == "gr_e"
    assert name_of("item", "id") == "f_item_id"
