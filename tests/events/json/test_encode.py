"""What is promised of an export: importing it gives the same rows again, byte for byte."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.events.arrow.arrow import decode_arrow
from midstream.events.arrow.to_arrow import to_table
from midstream.events.json.decode import decode
from midstream.events.json.encode import encode_lines, to_object
from midstream.events.schema import Event, build, event_at
from midstream.events.wire import Accept, Limits

TRUSTED = Accept(frozenset({"view", "cart"}), 1_750_000_000_000, trusted=True, limits=Limits(events_max=10_000))

ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=10)
maybe = st.just("") | ids
quantities = st.floats(0.0, width=32, allow_nan=False, allow_infinity=False) | st.just(float("nan"))
objects = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
    min_size=1,
    max_size=3,
)


def compact(value):
    """Return canonical JSON; no floats are in it, so that the standard library writes the same."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def made(kind, **fields):
    """Return a strategy of events of a kind, all of which may have an id, a time and a log time."""
    always = {
        "kind": st.just(int(kind)),
        "event_id": maybe,
        "event_time_ms": st.none() | st.integers(946_684_800_000, 4_133_980_799_999),
        "log_time_ms": st.integers(0, 2**61),
    }
    return st.fixed_dictionaries(always | fields).map(lambda drawn: Event(**drawn))


MEASURED = {
    "value": st.floats(allow_nan=False, allow_infinity=False) | st.just(float("nan")),
    "quantity": quantities,
    "position": st.integers(-1, 32_766),
    "request_id": maybe,
    "body": st.just(b"") | objects.map(compact),
}
DOCUMENT = {"operation": st.sampled_from([1, 2]), "body": st.just(b"{}") | objects.map(compact)}
ODD_BODIES = (
    b"{}",
    b"[1]",
    b'{"b":1,"a":2}',
    b'{"a":1.50}',
    b'{"a":1,"a":2}',
    b'{"seed":18446744073709551615}',
    b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    b"[" * 5_000,
    b"3",
    b"\xff\x00",
)
contents = objects.map(compact) | st.binary(min_size=1, max_size=20) | st.sampled_from(ODD_BODIES)
events = st.one_of(
    made(Kind.INTERACTION, action=st.sampled_from(["view", "cart"]), user_id=ids, item_id=ids, **MEASURED),
    made(Kind.IMPRESSION, item_id=ids, session_id=ids, **MEASURED),
    made(Kind.ITEM, item_id=ids, **DOCUMENT),
    made(Kind.USER, user_id=ids, **DOCUMENT),
    made(Kind.ITEM, item_id=ids, operation=st.just(int(Operation.DELETE))),
    made(Kind.SERVED, request_id=ids, user_id=maybe, session_id=maybe, body=st.just(b"") | contents),
    made(Kind.TICK),
    made(Kind.CONTROL, body=contents),
    made(Kind.ERASE, user_id=ids),
    made(Kind.ERASE, body=objects.map(compact)),
    made(
        Kind.USER,
        user_id=ids,
        operation=st.just(int(Operation.MERGE)),
        body=ids.map(lambda each: compact({"from": each})),
    ),
    made(Kind.INTERACTION, action=st.just("view"), item_id=ids),
)


@given(st.lists(events, max_size=6))
def test_import_of_an_export_gives_the_same_rows(sent):
    """Every kind, every body, ids in any script, log times: the same bytes come back."""
    batch = build(sent)
    decoded = decode(encode_lines(batch, log_time=True), TRUSTED, "application/x-ndjson")
    assert decoded.rejected == ()
    assert decoded.batch.text == batch.text
    assert decoded.batch.rows.tobytes() == batch.rows.tobytes()


@given(st.lists(events, max_size=8), st.booleans())
def test_a_line_is_its_object(sent, log_time):
    """Made column by column or by itself, byte for byte: escapes, every float, numbers of 64 bits."""
    batch = build(sent)
    objects = (to_object(event_at(batch, at), log_time=log_time) for at in range(len(batch)))
    assert encode_lines(batch, log_time=log_time) == b"".join(msgspec.json.encode(each) + b"\n" for each in objects)


@given(st.lists(events, max_size=8))
def test_a_table_holds_the_same_objects(sent):
    """A column for each field, null where it was not sent; and it decodes to the same rows."""
    batch = build(sent)
    table = to_table(batch)
    table.validate(full=True)
    for at, row in enumerate(table.to_pylist()):
        found = {name: value for name, value in row.items() if value is not None}
        for name in {"context", "attributes", "content"} & found.keys():
            found[name] = msgspec.json.decode(found[name])
        assert found == to_object(event_at(batch, at), log_time=True)
    decoded = decode_arrow(table, TRUSTED)
    assert decoded.rejected == ()
    assert decoded.batch.text == batch.text
    assert decoded.batch.rows.tobytes() == batch.rows.tobytes()


@pytest.mark.parametrize("body", ODD_BODIES)
def test_a_body_that_is_no_canonical_json_comes_back_byte_for_byte(body):
    """What the engine wrote in another form than decoding writes is exported as bytes."""
    batch = build([Event(int(Kind.SERVED), request_id="r", body=body)])
    again = decode(encode_lines(batch), TRUSTED).batch
    assert event_at(again, 0).body == body


def test_rows_of_an_order_come_back_as_they_are():
    """The rows of an order with the longest event id are exported one by one, and taken again."""
    order = {
        "type": "cart",
        "event_id": "x" * 125,
        "user_id": "ann",
        "items": [{"item_id": f"i{n}"} for n in range(100)],
    }
    batch = decode(json.dumps(order).encode(), TRUSTED).batch
    again = decode(encode_lines(batch), TRUSTED)
    assert again.rejected == ()
    assert again.batch.text == batch.text
    assert again.batch.rows.tobytes() == batch.rows.tobytes()


def test_an_export_without_log_times_needs_no_trust():
    """What clients sent is exported as clients send it: no field is in it that a client may not send."""
    clients = Accept(TRUSTED.actions, TRUSTED.now_ms)
    sent = [
        {"type": "view", "user_id": "ann", "item_id": "lamp", "quantity": 0.1, "context": {"device": "phone"}},
        {"type": "item", "item_id": "lamp", "operation": "put", "attributes": {"price": 9.5}},
    ]
    batch = decode(json.dumps(sent).encode(), clients).batch
    assert [to_object(event_at(batch, index)) for index in range(2)] == sent
    assert decode(encode_lines(batch), clients).batch.text == batch.text


@given(st.floats(0.0, width=32, allow_nan=False, allow_infinity=False))
@example(float(np.finfo(np.float32).max))
def test_a_quantity_is_short_and_exact(value):
    """A float32 is written with no more digits than it needs and read back as the same one."""
    written_value: Any = to_object(Event(int(Kind.INTERACTION), quantity=value))["quantity"]
    assert np.float32(written_value).tobytes() == np.float32(value).tobytes()
    sent = {"type": "view", "user_id": "a", "item_id": "b", "quantity": written_value}
    assert decode(json.dumps(sent).encode(), TRUSTED).batch.rows["quantity"][0] == np.float32(value)
    assert len(repr(written_value).strip("-").replace(".", "").split("e")[0].strip("0")) <= 9
