"""Decoding of messages: every event keeps its message and row, whatever stands beside it, and none stops the others."""

import msgspec
import pyarrow as pa
import pytest

from midstream.app.opening import accept_of
from midstream.engine.inputs import arrow_decoding, message_decoding
from midstream.engine.inputs.arrow_decoding import decode_arrow_messages
from midstream.engine.inputs.broker_consumer import PartitionMessages
from midstream.engine.inputs.message_decoding import (
    DecodedMessages,
    decode_json,
    decode_ndjson,
    with_position_ids,
)
from midstream.engine.inputs.polled_messages import PolledMessages, topic_hash
from midstream.events.pieces import table_piece
from midstream.events.schema import event_at
from midstream.events.wire import Limits
from tests.support.brokers import arrow_message
from tests.support.rig import SMALL, view

ACCEPT = accept_of(SMALL, Limits())


def line(item: str, **more: object) -> bytes:
    """Return a view of an item as one line of JSON."""
    return msgspec.json.encode({**view(item), **more})


def told(found: DecodedMessages) -> list[tuple[int, int, str]]:
    """Return message, row and item of each event that can be appended."""
    batch = found.decoded.batch
    events = [event_at(batch, row) for row in range(len(batch))]
    places = found.decoded.event_index.tolist()
    return [
        (int(found.message[place]), int(found.row[place]), each.item_id)
        for place, each in zip(places, events, strict=True)
    ]


def refused(found: DecodedMessages) -> list[tuple[int, int, str, bytes]]:
    """Return message, row, place and content of each event that cannot."""
    return [
        (int(found.message[each.index]), int(found.row[each.index]), each.fault.where, each.raw)
        for each in found.decoded.rejected
    ]


def test_json_of_many_forms_keeps_the_order_of_its_messages() -> None:
    """Plain lines are decoded together, lists and envelopes apart; what holds no event is named by its message."""
    two = b"[" + line("c") + b"," + line("d") + b"]"
    values = [line("a"), two, line("b"), None, b'{"type":"nothing"}', b'{"events":' + two + b"}", line("e")]
    found = decode_json(values, ACCEPT)
    assert told(found) == [(0, -1, "a"), (1, 0, "c"), (1, 1, "d"), (2, -1, "b"), (5, 0, "c"), (5, 1, "d"), (6, -1, "e")]
    assert [each[:3] for each in refused(found)] == [(3, -1, "message"), (4, -1, "/type")]
    assert found.part(3).raw == line("b")
    assert found.part(2).raw == line("d")


def test_ndjson_names_a_bad_line_by_its_message_and_row() -> None:
    """Empty lines are no rows; the neighbours of a bad one are events."""
    values = [line("a") + b"\n\n" + line("b") + b"\n", b"\n", line("c") + b"\nnothing\n" + line("d"), None]
    found = decode_ndjson(values, ACCEPT)
    assert told(found) == [(0, 0, "a"), (0, 1, "b"), (2, 0, "c"), (2, 2, "d")]
    assert [each[:2] for each in refused(found)] == [(1, -1), (2, 1), (3, -1)]
    assert refused(found)[1][3] == b"nothing"


def test_lines_beyond_a_call_are_decoded_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is the same; a line that is too long is one dead letter."""
    values = [b"\n".join(line(f"i{number}") for number in range(start, start + 9)) for start in (0, 9, 18)]
    whole = told(decode_ndjson(values, ACCEPT))
    monkeypatch.setattr(message_decoding, "DECODED_BYTES_MAX", 700)
    monkeypatch.setattr(message_decoding, "LINE_BYTES_MAX", 600)
    found = decode_ndjson([*values, line("x" * 600), line("last")], ACCEPT)
    assert told(found)[:27] == whole
    assert told(found)[27:] == [(4, 0, "last")]
    assert [each[:3] for each in refused(found)] == [(3, 0, "message")]


def test_arrow_messages_of_one_schema_are_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad row is one dead letter, as JSON; a message that is no stream is one as it came."""
    calls: list[int] = []

    def counted(table: pa.RecordBatch, *more: object) -> object:
        calls.append(len(table))
        return table_piece(table, *more)  # type: ignore[arg-type]

    monkeypatch.setattr("midstream.engine.inputs.arrow_decoding.table_piece", counted)
    messages = [arrow_message(["a", "b"]), b"no stream", arrow_message(["c"]), None, arrow_message(["d", "e"], "vew")]
    whole = arrow_message(["f"])
    found = decode_arrow_messages([*messages, whole[:-40], whole], ACCEPT)
    assert calls == [6]
    assert told(found) == [(0, 0, "a"), (0, 1, "b"), (2, 0, "c"), (6, 0, "f")]
    assert [each[:2] for each in refused(found)] == [(1, -1), (3, -1), (4, 0), (4, 1), (5, -1)]
    assert b'"vew"' in refused(found)[2][3]
    assert refused(found)[0][3] == b"no stream"


def test_tables_of_other_columns_are_decoded_apart() -> None:
    """And tables with dictionaries of their own are put together."""
    plain = arrow_message(["a"])
    coded = [arrow_message([item], dictionary=True) for item in ("b", "c")]
    found = decode_arrow_messages([plain, *coded, plain], ACCEPT)
    assert told(found) == [(0, 0, "a"), (1, 0, "b"), (2, 0, "c"), (3, 0, "a")]


def test_a_message_of_too_many_rows_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame has to take it."""
    monkeypatch.setattr(message_decoding, "MESSAGE_ROWS_MAX", 2)
    monkeypatch.setattr(arrow_decoding, "MESSAGE_ROWS_MAX", 2)
    three = ["a", "b", "c"]
    for found in (
        decode_ndjson([b"\n".join(map(line, three)), line("d")], ACCEPT),
        decode_arrow_messages([arrow_message(three), arrow_message(["d"])], ACCEPT),
    ):
        assert told(found) == [(1, 0, "d")]
        assert [each[:3] for each in refused(found)] == [(0, -1, "message")]


def test_ids_are_of_topic_partition_position_row_and_item() -> None:
    """An id that was sent stays; a message has the same ids whatever is polled with it."""
    order = {"type": "purchase", "user_id": "u", "items": [{"item_id": "a"}, {"item_id": "b"}]}
    own = line("own", event_id="mine")
    values = [b"\n".join((line("x"), msgspec.json.encode(order), own)), line("y")]
    parts = [PartitionMessages("0", values[:1], ["7"], "8"), PartitionMessages("1", values[1:], ["3"], "4")]

    def ids(each: list[PartitionMessages]) -> list[str]:
        polled = PolledMessages("shop", "one", each)
        batch = with_position_ids(decode_ndjson(polled.values, ACCEPT), polled)
        return [event_at(batch, row).event_id for row in range(len(batch))]

    shop = f"shop-{topic_hash('one')}"
    expected = [f"{shop}-0-7#0", f"{shop}-0-7#1#0", f"{shop}-0-7#1#1", "mine", f"{shop}-1-3#0"]
    assert ids(parts) == expected
    assert ids(parts[:1]) + ids(parts[1:]) == expected
