"""Whatever comes in: never a 5xx, never silence, always an answer that can be read; and the engine behind goes on."""

import asyncio
import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote

import httpx
import msgspec
import pyarrow as pa
import pytest
import schemathesis
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as openapi_checks
from uvicorn.server import ServerState

from midstream.app.config.schema import Config, ItemsSection, Placement
from midstream.app.opening import Outside, accept_of, open_running
from midstream.engine.instance import Instance
from midstream.engine.snapshots.options import SnapshotsSection
from midstream.events import wire
from midstream.features.kinds.kinds import Affinity, Computed, Count, Match, Number, Relevancy
from midstream.serving.app import App, asgi
from midstream.serving.http.bounded_protocol import BoundedProtocol
from midstream.serving.http.read_limits import ConnectionBounds, ReadLimits
from midstream.state.settings import StateLimits
from tests.support.bare_http import statuses
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig

ATTRIBUTES: dict[str, wire.AttributeKind] = {
    "price": "number",
    "colour": "category",
    "tags": "tags",
    "fresh": "boolean",
}
HOME = Placement(
    name="home",
    filter="item.available and (item.fresh or item.price <= context.budget)",
    exclude={"purchase": "30d", "impression": 5},
    features=("views", "dear", "mine", "said"),
    log_features=0.5,
)
FEATURES = (
    Count(name="views", actions=("view", "impression")),
    Number(name="dear", attribute="price"),
    Affinity(name="mine", attribute="colour", actions=("view",)),
    Relevancy(name="said"),
    Match(name="like", attribute="tags"),
    Computed(name="both", text="said * 2 + if_nan(dear, 0)"),
)
SMALL = StateLimits(users_max=100, items_max=1_000, click_items_max=500, sessions_max=100, event_ids_max=1_000)
"""Small enough that the tests fill the tables and evict."""
FEW = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
"""For each of some twenty operations."""
SOME = settings(max_examples=40)


@dataclass(frozen=True)
class Door:
    """An ASGI app in front of a running engine: each request is answered on the engine's own event loop."""

    running: Instance
    app: App
    portal: BlockingPortal

    async def __call__(self, scope, receive, send):
        """Answer as the app does."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        pieces = [await receive()]
        while pieces[-1].get("more_body"):
            pieces.append(await receive())
        for message in self.messages(scope, pieces):
            await send(message)

    def messages(self, scope, pieces):
        """Return what the app sends; an exception that leaves it fails the test, and so does silence."""
        sent = []
        left = iter(pieces)

        async def receive():
            return next(left, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        self.portal.start_task_soon(self.app, scope, receive, send).result(PATIENCE_S)
        return sent

    def ask(self, method, url, content=b""):
        """Ask as a client does."""

        async def go():
            transport = httpx.ASGITransport(self)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, url, content=content)

        return asyncio.run(go())

    def status_of(self, path, query_string=b""):
        """Ask without a client, which would refuse to write such a URL; return the status."""
        scope = {"type": "http", "method": "GET", "path": unquote(path), "raw_path": path.encode(), "headers": []}
        body = {"type": "http.request", "body": b"", "more_body": False}
        return self.messages(scope | {"query_string": query_string}, [body])[0]["status"]


@contextmanager
def opened(folder, unknown_items):
    """Open a folder with a real engine and a small shop in it; at the end it must still take and answer all."""
    config = Config(
        items=ItemsSection(attributes=ATTRIBUTES, unknown_items=unknown_items),
        limits=SMALL,
        snapshots=SnapshotsSection(mode="off"),
        features=FEATURES,
        placements=(HOME,),
    )
    running = open_running(folder, config)
    accept = accept_of(config, wire.Limits())
    app = asgi(
        running.engine, lambda: msgspec.structs.replace(accept, now_ms=Outside().clock()), service=running.ingest
    )
    with start_blocking_portal() as portal:
        portal.call(running.start)
        try:
            door = Door(running, app, portal)
            items = [{"item_id": f"i{n}", "attributes": {"price": n, "fresh": True}} for n in range(20)]
            assert door.ask("POST", "/v1/items", json.dumps(items).encode()).json()["recorded"] == len(items)
            yield door
            require_alive(door)
        finally:
            portal.call(running.stop)


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """An engine that takes events of items it does not know."""
    with opened(tmp_path_factory.mktemp("accept"), "accept") as one:
        yield one


@pytest.fixture(scope="module")
def quiet_door(tmp_path_factory):
    """One like it, at which nobody erases users: what comes of a time before an erase would be refused."""
    with opened(tmp_path_factory.mktemp("quiet"), "accept") as one:
        yield one


@pytest.fixture(scope="module")
def strict_door(tmp_path_factory):
    """An engine that refuses them."""
    with opened(tmp_path_factory.mktemp("reject"), "reject") as one:
        yield one


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", asgi(Rig().engine, lambda: accept_of(Config())))
"""The document is the same whatever the engine has: this one is never started."""


@schemathesis.serializer("application/x-ndjson")
def as_lines(_context, value):
    """Send a text as it is, anything else as lines of JSON."""
    values = value if isinstance(value, list) else [value]
    return value.encode() if isinstance(value, str) else "\n".join(map(json.dumps, values)).encode()


@schemathesis.serializer("application/vnd.apache.arrow.stream")
def as_stream(_context, value):
    """Send bytes as they are, which are hardly ever a stream; anything else as a stream of texts."""
    if isinstance(value, bytes):
        return value
    table = pa.table({"type": pa.array([str(value)])})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


ORDER = {"type": "view", "user_id": "u", "items": [{"item_id": "i1"}] * 100, "context": {"x": "y" * 3_900}}
EXPANDING = json.dumps([ORDER] * 40).encode()
"""238 kB that would be 16 MB of log."""
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
    | st.sampled_from(["home", "i1", "item.price < context.x", "not item.fresh", "delete"])
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


def require_readable(answer):
    """The answer is no 5xx, and JSON; a refusal is a problem document with its status."""
    assert answer.status_code < 500, answer.text
    content = answer.json()
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert content["status"] == answer.status_code
        assert content["type"].startswith("urn:midstream:")


def require_alive(door):
    """Nothing that came has stopped the engine: it takes events, folds them and answers with what is left."""
    health = door.running.engine.health()
    assert (health.ready, health.accepts_events, health.reason) == (True, True, "")
    event = {"type": "view", "user_id": "last", "item_id": "i1"}
    assert door.ask("POST", "/v1/events", json.dumps(event).encode()).json()["recorded"] == 1
    answer = door.ask("POST", "/v1/recommendations", b'{"user_id": "new"}').json()
    assert (answer["tier"], answer.get("failures")) == ("full", None)
    record = door.ask("GET", f"/v1/requests/{answer['request_id']}")
    assert record.status_code in {200, 404}


@SCHEMA.parametrize()
@FEW
def test_document_and_server_agree(door, case):
    """What the OpenAPI document describes, made well and made badly, gets an answer that the document describes."""
    case.call_and_validate(
        app=door,
        checks=[
            schemathesis.checks.not_a_server_error,
            openapi_checks.status_code_conformance,
            openapi_checks.content_type_conformance,
            openapi_checks.response_schema_conformance,
        ],
    )


@given(at, st.binary(max_size=300))
def test_random_bytes(door, where, content):
    """Bytes without any sense."""
    require_readable(door.ask(*where, content))


@given(at, near_json)
def test_almost_the_right_json(door, where, value):
    """JSON made of the right names and wrong values; NaN, infinity and lone surrogates as Python writes them."""
    require_readable(door.ask(*where, json.dumps(value).encode()))


@SOME
@given(at, near_json)
def test_almost_the_right_json_where_items_must_be_known(strict_door, where, value):
    """The same, where events of unknown items are refused."""
    require_readable(strict_door.ask(*where, json.dumps(value).encode()))


@given(at, near_json, st.data())
def test_cut_and_changed_json(door, where, value, data):
    """JSON of which a byte is changed, or the end is missing."""
    content = bytearray(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    place = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()) and place < len(content):
        content[place] = data.draw(st.integers(0, 255))
    else:
        del content[place:]
    require_readable(door.ask(*where, bytes(content)))


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
        pytest.param(EXPANDING, id="events with many items"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b'{"value":NaN,"user_id":"a"}', id="NaN within"),
    ],
)
def test_hostile_bodies(door, where, content):
    """Bodies made to be expensive or to break a parser."""
    require_readable(door.ask(*where, content))


def test_events_with_many_items_do_not_become_too_many_rows(door):
    """What would become 16 MB of log is refused whole in four parts, alone and with a question."""
    # An event goes behind the served records that wait for company, so none of a test before comes in between.
    door.ask("POST", "/v1/events", b'{"type": "view", "user_id": "u", "item_id": "i1"}')
    end = door.running.engine.log.end
    for path, body in (("/v1/events", EXPANDING), ("/v1/recommendations", b'{"events":' + EXPANDING + b"}")):
        answer = door.ask("POST", path, body)
        assert answer.status_code == 413
        problem = answer.json()
        assert (problem["pointer"], problem["page"]) == ("body", "/docs/events.md")
        assert "rows of" in problem["came"]
        assert "At most 5000 rows and 4194304 bytes" in problem["right"]
    assert door.running.engine.log.end == end


names = st.sampled_from(["user_id", "n", "items", "context.a", "context.", "filter", "deadline", "x", "", "placement"])
query = st.lists(st.tuples(names, st.text(max_size=20)), max_size=5)


@given(query)
def test_any_query_string(door, fields):
    """Query fields with any text, unknown ones too."""
    require_readable(door.ask("GET", f"/v1/recommendations?{httpx.QueryParams(fields)}"))


@given(st.binary(max_size=60))
def test_query_string_of_any_bytes(door, raw):
    """Query strings that no client would write."""
    assert door.status_of("/v1/recommendations", raw) < 500


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_path(door, text):
    """Paths of any printable characters below the routes that take an id."""
    for prefix in ("/v1/items/", "/v1/users/", "/v1/requests/", "/"):
        assert door.status_of(prefix + text) < 500


names_of_things = st.sampled_from(["i1", "i2", "é\U0001f600", "x" * 128, "new", '"', " "]) | st.text(
    st.characters(exclude_categories=["C"]), min_size=1, max_size=8
)
floats = st.floats(allow_nan=False, allow_infinity=False)
labels = st.text(max_size=12) | st.sampled_from(["", "red", "\x00", "x" * 128])
documents = st.fixed_dictionaries(
    {},
    optional={
        "price": floats | st.integers(-(2**63), 2**63 - 1),
        "colour": labels,
        "tags": st.lists(labels, max_size=100),
        "fresh": st.booleans(),
        "available": st.booleans(),
        "free": st.recursive(floats | labels, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
    },
)
whole_items = st.fixed_dictionaries(
    {"item_id": names_of_things},
    optional={"value": floats, "quantity": st.floats(0, 3.4e38), "position": st.integers(0, 32_766)},
)
times = st.integers(946_684_800_000, 4_133_980_799_999) | st.sampled_from(["2026-01-01T00:00:00Z"])
acts = st.builds(
    lambda what, who, more: {**what, **who, **more},
    whole_items | st.fixed_dictionaries({"items": st.lists(whole_items, min_size=1, max_size=100)}),
    st.fixed_dictionaries({"user_id": names_of_things}, optional={"session_id": names_of_things}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["view", "cart", "purchase", "dismiss", "impression"])},
        optional={
            "event_id": names_of_things.filter(lambda text: len(text) < 126),
            "time": times,
            "context": st.dictionaries(st.text(min_size=1, max_size=8), floats | labels | st.booleans(), max_size=4),
        },
    ),
)
changes = st.builds(
    lambda noun, name, operation, document: (
        {"type": noun, f"{noun}_id": name, "operation": operation}
        | ({} if operation == "delete" else {"attributes": document})
    ),
    st.sampled_from(["item", "user"]),
    names_of_things,
    st.sampled_from(["put", "patch", "delete"]),
    documents,
)
right_events = st.lists(acts | changes, min_size=1, max_size=8)


def require_taken(door, events, kept):
    """Events at the edges of what is allowed are taken, folded, and answered from."""
    body = json.dumps(events, ensure_ascii=False).encode("utf-8", "surrogatepass")
    answer = door.ask("POST", "/v1/events", body)
    require_readable(answer)
    if kept and answer.status_code == 200:
        assert not [each for each in answer.json()["rejected"] if not each["pointer"].endswith("item_id")]
    user_id = next((each["user_id"] for each in events if "user_id" in each), None)
    question = {"user_id": user_id, "context": {"budget": 5}, "fields": [*ATTRIBUTES, "free"], "n": 100}
    slate = door.ask("POST", "/v1/recommendations", json.dumps(question, ensure_ascii=False).encode())
    assert (slate.status_code, slate.json()["tier"], slate.json().get("failures")) == (200, "full", None)
    assert all(math.isfinite(each["score"]) for each in slate.json()["items"])


@given(right_events)
def test_edges_of_what_is_right(quiet_door, events):
    """Values, times and texts at the ends of their ranges, through the log and the fold."""
    require_taken(quiet_door, events, kept=True)


@SOME
@given(right_events)
def test_edges_of_what_is_right_where_items_must_be_known(strict_door, events):
    """The same, where events of unknown items are refused."""
    require_taken(strict_door, events, kept=False)


words = st.sampled_from(
    [
        *("item.price", "item.colour", "item.tags", "item.fresh", "item.available", "context.x", "context", "item"),
        *(
            "<",
            "<=",
            "==",
            "!=",
            "in",
            "not",
            "and",
            "or",
            "is",
            "(",
            ")",
            "[",
            "]",
            ",",
            "-",
            "+",
            ".",
            ":=",
            "lambda",
        ),
        *(
            "1",
            "1.5",
            "1e999",
            "9" * 400,
            "'red'",
            '"é"',
            "true",
            "false",
            "None",
            "0x1f",
            "1j",
            "\n",
            "\x00",
            "#",
            "é",
        ),
    ]
)
mixed_filters = st.builds(
    lambda left, operator, right, more: f"{left} {operator} {right}{more}",
    st.sampled_from(["item.price", "item.colour", "context.x", "'a'", "1", "1e308", "true", "item.fresh", "9" * 400]),
    st.sampled_from(["<", ">=", "==", "!=", "in", "not in"]),
    st.sampled_from(["item.tags", "1", "'red'", "context.x", "[1, 2]", "['red', 'é']", "true", "-1e999", "9" * 400]),
    st.sampled_from(["", " or item.available", " and not item.fresh"]),
)
anything = st.tuples(
    mixed_filters | st.lists(words, min_size=1, max_size=8).map(" ".join), floats | st.integers() | labels
)
right_questions = (
    st.tuples(
        st.sampled_from(["item.price < context.x", "not item.price == context.x", "1e308 >= context.x or item.fresh"]),
        floats | st.integers(-(2**63), 2**63 - 1),
    )
    | st.tuples(
        st.sampled_from(["context.x in item.tags", "item.colour != context.x", "context.x in ['red', 'é']"]), labels
    )
    | st.tuples(st.sampled_from(["item.fresh == context.x", "context.x or 'red' not in item.tags"]), st.booleans())
)


def require_filtered(door, text, value, *, is_right):
    """A filter is refused in words or it works; what was served can be read again."""
    question = {"filter": text, "context": {"x": value, "budget": 3}, "exclude": ["i3"], "items": ["i1", "new"]}
    answer = door.ask("POST", "/v1/recommendations", json.dumps(question).encode())
    require_readable(answer)
    assert answer.status_code == 200 or not is_right
    if answer.status_code == 200:
        assert answer.json().get("failures") is None
        require_readable(door.ask("GET", f"/v1/requests/{answer.json()['request_id']}"))


@given(anything)
def test_any_filter(door, question):
    """Filters of the right words in any order, and comparisons of anything with anything."""
    require_filtered(door, *question, is_right=False)


@given(right_questions)
def test_filters_of_any_value(door, question):
    """Filters that can be read, with values at the ends of their ranges."""
    require_filtered(door, *question, is_right=True)


@SOME
@given(right_questions)
def test_filters_of_any_value_where_items_must_be_known(strict_door, question):
    """The same on the other engine."""
    require_filtered(strict_door, *question, is_right=True)


class Wire(asyncio.Transport):
    """A connection whose client reads everything at once."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.reads = True
        self.is_closed = self.is_ended = False

    def write(self, data):
        """Keep it."""
        assert not self.is_ended
        self.written += bytes(data)

    def write_eof(self):
        """Nothing more is written, and what comes is read."""
        self.is_ended = True

    def get_write_buffer_size(self):
        """Return nothing: it is read."""
        return 0

    def get_extra_info(self, name, default=None):
        """Nothing is known."""
        return default

    def pause_reading(self):
        """Nothing more comes."""
        self.reads = False

    def resume_reading(self):
        """More may come."""
        self.reads = True

    def close(self):
        """Nothing more is written."""
        self.is_closed = True

    def is_closing(self):
        """Return whether it was closed."""
        return self.is_closed


async def answers_over(app, pieces):
    """Return what is answered to pieces of bytes that come one after another over one connection."""
    config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, access_log=False)
    config.load()
    limits = ReadLimits(8_192, PATIENCE_S, 16_384, PATIENCE_S)
    protocol = BoundedProtocol(config, ServerState(), {}, asyncio.get_running_loop(), bounds=ConnectionBounds(limits))
    wire = Wire()
    protocol.connection_made(wire)
    async with asyncio.timeout(PATIENCE_S):
        for piece in pieces:
            await calm(protocol)
            if wire.is_closed:
                break
            assert wire.reads
            protocol.data_received(piece)
        await calm(protocol)
    protocol.connection_lost(ConnectionResetError())
    await asyncio.gather(*protocol.tasks)
    return wire.written


async def calm(protocol):
    """Return when what was begun is answered, or waits for more of a body."""
    while True:
        running = [task for task in protocol.tasks if not task.done()]
        cycle = protocol.cycle
        if not running or (cycle.more_body and not cycle.is_broken and not protocol.pipeline):
            await asyncio.sleep(0)
            if not running or not cycle.message_event.is_set():
                return
        await asyncio.wait(running, timeout=0.01)


event = b'{"type": "view", "user_id": "wire", "item_id": "i1", "event_id": "wire"}'
fragments = st.sampled_from(
    [
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(event), event),
        b"POST /v1/events HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\n[]",
        b"POST /v1/events HTTP/1.1\r\nConnection: a, Upgrade\r\nUpgrade: x\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /nope HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /nope HTTP/1.1\r\ncontent-length: 20000\r\n\r\n",
        b"DELETE /nope HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        *(b"1\r\n[\r\n", b"1;e=f\r\n]\r\n", b"0\r\n\r\n", b"0\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        *(b"0\r\nx: " + b"y" * 9_000, b"1;" + b"z" * 9_000, b"x" * 3_000, b"\r\n" * 40, b"\r\n\r\n", b"\x00", b":"),
    ]
)


@SOME
@given(st.lists(fragments, min_size=1, max_size=6), st.data())
def test_any_bytes_over_a_connection(door, parts, data):
    """Upgrades, trailers, what is pipelined, cut anywhere: the same answers as in one piece, and no 5xx.

    What is wrong behind a head to which nobody listens may be told in place of the 404, or behind it never.
    """
    sent = b"".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent)), max_size=6)))
    pieces = [sent[start:end] for start, end in pairwise([0, *cuts, len(sent)])]
    whole, cut = (door.portal.call(answers_over, door.app, each) for each in ((sent,), pieces))
    told, told_cut = statuses(whole), statuses(cut)
    is_unheard = b"/nope" in sent and {*told[-1:], *told_cut[-1:]} == {404, 431}
    assert told == told_cut or (is_unheard and told[:-1] == told_cut[:-1])
    assert all(status < 500 for status in statuses(whole))
    assert len(statuses(whole)) <= sent.count(b"HTTP/") + 1
