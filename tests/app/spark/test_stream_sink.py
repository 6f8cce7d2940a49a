"""Batches of a stream that are handed over again go on where the log ends, each row once; without Spark."""

import contextlib
from itertools import chain
from types import SimpleNamespace

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest

import midstream
from midstream.app import server_refusals
from midstream.app.spark import stream_sink
from midstream.app.spark.stream_sink import Done, FolderSink, ServerSink, pieces_of
from midstream.core.errors import Invalid, Overloaded, StoreUnavailable
from midstream.state.control.input_positions import InputRow
from tests.support.rig import SMALL

ROWS = 23


class Killed(Exception):
    """The end of a driver."""


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let a piece have five rows, and a frame be its rows as they are sorted."""
    monkeypatch.setattr(stream_sink, "PIECE_EVENTS", 5)
    monkeypatch.setattr(stream_sink, "ordered_rows", lambda frame, _: iter(frame.batches))
    monkeypatch.setattr(stream_sink, "query_id", lambda frame: frame.query)


def frame_of(first, count=ROWS, query="q1", seed=0, kind="view"):
    """Return a batch of rows with numbers of their own as values, cut anywhere."""
    rows = [
        {"type": kind, "user_id": "u", "item_id": f"i{at % 3}", "value": float(at)}
        for at in range(first, first + count)
    ]
    table = pa.Table.from_pylist(rows).to_batches()[0] if rows else None
    edges = np.sort(np.random.default_rng(seed).integers(0, count + 1, size=3)) if rows else []
    spans = zip([0, *edges], [*edges, count], strict=True)
    batches = [] if table is None else [table.slice(int(start), int(stop - start)) for start, stop in spans]
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

    def breaking(self, query, admitted, after):
        nonlocal left
        if not left:
            raise Killed
        left -= 1
        record(self, query, admitted, after)

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
        sink(frame_of(2 * ROWS, 1), 4)
        row = shop.running.engine.fold.inputs.find("clicks")
        assert Done.of(row) == Done(5)
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


@pytest.mark.parametrize("text, done", [("0:0", Done()), ("17:20000", Done(17, 20_000))])
def test_a_place_is_read_as_it_was_written(text, done):
    """And nothing is known of a stream that the state does not have."""
    assert Done.of(InputRow("clicks", "spark", "q", {"0": text}, 3, 4)) == done
    assert done.text == text
    assert Done.of(None) == Done()


def test_a_server_gets_ids_of_the_place(monkeypatch):
    """The same for the same row of the same batch, whatever the pieces; refusals of it are errors."""
    sent: list[list[str]] = []
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
    status = 401
    with pytest.raises(StoreUnavailable, match="answered 401"):
        sink(frame_of(0), 4)
    status = 503
    monkeypatch.setattr(server_refusals, "TRIES_MAX", 2)
    monkeypatch.setattr(server_refusals.time, "sleep", lambda _: None)
    with pytest.raises(Overloaded):
        sink(frame_of(0), 4)
