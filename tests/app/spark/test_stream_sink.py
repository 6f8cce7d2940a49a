"""Batches of a stream that are handed over again go on where the log ends, each row once; without Spark."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

import midstream
import midstream.spark
from midstream.app import server_refusals
from midstream.app.operate.dead_letters import letters_of
from midstream.app.spark import stream_sink
from midstream.app.spark.stream_sink import Done, FolderSink, ServerSink, pieces_of, with_event_ids
from midstream.core.errors import Invalid, Overloaded, StoreUnavailable, TooLarge
from midstream.engine.ingest.input_guard import NEVER_MOVED, InputGuard
from midstream.events.pieces import PIECE_LIMITS
from midstream.state.control.input_positions import InputRow
from tests.support.rig import SMALL

ROWS = 23
COLUMNS: list[tuple[str, pa.DataType]] = [
    *((name, pa.string()) for name in ("event_id", "type", "user_id", "item_id")),
    ("time", pa.int64()),
]
EVENTS = pa.schema(COLUMNS)


class Killed(Exception):
    """The end of a driver."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let a piece have five rows, and a frame be its rows as they are sorted."""
    monkeypatch.setattr(stream_sink, "PIECE_EVENTS", 5)
    monkeypatch.setattr(stream_sink, "ordered_rows", lambda frame, _: iter(frame.batches))
    monkeypatch.setattr(stream_sink, "query_id", lambda frame: frame.query)
    monkeypatch.setattr(stream_sink, "columns_key", lambda frame: getattr(frame, "columns", "c1"))


def frame_of(first, count=ROWS, query="q1", seed=0, kind="view"):
    """Return a batch of rows with numbers of their own as values, cut anywhere."""
    rows = [
        {"type": kind, "user_id": "u", "item_id": f"i{at % 3}", "value": float(at)}
        for at in range(first, first + count)
    ]
    table = pa.Table.from_pylist(rows).to_batches()[0] if rows else None
    edges: list[int] = np.sort(np.random.default_rng(seed).integers(0, count + 1, size=3)).tolist() if rows else []
    spans = zip([0, *edges], [*edges, count], strict=True)
    batches = [] if table is None else [table.slice(start, stop - start) for start, stop in spans]
    return SimpleNamespace(batches=batches, query=query)


def values_of(folder):
    """Return the values of the acts in a log, in its order."""
    return midstream.read_events(folder, kinds=["interaction"]).column("value").to_pylist()


@pytest.mark.parametrize("done", [0, 1, 4, 5, 7, 22, 23, 40])
@pytest.mark.parametrize("seed", range(4))
def test_pieces_begin_behind_what_is_done(done, seed):
    """Rows come once, in their order, at their places; the last piece alone says that it is the last."""
    pieces = list(pieces_of(iter(frame_of(0, seed=seed).batches), done))
    found = [value for piece in pieces for value in piece.rows.column("value").to_pylist()]
    assert found == [float(at) for at in range(done, ROWS)]
    assert [piece.first for piece in pieces] == [int(piece.rows.column("value")[0].as_py()) for piece in pieces]
    assert all(0 < len(piece.rows) <= 5 for piece in pieces)
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True] * bool(pieces)


@pytest.mark.parametrize("pieces", range(7))
def test_a_batch_that_is_handed_over_again_goes_on(tmp_path, monkeypatch, pieces):
    """Broken off behind any of its frames, by a shop that remembers one id; later batches and restarts add nothing."""
    record = FolderSink._record
    left = pieces

    def breaking(self, *told):
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        return record(self, *told)

    config = msgspec.structs.replace(SMALL, limits=msgspec.structs.replace(SMALL.limits, event_ids_max=1))
    with midstream.open(tmp_path, config) as shop:
        sink = midstream_sink(shop)
        sink(frame_of(0), 0)
        monkeypatch.setattr(FolderSink, "_record", breaking)
        with contextlib.suppress(Killed):
            sink(frame_of(ROWS, seed=1), 1)
        monkeypatch.setattr(FolderSink, "_record", record)
    with midstream.open(tmp_path, config) as shop:
        sink = midstream_sink(shop)
        sink(frame_of(ROWS, seed=2), 1)
        for again in (0, 1):
            sink(frame_of(again * ROWS), again)
        sink(frame_of(0, 0), 2)
        sink(frame_of(2 * ROWS, 1), 3)
        row = shop.running.engine.fold.inputs.find("clicks")
        assert Done.of(row) == Done(4)
    assert values_of(tmp_path) == [float(at) for at in range(2 * ROWS + 1)]


def midstream_sink(shop):
    """Return a sink of one name."""
    return FolderSink(shop, "clicks")


def test_events_and_their_place_are_in_one_frame(tmp_path):
    """So a crash keeps both or neither: behind the acts of each piece stands its control event."""
    with midstream.open(tmp_path, SMALL) as shop:
        begin = shop.running.engine.log.end
        midstream_sink(shop)(frame_of(0, 12), 0)
        frames = [
            batch.rows["kind"].tolist() for _, batch in shop.running.engine.log.read(begin, 1_000) if len(batch) > 1
        ]
    assert len(frames) >= 3
    assert all(each == [1] * (len(each) - 1) + [7] for each in frames)
    assert sum(map(len, frames)) == 12 + len(frames)


def test_another_query_is_refused(tmp_path):
    """It would read its source anew from the beginning; under a name of its own it may."""
    with midstream.open(tmp_path, SMALL) as shop:
        midstream_sink(shop)(frame_of(0), 0)
        with pytest.raises(Invalid, match="Query q2 came, and q1 wrote it before"):
            midstream_sink(shop)(frame_of(0, query="q2"), 0)
        FolderSink(shop, "others")(frame_of(0, query="q2"), 0)
    assert len(values_of(tmp_path)) == 2 * ROWS


def test_rows_that_are_no_events_are_letters_and_columns_that_are_none_are_named(tmp_path):
    """Their place counts all the same: they are not judged again."""
    with midstream.open(tmp_path, SMALL) as shop:
        midstream_sink(shop)(frame_of(0, kind="wave"), 0)
        assert shop.running.ingest.dead_letters is not None
        assert shop.running.ingest.dead_letters.counts.kept == ROWS
        assert Done.of(shop.running.engine.fold.inputs.find("clicks")) == Done(1)
        bad = pa.RecordBatch.from_pydict({"type": ["view"], "wrong": [1]})
        with pytest.raises(Invalid, match="wrong"):
            midstream_sink(shop)(SimpleNamespace(batches=[bad], query="q1"), 1)


def test_batches_that_are_missing_are_named(tmp_path):
    """As after a restore of the log alone, and of a checkpoint that another log belongs to; a word lets them go."""
    with midstream.open(tmp_path, SMALL) as shop:
        with pytest.raises(Invalid, match=r"(?s)Batch 57 came, and batch 0 is the next one.*begin_at=57"):
            midstream_sink(shop)(frame_of(0), 57)
        midstream_sink(shop)(frame_of(0), 0)
        with pytest.raises(Invalid, match="Batch 7 came, and batch 1 is the next one"):
            midstream_sink(shop)(frame_of(ROWS), 7)
        with pytest.raises(Invalid, match="Batch 7 came"):
            FolderSink(shop, "clicks", begin_at=6)(frame_of(ROWS), 7)
        going_on = FolderSink(shop, "clicks", begin_at=7)
        for batch in (7, 8):
            going_on(frame_of((batch - 6) * ROWS), batch)
    assert values_of(tmp_path) == [float(at) for at in range(3 * ROWS)]


def test_a_call_that_was_left_behind_writes_nothing_more(tmp_path):
    """A restarted query has written the rest of its batch meanwhile: each row stays once."""
    middle, go = threading.Event(), threading.Event()
    whole = frame_of(0)
    table = pa.Table.from_batches(whole.batches).combine_chunks().to_batches()[0]

    def slow():
        yield table.slice(0, 10)
        yield table.slice(10, 5)
        middle.set()
        assert go.wait(60)
        yield table.slice(15)

    with midstream.open(tmp_path, SMALL) as shop, ThreadPoolExecutor(1) as threads:
        old = threads.submit(midstream_sink(shop), SimpleNamespace(batches=slow(), query="q1"), 0)
        assert middle.wait(60)
        midstream_sink(shop)(whole, 0)
        go.set()
        with pytest.raises(Invalid, match=r"Another call wrote this stream since this one read that it stands at 0:1"):
            old.result()
    assert values_of(tmp_path) == [float(at) for at in range(ROWS)]


def test_calls_at_once_write_each_row_once(tmp_path):
    """Whichever is first: the place is compared and moved in one turn of the stream."""
    with midstream.open(tmp_path, SMALL) as shop, ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(midstream_sink(shop), frame_of(0, seed=seed), 0) for seed in range(4)]
        assert any(call.exception() is None for call in calls)
        assert all(isinstance(call.exception(), Invalid | None) for call in calls)
    assert values_of(tmp_path) == [float(at) for at in range(ROWS)]


def test_a_shared_log_is_moved_under_a_condition(tmp_path, monkeypatch):
    """Of the place that was read, as another node may have moved it."""
    guards = []
    with midstream.open(tmp_path, SMALL) as shop:
        record_with = shop.running.ingest.record_with

        async def noted(control, admitted, turn, origin, guard):
            guards.append(guard)
            await record_with(control, admitted, turn, origin)

        monkeypatch.setattr(shop.running.ingest, "record_with", noted)
        midstream_sink(shop)(frame_of(0, 1), 0)
        alone = shop.running
        shop.running = replace(alone, leases=cast("Any", object()))
        row = shop.running.engine.fold.inputs.find("clicks")
        assert row is not None
        midstream_sink(shop)(frame_of(1, 1), 1)
        FolderSink(shop, "new")(frame_of(2, 1), 0)
        shop.running = alone
    assert guards == [None, InputGuard("clicks", row.position), InputGuard("new", NEVER_MOVED)]


def test_equal_rows_are_events_of_their_own(tmp_path):
    """With a time and without an id their content would be one; what came with an id keeps it."""
    row = {"type": "view", "user_id": "u", "item_id": "i", "time": 1_790_000_000_000}
    rows = pa.Table.from_pylist([row, row, {**row, "event_id": "own"}, row], schema=EVENTS).to_batches()
    with midstream.open(tmp_path, SMALL) as shop:
        midstream_sink(shop)(SimpleNamespace(batches=rows, query="q1"), 0)
    ids = midstream.read_events(tmp_path, kinds=["interaction"]).column("event_id").to_pylist()
    assert ids == ["clicks:q1:0:0", "clicks:q1:0:1", "own", "clicks:q1:0:3"]


def test_a_batch_that_is_another_one_is_refused(tmp_path, monkeypatch):
    """Other columns, while a part of it is in the log, would have another order; fewer rows are others."""
    record = FolderSink._record

    def breaking(self, call, admitted, after, before):
        if after.rows > 5:
            raise Killed
        return record(self, call, admitted, after, before)

    with midstream.open(tmp_path, SMALL) as shop:
        monkeypatch.setattr(FolderSink, "_record", breaking)
        with pytest.raises(Killed):
            midstream_sink(shop)(frame_of(0), 0)
        monkeypatch.setattr(FolderSink, "_record", record)
        other = frame_of(0)
        other.columns = "c2"
        with pytest.raises(Invalid, match="5 rows of batch 0 are in the log, ordered by other columns"):
            midstream_sink(shop)(other, 0)
        with pytest.raises(Invalid, match="Batch 0 has at most 5 rows"):
            midstream_sink(shop)(frame_of(0, 4), 0)
        midstream_sink(shop)(frame_of(0), 0)
        other = frame_of(ROWS)
        other.columns = "c2"
        midstream_sink(shop)(other, 1)
    assert values_of(tmp_path) == [float(at) for at in range(2 * ROWS)]


@pytest.mark.parametrize("seed", range(3))
def test_a_piece_that_is_too_large_is_halved(tmp_path, monkeypatch, seed):
    """As of orders of many rows; one row that is too large is an error."""
    monkeypatch.setattr(stream_sink, "PIECE_EVENTS", 20)
    monkeypatch.setattr(stream_sink, "PIECE_LIMITS", msgspec.structs.replace(PIECE_LIMITS, rows_max=3))
    with midstream.open(tmp_path, SMALL) as shop:
        midstream_sink(shop)(frame_of(0, seed=seed), 0)
        assert Done.of(shop.running.engine.fold.inputs.find("clicks")) == Done(1)
        items = [{"item_id": f"i{at}"} for at in range(4)]
        order = pa.Table.from_pylist([{"type": "purchase", "user_id": "u", "items": items}]).to_batches()
        with pytest.raises(TooLarge):
            midstream_sink(shop)(SimpleNamespace(batches=order, query="q1"), 1)
    assert values_of(tmp_path) == [float(at) for at in range(ROWS)]


def test_what_the_engine_refuses_is_a_letter_of_the_stream(tmp_path):
    """Such as an action of an item that no catalogue has; as what is no event."""
    config = msgspec.structs.replace(SMALL, items=msgspec.structs.replace(SMALL.items, unknown_items="reject"))
    with midstream.open(tmp_path, config) as shop:
        midstream_sink(shop)(frame_of(0, 2), 0)
        midstream_sink(shop)(frame_of(0, 2, kind="wave"), 1)
    assert [dict(letter.origin) for letter in letters_of(tmp_path)] == [{"input": "clicks"}] * 4


@pytest.mark.parametrize("target", ["shop", Path("shop"), None])
def test_a_target_that_is_none_is_named(target):
    """A folder has to be open; a name makes ids, so it has an end."""
    with pytest.raises(Invalid, match=r"An open shop, with midstream.open"):
        midstream.spark.sink(target, "clicks")
    for name in ("", "x" * 65):
        with pytest.raises(Invalid, match="1 to 64 characters"):
            midstream.spark.sink("http://shop", name)
    with pytest.raises(Invalid, match="a server takes every batch"):
        midstream.spark.sink("http://shop", "clicks", begin_at=3)


def test_ids_that_are_no_text_are_named():
    """Numbers as ids would be those of other rows."""
    rows = pa.RecordBatch.from_pydict({"event_id": [1, None], "type": ["view", "view"]})
    with pytest.raises(Invalid, match="Its type is int64"):
        with_event_ids(rows, "clicks", 0)


def test_an_input_of_a_broker_keeps_its_name(tmp_path):
    """Its positions are none of a stream."""
    with midstream.open(tmp_path, SMALL) as shop:
        inputs = shop.running.engine.fold.inputs
        inputs._rows["clicks"] = InputRow("clicks", "orders", "t", {"0": "123", "1": "7"}, 1, 1)
        with pytest.raises(Invalid, match="An input of this name reads orders"):
            midstream_sink(shop)(frame_of(0), 0)
        del inputs._rows["clicks"]


@pytest.mark.parametrize("text, done", [("0:0", Done()), ("17:20000:ab", Done(17, 20_000, "ab"))])
def test_a_place_is_read_as_it_was_written(text, done):
    """And nothing is known of a stream that the state does not have."""
    assert Done.of(InputRow("clicks", "spark", "q", {"0": text}, 3, 4)) == done
    assert done.text == text
    assert Done.of(None) == Done()


def test_a_server_gets_ids_of_the_place(monkeypatch):
    """The same for the same row of the same batch, whatever the pieces; refusals of it are errors."""
    sent: list[list[str | None]] = []
    status = 200

    def answered(request):
        rows = pa.ipc.open_stream(request.content).read_all()
        sent.append(rows.column("event_id").to_pylist())
        assert request.headers["x-key"] == "secret"
        return httpx.Response(status, json={"recorded": len(sent[-1])})

    client = httpx.Client(base_url="http://shop", transport=httpx.MockTransport(answered))
    monkeypatch.setattr(stream_sink, "server_client", lambda *_, **__: contextlib.nullcontext(client))
    sink = ServerSink("http://shop", "clicks", {"x-key": "secret"})
    sink(frame_of(0), 3)
    sink(frame_of(0, seed=5), 3)
    one, other = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    assert list(chain(*one)) == list(chain(*other)) == [f"clicks:q1:3:{at}" for at in range(ROWS)]
    sent.clear()
    monkeypatch.setattr(stream_sink, "PIECE_EVENTS", 20)
    monkeypatch.setattr(stream_sink, "MESSAGE_BYTES_MAX", 300)
    sink(frame_of(0), 3)
    assert list(chain(*sent)) == [f"clicks:q1:3:{at}" for at in range(ROWS)]
    assert max(map(len, sent)) <= 6
    status = 401
    with pytest.raises(StoreUnavailable, match="answered 401"):
        sink(frame_of(0), 4)
    status = 413
    sent.clear()
    with pytest.raises(StoreUnavailable, match="answered 413"):
        sink(frame_of(0), 4)
    assert len(sent[-1]) == 1  # no row alone is taken
    status = 503
    monkeypatch.setattr(server_refusals, "TRIES_MAX", 2)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(Overloaded):
        sink(frame_of(0), 4)
