"""Merging and erasing over HTTP: what is answered, and how what is wrong is pointed at."""

import json

import pytest

from midstream.core.errors import ErasureRunning, ErasuresFull
from midstream.serving.http.problems import problem_reply


def test_a_merge_is_an_event_like_any_other(client):
    """Recorded once by its id; what was known of both is known of one."""
    client.ask("PUT", "/v1/users/ann", json={"language": "en"})
    client.ask("PUT", "/v1/users/anon-7", json={"language": "de", "city": "Kiel"})
    path = "/v1/users/ann/merge?event_id=m1&time=1767225600000"
    assert client.post(path, {"user_id": "anon-7"}).json()["recorded"] == 1
    assert client.post(path, {"user_id": "anon-7"}).json()["duplicates"] == 1
    assert client.get("/v1/users/ann").json()["attributes"] == {"language": "en", "city": "Kiel"}
    assert client.get("/v1/users/anon-7").status_code == 404


@pytest.mark.parametrize(
    "query, body, pointer",
    [
        ("", {"user_id": ""}, "/user_id"),
        ("", {"user_id": "x" * 129}, "/user_id"),
        ("", {"user_id": "a\nb"}, "/user_id"),
        ("", {"user_id": 5}, "/user_id"),
        ("", {}, "/user_id"),
        ("", {"user": "anon-7"}, "/user"),
        ("", [], ""),
        ("?tme=1", {"user_id": "anon-7"}, "tme"),
        ("?time=1767225600", {"user_id": "anon-7"}, "/time"),
    ],
)
def test_what_is_wrong_with_a_merge_is_pointed_at(client, query, body, pointer):
    """A 400 that points into what was sent; nothing is recorded."""
    answer = client.post(f"/v1/users/ann/merge{query}", body)
    assert (answer.status_code, answer.json()["pointer"]) == (400, pointer)
    assert client.engine.events == []


def test_an_erase_says_by_when_files_follow(client):
    """202, and it is listed until they do."""
    client.ask("PUT", "/v1/users/ann", json={"language": "en"})
    answer = client.ask("DELETE", "/v1/users/ann")
    assert answer.status_code == 202
    due = answer.json()
    assert due == {
        "log_position": client.engine.token(2),
        "erased_at": "2026-01-01T00:00:00Z",
        "ids_count": 1,
        "erase_by": "2026-01-08T00:00:00Z",
    }
    assert client.get("/v1/erasures").json()["erasures"] == [due]
    assert client.ask("DELETE", "/v1/users/ann?time=1").status_code == 400
    assert client.ask("DELETE", "/v1/users/" + "x" * 129).status_code == 400
    assert client.ask("DELETE", "/v1/users/a%0Ab").json()["pointer"] == "user_id"


def test_a_rewrite_is_ordered_and_told(client):
    """202 and how far it is; 409 while one is under way; a page of another site may not."""
    assert client.get("/v1/erasures").json()["rewrite"]["state"] == "idle"
    answer = client.post("/v1/erasures/run", b"")
    assert (answer.status_code, answer.json()["rewrite"]["state"], answer.json()["receipts"]) == (202, "done", [])
    client.eraser.failure = ErasureRunning("a rewrite is under way: folding, 40%")
    answer = client.post("/v1/erasures/run", b"")
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:midstream:erasure-running")
    assert client.post("/v1/erasures/run", b"", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_who_is_sent_away_is_told_when_there_is_room():
    """A full table of erasures says so in seconds, in the document and in the header, not in a guess at a queue."""
    reply = problem_reply(ErasuresFull("10 erased ids wait", 1_234))
    told = json.loads(reply.body)
    assert (reply.status, told["type"], told["retry_after"]) == (503, "urn:midstream:overloaded", 1_234)
    assert (b"retry-after", b"1234") in reply.headers
