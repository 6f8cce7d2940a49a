"""Searches over HTTP: a slate of the placement ``search``, and how what is wrong is pointed at."""

import pytest


def test_a_search_is_a_slate(client):
    """With the fields of a slate, and the text in the context."""
    client.post("/v1/events", [{"type": "view", "user_id": "ann", "item_id": name} for name in ("mug", "pot")])
    answer = client.get("/v1/items/search?q=12&n=1&user_id=ann&fields=price&context.device=phone")
    assert answer.status_code == 200
    assert answer.json()["placement"] == "search"
    assert len(answer.json()["items"]) == 1


def test_an_item_of_that_name_can_be_read(client):
    """Its id is percent-encoded, as paths are matched as they were sent."""
    client.ask("PUT", "/v1/items/%73earch", json={"price": 5})
    assert client.get("/v1/items/%73earch").json()["item_id"] == "search"


@pytest.mark.parametrize(
    "query, pointer",
    [("", "q"), ("?q=", "q"), ("?q=+", "q"), ("?q=a&q=b", "q"), ("?qq=a", "qq"), ("?q=a&n=many", "/n")],
)
def test_what_is_wrong_with_a_search_is_pointed_at(client, query, pointer):
    """A 400 with the name of the field."""
    answer = client.get(f"/v1/items/search{query}")
    assert answer.status_code == 400
    assert answer.json()["pointer"].lstrip("/") == pointer.lstrip("/")


def test_without_searched_attributes_there_is_none(client):
    """A 404 that names the setting."""
    client.engine.plans = {name: each for name, each in client.engine.plans.items() if name != "search"}
    answer = client.get("/v1/items/search?q=lamp")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:midstream:not-found")
    assert "[items] search" in answer.json()["detail"]
