"""All faults of a body are told at once, each where it stands in what came."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid
from midstream.engine.requests.faults import FAULTS_MAX
from midstream.engine.requests.schema import read_deadline
from midstream.serving.http.parsing import COLLECTED_BYTES_MAX, decode_json
from midstream.serving.slates.pages import PageBody
from midstream.serving.slates.recommendations import RecommendationBody

GOOD = {"placement": "a", "n": 5}
SLOTS = {
    "": GOOD,
    "/n": {"placement": "a", "n": 0},
    "/placement": {"n": 5},
    "/foo~1bar": {"placement": "a", "foo/bar": 1},
    "/fields": {"placement": "a", "fields": "price"},
}
"""A slot of a page by where it is wrong."""


def faults_of(kind, body):
    """Return the pointers of what is wrong with a body."""
    with pytest.raises(RequestInvalid) as raised:
        decode_json(msgspec.json.Decoder(kind, dec_hook=read_deadline), json.dumps(body).encode())
    assert str(raised.value).count("midstream docs http") == len(raised.value.faults)
    return [each.where for each in raised.value.faults]


@given(st.lists(st.sampled_from(sorted(SLOTS)), min_size=1, max_size=12), st.booleans())
def test_every_fault_of_a_page_is_told_where_it_stands(wrong, more):
    """Whatever was cut of the list before it, and also what is wrong behind the list."""
    body = {"placements": [SLOTS[each] for each in wrong]} | ({"user": 1} if more else {})
    expected = [f"/placements/{place}{each}" for place, each in enumerate(wrong) if each] + (["/user"] if more else [])
    if expected:
        assert faults_of(PageBody, body) == expected


def test_what_was_cut_is_not_said_to_be_missing():
    """A wrong value of a field that is needed is one fault, and what stands beside it is told too."""
    assert faults_of(PageBody, {"placements": 5, "user_id": 7}) == ["/placements", "/user_id"]
    assert faults_of(PageBody, {"placements": [{"placement": 1, "n": "x"}]}) == [
        "/placements/0/placement",
        "/placements/0/n",
    ]


def test_what_is_told_is_bounded():
    """So many faults, and of a long body the first one: what is wrong costs no more than what is right."""
    assert len(faults_of(RecommendationBody, {f"x{number}": 1 for number in range(60)})) == FAULTS_MAX
    long = {"x": 1, "y": 2, "user_id": "u" * COLLECTED_BYTES_MAX}
    assert faults_of(RecommendationBody, long) == ["/x"]


def test_all_of_them_are_in_the_document(client):
    """Of every route that takes one body; the first stands at the top as well."""
    answer = client.post("/v1/recommendations", {"uzer_id": "ann", "n": "x", "items": [1, "a", 2]})
    problem = answer.json()
    assert answer.status_code == 400
    assert [each["pointer"] for each in problem["errors"]] == ["/uzer_id", "/n", "/items/0", "/items/2"]
    assert problem["pointer"] == "/uzer_id"
    assert "user_id" in problem["allowed"]
