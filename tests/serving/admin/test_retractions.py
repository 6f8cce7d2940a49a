"""Acts are taken back over HTTP: what is answered, and how what is wrong is pointed at."""

import pytest

from midstream.core.errors import Overloaded
from midstream.serving.access.scopes import EVENTS, audited_route, scope_needed

CART = {"type": "cart", "event_id": "e1", "user_id": "ann", "item_id": "lamp", "time": 1_767_225_600_000}


def scope_of(method, path):
    """Return the scope of a request."""
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": []}


def test_an_act_is_taken_back_by_its_id(client):
    """Once; the second answer says so."""
    client.post("/v1/events", CART)
    answer = client.ask("DELETE", "/v1/events/e1?user_id=ann")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {
        "retracted": 1,
        "already_retracted": 0,
        "events": [{"type": "cart", "item_id": "lamp", "time": 1_767_225_600_000, "event_id": "e1"}],
        "log_position": client.engine.token(1),
    }
    again = client.ask("DELETE", "/v1/events/e1").json()
    assert (again["retracted"], again["already_retracted"]) == (0, 1)


def test_an_act_without_an_id_is_taken_back_by_user_and_item(client):
    """The type and the item come in the query."""
    client.post("/v1/events", {"type": "view", "user_id": "a/b", "item_id": "lamp"})
    answer = client.ask("DELETE", "/v1/users/a%2Fb/events?type=view&item_id=lamp")
    assert (answer.status_code, answer.json()["retracted"]) == (200, 1)
    assert "event_id" not in answer.json()["events"][0]


@pytest.mark.parametrize(
    "path, status, pointer",
    [
        ("/v1/events/e2", 404, "event_id"),
        ("/v1/events/e1?user_id=bob", 404, "event_id"),
        ("/v1/events/e1?user=ann", 400, "user"),
        ("/v1/events/%FF", 400, "event_id"),
        ("/v1/users/ann/events", 400, "type"),
        ("/v1/users/ann/events?type=cart", 400, "item_id"),
        ("/v1/users/ann/events?type=cart&item_id=lamp&time=soon", 400, "time"),
        ("/v1/users/ann/events?type=cart&item_id=lamp&time=1767225600", 400, "time"),
        ("/v1/users/bob/events?type=cart&item_id=lamp", 404, "event_id"),
    ],
)
def test_what_is_wrong_is_pointed_at(client, path, status, pointer):
    """In four parts, and nothing is taken back."""
    client.post("/v1/events", CART)
    answer = client.ask("DELETE", path)
    told = answer.json()
    assert (answer.status_code, told["pointer"]) == (status, pointer)
    assert all(told[part] for part in ("came", "right", "page"))
    assert client.ask("DELETE", "/v1/events/e1").json()["retracted"] == 1


def test_who_comes_when_too_many_search_comes_again(client):
    """A 503 with a time."""
    client.engine.failure = Overloaded("4 searches for acts to be taken back run")
    answer = client.ask("DELETE", "/v1/events/e1")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:midstream:overloaded")
    assert int(answer.headers["retry-after"]) > 0


def test_the_id_of_a_route_can_be_quoted(client):
    """``bulk`` is a path of its own; the event of that id is found by another spelling."""
    client.post("/v1/events", CART | {"event_id": "bulk"})
    assert client.ask("DELETE", "/v1/events/bulk").status_code == 405
    assert client.ask("DELETE", "/v1/events/%62ulk").json()["retracted"] == 1


@pytest.mark.parametrize("path", ["/v1/events/e1", "/v1/users/ann/events"])
def test_it_needs_what_sending_needs_and_leaves_a_record(path):
    """Reading the same path needs no more than before, and leaves none."""
    assert scope_needed(scope_of("DELETE", path)) == EVENTS
    template = "/v1/events/{event_id}" if "e1" in path else "/v1/users/{user_id}/events"
    assert audited_route(scope_of("DELETE", path)) == template
    assert audited_route(scope_of("GET", path)) is None
    assert audited_route(scope_of("POST", "/v1/events")) is None
