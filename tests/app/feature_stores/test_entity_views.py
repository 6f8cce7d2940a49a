"""Entity views: each column stands in the view of the ids that it is read for, and what reads a request in none."""

import pytest

from midstream.app.config.reader import parse_config
from midstream.app.feature_stores.entity_views import EntityView, features_of, views_of
from midstream.core.errors import Invalid, NotFound
from midstream.features.declarations import Declarations
from tests.support.feast_shop import CONFIG, LEFT_OUT, VIEWS


def declared(text=CONFIG):
    config = parse_config(text)
    return Declarations(config.features, tuple(config.items.attributes.items()))


def test_columns_are_grouped_by_the_ids_that_they_are_read_for():
    """Users, items, both, sessions and nobody; columns that are set from outside apart."""
    found = views_of(declared())
    assert {each.name: (each.keys, tuple(each.columns)) for each in found.views} == VIEWS
    assert found.left_out == LEFT_OUT
    by_name = {each.name: each for each in found.views}
    assert by_name["item"].columns["recent_fading_2h"] == "recent"
    assert {each.name for each in found.views if each.is_settable} == {"item_attributes", "user_profile"}
    assert by_name["item_attributes"].truths == {"fresh"}


def test_some_features_are_chosen_by_name():
    """In the order in which they are named, each once."""
    found = views_of(declared(), ["seen", "recent", "hour"])
    assert [each.name for each in found.views] == ["user_item", "item"]
    assert found.left_out == ("hour",)
    assert features_of(found.views) == ("seen", "recent")
    with pytest.raises(NotFound, match="sen"):
        views_of(declared(), ["sen"])


@pytest.mark.parametrize("text", ["", '[[features]]\nname = "hour"\nkind = "local_time"\n'])
def test_there_is_something_to_offer(text):
    """No feature, or none but of requests, is an error."""
    with pytest.raises(Invalid, match=r"declared|hour"):
        views_of(declared(text))


def test_a_column_has_another_name_than_that_of_the_times():
    """It would stand twice in the history; names of ids are no names of features at all."""
    text = '[[features]]\nname = "event_timestamp"\nkind = "count"\nactions = ["view"]\n'
    with pytest.raises(Invalid, match='has the column "event_timestamp"'):
        views_of(declared(text))


def test_a_feature_that_is_computed_from_an_attribute_is_not_set():
    """A reduced list, an age and a code are no number that was sent."""
    text = """
[items.attributes]
released = "number"
colour = "category"
shape = "vector:3"

[[features]]
name = "since"
kind = "item_age"
attribute = "released"

[[features]]
name = "code"
kind = "category"
attribute = "colour"
values = ["red"]

[[features]]
name = "widest"
kind = "number"
attribute = "shape"
reduce = "max"
"""
    (view,) = views_of(declared(text)).views
    assert view == EntityView("item", ("item",), {"since": "since", "code": "code", "widest": "widest"})
