"""A stream is read message by message within bounds; a hostile one is refused, and never ends the process."""

import contextlib
import gc
import io
import math
import struct
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid, RequestInvalid, TooLarge
from midstream.events.arrow.arrow import decode_arrow
from midstream.events.arrow.messages import MessageBounds, read_batches
from midstream.events.pieces import table_piece
from midstream.events.wire import Accept, Limits

USUAL = pa.default_memory_pool()
COUNTED = pa.proxy_memory_pool(USUAL)
"""Of what is allocated through it; it lives as long as anything that was."""
LIMITS = Limits(events_max=100_000, rows_max=100_000, text_bytes_max=1 << 26)
ACCEPT = Accept(frozenset({"view"}), 1_750_000_000_000, LIMITS)


def table(count: int, first: int = 0) -> pa.Table:
    """Return plain events, one column of them with a dictionary."""
    return pa.table(
        {
            "type": pa.array(["view"] * count).dictionary_encode(),
            "user_id": [f"u{first + n}" for n in range(count)],
            "item_id": pa.array([f"i{n % 7}" for n in range(count)]).dictionary_encode(),
            "value": np.arange(count) / 4,
            "time": pa.array([1_750_000_000_000] * count, pa.timestamp("ms")),
            "context": [{"page": "list", "n": n % 3} for n in range(count)],
        }
    )


def stream_of(tables: list[pa.Table], compression: Any = None, rows: int = 10) -> bytes:
    """Return an IPC stream; dictionaries are replaced between tables, or added to."""
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, tables[0].schema, options=options) as writer:
        for each in tables:
            writer.write_table(each, max_chunksize=rows)
    return sink.getvalue()


class Trickle:
    """A source that gives a few bytes at a time."""

    def __init__(self, content: bytes, most: int) -> None:
        self.left = content
        self.most = most
        self.asked_max = 0

    def read(self, size: int, /) -> bytes:
        self.asked_max = max(self.asked_max, size)
        piece = self.left[: min(size, self.most)]
        self.left = self.left[len(piece) :]
        return piece


def test_a_stream_is_what_arrow_reads():
    """However the bytes come, over dictionaries that grow."""
    tables = [table(35), table(20, 100).slice(3)]
    content = stream_of(tables)
    for most in (7, 1 << 20):
        found = list(read_batches(Trickle(content, most), ACCEPT, MessageBounds()))
        assert pa.Table.from_batches(found).to_pylist() == pa.concat_tables(tables).to_pylist()


def test_many_small_messages_come_in_order():
    """Each batch once, as soon as it is there: what follows is asked for when the batch is taken."""
    source = Trickle(stream_of([table(300)], rows=7), 1 << 20)
    first = next(read_batches(source, ACCEPT, MessageBounds()))
    assert first.num_rows == 7
    assert len(source.left) > 10_000
    found = list(read_batches(io.BytesIO(stream_of([table(300)], rows=7)), ACCEPT, MessageBounds()))
    assert pa.Table.from_batches(found)["user_id"].to_pylist() == [f"u{n}" for n in range(300)]


def test_a_stream_may_end_without_its_end_mark():
    """A writer that was not closed; but not in the middle of a message."""
    content = stream_of([table(20)])
    assert sum(map(len, read_batches(io.BytesIO(content[:-8]), ACCEPT, MessageBounds()))) == 20
    found: list[Any] = []
    with pytest.raises(RequestInvalid) as broken:
        found.extend(read_batches(io.BytesIO(content[:-30]), ACCEPT, MessageBounds()))
    assert "ends" in broken.value.faults[0].came


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"{}", b"\xff" * 40, stream_of([table(3)])[8:]], ids=str)
def test_what_is_no_stream_is_refused(content):
    """With what would be right."""
    with pytest.raises(Invalid):
        list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds()))


def test_a_large_message_is_never_asked_for():
    """Neither one that is large, nor one that says it is."""
    content = stream_of([table(5_000)], rows=5_000)
    bounds = MessageBounds(message_bytes_max=10_000)
    source = Trickle(content, 1 << 30)
    with pytest.raises(TooLarge):
        list(read_batches(source, ACCEPT, bounds))
    assert source.asked_max <= 10_000
    with pytest.raises(TooLarge):
        list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds(rows_max=4_999)))
    with pytest.raises(TooLarge):
        list(read_batches(io.BytesIO(b"\xff\xff\xff\xff" + struct.pack("<i", 1 << 30)), ACCEPT, MessageBounds()))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("is_dictionary", [False, True])
def test_compressed_buffers_are_refused_before_they_are_decompressed(compression, is_dictionary):
    """Ten megabytes of one letter are some kilobytes on the wire; the error says how to send them."""
    ids = pa.array(["x" * 10_000_000])
    bomb = pa.table({"type": ["view"], "user_id": ids.dictionary_encode() if is_dictionary else ids})
    content = stream_of([bomb], compression)
    assert len(content) < 100_000
    del ids, bomb
    pa.set_memory_pool(COUNTED)
    try:
        with pytest.raises(RequestInvalid) as refused:
            list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds()))
    finally:
        pa.set_memory_pool(USUAL)
    (fault,) = refused.value.faults
    assert (fault.where, fault.came) == ("message 2", "Its buffers are compressed.")
    assert "compression=None" in fault.right
    peak = COUNTED.max_memory()
    assert peak is not None
    assert peak < 1_000_000


def test_what_came_before_compressed_buffers_is_read():
    """A stream whose first batch is plain and whose second is compressed breaks at the second."""
    plain, packed = (stream_of([table(12).select(["user_id"])], each, 12) for each in (None, "zstd"))
    schema = pa.ipc.read_schema(pa.py_buffer(plain)).serialize().size
    content = plain[:-8] + packed[schema:]
    found: list[Any] = []
    with pytest.raises(RequestInvalid, match="message 3"):
        found.extend(read_batches(io.BytesIO(content), ACCEPT, MessageBounds(), {"type": "view"}))
    assert sum(map(len, found)) == 12


def test_dictionaries_are_bounded_together():
    """Each is small enough."""
    words = pa.table({f"context.c{n}": pa.array(["x" * 30_000]).dictionary_encode() for n in range(5)})
    content = stream_of([words.append_column("type", [["view"]])])
    assert list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds(message_bytes_max=200_000)))
    with pytest.raises(TooLarge):
        list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds(message_bytes_max=100_000)))


def test_dictionaries_that_are_kept_count_with_those_that_follow():
    """One comes with the first batch and is kept, one becomes larger with the second."""
    large, small = (pa.array(["x" * size]).dictionary_encode() for size in (60_000, 10))
    names = ["type", "context.a", "context.b"]
    tables = [pa.table([pa.array(["view"]), large, each], names=names) for each in (small, large)]
    found: list[Any] = []
    with pytest.raises(TooLarge, match="bytes of dictionaries"):
        found.extend(read_batches(io.BytesIO(stream_of(tables)), ACCEPT, MessageBounds(message_bytes_max=100_000)))
    assert len(found) == 1


def test_dictionaries_before_a_batch_are_bounded_whatever_becomes_of_them():
    """One that replaces itself again and again is large only once, and all of it came without a batch."""
    content = stream_of([pa.table({"type": pa.array(["x" * 30_000]).dictionary_encode()})])
    schema, dictionary, batch = (each.serialize().to_pybytes() for each in pa.ipc.MessageReader.open_stream(content))
    assert schema + dictionary + batch == content[:-8]
    bounds = MessageBounds(message_bytes_max=100_000)
    assert list(read_batches(io.BytesIO(schema + 3 * dictionary + batch), ACCEPT, bounds))
    with pytest.raises(TooLarge, match="bytes of dictionaries"):
        list(read_batches(io.BytesIO(schema + 4 * dictionary + batch), ACCEPT, bounds))


def overlapping(columns: int, rows: int) -> bytes:
    """Return a stream of columns of numbers all of which are the same bytes of its body."""
    names = [f"context.c{n}" for n in range(columns)]
    content = pa.table({"type": ["view"] * rows, **dict.fromkeys(names, np.arange(rows) / 4)})
    batch = content.to_batches()[0].serialize().to_pybytes()
    size = 8 + struct.unpack_from("<i", batch, 4)[0]
    metadata, body = bytearray(batch[:size]), batch[size:]
    places = [at for at in range(0, size - 15, 4) if struct.unpack_from("<q", metadata, at + 8)[0] == rows * 8]
    assert len(places) == columns
    first = min(struct.unpack_from("<q", metadata, at)[0] for at in places)
    for at in places:
        struct.pack_into("<qqq", metadata, at - 16, first, 0, first)  # what says which are null is empty
    end = first + rows * 8
    changed = bytes(metadata).replace(struct.pack("<q", len(body)), struct.pack("<q", end))
    return content.schema.serialize().to_pybytes() + changed + body[:end]


def test_buffers_that_lie_over_each_other_count_each():
    """Few bytes on the wire may be many columns, and each becomes memory of its own once it is made something else."""
    content = overlapping(40, 1_000)
    assert len(content) < 40_000
    (batch,) = read_batches(io.BytesIO(content), ACCEPT, MessageBounds(message_bytes_max=400_000))
    assert batch.num_columns == 41
    with pytest.raises(TooLarge) as caught:
        list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds(message_bytes_max=200_000)))
    assert "in all buffers" in caught.value.faults[0].came


def wide_table() -> pa.Table:
    """Return events with columns of every type that there may be."""
    return pa.table(
        {
            "type": pa.array(["view", "cart", None], pa.string_view()),
            "user_id": pa.array([b"a", b"\xff", None], pa.large_binary()),
            "item_id": pa.array(["x", "y" * 20, "z"], pa.large_string()),
            "session_id": pa.array(["s", None, "t"]).dictionary_encode(),
            "value": pa.array([1, None, 3], pa.decimal128(10, 2)),
            "quantity": pa.array([1, 2, None], pa.uint64()),
            "position": pa.array([1.0, None, 2.5], pa.float32()),
            "context": pa.array([[("page", "list")], None, []], pa.map_(pa.string(), pa.string())),
            "items": pa.array([None, [{"item_id": "a"}], []], pa.list_(pa.struct([("item_id", pa.string())]))),
            "attributes.price": pa.array([None, 1.5, None]),
        }
    )


WHOLE = [stream_of([table(12)]), stream_of([table(12)], "zstd"), stream_of([wide_table()])]


def judge(content: bytes) -> None:
    """Read and decode; only what is expected may be raised."""
    try:
        for batch in read_batches(io.BytesIO(content), ACCEPT, MessageBounds(message_bytes_max=1 << 20)):
            table_piece(batch, ACCEPT, 0)
    except Invalid as failure:
        if not failure.faults[0].came:
            raise


@given(
    st.integers(0, 2),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_damaged_streams_are_refused_or_read(which, changes, cut):
    """Bytes changed anywhere, the end cut off anywhere: an error in four parts, or events."""
    content = bytearray(WHOLE[which])
    for at, value in changes:
        content[at % len(content)] = value
    judge(bytes(content[: max(1, len(content) - cut % 400)] if cut % 3 == 0 else content))


@pytest.mark.parametrize("which", range(3))
def test_each_32_bits_of_a_stream_may_be_anything(which):
    """Lengths, offsets and counts, each set to what it should not be; of 64 bits those below 0 too."""
    whole = WHOLE[which]
    for at in range(0, len(whole) - 8, 8):
        for value in (struct.pack("<i", -1), struct.pack("<i", 1 << 20), struct.pack("<q", -5)):
            judge(whole[:at] + value + whole[at + len(value) :])


def test_a_buffer_may_end_anywhere() -> None:
    """Its length need not be a multiple of what is in it, and it may be longer than it has to be."""
    offsets = np.array([0, 1, 2, 9], dtype=np.int32).tobytes()[:13]
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"ab")]
    ids: Any = pa.Array.from_buffers(pa.string(), 2, buffers)
    batch = pa.RecordBatch.from_arrays([pa.array(["view"] * 2), ids, ids], names=["type", "user_id", "item_id"])
    assert len(decode_arrow(batch, ACCEPT).batch) == 2


def work_of(content: bytes) -> int:
    """Return how many calls reading a stream takes, of Python functions and of C's."""
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds()))
    except Invalid:
        pass  # what was refused took its time too
    finally:
        sys.setprofile(None)
    return calls


def unknown_columns(count: int) -> bytes:
    """Return a stream of columns that are no fields."""
    return stream_of([pa.table({f"c{at}": pa.array([], pa.string()) for at in range(count)})])


def empty_batches(count: int) -> bytes:
    """Return a stream of batches without a row."""
    batch = table(1).to_batches()[0].slice(1)
    schema = batch.schema
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for _ in range(count):
            writer.write_batch(batch)
    return sink.getvalue()


def growing_dictionaries(count: int) -> bytes:
    """Return a stream whose dictionaries change with each batch."""
    return stream_of([table(3, 5 * at).take([at % 3]) for at in range(count)], rows=1)


@pytest.mark.parametrize("make", [unknown_columns, empty_batches, growing_dictionaries])
def test_reading_a_stream_is_linear(make):
    """Four times as much of the same takes at most six times the calls: of columns, of batches, of dictionaries."""
    work_of(make(20))
    assert work_of(make(800)) <= 6 * work_of(make(200))


def test_time_of_a_schema_is_linear():
    """The same of time, which sees what a single call of C does: 16 times the columns take at most 64 times.

    256 times would be quadratic. Counted is this thread alone, without collections of garbage, and of several turns the
    least: a busy machine only adds to some of them.
    """
    small, large = unknown_columns(1_250), unknown_columns(20_000)

    def seconds(content: bytes) -> float:
        began = time.thread_time()
        with contextlib.suppress(Invalid):
            list(read_batches(io.BytesIO(content), ACCEPT, MessageBounds()))
        return time.thread_time() - began

    least = [math.inf, math.inf]
    gc.disable()
    try:
        for _ in range(8):
            least = [min(before, seconds(content)) for before, content in zip(least, (small, large), strict=True)]
            if least[1] <= 64 * least[0]:
                break
    finally:
        gc.enable()
    assert least[1] <= 64 * least[0]


def test_columns_and_messages_have_a_maximum(monkeypatch):
    """The fields within columns count too; an error says how many came and how many may."""
    nested = pa.table({"type": ["view"], "context": pa.array([{f"f{at}": 1 for at in range(1_000)}])})
    with pytest.raises(RequestInvalid, match="1002 columns and fields"):
        list(read_batches(io.BytesIO(stream_of([nested])), ACCEPT, MessageBounds()))
    fits = pa.table({"type": ["view"], "context": pa.array([{f"f{at}": 1 for at in range(998)}])})
    assert len(list(read_batches(io.BytesIO(stream_of([fits])), ACCEPT, MessageBounds()))) == 1
    monkeypatch.setattr("midstream.events.arrow.messages.MESSAGES_MAX", 50)
    assert list(read_batches(io.BytesIO(empty_batches(47)), ACCEPT, MessageBounds()))  # a schema and two dictionaries
    with pytest.raises(TooLarge, match="At most 50 messages a stream"):
        list(read_batches(io.BytesIO(empty_batches(48)), ACCEPT, MessageBounds()))


def test_columns_without_bytes_do_not_make_much_out_of_little():
    """A million rows of hundreds of columns of nulls are a few hundred bytes."""
    names = [f"context.c{at}" for at in range(400)]
    rows = 100_000
    schema = pa.schema([("type", pa.null()), *((name, pa.null()) for name in names)])
    batch = pa.RecordBatch.from_arrays([pa.nulls(rows)] * 401, schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    assert len(sink.getvalue()) < 100_000
    with pytest.raises(TooLarge, match="100000 rows of 401 columns"):
        list(read_batches(io.BytesIO(sink.getvalue()), ACCEPT, MessageBounds()))


def test_dictionaries_are_not_read_again_without_end(monkeypatch):
    """A large one that holds, and a small one that changes before each tiny batch: all the large one's text is read."""
    large = pa.array([f"{at}" * 200 for at in range(3_000)])
    tables = [
        pa.table(
            {
                "type": pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array([f"view{at}"])),
                "user_id": pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), large),
            }
        )
        for at in range(80)
    ]
    content = stream_of(tables)
    assert sum(map(len, read_batches(io.BytesIO(content), ACCEPT, MessageBounds()))) == 80
    monkeypatch.setattr("midstream.events.arrow.messages.DICTIONARY_FREE_BYTES", 1 << 20)
    monkeypatch.setattr("midstream.events.arrow.messages.DICTIONARY_RATIO_MAX", 32)
    found: list[Any] = []
    with pytest.raises(TooLarge, match="were read again"):
        found.extend(read_batches(io.BytesIO(content), ACCEPT, MessageBounds()))
    assert 10 < len(found) < 40
