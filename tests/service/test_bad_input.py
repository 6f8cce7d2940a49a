"""Whatever comes in: never a 5xx, never silence, always an answer that can be read."""

import asyncio
import json
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as openapi_checks

from midstream.serving.app import asgi
from midstream.testing.engine import FakeEngine

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

ENGINE = FakeEngine()
APP = asgi(cast("Engine", ENGINE), ENGINE.accept)
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
FEW = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
"""For each of some twenty operations."""


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context, value):
    """Send a text as it is, anything else as lines of JSON."""
    values = value if isinstance(value, list) else [value]
    return value.encode() if isinstance(value, str) else "\n".join(map(json.dumps, values)).encode()


BODIES_AT = [
    ("POST", "/v1/events"),
    ("POST", "/v1/recommendations"),
    ("POST", "/v1/items"),
    ("POST", "/v1/users"),
    ("PUT", "/v1/items/a"),
    ("PATCH", "/v1/users/a"),
]
at = st.sampled_from(BODIES_AT)
near_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["view", "impression", "item", "user", "served", "put", "2026-01-01T00:00:00Z", "\x00", "\ud800"])
    | st.sampled_from([10**30, -(10**30), 1e308, 2**63, -(2**63), 32_767, 1_767_225_600_000]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("type", "event_id", "user_id", "item_id", "items", "time", "value", "quantity", "position"),
                    *("request_id", "context", "operation", "attributes", "events", "n", "filter", "exclude", "fields"),
                    *("placement", "deadline", "min_log_position", "session_id", "price", "available", "x"),
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


def ask(where, content=b""):
    """Ask the app in process; an exception that leaves it fails the test."""

    async def go():
        transport = httpx.ASGITransport(APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await asyncio.wait_for(client.request(*where, content=content), timeout=5)

    return asyncio.run(go())


def require_readable(answer):
    """The answer is no 5xx, and JSON; a refusal is a problem document with its status."""
    assert answer.status_code < 500, answer.text
    content = answer.json()
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert content["status"] == answer.status_code
        assert content["type"].startswith("urn:midstream:")


@SCHEMA.parametrize()
@FEW
def test_document_and_server_agree(case):
    """What the OpenAPI document describes, made well and made badly, gets an answer that the document describes."""
    case.call_and_validate(
        checks=[
            schemathesis.checks.not_a_server_error,
            openapi_checks.status_code_conformance,
            openapi_checks.content_type_conformance,
            openapi_checks.response_schema_conformance,
        ]
    )


@given(at, st.binary(max_size=300))
def test_random_bytes(where, content):
    """Bytes without any sense."""
    require_readable(ask(where, content))


@given(at, near_json)
def test_almost_the_right_json(where, value):
    """JSON made of the right names and wrong values; NaN, infinity and lone surrogates as Python writes them."""
    require_readable(ask(where, json.dumps(value).encode()))


@given(at, near_json, st.data())
def test_cut_and_changed_json(where, value, data):
    """JSON of which a byte is changed, or the end is missing."""
    content = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    place = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()) and place < len(content):
        content[place] = data.draw(st.integers(0, 255))
    else:
        del content[place:]
    require_readable(ask(where, bytes(content)))


@pytest.mark.parametrize("where", BODIES_AT, ids=" ".join)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 200_000, id="open lists"),
        pytest.param(b'{"a":' * 40_000, id="open objects"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested lists"),
        pytest.param(b'{"events":' * 20_000 + b"1" + b"}" * 20_000, id="nested envelopes"),
        pytest.param(b'{"attributes":' + b"[" * 50_000 + b"]" * 50_000 + b"}", id="nested attribute"),
        pytest.param(b'{"n":' + b"9" * 200_000 + b"}", id="long number"),
        pytest.param(b'{"value":1e' + b"9" * 1_000 + b"}", id="long exponent"),
        pytest.param(b'{"user_id":"' + b"x" * 200_000 + b'"}', id="long text"),
        pytest.param(b'{"' + b"x" * 200_000 + b'":1}', id="long name"),
        pytest.param(b"{" + b",".join(b'"%d":1' % n for n in range(20_000)) + b"}", id="many names"),
        pytest.param(b"{}\n" * 80_000, id="many lines"),
        pytest.param(b"\n" * 250_000, id="empty lines"),
        pytest.param(b" " * 250_000, id="blanks"),
        pytest.param(b'"' + b"\\ud800" * 40_000 + b'"', id="lone surrogates"),
        pytest.param(b'{"user_id":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b"\xff\xfe{\x00}\x00", id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'{"value":NaN,"user_id":"a"}', id="NaN within"),
    ],
)
def test_hostile_bodies(where, content):
    """Bodies made to be expensive or to break a parser."""
    require_readable(ask(where, content))


names = st.sampled_from(["user_id", "n", "items", "context.a", "context.", "filter", "deadline", "x", "", "placement"])
query = st.lists(st.tuples(names, st.text(max_size=20)), max_size=5)


@given(query)
def test_any_query_string(fields):
    """Query fields with any text, unknown ones too."""
    require_readable(ask(("GET", f"/v1/recommendations?{httpx.QueryParams(fields)}")))


def status_of(path, query_string=b""):
    """Ask without a client, which would refuse to write such a URL; return the status."""
    scope = {"type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode(), "headers": []}
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(APP(scope | {"query_string": query_string}, receive, send))
    return sent[0]["status"]


@given(st.binary(max_size=60))
def test_query_string_of_any_bytes(raw):
    """Query strings that no client would write."""
    assert status_of("/v1/recommendations", raw) < 500


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_path(text):
    """Paths of any printable characters below the routes that take an id."""
    for prefix in ("/v1/items/", "/v1/users/", "/v1/requests/", "/"):
        assert status_of(prefix + text) < 500
