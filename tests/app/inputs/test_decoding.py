"""Messages with fields of their own become events by the mapping of an import, in each format."""

import msgspec
import pyarrow as pa
import pytest

from midstream.app.config.broker_inputs import Format, KafkaInput, PostgresqlInput
from midstream.app.inputs.decoding import decoder_of
from midstream.app.opening import accept_of
from midstream.engine.inputs.message_decoding import DecodedMessages
from midstream.events.schema import Event, event_at
from tests.support.rig import SMALL

ROWS: list[dict[str, object]] = [
    {"visitor": "ann", "product": {"id": "lamp"}, "what": "buy", "at": 1_700_000_000, "page": "home"},
    {"visitor": "bob", "product": {"id": "desk"}, "what": "look", "at": 1_700_000_001, "page": "search"},
    {"visitor": "cid", "product": {"id": "sofa"}, "what": "look", "at": "later", "page": "search"},
    {"visitor": "dan", "product": {"id": "vase"}, "what": "look", "at": 4_000_000_000, "page": "home"},
]


def options(form: Format, item: str = "product.id") -> KafkaInput:
    """Return an input with a mapping."""
    return KafkaInput(
        name="shop",
        topic="clicks",
        servers="localhost:9092",
        format=form,
        map={"user_id": "visitor", "item_id": item, "type": "what", "time": "at", "context.page": "page"},
        types={"buy": "purchase", "look": "view"},
        time_format="s",
    )


def table(rows: list[dict[str, object]]) -> bytes:
    """Return rows with the item as a column of its own."""
    flat = [
        {**row, "product": msgspec.convert(row["product"], dict[str, str])["id"], "at": str(row["at"])} for row in rows
    ]
    batch = pa.RecordBatch.from_pylist(flat)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def lines(rows: list[dict[str, object]]) -> bytes:
    """Return rows as NDJSON."""
    return b"\n".join(map(msgspec.json.encode, rows))


def messages(form: Format) -> list[bytes | None]:
    """Return the rows in two messages, and one without content."""
    if form == "json":
        pretty = msgspec.json.format(msgspec.json.encode(ROWS[0]), indent=2)
        return [pretty, None, msgspec.json.encode(ROWS[1:])]
    write = table if form == "arrow" else lines
    return [write(ROWS[:1]), None, write(ROWS[1:])]


def events(found: DecodedMessages) -> list[Event]:
    """Return the events that can be appended."""
    return [event_at(found.decoded.batch, row) for row in range(len(found.decoded.batch))]


@pytest.mark.parametrize("form", ["json", "ndjson", "arrow"])
def test_rows_are_mapped_and_keep_message_and_row(form: Format) -> None:
    """A row that cannot be read is named alone; a time in the future is taken, as over HTTP."""
    item = "product" if form == "arrow" else "product.id"
    found = decoder_of(options(form, item), lambda: accept_of(SMALL))(messages(form))
    told = events(found)
    assert [(each.user_id, each.item_id, each.action, each.body) for each in told] == [
        ("ann", "lamp", "purchase", b'{"page":"home"}'),
        ("bob", "desk", "view", b'{"page":"search"}'),
        ("dan", "vase", "view", b'{"page":"home"}'),
    ]
    assert [each.event_time_ms for each in told] == [1_700_000_000_000, 1_700_000_001_000, 4_000_000_000_000]
    places = found.message[found.decoded.event_index].tolist(), found.row[found.decoded.event_index].tolist()
    assert places == ([0, 2, 2], [0, 0, 2])
    rejected = [
        (int(found.message[each.index]), int(found.row[each.index]), each.fault.where)
        for each in found.decoded.rejected
    ]
    assert rejected == [(1, -1, "message"), (2, 1, "time")]
    assert b"sofa" in found.decoded.rejected[1].raw


def test_what_only_the_engine_writes_is_refused() -> None:
    """Whatever the mapping says: a topic is not an export of this shop."""
    found = decoder_of(options("ndjson"), lambda: accept_of(SMALL))([lines([{**ROWS[0], "what": "served"}])])
    assert not events(found)
    assert len(found.decoded.rejected) == 1


def test_a_table_without_a_mapped_column_is_a_dead_letter() -> None:
    """The next table is read all the same."""
    other = pa.RecordBatch.from_pylist([{"visitor": "x"}])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, other.schema) as writer:
        writer.write_batch(other)
    decode = decoder_of(options("arrow", "product"), lambda: accept_of(SMALL))
    found = decode([bytes(sink.getvalue().to_pybytes()), table(ROWS[:1])])
    assert [each.user_id for each in events(found)] == ["ann"]
    assert "product" in found.decoded.rejected[0].fault.came


@pytest.mark.parametrize("form", ["json", "ndjson", "arrow"])
def test_without_a_mapping_messages_are_events_of_the_wire(form: Format) -> None:
    """As bodies over HTTP are."""
    row: dict[str, object] = {"type": "view", "user_id": "ann", "item_id": "lamp"}
    batch = pa.RecordBatch.from_pylist([row])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    value = bytes(sink.getvalue().to_pybytes()) if form == "arrow" else msgspec.json.encode(row)
    plain = KafkaInput(name="shop", topic="clicks", servers="localhost:9092", format=form)
    (told,) = events(decoder_of(plain, lambda: accept_of(SMALL))([value]))
    assert (told.user_id, told.item_id, told.action) == ("ann", "lamp", "view")


def test_rows_of_a_table_are_items_deletes_and_letters() -> None:
    """In the order of the messages; what holds no row says why."""
    options = PostgresqlInput(name="a", url="postgresql://db/x", table="p", key="id", map={"attributes.price": "price"})
    decode = decoder_of(options, lambda: accept_of(SMALL))
    found = decode(
        [
            b'{"id":1,"price":2.5}',
            b'{"midstream_refused":"no time","midstream_right":"one","id":"7"}',
            b'{"id":2,"midstream_operation":"delete"}',
            b'{"id":3,"price":null}',
        ]
    )
    events = [event_at(found.decoded.batch, row) for row in range(len(found.decoded.batch))]
    assert [(each.item_id, each.body) for each in events] == [
        ("1", b'{"price":2.5}'),
        ("2", b""),
        ("3", b'{"price":null}'),
    ]
    assert found.message.tolist() == [0, 1, 2, 3]
    (letter,) = found.decoded.rejected
    assert (letter.index, letter.fault.came) == (1, "no time")
    assert b'"id":"7"' in letter.raw
