"""What can be set of declared features: where the value goes, what it may be, and what else is to be done."""

import math

import pytest

from midstream.core.durations import Duration
from midstream.events.wire import AttributeKind
from midstream.features.feature_values import Setting, refusal, settings_of
from midstream.features.kinds.kinds import (
    Boolean,
    Category,
    Computed,
    Count,
    ItemAge,
    ItemField,
    LocalTime,
    Number,
    Vector,
    WordCount,
)
from midstream.features.readers.external import External

ATTRIBUTES: dict[str, AttributeKind] = {
    "brand": "category",
    "tags": "tags",
    "price": "number",
    "released": "number",
    "look": "vector:2",
}
SET = {
    Number(name="price"): Setting("item", "price", "number"),
    Number(name="cost", attribute="price"): Setting("item", "price", "number"),
    Number(name="budget", scope="user"): Setting("user", "budget", "number"),
    Number(name="spread", scope="user", attribute="sums", reduce="max"): Setting("user", "sums", "numbers"),
    Number(name="least", attribute="look", reduce="min"): Setting("item", "look", "numbers", 2),
    Vector(name="taste", length=3): Setting("user", "taste", "numbers"),
    Vector(name="look", scope="item", length=2): Setting("item", "look", "numbers", 2),
    Boolean(name="available"): Setting("item", "available", "boolean"),
    Category(name="brand", form="hashed", buckets=9): Setting("item", "brand", "text"),
    Category(name="labels", attribute="tags", form="hashed", buckets=9): Setting("item", "tags", "texts"),
    Category(name="country", scope="user", values=("de",)): Setting("user", "country", "text"),
    ItemAge(name="age", attribute="released"): Setting("item", "released", "number"),
    WordCount(name="words", attribute="title"): Setting("item", "title", "text"),
}
REFUSED = {
    Count(name="views", actions=("view",), windows=(Duration("1h"),)): ("count", "POST /v1/events"),
    ItemAge(name="arrived"): ("item_age", "with the request"),
    Number(name="asked", scope="request"): ("number", "with the request"),
    ItemField(name="stock"): ("item_field", "with the request"),
    LocalTime(name="hour", part="hour"): ("local_time", "with the request"),
    External(name="quality", table="q", columns=("a",)): ("external", "POST /v1/rebuild"),
    Computed(name="twice", text="price * 2"): ("expression", "Set one of the features"),
}


@pytest.mark.parametrize("feature", SET, ids=lambda feature: feature.name)
def test_a_feature_that_is_told_is_kept_where_it_is_read(feature):
    """An attribute of the item, or a field of the profile, under the name that the feature reads."""
    assert settings_of([feature], ATTRIBUTES) == {feature.name: SET[feature]}


@pytest.mark.parametrize("feature", REFUSED, ids=lambda feature: feature.name)
def test_a_feature_that_is_computed_says_what_to_do(feature):
    """Four parts: its kind and where it comes from, what to do instead, what can be set."""
    assert settings_of([feature], ATTRIBUTES) == {}
    found = refusal(feature, ("price",))
    kind, instead = REFUSED[feature]
    assert f"kind {kind}" in found.came
    assert instead in found.right
    assert found.right.endswith("can be set: price.")


GOOD = {
    "number": (1, -2.5, 0),
    "boolean": (True, False),
    "text": ("", "red"),
    "texts": ("red", ["red", "blue"], []),
    "numbers": ([], [1, 2.5]),
}
BAD = {
    "number": (True, "1", [1], math.inf, math.nan, 1e308),
    "boolean": (1, "true"),
    "text": (1, True, ["red"]),
    "texts": (1, [1], [["red"]]),
    "numbers": (1, ["1"], [True], [math.nan]),
}


@pytest.mark.parametrize("form", GOOD)
def test_values_are_those_that_the_feature_can_read(form):
    """What it would read as not known is refused; null takes a value away."""
    setting = Setting("item", "a", form)
    assert [setting.wrong(each) for each in (*GOOD[form], None)] == [""] * (len(GOOD[form]) + 1)
    assert all(setting.wrong(each) for each in BAD[form])


def test_a_vector_has_its_length():
    """A list of another length would be read as not known."""
    setting = Setting("item", "look", "numbers", 2)
    assert [setting.wrong(each) for each in ([1, 2.5], None)] == ["", ""]
    assert all("A list of 2 finite numbers" in setting.wrong(each) for each in ([1], [1, 2, 3], [1, "2"], 5, []))
