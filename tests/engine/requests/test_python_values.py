"""The Python API takes what bodies take, and refuses the rest at the same place."""

import json
from typing import Any, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid
from midstream.engine.requests import keywords
from midstream.engine.requests.faults import NameUnknown
from midstream.engine.requests.python_values import id_of, plain, read_request
from midstream.engine.requests.schema import (
    BatchBody,
    FeatureAsk,
    PageQuestion,
    RankQuestion,
    RecommendationQuestion,
    read_deadline,
)
from midstream.serving.http.parsing import decode_json

KEYWORDS = (
    (keywords.Request, RecommendationQuestion, {"placement"}),
    (keywords.RankRequest, RankQuestion, {"placement", "items"}),
    (keywords.SharedRequest, PageQuestion, {"placements"}),
    (keywords.ManyRequest, BatchBody, {"placement", "users"}),
    (keywords.FeatureRequest, FeatureAsk, {"items"}),
)
"""Keywords of each call, the type of its request, and what the call has as arguments of its own."""
VALUES: tuple[dict[str, object], ...] = (
    {},
    {"items": ["a", "b"], "n": 3, "explain": True, "context": {"a": 1, "b": "x", "c": True}},
    {"user_id": "", "n": 0},
    {"n": "3", "items": ["a", "", 5]},
    {"items": ["a"] * 201},
    {"context": {"day": None, "hour": 3, "week": [1]}},
    {"item_fields": {"a": {"score": 0.5}, "b": {"score": "high"}, "c": 4}},
    {"fields": "price", "filter": ""},
    {"session_id": 7, "exclude": ["x"] * 1_001},
    {"cursor": 5, "reasons": []},
)


@pytest.mark.parametrize("keywords,kind,own", KEYWORDS)
def test_every_keyword_is_a_field_of_the_request(keywords: Any, kind: Any, own: set[str]) -> None:
    """None is missing, but the log position, which a Python caller need not name, and none is too many."""
    fields = {"deadline_ms" if name == "deadline" else name for name in kind.__struct_fields__}
    assert get_type_hints(keywords).keys() == fields - own - {"min_log_position"}


@pytest.mark.parametrize("request_fields", VALUES)
def test_what_python_says_is_what_a_body_says(request_fields: dict[str, object]) -> None:
    """The same request, or the same faults at the same places."""
    decoder = msgspec.json.Decoder(RecommendationQuestion, dec_hook=read_deadline)
    found: list[object] = []
    for read in (
        lambda: decode_json(decoder, json.dumps(request_fields).encode()),
        lambda: read_request(RecommendationQuestion, {}, request_fields),
    ):
        try:
            found.append(read())
        except RequestInvalid as error:
            found.append(error.faults)
    assert found[0] == found[1]


def test_every_wrong_entry_is_named() -> None:
    """Each by its own key, with what would be right."""
    sent = {"context": {"day": None, "hour": 3, "\ud800": 1, 5: 2}, "item_fields": {"a": {"score": float("nan")}}}
    with pytest.raises(RequestInvalid) as refused:
        read_request(RecommendationQuestion, {}, {**sent, "deadline_ms": 0})
    faults = {each.where: each.right for each in refused.value.faults}
    assert {"/context/day", "/item_fields/a/score", "/deadline_ms"} <= faults.keys()
    assert faults["/deadline_ms"] == "A whole number from 1 to 10000."
    assert "finite number" in faults["/item_fields/a/score"]
    assert all(each.page == "/docs/http.md" for each in refused.value.faults)


def test_a_field_that_there_is_not_is_named() -> None:
    """With those that there are, as Python has them."""
    with pytest.raises(NameUnknown) as refused:
        read_request(RecommendationQuestion, {}, {"user": "ann"})
    (fault,) = refused.value.faults
    assert fault.where == "/user"
    assert "deadline_ms" in fault.right
    with pytest.raises(NameUnknown):
        read_request(RecommendationQuestion, {}, {"deadline": "50ms"})


def test_a_value_without_an_end_is_a_fault() -> None:
    """A list that holds itself, or is nested deeper than Python follows; a number of a type of its own is a number."""

    class Price(float):
        """As units make them."""

    endless: list[object] = []
    endless.append(endless)
    for read in (
        lambda: read_request(RecommendationQuestion, {}, {"context": {"a": endless}}),
        lambda: id_of("a", endless),
    ):
        with pytest.raises(RequestInvalid, match="nested too deep"):
            read()
    assert read_request(RecommendationQuestion, {}, {"context": {"a": Price(1.5)}}).context == {"a": 1.5}


def test_a_deadline_is_milliseconds() -> None:
    """As bodies have it as text."""
    assert read_request(RecommendationQuestion, {}, {"deadline_ms": 50}).ask("home").deadline_ms == 50
    assert msgspec.json.decode(b'{"deadline":"50ms"}', type=RecommendationQuestion, dec_hook=read_deadline) == (
        read_request(RecommendationQuestion, {}, {"deadline_ms": 50})
    )


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists))
def test_json_is_plain_already(value: object) -> None:
    """Nothing of it changes."""
    assert plain(value) == value


def test_numpy_means_what_python_means() -> None:
    """Arrays are lists, numbers numbers, and a set is a list where order does not count."""
    assert plain(np.array(["a", "b"])) == ["a", "b"]
    assert plain({"a": np.float32(0.5), "b": np.int64(3)}) == {"a": 0.5, "b": 3}
    assert plain({"b", "a"}, "exclude") == ["a", "b"]
    with pytest.raises(RequestInvalid):
        read_request(RankQuestion, {"items": {"a"}}, {})
