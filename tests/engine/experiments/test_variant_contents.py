"""Contents of variants: what a change makes of the placement that is in force, and what excludes what."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ConfigInvalid
from midstream.engine.experiments.variant_contents import PATCH_DEPTH_MAX, patched, places_of, told_of
from midstream.engine.experiments.views import VariantOrder
from midstream.state.control.placements import PlacementVersion

IN_FORCE: dict[str, Any] = {
    "slate_size": 20,
    "weights": {"popular": 1.0, "trending": 2.0},
    "sources": [{"kind": "popular"}, {"kind": "trending"}],
    "models": {"taste": "0001-aaaaaaaaaaaa"},
}
LEAF = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
DOCUMENT = st.recursive(
    LEAF, lambda each: st.dictionaries(st.sampled_from("abc"), each, max_size=3) | st.lists(each, max_size=2)
)


def told(order: VariantOrder, versions: tuple[PlacementVersion, ...] = ()) -> dict[str, Any]:
    """Return the content of a variant on ``IN_FORCE``."""
    return dict(told_of(1, order, IN_FORCE, versions))


def test_a_change_differs_in_what_it_names_alone() -> None:
    """Tables are merged, null takes away, lists are replaced; what is in force stays as it is."""
    before = json.dumps(IN_FORCE)
    assert told(VariantOrder("a")) == IN_FORCE
    assert told(VariantOrder("a", change={"slate_size": 6})) == {**IN_FORCE, "slate_size": 6}
    found = told(VariantOrder("a", change={"weights": {"popular": None}, "sources": [{"kind": "repeat"}]}))
    assert found == {**IN_FORCE, "weights": {"trending": 2.0}, "sources": [{"kind": "repeat"}]}
    pinned = told(VariantOrder("a", change={"slate_size": 6}, models={"near": "7"}))
    assert pinned == {**IN_FORCE, "slate_size": 6, "models": {"taste": "0001-aaaaaaaaaaaa", "near": "7"}}
    assert told(VariantOrder("a", placement={"name": "x", "slate_size": 3})) == {"slate_size": 3}
    assert json.dumps(IN_FORCE) == before


def test_a_change_of_a_version_begins_with_that_version() -> None:
    """And one that is not kept is refused by its number."""
    version = PlacementVersion("home", 3, '{"name":"home","slate_size":4,"weights":{}}', "0" * 64, "ann", "", 1, 1)
    assert told(VariantOrder("a", version=3, change={"slate_size": 6}), (version,)) == {"slate_size": 6, "weights": {}}
    with pytest.raises(ConfigInvalid) as refused:
        told(VariantOrder("a", version=4), (version,))
    assert [each.where for each in refused.value.faults] == ["/variants/1/version"]


@pytest.mark.parametrize("field, value", [("version", 3), ("change", {"slate_size": 3})])
def test_a_whole_placement_excludes_the_others(field: str, value: object) -> None:
    """It would not be clear what counts."""
    order = VariantOrder("a", placement={"slate_size": 3}, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigInvalid) as refused:
        told(order)
    assert [each.where for each in refused.value.faults] == [f"/variants/1/{field}"]


def test_a_change_that_is_nested_too_deeply_is_refused() -> None:
    """In place of a stack that ends the server."""
    change: dict[str, Any] = {}
    for _ in range(PATCH_DEPTH_MAX):
        change = {"a": change}
    with pytest.raises(ConfigInvalid, match="nested too deeply"):
        told(VariantOrder("a", change=change))


@given(DOCUMENT, DOCUMENT)
def test_patches_are_those_of_rfc_7396(document: object, change: object) -> None:
    """By the algorithm of its section 2, written down as it stands there."""

    def merge(target: Any, patch: Any) -> Any:
        if not isinstance(patch, dict):
            return patch
        if not isinstance(target, dict):
            target = {}
        target = dict(target)
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = merge(target.get(name), value)
        return target

    assert patched(document, change, "") == merge(document, change)


def test_faults_point_to_the_field_that_said_it() -> None:
    """Of a change into the change, of a version of a model into the models, of all else into the placement."""
    orders = VariantOrder("a", change={"slate_size": 6}, models={"near": "7"}), VariantOrder("b", placement={})
    place_of = places_of(orders)
    assert place_of(0, "$.slate_size") == "/variants/0/change/slate_size"
    assert place_of(0, "$.models.near") == "/variants/0/models/near"
    assert place_of(0, "$.sources[1].kind") == "/variants/0/placement/sources/1/kind"
    assert place_of(1, "$.slate_size") == "/variants/1/placement/slate_size"
