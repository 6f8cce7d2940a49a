import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from midstream.core.durations import Duration
from midstream.core.errors import AppendFailed, DiskFull, Overloaded
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.serving.options import ServerOptions
from tests.support.fakes.engine import FakeEngine

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug"}

good = st.builds(
    lambda name, item: EVENT | {"event_id": name, "item_id": item}, st.sampled_from("abcd"), st.sampled_from("xy")
)
bad = st.sampled_from(
    [{"type": "vieew"}, 5, {"type": "view"}, EVENT | {"colour": "red"}, EVENT | {"request_id": "forged"}]
)
forms = st.sampled_from(
    [
        (json.dumps, "application/json"),
        (lambda events: json.dumps({"events": events}), "application/json; charset=utf-8"),
        (lambda events: "\n".join(map(json.dumps, events)), "application/x-ndjson"),
    ]
)


@given(st.lists(good | bad, min_size=2, max_size=8), forms)
def test_no_event_disappears(make_client, events, form):
    """Recorded, duplicates, conflicts and rejected ones are as many as came; a rejected one is alone in that."""
    client = make_client(FakeEngine())
    wrapped, media_type = form
    body = wrapped(events).encode()
    answer = client.post("/v1/events?results=all", body, headers={"content-type": media_type}).json()
    rejected = {each["index"] for each in answer["rejected"]}
    counted = answer["recorded"] + answer["duplicates"] + answer.get("conflicts", 0) + len(rejected)
    assert counted == len(events) == len(answer["results"])
    assert rejected == {
        index for index, each in enumerate(events) if not (isinstance(each, dict) and "event_id" in each)
    }
    assert answer["recorded"] == len(
        {each["event_id"] for each in events if isinstance(each, dict) and "event_id" in each}
    )
    assert answer["recorded"] == len(client.engine.events)


def test_results_name_only_what_was_not_recorded(client):
    """Without ``results=all`` a recorded event has no line of its own."""
    answer = client.post("/v1/events", [EVENT | {"event_id": "1"}, EVENT | {"event_id": "1"}, {"type": "x"}]).json()
    assert answer["results"] == [{"index": 1, "outcome": "duplicate"}, {"index": 2, "outcome": "rejected"}]
    assert "results" not in client.post("/v1/events", EVENT | {"event_id": "2"}).json()


def test_status_says_whether_anything_was_taken(client):
    """200 while at least one event is in the log, 422 as a problem document when none is."""
    assert client.post("/v1/events", [EVENT, {"type": "x"}]).status_code == 200
    refused = client.post("/v1/events", [{"type": "x"}])
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["status"] == 422
    assert refused.json()["rejected"][0]["pointer"] == "/0/type"


@pytest.mark.parametrize(
    "body,pointer",
    [
        (json.dumps(EVENT | {"request_id": "forged"}), "/request_id"),
        (json.dumps([EVENT, EVENT | {"request_id": "forged"}]), "/1/request_id"),
        (json.dumps({"events": [EVENT, EVENT | {"request_id": "forged"}]}), "/events/1/request_id"),
        (json.dumps(EVENT) + "\n\n" + json.dumps(EVENT | {"request_id": "forged"}), "line 3: /request_id"),
    ],
)
def test_forged_request_id_is_a_fault_of_its_event(client, body, pointer):
    """A request id that this engine did not make is refused where it stands, in every form of body."""
    answer = client.post("/v1/events", body.encode()).json()
    assert [each["pointer"] for each in answer["rejected"]] == [pointer]
    assert len(client.engine.events) == answer["recorded"]


@pytest.mark.parametrize(
    "form",
    [
        b'[{"type": "view", "value": NaN}, %b]',
        b'[{"type": "view", "item_id": "a\n"}, %b]',
        b'{"events": [{"type": "view", "item_id": "\\ud800"}, %b]}',
        b'{"\\u0065vents": [{"type": "x"}, %b]}',
        b'{"events": 1}\n%b',
    ],
)
def test_request_id_is_judged_beside_any_other_fault(client, form):
    """An event that no strict parser reads does not keep a made-up request id beside it from being named."""
    answer = client.post("/v1/events", form % json.dumps(EVENT | {"request_id": "forged"}).encode())
    assert answer.status_code == 422
    assert [each["index"] for each in answer.json()["rejected"]] == [0, 1]


def test_own_request_id_is_taken(client):
    """An impression may name the request that served it."""
    request_id = client.post("/v1/recommendations", {}).json()["request_id"]
    answer = client.post("/v1/events", EVENT | {"type": "impression", "request_id": request_id}).json()
    assert (answer["recorded"], answer["rejected"]) == (1, [])


def test_refused_items_are_named_one_by_one(make_client):
    """With unknown items refused, an order is recorded for the items that are known, the others are listed."""
    client = make_client(FakeEngine(unknown_items_are_refused=True))
    client.ask("PUT", "/v1/items/mug", json={})
    order = {"type": "purchase", "user_id": "ann", "event_id": "o", "items": [{"item_id": "mug"}, {"item_id": "pot"}]}
    answer = client.post("/v1/events", [order, EVENT | {"item_id": "pan"}]).json()
    assert answer["recorded"] == 1
    assert [(each["index"], each["pointer"]) for each in answer["rejected"]] == [
        (0, "/0/items/1/item_id"),
        (1, "/1/item_id"),
    ]


def test_dry_run_records_nothing(client):
    """A dry run judges, and leaves log, counters and dead letters as they were."""
    before = client.engine.metrics.text()
    answer = client.post("/v1/events?dry_run=true", [EVENT, {"type": "x"}]).json()
    assert (answer["recorded"], len(answer["rejected"]), answer["dry_run"]) == (1, 1, True)
    assert "log_position" not in answer
    assert client.engine.events == []
    after = client.engine.metrics.text()
    events_of = lambda text: [line for line in text.splitlines() if line.startswith(b"midstream_events_total")]  # noqa: E731
    assert events_of(before) == events_of(after)


def test_rejected_events_are_kept_with_their_reason(make_client, tmp_path):
    """Each rejected event is in the dead letters as it came, and counted once."""
    letters = DeadLetters(tmp_path / "dead", RealDisk())
    client = make_client(FakeEngine(unknown_items_are_refused=True), dead_letters=letters)
    client.post("/v1/events", [{"type": "x"}, EVENT, EVENT | {"request_id": "forged"}])
    assert sorted(json.loads(each.raw).get("request_id", each.reason.where) for each in letters.read()) == [
        "/0/type",
        "/1/item_id",
        "forged",
    ]
    families = text_string_to_metric_families(client.engine.metrics.text().decode())
    values = {(s.name, s.labels.get("outcome")): s.value for f in families for s in f.samples}
    assert values["midstream_dead_letters_total", None] == 3
    assert values["midstream_events_total", "rejected"] == 2
    assert values["midstream_events_total", "refused"] == 1


@pytest.mark.parametrize(
    "failure,status", [(DiskFull("full"), 507), (AppendFailed("broken"), 503), (Overloaded("queue"), 503)]
)
def test_what_cannot_be_kept_is_not_acknowledged(make_client, failure, status):
    """A full disk is 507, a broken log or a full queue 503; each says when to come back, spread over some seconds."""
    client = make_client(FakeEngine(failure=failure))
    answers = [client.post("/v1/events", EVENT) for _ in range(12)]
    assert {each.status_code for each in answers} == {status}
    waits = {int(each.headers["retry-after"]) for each in answers}
    assert min(waits) >= 1
    assert len(waits) > 1
    assert all("recorded" not in each.json() for each in answers)


def test_commit_that_takes_too_long_is_not_waited_for(make_client, monkeypatch):
    """When a sync hangs, the answer is 503 after ``commit_wait_max``, not silence."""

    async def never(_self, _batch, *, within_s):
        await asyncio.wait_for(asyncio.Event().wait(), within_s)

    monkeypatch.setattr(FakeEngine, "record", never)
    client = make_client(FakeEngine(), ServerOptions(commit_wait_max=Duration("20ms")))
    answer = client.post("/v1/events", EVENT)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:midstream:commit-too-slow")


def test_large_body_is_decoded_like_a_small_one(client):
    """A body that goes through the decoding thread gets the same answer."""
    events = [EVENT | {"event_id": str(n), "context": {"page": "x" * 80}} for n in range(300)]
    answer = client.post("/v1/events", [*events, {"type": "x"}, EVENT | {"request_id": "forged"}]).json()
    assert (answer["recorded"], [each["index"] for each in answer["rejected"]]) == (300, [300, 301])


def test_too_many_large_bodies_are_sent_away(make_client):
    """Large bodies beyond ``bulk_decodes_max`` are refused at once instead of queued."""
    client = make_client(FakeEngine(), ServerOptions(bulk_decodes_max=0))
    body = [EVENT | {"event_id": str(n), "context": {"page": "x" * 80}} for n in range(300)]
    assert client.post("/v1/events", body).status_code == 503
    assert client.post("/v1/events", EVENT).status_code == 200


@pytest.mark.parametrize(
    "content,status,slug",
    [
        (b"[" + b"5," * 600 + b"5]", 413, "too-large"),
        (b'"' + b"x" * 262_144 + b'"', 413, "too-large"),
        (b"not json", 400, "invalid"),
        (b"", 400, "invalid"),
        (b"[" * 100_000, 400, "invalid"),
    ],
)
def test_bodies_that_cannot_be_split_are_refused_whole(client, content, status, slug):
    """Too many events, too many bytes, no JSON, endless nesting: a clear 4xx for the whole body."""
    answer = client.post("/v1/events", content)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:midstream:{slug}")
    assert answer.json()["errors"]


def test_query_field_that_is_none_is_named(client):
    """An unknown query field or value is refused, with the nearest and all that are allowed."""
    answer = client.post("/v1/events?dry_rum=true", EVENT).json()
    assert (answer["status"], answer["pointer"], answer["allowed"]) == (400, "dry_rum", ["dry_run", "results"])
    assert "dry_run" in answer["came"]
    assert client.post("/v1/events?results=some", EVENT).status_code == 400
    assert client.post("/v1/events?dry_run=yes", EVENT).status_code == 400
    assert client.post("/v1/events?dry_run=true&dry_run=true", EVENT).status_code == 400


def test_compressed_and_foreign_bodies_are_refused(client):
    """An unknown packing is 415; what a browser sends for another site's page is 403. Neither is read."""
    answer = client.post("/v1/events", EVENT, headers={"content-encoding": "br"})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, zstd")
    assert client.post("/v1/events", EVENT, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/v1/events", EVENT, headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert len(client.engine.events) == 1
