"""Records of outputs: one for each event that is asked for, as an export has it, with key, position and type."""

import msgspec
import pytest

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.outbox.output_records import OutputRecord, RecordOptions, records_of, requests_in
from midstream.engine.types import Ask
from midstream.events.json.encode import encode_lines
from midstream.events.schema import Event, build, concat, texts_of
from midstream.ranking.record.record_json import served_json
from midstream.ranking.record.served import decode_served
from tests.support.rig import Rig, view

LOG = "a" * 32


def nothing(_request_id):
    return None


def told(record: OutputRecord) -> bytes:
    """Return the document of a record that has one."""
    assert record.value is not None
    return record.value


@pytest.fixture
def logged():
    """The log of a shop that served a slate of which an item was seen and another one viewed, as one batch."""
    rig = Rig()

    async def work(_: Rig):
        engine = rig.engine
        await engine.record(rig.batch(*(view(f"i{each}", f"u{each}") for each in range(5))))
        answer = await engine.recommend(Ask(user_id="ann"))
        engine.flush_served()
        ids = [each.id for each in answer.items]
        named = {"request_id": answer.request_id}
        await engine.record(rig.batch({"type": "impression", "user_id": "ann", "item_id": ids[0], **named}))
        await engine.record(rig.batch(view(ids[1], **named), view("elsewhere", **named), view(ids[0])))
        await engine.record(rig.batch(view(ids[0], request_id="unknown")))
        return answer

    answer = rig.run(work)
    pairs = rig.log.read(LogPosition(0), rig.log.end)
    return answer, concat([batch for _, batch in pairs])


def found_slates(batch):
    """Return the served records of a batch by request id, as an output finds them in the log."""
    rows = [row for row in range(len(batch)) if batch.rows["kind"][row] == Kind.SERVED]
    records = [decode_served(texts_of(batch, row)[6]) for row in rows]
    return {each.query.request_id: each for each in records}


def test_events_are_those_of_an_export(logged):
    """Each event is a record with the line of an export, the user as key and its position."""
    _, batch = logged
    found = records_of(LogPosition(7), batch, RecordOptions("events", LOG), nothing)
    assert b"".join(told(each) + b"\n" for each in found) == encode_lines(batch, log_time=True)
    assert [each.log_position for each in found] == [*range(7, 7 + len(batch))]
    assert found[0].key == "u0"
    assert dict(found[0].headers) == {
        "log": LOG, "log_position": "7", "type": "view", "log_time": str(batch.rows["log_time_ms"][0]),
    }  # fmt: skip


def test_types_choose_events(logged):
    """Other types are left out, and positions stay those of the log."""
    _, batch = logged
    found = records_of(LogPosition(0), batch, RecordOptions("events", LOG, frozenset({"impression"})), nothing)
    (record,) = found
    assert msgspec.json.decode(told(record))["type"] == "impression"
    assert batch.rows["kind"][record.log_position] == Kind.IMPRESSION


def test_an_erasure_is_a_tombstone():
    """The record of an erasure has the user's id and no value, which removes the key from a compacted topic."""
    batch = build([Event(Kind.ERASE, user_id="ann"), Event(Kind.INTERACTION, action="view", user_id="bob")])
    first, second = records_of(LogPosition(0), batch, RecordOptions("events", LOG), nothing)
    assert (first.key, first.value) == ("ann", None)
    assert ("type", "erase") in first.headers
    assert second.value is not None


def test_served_slates_are_as_a_request_is_answered(logged):
    """The document is that of the request, under its id; other placements are left out."""
    answer, batch = logged
    (record,) = records_of(LogPosition(0), batch, RecordOptions("served", LOG), nothing)
    assert record.key == answer.request_id
    assert record.value == served_json(found_slates(batch)[answer.request_id])
    assert [each["id"] for each in msgspec.json.decode(told(record))["items"]] == [each.id for each in answer.items]
    options = RecordOptions("served", LOG, placements=frozenset({"other"}))
    assert records_of(LogPosition(0), batch, options, nothing) == ()


def test_outcomes_have_the_place_and_the_chance_of_their_item(logged):
    """What followed a slate has position, propensity, placement and reward; of what is not known they are missing."""
    answer, batch = logged
    options = RecordOptions("outcomes", LOG, rewards={"view": 2.0})
    assert requests_in(batch, options) == {answer.request_id, "unknown"}
    found = records_of(LogPosition(0), batch, options, found_slates(batch).get)
    records = [msgspec.json.decode(told(each)) for each in found]
    assert [each.key for each in found] == [answer.request_id] * 3 + ["unknown"]
    assert [(each["action"], each["position"], each["propensity"], each["reward"]) for each in records] == [
        ("impression", 0, 1.0, 0.0),
        ("view", 1, 1.0, 2.0),
        ("view", None, None, 2.0),
        ("view", None, None, 2.0),
    ]
    assert [each["placement"] for each in records] == ["default"] * 3 + [None]
    assert all(each["log_position"] == record.log_position for each, record in zip(records, found, strict=True))
    assert not any("user_id" in each for each in records)
