import re
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import DiskFull
from midstream.engine.requests.schema import Deadline, read_deadline
from midstream.engine.types import Answer, AnswerItem
from midstream.features.expressions.tree import TEXT_CHARACTERS_MAX
from midstream.serving.slates.recommendations import context_value, only_placement, slate_of
from tests.support.fakes.engine import FakeEngine, FakePlan

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug", "event_id": "1"}


def test_slate_has_what_a_caller_needs(client):
    """Items best first with position and score, request id, tier, position of the state, never stored by a cache."""
    client.post("/v1/events", [EVENT, EVENT | {"event_id": "2", "item_id": "pot"}])
    answer = client.post("/v1/recommendations", {"user_id": "bob"})
    slate = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert [(each["id"], each["position"]) for each in slate["items"]] == [("pot", 0), ("mug", 1)]
    assert len(slate["request_id"]) == 32
    assert (slate["tier"], slate["placement"], slate["state_age_ms"]) == ("full", "default", 0)
    assert "read_your_writes" not in slate
    assert "fields" not in slate["items"][0]


def test_get_asks_the_same_as_post(client):
    """The fields of the body work in a query string, lists repeated, context field by field."""
    client.post("/v1/events", [EVENT | {"event_id": name, "item_id": name} for name in "abcd"])
    query = "n=2&exclude=d&exclude=c&context.budget=20&filter=item.price%20%3C%20context.budget&deadline=20ms"
    by_get = client.get(f"/v1/recommendations?{query}").json()
    body = {"n": 2, "exclude": ["d", "c"], "context": {"budget": 20}, "filter": "item.price < context.budget"}
    by_post = client.post("/v1/recommendations", body).json()
    assert by_get["items"] == by_post["items"] != []
    assert [each["id"] for each in by_get["items"]] == ["b", "a"]


def test_events_that_come_along_are_seen(client):
    """One round trip: recorded first, then answered, and the answer says that it saw them."""
    slate = client.post("/v1/recommendations", {"events": [EVENT]}).json()
    assert [each["id"] for each in slate["items"]] == ["mug"]
    assert slate["events"]["recorded"] == 1
    assert slate["events"]["log_position"] == slate["applied_log_position"]
    assert slate["read_your_writes"] is True


def test_bad_event_that_comes_along_does_not_take_the_slate_down(client):
    """A rejected event is listed in the answer, with its place."""
    slate = client.post("/v1/recommendations", {"events": [{"type": "x"}, EVENT]}).json()
    assert (slate["events"]["recorded"], slate["events"]["rejected"][0]["pointer"]) == (1, "/0/type")


@pytest.mark.parametrize(
    "wrong", [{"filter": "nonsense"}, {"placement": "nowhere"}, {"min_log_position": "nonsense"}, {"n": 0}]
)
def test_question_that_cannot_be_answered_records_nothing(client, wrong):
    """Events that come with it are not in the log, so the corrected request does not record them twice."""
    event = {"type": "view", "user_id": "ann", "item_id": "mug"}
    assert client.post("/v1/recommendations", {"events": [event]} | wrong).status_code in (400, 404)
    assert client.engine.events == []


def test_slate_goes_out_although_events_cannot_be_kept(make_client):
    """With a full disk the question is answered, and nothing is acknowledged."""
    client = make_client(FakeEngine(failure=DiskFull("full")))
    answer = client.post("/v1/recommendations", {"events": [EVENT]})
    slate = answer.json()
    assert answer.status_code == 200
    assert slate["events_problem"]["status"] == 507
    assert slate["events_problem"]["retry_after"] >= 1
    assert "events" not in slate
    assert slate["read_your_writes"] is False


def test_fields_are_returned_beside_each_item(client):
    """Only what was asked for, and only where an item has it."""
    client.ask("PUT", "/v1/items/mug", json={"price": 3, "colour": "red"})
    client.ask("PUT", "/v1/items/pot", json={"colour": "blue"})
    items = client.post("/v1/recommendations", {"fields": ["price"]}).json()["items"]
    assert {each["id"]: each["fields"] for each in items} == {"mug": {"price": 3}, "pot": {}}


@pytest.mark.parametrize(
    "body,pointer",
    [
        ({"uzer_id": "ann"}, "/uzer_id"),
        ({"user_id": 5}, "/user_id"),
        ({"user_id": ""}, "/user_id"),
        ({"user_id": "x" * 129}, "/user_id"),
        ({"n": 0}, "/n"),
        ({"n": 101}, "/n"),
        ({"n": 1.5}, "/n"),
        ({"items": ["a", 5]}, "/items/1"),
        ({"items": ["a"] * 201}, "/items"),
        ({"context": {"a": None}}, "/context/a"),
        ({"explain": 1.5}, "/explain"),
        ({"n": True}, "/n"),
        ({"deadline": "soon"}, "/deadline"),
        ({"deadline": "1h"}, "/deadline"),
        ({"filter": "true"}, "/filter"),
        ({"filter": "item.available" + " " * TEXT_CHARACTERS_MAX}, "/filter"),
        ({"min_log_position": "nonsense"}, "/min_log_position"),
        ({"placement": "hme"}, "/placement"),
        ([], ""),
        (b"{", ""),
        (b'{"n": NaN}', ""),
        (b'{"user_id": "\xff"}', ""),
        (b'{"n": "x", oops', "/n"),
        (b'{"context": {"a": 1e999}}', "/context"),
        (b'{"n": ' + b"9" * 5_000 + b"}", "/n"),
    ],
)
def test_what_is_wrong_is_pointed_at(client, body, pointer):
    """Each mistake is a 400 with a pointer, what came, what would be right and a page."""
    answer = client.post("/v1/recommendations", body)
    problem = answer.json()
    assert answer.status_code == problem["status"] == 400
    assert problem.get("pointer") == pointer
    for part in ("came", "right", "page"):
        assert problem["errors"][0][part] == problem[part] != ""
    assert not re.search(r"\b(codec|str|int|float|bool)\b", problem["detail"])


@pytest.mark.parametrize(
    "query,pointer",
    [
        ("usr_id=ann", "usr_id"),
        ("n=many", "n"),
        ("n=0", "n"),
        ("n=1&n=2", "n"),
        ("user_id=", "user_id"),
        ("events=[]", "events"),
        ("user_id=%ff", "query string"),
        ("deadline=0ms", "deadline"),
    ],
)
def test_what_is_wrong_in_a_query_string_is_named(client, query, pointer):
    """The same for GET."""
    problem = client.get(f"/v1/recommendations?{query}").json()
    assert (problem["status"], problem["pointer"]) == (400, pointer)


def test_query_string_has_a_maximum(client):
    """A longer one is 413 and says that POST takes more."""
    assert client.get("/v1/recommendations?filter=" + "x" * 9_000).status_code == 413


def test_placement_is_named_when_there_are_several(make_client):
    """One placement answers without being named; of several, an unknown name brings all names back."""
    one = make_client(FakeEngine(plans={"home": FakePlan("home")}))
    assert one.post("/v1/recommendations", {}).json()["placement"] == "home"
    two = make_client(FakeEngine(plans={"home": FakePlan("home"), "cart": FakePlan("cart")}))
    problem = two.post("/v1/recommendations", {"placement": "homw"}).json()
    assert (problem["pointer"], problem["allowed"]) == ("/placement", ["cart", "home"])
    assert '"home"' in problem["came"]
    assert two.post("/v1/recommendations", {}).status_code == 400


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20))
def test_scores_keep_the_digits_of_a_float32(scores):
    """Seven digits: within half a unit of the seventh of what the scorer said, in the same order."""
    items = tuple(AnswerItem(str(place), score, place, None) for place, score in enumerate(scores))
    slate = slate_of(Answer("r", "p", items, "full", "t", None, 0, "h", ()), None)
    sent = [each.score for each in slate.items if each.score is not None]
    for before, after in zip(scores, sent, strict=True):
        assert abs(before - after) <= abs(before) * 5e-7
    assert all((a <= b) == (x <= y) or x == y for a, b, x, y in zip(scores, scores[1:], sent, sent[1:], strict=False))


@given(st.integers(1, 10_000))
def test_deadline_is_a_duration(ms):
    """Every whole number of milliseconds up to 10 s is taken as it is written."""
    assert read_deadline(Deadline, f"{ms}ms") == ms


@given(st.sampled_from(["", "ms", "-5ms", "10001ms", "11s", "1m", "5", "0ms"]))
def test_deadline_beyond_its_bounds_is_refused(text):
    """Nothing else is."""
    with pytest.raises(ValueError, match="from 1ms to 10s"):
        read_deadline(Deadline, text)


@given(st.text(max_size=30))
def test_context_of_a_query_string_is_text_number_or_boolean(text):
    """What looks like a finite number is one, and no text becomes an infinite or missing number."""
    value = context_value(text)
    assert isinstance(value, (str, bool, float))
    if isinstance(value, float) and not isinstance(value, bool):
        assert value == float(text)
        assert abs(value) < 1e21


def test_similar_items_are_a_slate_without_the_item(client):
    """With the fields of a question in a query string; a percent-encoded id is one item."""
    events = [EVENT | {"event_id": name, "item_id": name} for name in ("a/b", "pot", "pan")]
    token = client.post("/v1/events", events).json()["log_position"]
    answer = client.get(f"/v1/items/a%2Fb/similar?n=5&user_id=ann&exclude=pan&min_log_position={token}")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    slate = answer.json()
    assert (slate["placement"], [each["id"] for each in slate["items"]]) == ("similar", ["pot"])


def test_an_unknown_item_has_no_similar_ones(client):
    """A 404 with the four parts."""
    answer = client.get("/v1/items/nothing/similar")
    problem = answer.json()
    assert (answer.status_code, problem["type"], problem["pointer"]) == (404, "urn:midstream:not-found", "item_id")
    assert "nothing" in problem["came"]
    assert (problem["right"], problem["page"]) == ("An item that is known.", "/docs/http.md")


@pytest.mark.parametrize("query", ["placement=default", "items=a", "n=0", "nn=3", "filter=nonsense"])
def test_similar_items_take_no_other_fields(client, query):
    """The placement and the item are said by the path; what is wrong is pointed to."""
    client.post("/v1/events", [EVENT])
    assert client.get(f"/v1/items/mug/similar?{query}").status_code == 400


def test_the_only_placement_is_meant_beside_the_one_for_similar_items():
    """``similar`` is always there, so it does not make a shop with one placement ambiguous."""
    engine = FakeEngine()
    engine.plans = {name: FakePlan(name) for name in ("home", "similar")}
    asked = cast("Engine", engine)
    assert only_placement(asked) == "home"
    engine.plans = {"similar": FakePlan("similar")}
    assert only_placement(asked) == "similar"
    engine.plans = {name: FakePlan(name) for name in ("home", "cart", "similar")}
    assert only_placement(asked) == "default"
