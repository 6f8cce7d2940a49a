import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.engine import FakeEngine

NOUNS = pytest.mark.parametrize("noun", ["item", "user"])
ids = st.text(st.characters(blacklist_categories=["C"]), min_size=1, max_size=20).filter(
    lambda text: text not in {".", ".."}
)


@NOUNS
def test_put_patch_get_delete(client, noun):
    """PUT sets all attributes, PATCH some (null takes one away), GET reads them back, DELETE takes all away."""
    path = f"/v1/{noun}s/a"
    assert client.get(path).status_code == 404
    assert client.ask("PUT", path, json={"price": 3, "colour": "red"}).json()["recorded"] == 1
    assert client.ask("PATCH", path, json={"colour": None, "size": 5}).json()["recorded"] == 1
    view = client.get(path).json()
    assert (view[f"{noun}_id"], view["attributes"]) == ("a", {"price": 3, "size": 5})
    assert client.ask("PUT", path, json={"size": 6}).json()["recorded"] == 1
    assert client.get(path).json()["attributes"] == {"size": 6}
    assert client.ask("DELETE", path).status_code == (200 if noun == "item" else 202)
    assert client.get(path).status_code == 404


@given(ids)
def test_every_id_can_be_asked_for(make_client, name):
    """An id comes back as it was sent, slashes, percent signs and all, however it has to be written in a path."""
    client = make_client(FakeEngine())
    path = f"/v1/items/{quote(name, safe='')}"
    client.ask("PUT", path, json={"price": 1})
    view = client.get(path).json()
    assert (view["item_id"], view["attributes"]) == (name, {"price": 1})


def test_path_that_is_not_utf8_is_refused(client):
    """Bytes that are no text are a 400, not another item."""
    assert client.get("/v1/items/%ff").status_code == 400
    assert client.get("/v1/requests/%ff").status_code == 400


@NOUNS
def test_change_is_recorded_once(client, noun):
    """With an ``event_id`` a change sent again counts once; without it and without a time the answer says so."""
    path = f"/v1/{noun}s/a?event_id=e1&time=1767225600000"
    assert client.ask("PUT", path, json={"price": 3}).json()["recorded"] == 1
    assert client.ask("PUT", path, json={"price": 3}).json()["duplicates"] == 1
    assert client.engine.events[0].event_time_ms == 1_767_225_600_000
    assert client.ask("PUT", f"/v1/{noun}s/a", json={}).json()["without_dedupe"] == 1


@pytest.mark.parametrize(
    "method,query,content,pointer",
    [
        ("PUT", "", b'{"price": "cheap"}', "/price"),
        ("PATCH", "", b'{"available": 5}', "/available"),
        ("PUT", "", b"[]", ""),
        ("PUT", "", b"", ""),
        ("PUT", "", b'{"price": ' + b"[" * 50_000, ""),
        ("PUT", "?time=yesterday", b"{}", "/time"),
        ("DELETE", "?time=1767225600", b"", "/time"),
        ("PUT", "?tme=1", b"{}", "tme"),
        ("PUT", "?event_id=" + "x" * 200, b"{}", "/event_id"),
    ],
)
def test_what_is_wrong_is_pointed_at(client, method, query, content, pointer):
    """A change that cannot be taken is a 400 that points into what was sent; nothing is recorded."""
    answer = client.ask(method, f"/v1/items/a{query}", content=content)
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
    assert client.engine.events == []


@NOUNS
@pytest.mark.parametrize("as_lines", [False, True])
def test_bulk_is_many_changes(client, noun, as_lines):
    """A list or lines of changes: each is taken for itself, ``operation`` is put unless it says otherwise."""
    changes = [
        {f"{noun}_id": "a", "attributes": {"price": 1}, "event_id": "1"},
        {f"{noun}_id": "a", "attributes": {"size": 2}, "operation": "patch", "event_id": "2"},
        {f"{noun}_id": "b", "attributes": {"price": 3}, "event_id": "3"},
        5,
        {"attributes": {}},
        {f"{noun}_id": "c", "type": "view"},
        {f"{noun}_id": "b", "operation": "delete", "event_id": "4"},
    ]
    body = "\n".join(map(json.dumps, changes)) if as_lines else json.dumps(changes)
    answer = client.post(f"/v1/{noun}s", body.encode()).json()
    assert answer["recorded"] == 4
    assert [each["index"] for each in answer["rejected"]] == [3, 4, 5]
    assert client.get(f"/v1/{noun}s/a").json()["attributes"] == {"price": 1, "size": 2}
    assert client.get(f"/v1/{noun}s/b").status_code == 404


@NOUNS
def test_bulk_takes_its_own_type_alone(client, noun):
    """Whatever else an element says to be is refused, one by one; nothing of the other kind is changed."""
    other = "user" if noun == "item" else "item"
    changes = [
        {"type": noun, f"{noun}_id": "a", "attributes": {"size": 1}},
        {"type": other, f"{other}_id": "b", "attributes": {"size": 1}},
        {"type": "view", "user_id": "a", "item_id": "b", "operation": None},
        {"type": "served", "request_id": "r"},
    ]
    answer = client.post(f"/v1/{noun}s", changes).json()
    assert answer["recorded"] == 1
    assert [each["pointer"] for each in answer["rejected"]] == ["/1/type", "/2/type", "/3/type"]
    assert answer["rejected"][0]["came"] == f'"{other}" is not a type here.'
    assert answer["rejected"][0]["right"] == f"Types: {noun}."
    assert len(client.engine.events) == 1


def test_bulk_has_maxima(client):
    """More than 500 changes are refused before any is looked at; a body of full size with 500 is taken."""
    assert client.post("/v1/items", b"[" + b"{}," * 80_000 + b"{}]").status_code == 413
    assert client.post("/v1/items", b"{").status_code == 400
    changes = [{"item_id": f"{n:03}", "attributes": {"price": n, "text": "x" * 465}} for n in range(500)]
    body = json.dumps(changes, separators=(",", ":")).encode()
    assert 255_000 < len(body) <= 262_144
    assert client.post("/v1/items", body).json()["recorded"] == 500
