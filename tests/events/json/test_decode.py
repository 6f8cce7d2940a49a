"""What is promised of events that arrive: taken as they were meant, or refused one by one and in words."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid, TooLarge
from midstream.core.kinds import Kind, Operation
from midstream.events.json.decode import Decoded, decode, decode_objects
from midstream.events.schema import Event, build, event_at
from midstream.events.wire import EVENT_FIELDS, ITEM_FIELDS, PAGE, Accept, Limits

NOW_MS = 1_750_000_000_000
ACCEPT = Accept(
    frozenset({"view", "cart", "käufe"}),
    NOW_MS,
    attributes={"price": "number", "category": "category", "tags": "tags", "new": "boolean", "look": "vector:2"},
)
TRUSTED = msgspec.structs.replace(ACCEPT, trusted=True)
VIEW = {"type": "view", "user_id": "ann", "item_id": "lamp"}
DOCS = Path(__file__).parents[3] / PAGE.lstrip("/")

ids = st.text("abc-19", min_size=1, max_size=8) | st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
integers = st.integers(-(2**63), 2**63 - 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
scalars = texts | integers | finite | st.booleans()
quantities = st.floats(0.0, width=32, allow_nan=False, allow_infinity=False)
times = st.integers(946_684_800_000, 4_133_980_799_999)
lines = st.fixed_dictionaries(
    {"item_id": ids},
    optional={"value": finite, "quantity": quantities, "position": st.integers(0, 32_766)},
)
_always = {"event_id": ids, "time": times}
acts = st.fixed_dictionaries(
    {"type": st.sampled_from(["view", "cart", "käufe", "impression"]), "user_id": ids, "item_id": ids},
    optional={
        **_always,
        "session_id": ids,
        "request_id": ids,
        "value": finite,
        "quantity": quantities,
        "position": st.integers(0, 32_766),
        "context": st.dictionaries(names, scalars, max_size=3),
    },
)
orders = st.fixed_dictionaries(
    {"type": st.just("cart"), "session_id": ids, "items": st.lists(lines, min_size=1, max_size=5)},
    optional={**_always, "context": st.dictionaries(names, scalars, max_size=2)},
)
free = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=4
)
attributes = st.fixed_dictionaries(
    {},
    optional={
        "price": finite | integers,
        "category": texts,
        "tags": st.lists(texts, max_size=3),
        "new": st.booleans(),
        "look": st.lists(
            st.integers(-(2**63), 2**63 - 1) | st.floats(width=32, allow_nan=False, allow_infinity=False),
            min_size=2,
            max_size=2,
        ),
        "available": st.booleans(),
        "title": free,
    },
)
documents = st.fixed_dictionaries(
    {"type": st.just("item"), "item_id": ids, "attributes": attributes},
    optional={**_always, "operation": st.sampled_from(["put", "patch"])},
) | st.fixed_dictionaries(
    {"type": st.just("user"), "user_id": ids, "attributes": st.dictionaries(names, free | st.none(), max_size=2)},
    optional={**_always, "operation": st.just("patch")},
)
deletes = st.fixed_dictionaries(
    {"type": st.just("item"), "item_id": ids, "operation": st.just("delete")}, optional=_always
)
events = acts | orders | documents | deletes
bad_events: st.SearchStrategy[Any] = st.sampled_from(
    [
        3,
        None,
        "view",
        [],
        {},
        {"type": "view"},
        {**VIEW, "type": "served"},
        {**VIEW, "type": "viewed"},
        {**VIEW, "time": 1_750_000_000},
        {**VIEW, "user_id": ""},
        {**VIEW, "user_id": "a\ud800"},
        {**VIEW, "context": {"a": None}},
        {**VIEW, "value": float("nan")},
        {**VIEW, "items": [{"item_id": "a"}]},
        {"type": "cart", "user_id": "a", "items": [{"item_id": "a"}, {"item_id": "b", "quantity": 1e39}]},
        {"type": "item", "item_id": "a", "attributes": {"price": "cheap"}},
        {"type": "item", "item_id": "a", "attributes": {"x": [[[[[[[[[[[[1]]]]]]]]]]]]}},
    ]
)


def body_of(value: object) -> bytes:
    """Return JSON as a careless client writes it: escapes, NaN, halves of surrogate pairs."""
    return json.dumps(value).encode()


def content(decoded: Decoded) -> tuple[bytes, bytes, list[int]]:
    """Return all that was taken, as bytes."""
    return decoded.batch.rows.tobytes(), decoded.batch.text, decoded.event_index.tolist()


def canonical(value: object) -> bytes:
    """Return the one form of a body."""
    return msgspec.json.Encoder(order="sorted").encode(value) if value else b""


def twin(event: dict[str, Any]) -> list[Event]:
    """Return the rows of a right event the plain way."""
    kind = Kind[event["type"].upper()] if event["type"] in {"impression", "item", "user"} else Kind.INTERACTION
    document = kind in {Kind.ITEM, Kind.USER}
    operation = Operation[event.get("operation", "patch").upper()] if document else Operation.NONE
    body = canonical(event.get("context"))
    if document:
        body = b"" if operation == Operation.DELETE else canonical(event.get("attributes")) or b"{}"
    rows = []
    for number, item in enumerate(event.get("items", [event])):
        suffix = f"#{number}" if "items" in event and "event_id" in event else ""
        rows.append(
            Event(
                kind=int(kind),
                operation=int(operation),
                event_id=event.get("event_id", "") + suffix,
                action=event["type"] if kind == Kind.INTERACTION else "",
                user_id=event.get("user_id", ""),
                item_id=item.get("item_id", ""),
                session_id=event.get("session_id", ""),
                request_id=event.get("request_id", ""),
                body=body,
                event_time_ms=event.get("time"),
                value=item.get("value", float("nan")),
                quantity=item.get("quantity", float("nan")),
                position=item.get("position", -1),
            )
        )
    return rows


@given(st.lists(events, max_size=6))
def test_rows_are_those_of_the_plain_twin(sent):
    """Every field of every kind is at its place, in the order sent; orders become a row an item."""
    decoded = decode(body_of(sent), ACCEPT)
    expected = [twin(event) for event in sent]
    batch = build([row for rows in expected for row in rows])
    assert decoded.rejected == ()
    assert decoded.event_count == len(sent)
    assert decoded.batch.rows.tobytes() == batch.rows.tobytes()
    assert decoded.batch.text == batch.text
    assert decoded.event_index.tolist() == [i for i, rows in enumerate(expected) for _ in rows]


@given(st.lists(events, min_size=1, max_size=4), st.booleans())
def test_every_form_gives_the_same_rows(sent, escaped):
    """A list, an envelope, NDJSON with and without its content type, Python objects: one meaning."""
    parts = [json.dumps(event, ensure_ascii=escaped).encode() for event in sent]
    expected = content(decode(b"[" + b",".join(parts) + b"]", ACCEPT))
    spaced = b" \n[ " + b" ,\r\n".join(parts) + b"\n]\n"
    assert content(decode(spaced, ACCEPT)) == expected
    assert content(decode(b"\xef\xbb\xbf" + spaced, ACCEPT)) == expected
    assert content(decode(b'{ "events" :[' + b",".join(parts) + b"]}", ACCEPT)) == expected
    assert content(decode(b"\n".join(parts), ACCEPT, "application/x-ndjson")) == expected
    assert content(decode(b"\r\n\n".join(parts) + b"\n", ACCEPT)) == expected
    assert content(decode_objects(sent, ACCEPT)) == expected
    if len(parts) == 1:
        assert content(decode(json.dumps(sent[0], indent=1).encode(), ACCEPT)) == expected


@given(st.lists(st.tuples(st.booleans(), events, bad_events), min_size=1, max_size=6), st.sampled_from(["", "/events"]))
def test_a_bad_event_takes_no_other_down(drawn, prefix):
    """What is right is taken as if the wrong were not there; each wrong one is named in four parts."""
    sent = [good if right else bad for right, good, bad in drawn]
    body = body_of({"events": sent} if prefix else sent)
    decoded = decode(body, ACCEPT)
    alone = decode(body_of([good for right, good, _ in drawn if right]), ACCEPT)
    assert decoded.batch.rows.tobytes() == alone.batch.rows.tobytes()
    assert decoded.batch.text == alone.batch.text
    assert decoded.event_count == len(sent)
    wrong = [index for index, (right, _, _) in enumerate(drawn) if not right]
    assert [each.index for each in decoded.rejected] == wrong
    assert set(decoded.event_index.tolist()) == set(range(len(sent))) - set(wrong)
    for each in decoded.rejected:
        assert (each.fault.where + "/").startswith(f"{prefix}/{each.index}/")
        assert each.fault.came
        assert each.fault.right
        assert each.fault.page == PAGE
        assert each.raw == json.dumps(sent[each.index]).encode()
        assert len(str(each.fault)) < 1_500


@given(st.lists(st.tuples(st.booleans(), events), min_size=2, max_size=6))
def test_a_bad_line_takes_no_other_down(drawn):
    """In NDJSON a line may be anything at all: the rest is taken, and the line is named by its number."""
    good = body_of(VIEW)
    sent = [body_of(event) if right else b'{"type": "view", \xff' for right, event in drawn]
    decoded = decode(b"\n".join([good, *sent]), ACCEPT)
    assert [each.fault.where for each in decoded.rejected] == [
        f"line {number}" for number, (right, _) in enumerate(drawn, start=2) if not right
    ]
    alone = decode(b"\n".join([good, *(body_of(event) for right, event in drawn if right)]), ACCEPT)
    assert decoded.batch.rows.tobytes() == alone.batch.rows.tobytes()
    assert decoded.batch.text == alone.batch.text


LONG = "x" * 129
REFUSED = [
    ({**VIEW, "type": "viewed"}, "/type", 'Nearest: "view"'),
    ({**VIEW, "type": "served"}, "/type", "reserved"),
    ({**VIEW, "type": 3}, "/type", "3."),
    ({"user_id": "ann", "item_id": "lamp"}, "/type", "Nothing was sent"),
    ({**VIEW, "itemid": "x"}, "/itemid", 'Nearest: "item_id"'),
    ({**VIEW, "timestamp": NOW_MS}, "/timestamp", 'Nearest: "time"'),
    ({**VIEW, "log_time": 3}, "/log_time", "3."),
    ({**VIEW, "content": {}}, "/content", "does not belong"),
    ({**VIEW, "attributes": {}}, "/attributes", "does not belong"),
    ({**VIEW, "operation": "put"}, "/operation", "does not belong"),
    ({**VIEW, "operation": "\ud800"}, "/operation", "ud800"),
    ({**VIEW, "user_id": 7}, "/user_id", "7."),
    ({**VIEW, "user_id": ""}, "/user_id", '"".'),
    ({**VIEW, "item_id": LONG}, "/item_id", "129 characters"),
    ({**VIEW, "session_id": "a\x00b"}, "/session_id", "a\\u0000b"),
    ({**VIEW, "request_id": "a\x85"}, "/request_id", "a\\u0085"),
    ({**VIEW, "event_id": "a\udfff"}, "/event_id", "\\udfff"),
    ({"type": "view", "user_id": "ann"}, "/item_id", "Nothing was sent"),
    ({"type": "view", "item_id": "lamp"}, "/user_id", "Nothing was sent"),
    ({"type": "impression", "item_id": "lamp"}, "/user_id", "Nothing was sent"),
    ({**VIEW, "time": 1_750_000_000}, "/time", "looks like seconds"),
    ({**VIEW, "time": -5}, "/time", "looks like seconds"),
    ({**VIEW, "time": 946_684_799_999}, "/time", "outside the years"),
    ({**VIEW, "time": 4_133_980_800_000}, "/time", "outside the years"),
    ({**VIEW, "time": NOW_MS * 1000}, "/time", "outside the years"),
    ({**VIEW, "time": 10**30}, "/time", "outside the years"),
    ({**VIEW, "time": 10**999}, "/time", "outside the years"),
    ({**VIEW, "time": NOW_MS + 0.5}, "/time", ".5"),
    ({**VIEW, "time": True}, "/time", "true"),
    ({**VIEW, "time": "yesterday"}, "/time", "yesterday"),
    ({**VIEW, "time": "2026-01-31T12:00:00"}, "/time", "no zone"),
    ({**VIEW, "time": "2026-02-30T12:00:00Z"}, "/time", "02-30"),
    ({**VIEW, "time": "1999-12-31T23:59:59Z"}, "/time", "outside the years"),
    ({**VIEW, "time": "9" * 5_000}, "/time", "5000 characters"),
    ({**VIEW, "value": "3"}, "/value", '"3"'),
    ({**VIEW, "value": True}, "/value", "true"),
    ({**VIEW, "value": float("inf")}, "/value", "infinity"),
    ({**VIEW, "value": 10**400}, "/value", "too large"),
    ({**VIEW, "quantity": 1e39}, "/quantity", "1e+39"),
    ({**VIEW, "quantity": float("nan")}, "/quantity", "nan"),
    ({**VIEW, "position": -1}, "/position", "-1"),
    ({**VIEW, "position": 32_767}, "/position", "32767"),
    ({**VIEW, "position": 1.5}, "/position", "1.5"),
    ({**VIEW, "context": 3}, "/context", "3."),
    ({**VIEW, "context": {"a": None}}, "/context/a", "null"),
    ({**VIEW, "context": {"a": [1]}}, "/context/a", "a list of 1"),
    ({**VIEW, "context": {"a/b~": 2**63}}, "/context/a~1b~0", str(2**63)),
    ({**VIEW, "context": {"": 1}}, "/context", "length"),
    ({**VIEW, "context": {"a": "x" * 4_096}}, "/context", "bytes"),
    ({**VIEW, "context": {"a": "\ud800"}}, "/context", "an object of 1 fields"),
    ({**VIEW, "items": [{"item_id": "a"}]}, "/item_id", '"lamp"'),
    ({"type": "cart", "user_id": "a", "items": []}, "/items", "a list of 0"),
    ({"type": "cart", "user_id": "a", "items": [{"item_id": "a"}] * 101}, "/items", "a list of 101"),
    ({"type": "cart", "user_id": "a", "items": [{"item_id": "a"}, 3]}, "/items/1", "3."),
    ({"type": "cart", "user_id": "a", "items": [{"item_id": "a"}, {}]}, "/items/1/item_id", "Nothing was sent"),
    ({"type": "cart", "user_id": "a", "items": [{"item_id": LONG}]}, "/items/0/item_id", "129 characters"),
    ({"type": "cart", "user_id": "a", "items": [{"item_id": "a", "qty": 1}]}, "/items/0/qty", 'Nearest: "quantity"'),
    ({"type": "cart", "user_id": "a", "items": [{"item_id": "a", "value": "1"}]}, "/items/0/value", '"1"'),
    ({"type": "cart", "user_id": "a", "value": 1, "items": [{"item_id": "a"}]}, "/value", "1"),
    ({"type": "cart", "user_id": "a", "event_id": "x" * 126, "items": [{"item_id": "a"}]}, "/event_id", "126"),
    ({"type": "item", "attributes": {}}, "/item_id", "Nothing was sent"),
    ({"type": "user", "attributes": {}}, "/user_id", "Nothing was sent"),
    ({"type": "item", "item_id": "a", "user_id": "b"}, "/user_id", "does not belong"),
    ({"type": "item", "item_id": "a", "operation": "putt"}, "/operation", '"putt"'),
    ({"type": "item", "item_id": "a", "operation": "delete", "attributes": {"a": 1}}, "/attributes", "an object of 1"),
    ({"type": "item", "item_id": "a", "operation": "merge", "attributes": {"from": "b"}}, "/operation", '"merge"'),
    ({"type": "user", "user_id": "a", "operation": "merge"}, "/attributes/from", "Nothing was sent"),
    ({"type": "user", "user_id": "a", "operation": "merge", "attributes": {"from": 5}}, "/attributes/from", "5"),
    ({"type": "user", "user_id": "a", "operation": "merge", "attributes": {"from": ""}}, "/attributes/from", '""'),
    ({"type": "user", "user_id": "a", "operation": "merge", "attributes": {"from": "b\n"}}, "/attributes/from", "b"),
    ({"type": "user", "user_id": "a", "operation": "merge", "attributes": {"to": "b"}}, "/attributes/to", '"b"'),
    ({"type": "item", "item_id": "a", "attributes": {"price": "9"}}, "/attributes/price", '"9"'),
    ({"type": "item", "item_id": "a", "attributes": {"price": True}}, "/attributes/price", "true"),
    ({"type": "item", "item_id": "a", "attributes": {"price": 2**63}}, "/attributes/price", str(2**63)),
    ({"type": "item", "item_id": "a", "attributes": {"price": float("-inf")}}, "/attributes", "NaN or an infinity"),
    ({"type": "item", "item_id": "a", "attributes": {"category": 3}}, "/attributes/category", "3."),
    ({"type": "item", "item_id": "a", "attributes": {"category": LONG}}, "/attributes/category", "129 characters"),
    ({"type": "item", "item_id": "a", "attributes": {"tags": "x"}}, "/attributes/tags", '"x"'),
    ({"type": "item", "item_id": "a", "attributes": {"tags": ["x"] * 101}}, "/attributes/tags", "a list of 101"),
    ({"type": "item", "item_id": "a", "attributes": {"tags": ["x", None]}}, "/attributes/tags/1", "null"),
    ({"type": "item", "item_id": "a", "attributes": {"look": 5}}, "/attributes/look", "5."),
    ({"type": "item", "item_id": "a", "attributes": {"look": [1]}}, "/attributes/look", "A list of 1."),
    ({"type": "item", "item_id": "a", "attributes": {"look": [1, 2, 3]}}, "/attributes/look", "A list of 3."),
    ({"type": "item", "item_id": "a", "attributes": {"look": [1, "2"]}}, "/attributes/look/1", '"2"'),
    ({"type": "item", "item_id": "a", "attributes": {"look": [True, 2]}}, "/attributes/look/0", "true"),
    ({"type": "item", "item_id": "a", "attributes": {"look": [1, None]}}, "/attributes/look/1", "null"),
    ({"type": "item", "item_id": "a", "attributes": {"look": [1, 3.5e38]}}, "/attributes/look/1", "3.5e"),
    ({"type": "item", "item_id": "a", "attributes": {"look": [2**63, 1]}}, "/attributes/look/0", str(2**63)),
    ({"type": "item", "item_id": "a", "attributes": {"look": [1, float("nan")]}}, "/attributes", "NaN or an infinity"),
    ({"type": "item", "item_id": "a", "attributes": {"new": 1}}, "/attributes/new", "1."),
    ({"type": "item", "item_id": "a", "attributes": {"available": "no"}}, "/attributes/available", '"no"'),
    ({"type": "item", "item_id": "a", "operation": "put", "attributes": {"x": None}}, "/attributes/x", "null"),
    ({"type": "item", "item_id": "a", "attributes": {LONG: 1}}, "/attributes", "length"),
    ({"type": "item", "item_id": "a", "attributes": {"x": {"y": [1, 2**64]}}}, "/attributes/x/y/1", str(2**64)),
    ({"type": "item", "item_id": "a", "attributes": {"x": "y" * 4_100}}, "/attributes", "bytes"),
    ({"type": "item", "item_id": "a", "attributes": {"x": [[[[[[[1]]]]]]]}}, "/attributes/x/0/0/0/0/0/0", "level"),
]


@pytest.mark.parametrize("event,where,words", REFUSED)
def test_a_refusal_says_where_and_what_came(event, where, words):
    """Each broken rule is reported at its field, with what came, in a list and in Python objects alike."""
    decoded = decode(body_of([VIEW, event]), ACCEPT)
    assert decoded.event_index.tolist() == [0]
    (found,) = decoded.rejected
    assert found.index == 1
    assert found.fault.where == "/1" + where
    assert words in found.fault.came
    assert found.fault.came.isascii()
    assert len(str(found.fault)) < 500
    # Some values reach the rules of Python objects by another way, which knows the place better.
    (of_object,) = decode_objects([VIEW, event], ACCEPT).rejected
    assert of_object.fault.where.startswith("/1" + where)


@pytest.mark.parametrize(
    "event",
    [
        {**VIEW, "item_id": "é" * 128, "event_id": "x" * 128},
        {**VIEW, "time": 946_684_800_000},
        {**VIEW, "time": 4_133_980_799_999},
        {**VIEW, "time": float(NOW_MS)},
        {**VIEW, "position": 32_766, "quantity": 3.4e38, "value": 1.7e308},
        {**VIEW, "quantity": 0, "value": -1.7e308},
        {**VIEW, "context": {"a": "x" * 4_088}},
        {**VIEW, "context": {}, "session_id": None, "value": None},
        {"type": "cart", "session_id": "s", "event_id": "x" * 125, "items": [{"item_id": "a"}] * 100},
        {"type": "item", "item_id": "a"},
        {"type": "item", "item_id": "a", "attributes": {"x": [[[[[[1]]]]]], "y": {"z": None}, "price": None}},
        {"type": "item", "item_id": "a", "attributes": {"tags": ["x" * 128] * 100, "category": "", "x": "y" * 4_088}},
        {"type": "item", "item_id": "a", "attributes": {"look": [-3.4028234663852886e38, 0], "x": "y" * 4_088}},
        {"type": "item", "item_id": "a", "operation": "delete", "attributes": {}},
        {"type": "user", "user_id": "a", "operation": "put", "attributes": {"available": 3, "price": "free"}},
    ],
)
def test_what_is_just_within_the_limits_is_taken(event):
    """Limits include their last value."""
    assert decode(body_of(event), ACCEPT).rejected == ()


MANY = [VIEW | {"user_id": f"u{number}"} for number in range(20)]
RETURNED = {**VIEW, "type": "cart", "user_id": "ann", "quantity": -1, "value": 39.9}


ORDER = {"type": "cart", "user_id": "ann", "items": [{"item_id": "a"}, {"item_id": "b", "quantity": -0.5}]}


@pytest.mark.parametrize(
    "body, taken",
    [
        (body_of(RETURNED), 0),
        (body_of([*MANY, RETURNED, *MANY]), 40),
        (b"\n".join(json.dumps(each).encode() for each in [*MANY, RETURNED, *MANY]), 40),
        (body_of([*MANY, ORDER]), 20),
    ],
    ids=["one", "list", "lines", "items"],
)
def test_what_came_back_was_not_bought(body, taken):
    """A quantity below 0 is refused whichever way it comes in, and told of the type that it should have."""
    found = decode(body, ACCEPT)
    (refused,) = found.rejected
    assert refused.fault.where.endswith("/quantity")
    assert refused.fault.came.startswith("-")
    assert "return" in refused.fault.right
    assert len(found.batch) == taken


@given(st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001
def test_iso_text_means_the_same_moment(moment, minutes):
    """ISO 8601 text with any zone gives the milliseconds of that moment, rounded down."""
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    decoded = decode(body_of({**VIEW, "time": zoned.isoformat()}), ACCEPT)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert event_at(decoded.batch, 0).event_time_ms == (zoned - epoch) // timedelta(milliseconds=1)
    as_object = decode_objects([{**VIEW, "time": zoned}], ACCEPT)
    assert as_object.batch.rows.tobytes() == decoded.batch.rows.tobytes()


@given(st.dictionaries(names, free, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_same_content_has_one_form(content_sent, random):
    """The bytes of a body do not depend on the order of names or on white space."""
    shuffled = list(content_sent.items())
    random.shuffle(shuffled)
    bodies = [
        decode(json.dumps({"type": "user", "user_id": "a", "attributes": each}, indent=indent).encode(), ACCEPT)
        for each, indent in ((content_sent, None), (dict(shuffled), 2))
    ]
    assert bodies[0].batch.text == bodies[1].batch.text
    assert json.loads(event_at(bodies[0].batch, 0).body) == content_sent


def test_only_a_trusted_caller_may_send_what_the_engine_writes():
    """served, tick, control, erase and log times are refused by name, unless the caller is trusted."""
    sent = [
        {"type": "served", "request_id": "r", "content": {"a": 1}, "log_time": 5},
        {"type": "tick", "log_time": 6},
        {"type": "control", "content": {"b": {}}},
        {"type": "erase", "user_id": "ann"},
    ]
    refused = decode(body_of(sent), ACCEPT)
    assert len(refused.batch) == 0
    assert [each.fault.where for each in refused.rejected] == [f"/{index}/type" for index in range(4)]
    assert all("reserved" in each.fault.came for each in refused.rejected)
    taken = decode(body_of(sent), TRUSTED)
    assert taken.rejected == ()
    assert taken.batch.rows["kind"].tolist() == [Kind.SERVED, Kind.TICK, Kind.CONTROL, Kind.ERASE]
    assert taken.batch.rows["log_time_ms"].tolist() == [5, 6, 0, 0]
    assert event_at(taken.batch, 0).body == b'{"a":1}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n ",
        b"3",
        b'"view"',
        b"null",
        b"nul",
        b"{",
        b"[{}",
        b"[{},]",
        b"\xff\xfe",
        b'{"type": "view"',
        b'{"events": 3}',
        b'{"events": [], "dry_run": true}',
        body_of(VIEW) + b" x",
        b"not json\nat all\n",
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b"[" * 65 + b"]" * 65,
        b'[{"type": "view"}\n',
    ],
)
def test_a_body_that_cannot_be_split_is_refused_whole(body):
    """Where there are no events to be told apart, there is one error, in four parts."""
    with pytest.raises(RequestInvalid) as caught:
        decode(body, ACCEPT)
    (fault,) = caught.value.faults
    assert fault.where in {"body", "/events"}
    assert fault.came
    assert fault.right
    assert len(str(fault)) < 500


def test_too_much_is_refused_before_it_is_looked_at():
    """Bytes and events over the maximum are TooLarge, exactly at the maximum they are not."""
    small = msgspec.structs.replace(ACCEPT, limits=Limits(body_bytes_max=200, events_max=3))
    three = body_of([VIEW] * 3)
    assert len(decode(three, small).batch) == 3
    assert len(decode(three.ljust(200), small).batch) == 3
    for body in (three.ljust(201), b"\xff" * 201, b"[3,3,3,3]", b"3\n" * 4, b'{"events":[3,3,3,3]}'):
        with pytest.raises(TooLarge):
            decode(body, small, "application/x-ndjson" if b"\n" in body else "")
    loose = msgspec.structs.replace(small, limits=Limits(events_max=3))
    for body in (body_of([VIEW] * 4), b"\n".join([body_of(VIEW)] * 4)):
        with pytest.raises(TooLarge):
            decode(body, loose)
    with pytest.raises(TooLarge):
        decode_objects([VIEW] * 4, small)


def test_what_a_request_becomes_is_bounded():
    """Events with many items are refused by the rows and the text that they would become, not by their bytes alone."""
    items = [{"item_id": f"i{n}"} for n in range(100)]
    fifty = [{"type": "view", "user_id": "ann", "items": items}] * 50
    assert len(decode(body_of(fifty), ACCEPT).batch) == 5_000
    long = [{**fifty[0], "context": {"x": "y" * 3_900}}] * 40
    assert len(body_of(long)) < ACCEPT.limits.body_bytes_max
    assert len(decode(body_of(long[:10]), ACCEPT).batch.text) < ACCEPT.limits.text_bytes_max
    for events, came in (([*fifty, VIEW], "5001 rows"), (long, "1100 rows")):
        for body in (body_of(events), body_of([*events, 5])):
            with pytest.raises(TooLarge) as caught:
                decode(body, ACCEPT)
            (fault,) = caught.value.faults
            assert came in fault.came
            assert "5000 rows and 4194304 bytes" in fault.right
            assert (fault.where, fault.page) == ("body", "/docs/events.md")
    with pytest.raises(TooLarge):
        decode_objects(long, ACCEPT)


def test_a_name_that_is_no_text_is_refused():
    """A Python object with such a name is refused by itself, in four parts."""
    odd: Any = [{5: 1}, VIEW]
    decoded = decode_objects(odd, ACCEPT)
    (rejected,) = decoded.rejected
    assert (rejected.fault.where, rejected.fault.came) == ("/0", "a name of type int.")
    assert len(decoded.batch) == 1


def judge(body: bytes, content_type: str = "") -> None:
    """Decode anything; only the two documented errors may come, and what is taken is whole."""
    try:
        decoded = decode(body, TRUSTED, content_type)
    except (RequestInvalid, TooLarge):
        return
    decoded.batch.text.decode("utf-8", "surrogateescape")
    taken = {event_at(decoded.batch, index).kind for index in range(len(decoded.batch))}
    assert taken <= set(map(int, Kind))
    told = set(decoded.event_index.tolist()) | {each.index for each in decoded.rejected}
    assert told == set(range(decoded.event_count))


@given(st.binary(max_size=200), st.sampled_from(["", "application/x-ndjson"]))
def test_random_bytes_never_crash(body, content_type):
    """Any bytes give events, refusals, or one of two errors."""
    judge(body, content_type)


_marks = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b" ", b"1", b"-", b"e", b"NaN", b"null", b"true"]
_words = [b'"type"', b'"view"', b'"events"', b'"item_id"', b'"attributes"', b'"user_id":"a"']
_odd = [b"\\ud800", b"\xff", b"\xc3"]
_runs = [b'{"type":"view","user_id":"a","item_id":"b"}', b'"content":{', b'"items":[', b'{"item_id":"a"}']
_pieces = st.lists(st.sampled_from(_marks + _words + _odd + _runs), max_size=30)


@given(_pieces.map(b"".join))
def test_almost_json_never_crashes(body):
    """Bytes that look like events are judged like any others."""
    judge(body)


@given(st.lists(events | bad_events, min_size=1, max_size=3), st.data())
def test_a_damaged_body_never_crashes(sent, data):
    """A byte changed or a body cut anywhere gives events, refusals, or one of two errors."""
    body = bytearray(data.draw(st.sampled_from([body_of(sent), b"\n".join(map(body_of, sent))])))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] = data.draw(st.integers(0, 255))
    judge(bytes(body))
    judge(bytes(body[:place]))


HOSTILE = {
    "open lists": b"[" * 262_144,
    "open objects": b'{"a":' * 52_000,
    "closed lists": b"]" * 262_144,
    "quotes": b'"' * 262_144,
    "escaped quotes": b'"' + b'\\"' * 131_000,
    "backslashes": b'"' + b"\\" * 262_000,
    "line ends": b"\n" * 262_144,
    "open lines": b"{\n" * 131_000,
    "short lines": b"3\n" * 500,
    "spaces": b"{" + b" " * 262_000,
    "braces and spaces": b"{}" + b" " * 131_000 + b"}" + b" " * 131_000,
    "digits": b"[" + b"9" * 262_000 + b"]",
    "digits as a time": b'{"type":"view","time":' + b"9" * 262_000 + b"}",
    "one name": b'{"' + b"a" * 262_000 + b'":1}',
    "many names": b"{" + b",".join(b'"%d":1' % i for i in range(25_000)) + b"}",
    "one name often": b"{" + b",".join([b'"events":[]'] * 20_000) + b"}",
    "many far names": b"[" + b",".join([b'{"%s":1}' % (b"zq" * 200)] * 500) + b"]",
    "nulls": b"\x00" * 262_144,
    "wide list": b'{"type":"user","user_id":"a","attributes":{"x":[' + b"1," * 130_000 + b"1]}}",
    "no text": b"\xff" * 262_144,
    "deep text": b'{"type":"user","user_id":"a","attributes":{"x":"' + b"[" * 200_000 + b'"}}',
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_cost_little(name):
    """The largest body of the worst kind is judged without a crash and in time linear in its size."""
    judge(HOSTILE[name])
    judge(HOSTILE[name], "application/x-ndjson")


def test_white_space_is_free_where_one_event_is_bad():
    """A body that is split into its events may be laid out as freely as any JSON."""
    view = body_of(VIEW)
    bare = b" [\n" + view + b" ,\n 3\t, " + view + b" ] "
    for body in (bare, b'{ "events" : ' + bare + b"}\n"):
        decoded = decode(body, ACCEPT)
        assert decoded.event_index.tolist() == [0, 2]
        assert [each.raw for each in decoded.rejected] == [b"3"]
    alone = decode(b"\n" + body_of({**VIEW, "x": 1}) + b"\n", ACCEPT)
    assert [(each.fault.where, each.raw) for each in alone.rejected] == [("/x", body_of({**VIEW, "x": 1}))]


def test_a_line_holds_one_event():
    """In NDJSON two events in a line, or one over two lines, are refused, whatever the other lines hold."""
    view = body_of(VIEW)
    two = decode(view + b"\n" + view + view + b"\n" + view, ACCEPT)
    assert two.event_index.tolist() == [0, 2]
    assert [each.fault.where for each in two.rejected] == ["line 2"]
    broken = decode(view + b"\n" + view.replace(b", ", b",\n"), ACCEPT)
    assert broken.event_index.tolist() == [0]


def test_of_a_name_sent_twice_the_last_counts():
    """JSON leaves it open; here it is the same in the typed and in the loose reading."""
    body = b'{"type":"viewed","user_id":"a","user_id":"b","item_id":"c","type":"view"}'
    assert event_at(decode(body, ACCEPT).batch, 0).user_id == "b"
    twice = b'{"events":[3],"events":[' + body + b",3]}"
    decoded = decode(twice, ACCEPT)
    assert event_at(decoded.batch, 0).user_id == "b"
    assert [each.fault.where for each in decoded.rejected] == ["/events/1"]


def test_python_values_are_taken_for_what_they_mean():
    """NumPy numbers and tuples are numbers and lists; what JSON cannot say is refused, not guessed."""
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    circle: list[object] = []
    circle.append(circle)
    sent: list[dict[str, object]] = [
        {
            **VIEW,
            "position": np.int64(3),
            "value": np.float64(2.5),
            "quantity": np.float32(2),
            "user_id": np.str_("ann"),
        },
        {"type": "item", "item_id": "a", "attributes": {"tags": ("x", "y"), "free": np.arange(2), "new": np.True_}},
        {"type": "item", "item_id": "a", "attributes": {"look": np.array([0.5, 2], dtype=np.float32)}},
        {"type": "item", "item_id": "a", "attributes": {"x": {3: 4}}},
        {"type": "item", "item_id": "a", "attributes": {"x": object()}},
        {"type": "item", "item_id": "a", "attributes": {"x": circle}},
        {"type": "item", "item_id": "a", "attributes": {"x": float("nan")}},
        {**VIEW, "user_id": b"ann"},
        {"type": "item", "item_id": "a", "user_id": 3, "attributes": {"x": deep}},
        {**VIEW, "value": float("nan")},
    ]
    decoded = decode_objects(sent, ACCEPT)
    assert decoded.event_index.tolist() == [0, 1, 2]
    first, second, third = (event_at(decoded.batch, place) for place in range(3))
    assert third.body == b'{"look":[0.5,2.0]}'
    assert (first.position, first.value, first.quantity, first.user_id) == (3, 2.5, 2.0, "ann")
    assert second.body == b'{"free":[0,1],"new":true,"tags":["x","y"]}'
    assert [each.index for each in decoded.rejected] == [3, 4, 5, 6, 7, 8, 9]


def test_an_order_with_one_wrong_line_leaves_no_row():
    """An event is taken whole or not at all, also when the wrong line comes last."""
    order = {"type": "cart", "user_id": "é", "items": [{"item_id": "a"}, {"item_id": "b"}, {"item_id": "c\x01"}]}
    decoded = decode(body_of([order, VIEW]), ACCEPT)
    assert content(decoded)[:2] == content(decode(body_of([VIEW]), ACCEPT))[:2]
    assert decoded.event_index.tolist() == [1]


def test_the_page_names_every_field_and_limit():
    """docs/events.md, where every error points, has each field and the number of each limit."""
    page = DOCS.read_text()
    for name in (*EVENT_FIELDS, *ITEM_FIELDS):
        assert f"`{name}`" in page
    for value in msgspec.to_builtins(Limits()).values():
        assert f"{value:,}" in page


def _examples(begin: str) -> list[str]:
    return [part.split("```")[0] for part in DOCS.read_text().split(begin)[1:]]


def test_the_examples_of_the_page_are_taken():
    """Each JSON or NDJSON example of the page decodes, with nothing refused."""
    accept = Accept(
        frozenset({"view", "cart", "purchase", "return"}),
        NOW_MS,
        attributes={"price": "number", "category": "category", "tags": "tags"},
    )
    examples = _examples("```json\n") + _examples("```ndjson\n")
    assert len(examples) >= 4
    for example in examples:
        assert decode(example.encode(), accept).rejected == ()
