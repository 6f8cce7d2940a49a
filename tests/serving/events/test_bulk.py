"""A stream of any length is recorded as its events would be one by one, and says how far it came when it breaks."""

import asyncio
import gzip
import io
import json
import threading
import time
from concurrent.futures import Future

import anyio
import httpx
import pyarrow as pa
import pytest

from midstream.core.durations import Duration
from midstream.core.errors import DiskFull, Overloaded
from midstream.engine.ingest.ingest_service import IngestService
from midstream.events.arrow.arrow import _Table
from midstream.events.pieces import table_piece
from midstream.serving.events.bulk import ARROW, REJECTIONS_MAX
from midstream.serving.http import pipe as pipe_module
from midstream.serving.http.decompression import RATIO_MAX
from midstream.serving.http.pipe import PIPE_BYTES_MAX, Pipe
from midstream.serving.http.problems import Disconnected
from midstream.serving.options import ServerOptions
from tests.support.fakes.engine import FakeEngine
from tests.support.patience import PATIENCE_S

NDJSON = "application/x-ndjson"
VIEWS = [{"type": "view", "event_id": f"e{n}", "user_id": f"u{n % 7}", "item_id": f"i{n % 5}"} for n in range(3_000)]


def arrow(events, rows=500, **options):
    """Return an IPC stream of events."""
    table, sink = pa.Table.from_pylist(events), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def lines(events):
    """Return NDJSON."""
    return b"".join(json.dumps(each).encode() + b"\n" for each in events)


def pieces(content, size):
    """Return a body that arrives in pieces."""

    async def come():
        for start in range(0, len(content), size):
            yield content[start : start + size]
            await asyncio.sleep(0)

    return come()


def send(client, content, content_type, path="/v1/events/bulk", **headers):
    """Post a stream."""
    return client.ask("POST", path, content=content, headers={"content-type": content_type, **headers})


FORMS = [(arrow, ARROW), (lines, NDJSON)]


@pytest.mark.parametrize("make,content_type", FORMS)
@pytest.mark.parametrize("size", [997, 1 << 20])
def test_a_stream_is_its_events(client, make, content_type, size):
    """However its bytes come; sent again, all of it is there already."""
    content = make(VIEWS)
    answer = send(client, pieces(content, size), content_type)
    assert (answer.status_code, answer.json()["recorded"], answer.json()["rejected"]) == (200, 3_000, 0)
    assert [each.event_id for each in client.engine.events] == [each["event_id"] for each in VIEWS]
    again = send(client, content, content_type).json()
    assert (again["recorded"], again["duplicates"]) == (0, 3_000)
    assert again["log_position"] == answer.json()["log_position"]


@pytest.mark.parametrize("make,content_type", FORMS)
def test_what_is_wrong_is_named_by_its_place_in_the_whole(client, make, content_type):
    """Not in the piece; the neighbours are taken."""
    events = [{**each, "item_id": ""} if n in {700, 2_999} else each for n, each in enumerate(VIEWS)]
    answer = send(client, make(events), content_type).json()
    assert (answer["recorded"], answer["rejected"]) == (2_998, 2)
    assert [each["index"] for each in answer["rejections"]] == [700, 2_999]
    place = {ARROW: "row", NDJSON: "line"}[content_type]
    assert [each["pointer"] for each in answer["rejections"]] == [f"{place} 701: /item_id", f"{place} 3000: /item_id"]


@pytest.mark.parametrize("make,content_type", FORMS)
def test_what_is_refused_is_judged_and_named_beside_the_loop(make_client, make, content_type, monkeypatch):
    """Request ids and unknown items of a piece take up to 0.2 s; the answer is that of the events one by one."""
    client = make_client(FakeEngine(unknown_items_are_refused=True))
    client.ask("PUT", "/v1/items/i1", json={})
    request_id = client.post("/v1/recommendations", {}).json()["request_id"]
    events = [{**each, "request_id": request_id if n % 3 else f"forged-{n}"} for n, each in enumerate(VIEWS[:300])]
    judged, loops = set(), set()
    is_ours, settle = FakeEngine.request_id_is_ours, IngestService.record

    def looked_at(engine, given):
        judged.add(threading.get_ident())
        return is_ours(engine, given)

    async def settled(ingest, admitted, *rest, **options):
        loops.add(threading.get_ident())

        def named(number):
            judged.add(threading.get_ident())
            return admitted.part(number)

        return await settle(ingest, admitted._replace(part=named), *rest, **options)

    monkeypatch.setattr(FakeEngine, "request_id_is_ours", looked_at)
    monkeypatch.setattr(IngestService, "record", settled)
    monkeypatch.setattr("midstream.events.pieces.PIECE_EVENTS", 100)
    answer = send(client, make(events), content_type).json()
    assert len(judged) > 1, "a thread for the stream, another one for what the engine refuses"
    assert loops
    assert judged.isdisjoint(loops)
    place = {ARROW: "row", NDJSON: "line"}[content_type]
    expected = [
        (n, f"{place} {n + 1}: /{'item_id' if n % 3 else 'request_id'}") for n in range(300) if n % 3 == 0 or n % 5 != 1
    ]
    assert (answer["recorded"], answer["rejected"]) == (300 - len(expected), len(expected))
    found = [(each["index"], each["pointer"]) for each in answer["rejections"]]
    assert found == expected[:REJECTIONS_MAX]


def test_a_table_is_looked_through_once_a_piece(monkeypatch):
    """However many of its rows have to be named."""
    made = []
    table_of = _Table.__init__

    def counted(table, *arguments):
        made.append(table)
        table_of(table, *arguments)

    monkeypatch.setattr(_Table, "__init__", counted)
    piece = table_piece(pa.RecordBatch.from_pylist(VIEWS[:200]), FakeEngine().accept(), 0)
    before = len(made)
    assert [piece.part(row).prefix for row in range(100)] == [f"row {row + 1}: " for row in range(100)]
    assert len(made) == before


def test_only_the_first_rejections_are_listed(client):
    """All are counted; when nothing was taken it is a 422."""
    answer = send(client, lines([{"type": "viev"}] * 500), NDJSON)
    assert (answer.status_code, answer.json()["rejected"]) == (422, 500)
    assert len(answer.json()["rejections"]) == REJECTIONS_MAX


@pytest.mark.parametrize("make,content_type", FORMS)
def test_a_stream_that_breaks_says_how_far_it_came(client, make, content_type, monkeypatch):
    """What came before is recorded; sent again whole, each event counts once."""
    monkeypatch.setattr("midstream.events.pieces.PIECE_EVENTS", 200)
    content = make(VIEWS)
    broken = content[: len(content) // 2] + (b"\n" + b"x" * 300_000 if content_type == NDJSON else b"")
    answer = send(client, broken, content_type)
    came = answer.json()
    assert answer.status_code in {400, 413}
    assert 1_000 <= came["recorded"] < 2_000
    assert came["pointer"].startswith("message" if content_type == ARROW else "line 1")
    assert came["came"]
    assert came["right"]
    assert answer.headers["connection"] == "close"
    assert len(client.engine.events) == came["recorded"]
    again = send(client, content, content_type).json()
    assert (again["recorded"], again["duplicates"]) == (3_000 - came["recorded"], came["recorded"])


def test_a_full_disk_breaks_a_stream(client, monkeypatch):
    """507, with what was recorded before."""
    record, calls = client.engine.record, []

    async def full(_engine, batch):
        calls.append(1)
        if len(calls) > 2:
            raise DiskFull("no room")
        return await record(batch)

    monkeypatch.setattr(FakeEngine, "record", full)
    monkeypatch.setattr("midstream.events.pieces.PIECE_EVENTS", 500)
    answer = send(client, lines(VIEWS), NDJSON)
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:midstream:disk-full")
    assert answer.json()["recorded"] == 1_000
    assert int(answer.headers["retry-after"]) > 0


def test_a_full_queue_is_waited_for(client, monkeypatch):
    """A stream slows down where a request of its own would be sent away."""
    record, calls = client.engine.record, []

    async def busy(_engine, batch):
        calls.append(1)
        if len(calls) < 4:
            raise Overloaded("later")
        return await record(batch)

    monkeypatch.setattr(FakeEngine, "record", busy)
    monkeypatch.setattr("midstream.events.pieces.PIECE_EVENTS", 100)
    assert send(client, lines(VIEWS), NDJSON).json()["recorded"] == 3_000
    assert [each.event_id for each in client.engine.events] == [each["event_id"] for each in VIEWS], "in their order"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("make,content_type", FORMS)
def test_packed_streams_are_unpacked_as_they_come(client, encoding, make, content_type):
    """Whole, in pieces, and broken off."""
    plain = make(VIEWS)
    packed = gzip.compress(plain) if encoding == "gzip" else pa.Codec("zstd").compress(plain, asbytes=True)
    answer = send(client, pieces(packed, 501), content_type, **{"content-encoding": encoding})
    assert answer.json()["recorded"] == 3_000
    cut = send(client, packed[:-20], content_type, **{"content-encoding": encoding})
    assert (cut.status_code, cut.json()["pointer"]) == (400, "content-encoding")


def test_a_bomb_is_given_up(make_client):
    """Neither all of it nor much for each byte is unpacked."""
    zeros = gzip.compress(b"\n" * 50_000_000)
    client = make_client(FakeEngine())
    answer = send(client, zeros, NDJSON, **{"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert str(RATIO_MAX) in answer.json()["right"]
    small = make_client(FakeEngine(), ServerOptions(bulk_bytes_max=100_000))
    assert send(small, lines(VIEWS), NDJSON).status_code == 413


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/json"}, {"content-type": NDJSON, "content-encoding": "br"}]
)
def test_what_it_is_must_be_said(client, headers):
    """The content type of a stream cannot be guessed; another packing is not read."""
    answer = client.ask("POST", "/v1/events/bulk", content=lines(VIEWS), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, zstd")
    assert client.engine.events == []


def test_a_page_of_another_site_sends_no_stream(client):
    """As on every route."""
    assert send(client, lines(VIEWS), NDJSON, **{"sec-fetch-site": "cross-site"}).status_code == 403


def test_a_dry_run_records_nothing(client):
    """It judges all of it."""
    answer = client.ask(
        "POST", "/v1/events/bulk?dry_run=true", content=lines([*VIEWS, {"type": "x"}]), headers={"content-type": NDJSON}
    ).json()
    assert (answer["recorded"], answer["rejected"], answer["dry_run"]) == (3_000, 1, True)
    assert "log_position" not in answer
    assert client.engine.events == []


@pytest.mark.parametrize("method,operation", [("PUT", "put"), ("PATCH", "patch")])
@pytest.mark.parametrize("make,content_type", FORMS)
def test_a_catalogue_is_a_stream_without_types(client, method, operation, make, content_type):
    """Items in Arrow or NDJSON; a row may say its own operation, and may be nothing else than an item."""
    rows = [
        {"item_id": f"i{n}", "attributes": json.dumps({"price": n}) if make is arrow else {"price": n}}
        for n in range(300)
    ]
    if make is lines:
        rows[7] = {"item_id": "gone", "operation": "delete"}
    answer = client.ask(method, "/v1/items", content=make(rows), headers={"content-type": content_type}).json()
    assert answer["recorded"] == 300
    operations = {each.operation for each in client.engine.events}
    assert {int(each) for each in operations} <= {{"put": 1, "patch": 2}[operation], 3}
    assert client.get("/v1/items/i9").json()["attributes"] == {"price": 9}
    wrong = client.ask(method, "/v1/items", content=lines([VIEWS[0]]), headers={"content-type": NDJSON})
    assert (wrong.status_code, wrong.json()["rejections"][0]["pointer"]) == (422, "line 1: /type")


def test_a_catalogue_of_tiny_lines_fits(client):
    """What the route puts around each line is no reason to refuse a piece that was small enough."""
    many = b"".join(b'{"item_id":"i%d","attributes":{"t":"%b"}}\n' % (n, b"x" * 90) for n in range(9_000))
    answer = client.ask("PUT", "/v1/items", content=many, headers={"content-type": NDJSON})
    assert (answer.status_code, answer.json()["recorded"]) == (200, 9_000)


def test_more_streams_than_may_be_are_sent_away(make_client):
    """503 at once; nothing of it is read."""
    client = make_client(FakeEngine(), ServerOptions(bulk_streams_max=1))
    came = []

    async def go():
        transport = httpx.ASGITransport(client.app)
        release = asyncio.Event()

        async def slow():
            yield lines(VIEWS[:10])
            await release.wait()

        async with httpx.AsyncClient(transport=transport, base_url="http://test") as one:
            headers = {"content-type": NDJSON}
            first = asyncio.create_task(one.post("/v1/events/bulk", content=slow(), headers=headers))
            while not client.engine.events:  # noqa: ASYNC110  the fake tells nobody
                await asyncio.sleep(0.005)
            came.append((await one.post("/v1/events/bulk", content=lines(VIEWS), headers=headers)).status_code)
            release.set()
            came.append((await first).json()["recorded"])

    anyio.run(go)
    assert came == [503, 10]


def test_a_client_that_goes_silent_is_given_up(make_client):
    """408; what came is recorded."""
    client = make_client(FakeEngine(), ServerOptions(body_wait_max=Duration("60ms")))

    async def silent():
        yield lines(VIEWS[:10])
        await asyncio.sleep(5)

    answer = send(client, silent(), NDJSON)
    assert (answer.status_code, answer.json()["recorded"]) == (408, 10)


def test_a_pipe_holds_no_more_than_it_may():
    """The loop waits while the thread has not read; bytes keep their order."""
    block = bytes(range(256)) * 256

    async def go():
        pipe = Pipe()
        held, taken = [], []

        def read():
            while piece := pipe.read(100_000):
                taken.append(piece)

        async def fill():
            for _ in range(200):
                await pipe.put(block)
                held.append(pipe._size)
            pipe.end()

        filling = asyncio.create_task(fill())
        await asyncio.sleep(0.02)
        assert not filling.done()
        assert max(held) < PIPE_BYTES_MAX + len(block)
        thread = threading.Thread(target=read)
        thread.start()
        await filling
        await asyncio.to_thread(thread.join)
        assert b"".join(taken) == block * 200
        assert max(held) < PIPE_BYTES_MAX + len(block)

    asyncio.run(go())


def read_of(pipe, size):
    """Read in a thread that has begun to wait before this returns; return what is read in the end."""
    found: Future[bytes] = Future()
    threading.Thread(target=lambda: found.set_result(pipe.read(size))).start()
    while not pipe._wanted:
        time.sleep(0.001)
    return found


def test_a_read_is_woken_for_what_it_asks_for(monkeypatch):
    """Blocks are gathered until there are enough, or the end comes, and a failure comes behind what came before it."""
    monkeypatch.setattr(pipe_module, "GATHER_S_MAX", PATIENCE_S)

    async def go():
        pipe = Pipe()
        found = read_of(pipe, 2_500)
        for letter in (b"a", b"b"):
            await pipe.put(letter * 1_000)
            await asyncio.sleep(0.02)
            assert not found.done()
        await pipe.put(b"c" * 1_000)
        assert await asyncio.wrap_future(found) == b"a" * 1_000 + b"b" * 1_000 + b"c" * 500
        pipe.end(Disconnected())
        assert pipe.read(2_500) == b"c" * 500
        with pytest.raises(Disconnected):
            pipe.read(2_500)
        short = Pipe()
        await short.put(b"d")
        found = read_of(short, 2_500)
        short.end()
        assert (await asyncio.wrap_future(found), short.read(1)) == (b"d", b"")

    asyncio.run(go())


def test_what_comes_now_and_then_is_not_held_up():
    """A read ends soon after its first bytes although the stream goes on."""

    async def go():
        pipe = Pipe()
        found = read_of(pipe, PIPE_BYTES_MAX)
        await pipe.put(b"first")
        assert await asyncio.wait_for(asyncio.wrap_future(found), PATIENCE_S) == b"first"
        pipe.end()

    asyncio.run(go())


def test_single_requests_may_be_packed(client):
    """Events, items and questions, within the same bound once unpacked."""
    body = json.dumps(VIEWS[:100]).encode()
    for encoding, packed in (("gzip", gzip.compress(body)), ("zstd", pa.Codec("zstd").compress(body, asbytes=True))):
        headers = {"content-encoding": encoding}
        answer = client.post("/v1/events", packed, headers=headers).json()
        assert answer["recorded"] + answer["duplicates"] == 100
        assert client.post("/v1/events", packed[:-9], headers=headers).status_code == 400
    ask = gzip.compress(b'{"n": 3}')
    assert client.post("/v1/recommendations", ask, headers={"content-encoding": "gzip"}).status_code == 200
    bomb = gzip.compress(b"[" + b" " * 5_000_000 + b"]")
    assert client.post("/v1/events", bomb, headers={"content-encoding": "gzip"}).status_code == 413
