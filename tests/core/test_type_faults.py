"""The walk finds a fault wherever ``msgspec`` does, all of them, each at its part."""

from functools import partial
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.field_bounds import Length
from midstream.core.type_faults import TypeReading, shown_value, type_faults


class Cap(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="cap"):
    """A part that says of which kind it is."""

    most: Annotated[int, msgspec.Meta(ge=1)]
    weights: Annotated[dict[Annotated[str, msgspec.Meta(min_length=1)], float], msgspec.Meta(max_length=2)] = {}


class New(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="new"):
    """Another one."""

    note: str = ""


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table whose values must fit."""

    places: tuple[int, ...] = ()
    note: str | tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a place that stands twice."""
        if len(set(self.places)) < len(self.places):
            message = "A place stands twice"
            raise ValueError(message)


class Slate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a document has."""

    rules: Annotated[tuple[Cap | New, ...], Length(0, 2, "rules")] = ()
    pin: Pin | None = None
    size: int = 1


QUICK = TypeReading(msgspec.convert, "a setting")
THOROUGH = TypeReading(partial(msgspec.convert, strict=True), "a setting", is_bounded=True, kinds={"rules": "rule"})
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "cap", "new"]) | st.floats(0, 1)
KEYS = st.sampled_from(["", "kind", "most", "weights", "places", "note", "rules", "pin", "size", "sizes"])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_there_is_a_fault_where_msgspec_refuses(document: dict[str, object]) -> None:
    """And none elsewhere; what is right is passed over, or looked into all the same."""
    try:
        msgspec.convert(document, Slate)
        is_right = True
    except msgspec.ValidationError:
        is_right = False
    quick, thorough = (list(type_faults(document, Slate, reading)) for reading in (QUICK, THOROUGH))
    assert is_right == (not quick)
    assert [each.path for each in quick] == [each.path for each in thorough if each.problem != "bound"]
    assert all(each.came and each.right for each in thorough)


@pytest.mark.parametrize(
    "document, told",
    [
        ({"size": "1"}, [("size", '"1" came.', "A whole number.")]),
        ({"size": 10**400}, [("size", f"{'1' + 56 * '0'}... came.", "A number below 10^308.")]),
        ({"sizes": 1}, [("sizes", '"sizes" is not a setting. Nearest: "size".', "One of: rules, pin, size.")]),
        ({"pin": 3}, [("pin", "3 came.", "A table with places, note.")]),
        ({"pin": {"places": [1, 1]}}, [("pin", "A place stands twice.", "Values that go together.")]),
        (
            {"rules": [{"kind": "cap", "most": 0, "weights": {"": "x"}}]},
            [
                ("rules 0 most", "0 came.", "A whole number from 1."),
                ("rules 0 weights ", '"" came.', "A text of length 1."),
                ("rules 0 weights ", '"x" came.', "A number."),
            ],
        ),
        (
            {"rules": [{"kind": "cap", "weights": {"a": 1, "b": 2, "": 3}}]},
            [
                ("rules 0 weights", '{"a":1,"b":2,"":3} came.', "A table of length up to 2."),
                ("rules 0 most", "It is missing.", "A whole number from 1."),
            ],
        ),
        ({"rules": [{"kind": "mew"}]}, [("rules 0 kind", '"mew" is not a rule. Nearest: "new".', "Rules: cap, new")]),
        ({"rules": 3 * [{"kind": "new"}]}, [("rules", "3 rules came.", "At most 2 rules.")]),
    ],
)
def test_each_kind_of_fault(document: dict[str, object], told: list[tuple[str, str, str]]) -> None:
    """Where it is, what came and what would be right."""
    found = type_faults(document, Slate, THOROUGH)
    assert [(" ".join(map(str, each.path)), each.came, each.right) for each in found] == told


@pytest.mark.parametrize(
    "value, text",
    [(float("nan"), "nan"), ("x" * 80, f'"{56 * "x"}...')],
)
def test_a_value_is_shown_shortened(value: object, text: str) -> None:
    """Whatever it is, on one line."""
    assert shown_value(value) == text
    assert shown_value(10**5_000) == "A number of more than 4,300 digits"
