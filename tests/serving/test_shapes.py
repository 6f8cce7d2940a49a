"""Rankings, pages and batches over HTTP: what a caller sees, and where a mistake is pointed at."""

import msgspec
import pytest

from midstream.core.errors import DiskFull
from midstream.ranking.plan import SIMILAR
from midstream.serving.slates.pages import PageBody
from tests.support.fakes.engine import FakeEngine, FakePlan

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug", "event_id": "1"}
EVENTS = [EVENT | {"event_id": name, "item_id": name} for name in ("mug", "pot", "pan", "cup")]
RANK, PAGES, BATCH = "/v1/rank", "/v1/pages", "/v1/recommendations/batch"
TWO = {"placements": [{"placement": "default", "n": 2}, {"placement": "similar", "n": 5}]}


def test_a_ranking_names_what_may_not_be_served(client):
    """Ranked with score and position, removed by name, the rest counted; nothing of it stands in other answers."""
    client.post("/v1/events", EVENTS)
    answer = client.post(RANK, {"items": ["pan", "nobody", "mug", "pot"], "n": 2, "fields": ["price"]})
    slate = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert [(each["id"], each["position"]) for each in slate["items"]] == [("pan", 0), ("mug", 1)]
    assert slate["removed"] == [{"id": "nobody", "filter": "unknown"}]
    assert slate["not_selected"] == 1
    assert slate["items"][0]["fields"] == {}
    plain = client.post("/v1/recommendations", {}).json()
    assert not {"removed", "not_selected"} & plain.keys()


def test_events_that_come_along_with_any_shape_are_seen(client):
    """One round trip, as for a recommendation."""
    ranked = client.post(RANK, {"items": ["mug"], "events": [EVENT]}).json()
    assert [each["id"] for each in ranked["items"]] == ["mug"]
    assert (ranked["events"]["recorded"], ranked["read_your_writes"]) == (1, True)
    page = client.post(PAGES, {**TWO, "events": [EVENT | {"event_id": "2", "item_id": "pot"}]}).json()
    assert page["slates"][0]["slate"]["items"][0]["id"] == "pot"
    assert page["events"]["recorded"] == 1
    assert page["slates"][0]["slate"]["read_your_writes"] is True


def test_a_page_goes_out_although_events_cannot_be_kept(make_client):
    """With a full disk the page is there, and nothing is acknowledged."""
    page = make_client(FakeEngine(failure=DiskFull("full"))).post(PAGES, {**TWO, "events": [EVENT]}).json()
    assert page["events_problem"]["status"] == 507
    assert [each["placement"] for each in page["slates"]] == ["default", "similar"]


def test_no_item_stands_in_two_slates_of_a_page(client):
    """The first placement chooses first; each slate has its own request id, and the page the first one's."""
    client.post("/v1/events", EVENTS)
    page = client.post(PAGES, TWO).json()
    slates = [each["slate"] for each in page["slates"]]
    assert [[item["id"] for item in slate["items"]] for slate in slates] == [["cup", "pan"], ["pot", "mug"]]
    assert page["page_id"] == slates[0]["request_id"] != slates[1]["request_id"]
    assert page["slates"][0].keys() == {"placement", "slate"}


def test_what_a_page_excludes_no_slate_has(client):
    """Beside what each slate excludes for itself."""
    client.post("/v1/events", EVENTS)
    placements = [{"placement": "default", "n": 1, "exclude": ["pan"]}, {"placement": "default", "n": 1}]
    page = client.post(PAGES, {"placements": placements, "exclude": ["cup"]}).json()
    assert [each["slate"]["items"][0]["id"] for each in page["slates"]] == ["pot", "pan"]


def test_each_slate_of_a_page_has_its_own_question():
    """Placement, number, filter, fields and exclusions are a slate's; user, session, items and terms are the page's."""
    body = {
        "user_id": "ann",
        "session_id": "s1",
        "items": ["mug"],
        "exclude": ["cup"],
        "placements": [
            {"placement": "default", "n": 2, "filter": "item.price < 3", "fields": ["price"], "exclude": ["pan"]},
            {"placement": "similar", "fields": ["colour", "price"]},
        ],
    }
    first, second = msgspec.json.decode(msgspec.json.encode(body), type=PageBody).asks()
    assert (first.placement, first.n, first.filter) == ("default", 2, "item.price < 3")
    assert (first.fields, first.exclude) == (("price",), ("cup", "pan"))
    assert (second.placement, second.n, second.filter) == ("similar", None, None)
    assert (second.fields, second.exclude) == (("colour", "price"), ("cup",))
    for ask in (first, second):
        assert (ask.user_id, ask.session_id, ask.items) == ("ann", "s1", ("mug",))


def test_a_slate_that_cannot_be_made_has_a_problem_in_its_place(client):
    """The others have their items; when none can be made the request is refused."""
    client.post("/v1/events", EVENTS)
    wrong = {"placement": "hme"}
    page = client.post(PAGES, {"placements": [wrong, {"placement": "default"}]}).json()
    problem = page["slates"][0]["problem"]
    assert (problem["status"], problem["pointer"]) == (400, "/placements/0/placement")
    assert problem["allowed"] == ["default", "search", "similar"]
    assert len(page["slates"][1]["slate"]["items"]) == 4
    refused = client.post(PAGES, {"placements": [wrong]})
    assert (refused.status_code, refused.json()["pointer"]) == (400, "/placements/0/placement")


def test_each_user_of_a_batch_has_an_answer(client):
    """In the order of the users, each with a request id of its own."""
    client.post("/v1/events", EVENTS)
    answers = client.post(BATCH, {"users": ["ann", "bob"], "n": 2}).json()["answers"]
    assert [each["user_id"] for each in answers] == ["ann", "bob"]
    assert [[item["id"] for item in each["slate"]["items"]] for each in answers] == [["cup", "pan"]] * 2
    assert len({each["slate"]["request_id"] for each in answers}) == 2


@pytest.mark.parametrize(
    "path,body,slates_of",
    [
        (RANK, {"items": ["mug", "pot"]}, lambda told: [told]),
        (PAGES, TWO, lambda told: [each["slate"] for each in told["slates"]]),
        (BATCH, {"users": ["ann", "bob"]}, lambda told: [each["slate"] for each in told["answers"]]),
    ],
)
def test_every_shape_says_why(client, path, body, slates_of):
    """Each slate has an explanation and its items reasons, where these were asked for."""
    client.post("/v1/events", EVENTS)
    for slate in slates_of(client.post(path, body | {"explain": True, "reasons": "en"}).json()):
        assert [each["id"] for each in slate["explanation"]["items"]] == [each["id"] for each in slate["items"]]
        assert all(each["reason"] == f"{each['id']} in en" for each in slate["items"])
    for slate in slates_of(client.post(path, body).json()):
        assert "explanation" not in slate
        assert not any("reason" in each for each in slate["items"])


@pytest.mark.parametrize(
    "path,body,pointer",
    [
        (RANK, {}, "/items"),
        (RANK, {"items": []}, "/items"),
        (RANK, {"items": ["a"] * 1_001}, "/items"),
        (RANK, {"items": ["a", "b", "a"]}, "/items/2"),
        (RANK, {"items": ["a", 5]}, "/items/1"),
        (RANK, {"items": ["a"], "n": 1_001}, "/n"),
        (RANK, {"items": ["a"], "basket": ["b"] * 201}, "/basket"),
        (RANK, {"items": ["a"], "itemz": []}, "/itemz"),
        (RANK, {"items": ["a"], "placement": "hme"}, "/placement"),
        (RANK, {"items": ["a"], "filter": "true"}, "/filter"),
        (RANK, {"items": ["a"], "deadline": "soon"}, "/deadline"),
        (RANK, {"items": ["a"], "min_log_position": "nonsense"}, "/min_log_position"),
        (RANK, {"items": ["a"], "item_fields": {"a": {"score": "x"}}}, "/item_fields/a/score"),
        (PAGES, {}, "/placements"),
        (PAGES, {"placements": []}, "/placements"),
        (PAGES, {"placements": [{"placement": "default"}] * 17}, "/placements"),
        (PAGES, {"placements": ["default"]}, "/placements/0"),
        (PAGES, {"placements": [{"placement": "default"}, {"n": 3}]}, "/placements/1/placement"),
        (PAGES, {"placements": [{"placement": "default", "n": 101}]}, "/placements/0/n"),
        (PAGES, {"placements": [{"placement": "default", "n": 67}] * 3}, "/placements/2/n"),
        (PAGES, {"placements": [{"placement": "default", "user_id": "a"}]}, "/placements/0/user_id"),
        (PAGES, {**TWO, "n": 3}, "/n"),
        (PAGES, {**TWO, "min_log_position": "nonsense"}, "/min_log_position"),
        (BATCH, {}, "/users"),
        (BATCH, {"users": []}, "/users"),
        (BATCH, {"users": ["a"] * 101}, "/users"),
        (BATCH, {"users": ["a", ""]}, "/users/1"),
        (BATCH, {"users": ["a"], "placement": "hme"}, "/placement"),
        (BATCH, {"users": ["a"], "user_id": "a"}, "/user_id"),
        (BATCH, {"users": ["a"], "events": []}, "/events"),
    ],
)
def test_what_is_wrong_is_pointed_at(client, path, body, pointer):
    """Each mistake is a 400 with a pointer, what came, what would be right and a page."""
    answer = client.post(path, body)
    problem = answer.json()
    assert (answer.status_code, problem["pointer"]) == (400, pointer)
    assert problem["came"]
    assert problem["right"]
    assert problem["page"]


def test_an_unknown_field_within_an_object_is_told_of_that_object_s_fields(client):
    """Those that may stand there, not those of the body."""
    problem = client.post(PAGES, {"placements": [{"placement": "default", "user_id": "a"}]}).json()
    assert problem["allowed"] == ["because", "exclude", "fields", "filter", "n", "placement"]
    question = {"placement": {}, "question": {"usr_id": "a"}}
    problem = client.post("/v1/placements/home/preview", question).json()
    assert problem["pointer"] == "/question/usr_id"
    assert 'Nearest: "user_id"' in problem["came"]
    assert "question" not in problem["allowed"]
    top = client.post(PAGES, {**TWO, "usr_id": "a"}).json()
    assert "placements" in top["allowed"]


@pytest.mark.parametrize("wrong", [{"filter": "nonsense"}, {"placement": "nowhere"}, {"min_log_position": "no"}])
def test_a_ranking_that_cannot_be_answered_records_nothing(client, wrong):
    """Events that come with it are not in the log, so the corrected request does not record them twice."""
    event = {"type": "view", "user_id": "ann", "item_id": "mug"}
    assert client.post(RANK, {"items": ["mug"], "events": [event], **wrong}).status_code == 400
    page = {"placements": [{"placement": "nowhere"}], "events": [event]}
    assert client.post(PAGES, page).status_code == 400
    assert client.engine.events == []


def test_the_only_placement_is_taken_where_none_is_named(make_client):
    """As for a recommendation."""
    client = make_client(FakeEngine(plans={"home": FakePlan("home"), SIMILAR: FakePlan(SIMILAR)}))
    assert client.post(RANK, {"items": ["a"]}).json()["placement"] == "home"
    assert client.post(BATCH, {"users": ["a"]}).json()["answers"][0]["slate"]["placement"] == "home"
