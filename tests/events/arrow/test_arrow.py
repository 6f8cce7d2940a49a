"""A row of an Arrow table is taken or refused as the same event in JSON is, whatever types its columns have."""

import json
import tracemalloc
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import RequestInvalid, TooLarge
from midstream.core.kinds import Kind
from midstream.events.arrow.arrow import decode_arrow
from midstream.events.arrow.columns import check_schema
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.json.decode import Decoded, decode
from midstream.events.schema import event_at
from midstream.events.wire import Accept, Limits

USUAL = pa.default_memory_pool()
COUNTED = pa.proxy_memory_pool(USUAL)
"""Of what is allocated through it; it lives as long as anything that was."""
LIMITS = Limits(events_max=10_000, body_bytes_max=1 << 26, rows_max=50_000, text_bytes_max=1 << 24)
ACCEPT = Accept(
    frozenset({"view", "cart", "käufe"}),
    1_750_000_000_000,
    LIMITS,
    {"price": "number", "tags": "tags", "look": "vector:2"},
)
TRUSTED = msgspec.structs.replace(ACCEPT, trusted=True)
TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
]
ITEM: Any = pa.struct([("item_id", pa.string()), ("quantity", pa.float64())])
GOOD = ["ann", "lamp-7", "é", "日本", "x" * 128, "a b"]
WORDS = [*GOOD, "", "x" * 129, "a\x7f", "a\nb", "\x85", "a\u00ad"]
BAD_TIMES = [1_750_000_000, 0, -5, 946_684_799_999, 4_133_980_800_000]
ISO = ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.5+01:00", "2026-01-31", "soon", "2026-01-31T12:00:00", ""]


def random_events(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:  # noqa: C901  a choice each
    """Return events whose fields fit one column each: a third has something wrong."""

    def pick(values: list[Any]) -> Any:
        return values[int(rng.integers(len(values)))]

    as_iso = rng.random() < 0.3
    mixed = rng.random() < 0.5
    events = []
    for _ in range(count):
        words = GOOD if rng.random() < 0.8 else WORDS
        event: dict[str, Any] = {
            "type": pick(["view"] * 8 + ["cart", "käufe", "impression", "viev", "served", "item", "user"])
        }
        for name, share in (
            ("event_id", 0.8),
            ("user_id", 0.9),
            ("item_id", 0.95),
            ("session_id", 0.3),
            ("request_id", 0.1),
        ):
            if rng.random() < share:
                event[name] = pick(words)
        if rng.random() < 0.8:
            good = int(rng.integers(946_684_800_000, 4_133_980_800_000))
            event["time"] = pick(ISO) if as_iso else good if rng.random() < 0.9 else pick(BAD_TIMES)
        if rng.random() < 0.4:
            event["value"] = pick([1.5, -2.25, 0.0, 1e300, 39.9])
        if rng.random() < 0.3:
            event["quantity"] = pick([1.0, 0.1, 3.5e38, 3.4e38, -1.0, 0.0])
        if rng.random() < 0.3:
            event["position"] = pick([0, 5, 32_766, 32_767, -1])
        if rng.random() < 0.4:
            members: dict[str, Any] = {
                "page": pick(["list", "ü", ""]),
                "scroll": pick([1.5, 0.0001, 7.25]),
                "app": pick([True, False]),
            }
            event["context"] = {name: each for name, each in members.items() if rng.random() < 0.7}
            if rng.random() < 0.02:
                event["context"] = {"page": "y" * 5_000}
        if mixed and rng.random() < 0.1:
            event["items"] = [{"item_id": pick(words), "quantity": 1.0}, {"item_id": "b"}]
        if mixed and rng.random() < 0.15:
            event["attributes"] = pick([{"price": 39.5}, {"price": None}, {}])
            event["operation"] = pick(["put", "patch", "delete", "pot"])
        events.append(event)
    return events


def table_of(events: list[dict[str, Any]], rng: np.random.Generator) -> Any:
    """Return the events as a table, each column of one of the types that it may have."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for event in events for name in event):
        values = [event.get(name) for event in events]
        columns.update(columns_of(name, values, rng))
    names = list(columns)
    rng.shuffle(names)
    batch = pa.RecordBatch.from_pydict({name: columns[name] for name in names})
    # Cut out of a larger one: offsets are not 0.
    first = min(3, len(batch))
    return pa.Table.from_batches([batch.slice(0, first), batch]).combine_chunks().to_batches()[0].slice(first)


def columns_of(name: str, values: list[Any], rng: np.random.Generator) -> dict[str, Any]:  # noqa: PLR0911  a form each
    """Return one field as a column, or as several."""

    def pick(kinds: list[Any]) -> Any:
        return kinds[int(rng.integers(len(kinds)))]

    if name == "time" and not any(isinstance(each, str) for each in values):
        kind = pick(
            [pa.int64(), pa.float64(), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns", "Europe/Paris")]
        )
        if kind in (pa.int64(), pa.float64()):
            return {name: pa.array(values, pa.int64()).cast(kind)}
        return {name: pa.array(values, pa.timestamp("ms", kind.tz)).cast(kind)}
    if name in ("value", "quantity"):
        kind = pick([pa.float64(), pa.float64(), pa.decimal128(38, 3)])
        exact = all(each is None or (abs(each) < 1e15 and round(each, 3) == each) for each in values)
        if kind == pa.float64() or not exact:
            return {name: pa.array(values, pa.float64())}
        return {name: pa.array([None if each is None else Decimal(str(each)) for each in values], kind)}
    if name == "position":
        return {name: pa.array(values, pick([pa.int32(), pa.int64(), pa.float64()]))}
    if name == "context":
        return context_columns(values, pick(["json", "struct", "members", "map"]))
    if name in ("items", "attributes"):
        if name == "items" and rng.random() < 0.5:
            return {name: pa.array(values, pa.list_(ITEM))}
        return {name: pa.array([None if each is None else json.dumps(each) for each in values], pa.string())}
    kind = pick(TEXT_TYPES)
    if pa.types.is_dictionary(kind):
        return {name: pa.array(values, kind.value_type).dictionary_encode().cast(kind)}
    if "binary" in str(kind):
        return {name: pa.array([None if each is None else each.encode() for each in values], kind)}
    return {name: pa.array(values, kind)}


def context_columns(values: list[Any], form: str) -> dict[str, Any]:
    """Return contexts in one of the forms that they may have."""
    if form == "map" and all(each is None or set(each) <= {"page"} for each in values):
        return {
            "context": pa.array(
                [None if each is None else list(each.items()) for each in values], pa.map_(pa.string(), pa.string())
            )
        }
    if form == "struct":
        fields: Any = {"scroll": pa.float64(), "page": pa.string(), "app": pa.bool_()}
        return {"context": pa.array(values, pa.struct(fields))}
    if form == "members" and all(each is None or each for each in values):
        empty: list[dict[str, Any]] = [each or {} for each in values]
        return {
            f"context.{name}": pa.array([each.get(name) for each in empty], kind)
            for name, kind in (("app", pa.bool_()), ("page", pa.string()), ("scroll", pa.float64()))
        }
    return {
        "context": pa.array(
            [None if each is None else json.dumps(each, ensure_ascii=False) for each in values], pa.string()
        )
    }


def assert_same(table: Decoded, listed: Decoded) -> None:
    """The same rows and texts; the same refusals, up to how a place is written."""
    assert table.batch.text == listed.batch.text
    assert table.batch.rows.tobytes() == listed.batch.rows.tobytes()
    assert table.event_index.tolist() == listed.event_index.tolist()
    assert table.event_count == listed.event_count
    assert [(each.index, each.fault.came, each.fault.right, each.fault.page) for each in table.rejected] == [
        (each.index, each.fault.came, each.fault.right, each.fault.page) for each in listed.rejected
    ]
    for one, other in zip(table.rejected, listed.rejected, strict=True):
        place = other.fault.where.removeprefix(f"/{one.index}")
        assert one.fault.where == (f"row {one.index + 1}: {place}" if place else f"row {one.index + 1}")


@given(st.integers(0, 2**63))
def test_a_table_is_what_its_json_is(seed):
    """Every column in one of its types, rows with something wrong among them."""
    rng = np.random.default_rng(seed)
    events = random_events(rng, int(rng.integers(1, 30)))
    table = table_of(events, rng)
    table.validate(full=True)
    check_schema(table.schema, ACCEPT, {})
    table = without_views(table, 1 << 24)
    order = dict.fromkeys(name.partition(".")[0] for name in table.schema.names)
    listed = [{name: event[name] for name in order if name in event} for event in events]
    assert_same(decode_arrow(table, ACCEPT), decode(json.dumps(listed).encode(), ACCEPT))


def test_plain_rows_need_no_object_each(monkeypatch):
    """The fast way is the one that is taken."""
    monkeypatch.setattr("midstream.events.arrow.arrow.judge_part", lambda *_: pytest.fail("row by row"))
    table = pa.RecordBatch.from_pylist(
        [
            {"type": "view", "user_id": f"u{n}", "item_id": "é", "time": 1_750_000_000_000, "context": {"a": "b"}}
            for n in range(100)
        ]
    )
    assert len(decode_arrow(table, ACCEPT).batch) == 100


def test_bytes_that_are_no_text_are_refused_row_by_row():
    """A binary column may hold anything; its neighbours are taken."""
    ids = pa.array([b"ann", b"\xff\xfe", b"\xed\xa0\x80", b"bob"], pa.binary())
    table = pa.record_batch({"type": ["view"] * 4, "user_id": ids, "item_id": ["a"] * 4})
    decoded = decode_arrow(table, ACCEPT)
    assert decoded.event_index.tolist() == [0, 3]
    assert [each.fault.where for each in decoded.rejected] == ["row 2: /user_id", "row 3: /user_id"]


def test_each_byte_of_an_id_is_looked_at():
    """Each byte at each place of an id of 1 to 17 bytes, among neighbours that a borrow passes on to."""
    ids = []
    for length in range(1, 18):
        for place in range(length):
            for other in b"a\x20":
                text = bytearray([other]) * length
                for byte in range(256):
                    text[place] = byte
                    ids.append(bytes(text))
    count = len(ids)
    batch = pa.record_batch({"type": ["view"] * count, "user_id": pa.array(ids, pa.binary()), "item_id": ["i"] * count})
    whole = msgspec.structs.replace(ACCEPT, limits=msgspec.structs.replace(LIMITS, events_max=count, rows_max=count))

    def is_plain(text: bytes) -> bool:
        return all(0x20 <= byte < 0x7F for byte in text)

    decoded = decode_arrow(batch, whole)
    refused = {each.index for each in decoded.rejected}
    assert {at for at, text in enumerate(ids) if not is_plain(text)} == refused
    assert decoded.event_index.tolist() == [at for at, text in enumerate(ids) if is_plain(text)]


def test_a_time_is_cut_to_the_millisecond():
    """Of whatever unit; one without a zone is UTC."""
    kinds: list[tuple[Any, int]] = [
        (pa.timestamp("s"), 1_750_000_000),
        (pa.timestamp("ms"), 1_750_000_000_000),
        (pa.timestamp("us"), 1_750_000_000_000_999),
        (pa.timestamp("ns"), 1_750_000_000_000_999_999),
    ]
    for kind, ticks in kinds:
        time = pa.array([ticks], kind)
        table = pa.record_batch({"type": ["view"], "user_id": ["a"], "item_id": ["b"], "time": time})
        assert event_at(decode_arrow(table, ACCEPT).batch, 0).event_time_ms == 1_750_000_000_000


def test_members_may_be_columns():
    """``attributes.price`` beside ``attributes.tags``; a null is not sent."""
    table = pa.record_batch(
        {
            "item_id": ["a", "b"],
            "attributes.price": pa.array([1.5, None]),
            "attributes.tags": pa.array([["x", "y"], []], pa.list_(pa.string())),
        }
    )
    defaults = {"type": "item", "operation": "put"}
    check_schema(table.schema, ACCEPT, defaults)
    decoded = decode_arrow(table, ACCEPT, defaults=defaults)
    assert [event_at(decoded.batch, at).body for at in (0, 1)] == [b'{"price":1.5,"tags":["x","y"]}', b'{"tags":[]}']
    assert decoded.batch.rows["kind"].tolist() == [Kind.ITEM] * 2
    # Beside a column of the object, wherever that stands: the member wins.
    both = table.append_column("attributes", pa.array([{"price": 3.0, "brand": "x"}] * 2))
    decoded = decode_arrow(both, ACCEPT, defaults=defaults)
    found = [msgspec.json.decode(event_at(decoded.batch, at).body) for at in (0, 1)]
    assert found == [{"price": 1.5, "brand": "x", "tags": ["x", "y"]}, {"price": 3.0, "brand": "x", "tags": []}]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float64(), 2),
        pa.list_(pa.float16()),
        pa.list_(pa.float16(), 2),
    ],
    ids=str,
)
def test_a_vector_is_a_list_of_numbers(kind):
    """Of any width, in lists or lists of a fixed length, as a column and in a struct; a null is not sent."""
    values = [[np.float16(0.5), np.float16(-2)], None, [np.float16(1), None]]
    look = pa.array(values, kind)
    expected = [b'{"look":[0.5,-2.0]}', b"{}"]
    for columns in (
        {"attributes.look": look},
        {"attributes": pa.StructArray.from_arrays([look], ["look"])},
    ):
        table = pa.record_batch({"item_id": ["a", "b", "c"], **columns})
        check_schema(table.schema, ACCEPT, {"type": "item"})
        decoded = decode_arrow(table, ACCEPT, defaults={"type": "item"})
        assert [event_at(decoded.batch, at).body for at in range(len(decoded.batch))] == expected
        (refused,) = decoded.rejected
        assert (refused.index, refused.fault.where.rpartition("/attributes")[2]) == (2, "/look/1")


def test_a_vector_of_another_length_is_refused_by_its_row():
    """The schema is right, so all others are taken."""
    look = pa.array([[1, 2], [1, 2, 3], [], [5, 6]], pa.list_(pa.int64()))
    table = pa.record_batch({"item_id": list("abcd"), "attributes.look": look})
    decoded = decode_arrow(table, ACCEPT, defaults={"type": "item"})
    assert [each.index for each in decoded.rejected] == [1, 2]
    assert decoded.event_index.tolist() == [0, 3]
    with pytest.raises(RequestInvalid):  # of nothing there could be any number
        check_schema(
            pa.schema({"item_id": pa.string(), "attributes.look": pa.list_(pa.null(), 2)}), ACCEPT, {"type": "item"}
        )
    with pytest.raises(RequestInvalid):
        check_schema(
            pa.schema({"item_id": pa.string(), "attributes.look": pa.list_(pa.int8(), 1_025)}), ACCEPT, {"type": "item"}
        )


@pytest.mark.parametrize(
    "columns,where",
    [
        ({"type": ["view"], "uzer_id": ["a"]}, "column uzer_id"),
        ({"user_id": ["a"]}, "column type"),
        ({"type": ["view"], "user_id": [1]}, "column user_id"),
        ({"type": ["view"], "value": ["1"]}, "column value"),
        ({"type": ["view"], "value": [True]}, "column value"),
        ({"type": ["view"], "log_time": [1]}, "column log_time"),
        ({"type": ["view"], "context": [[1]]}, "column context"),
        ({"type": ["view"], "items": [[1]]}, "column items"),
    ],
)
def test_a_table_of_something_else_is_refused_whole(columns, where):
    """By the column, with what would be right."""
    with pytest.raises(RequestInvalid) as refused:
        check_schema(pa.record_batch(columns).schema, ACCEPT, {})
    assert where in [each.where for each in refused.value.faults]


def test_a_dictionary_does_not_make_much_out_of_little():
    """A megabyte that is named a thousand times is a gigabyte, and is refused before it is one."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int8()), pa.array(["x" * 1_000_000]))
    with pytest.raises(TooLarge):
        decode_arrow(pa.record_batch({"type": text}), ACCEPT)


def test_texts_are_counted_before_they_are_copied(monkeypatch):
    """Contexts in columns of their own are larger as JSON than they came: too many are refused before room is made."""
    monkeypatch.setattr("midstream.events.arrow.arrow.assemble", lambda *_: pytest.fail("room was made"))
    batch = pa.record_batch({"type": ["view"] * 300, "user_id": ["u"] * 300, "item_id": ["i"] * 300}).to_pylist()
    rows = [{**row, "context": {f"{'x' * 100}{at}": n for at in range(30)}} for n, row in enumerate(batch)]
    limits = msgspec.structs.replace(LIMITS, text_bytes_max=500_000)
    with pytest.raises(TooLarge, match=r"300 events, [0-9]+ bytes of text"):
        decode_arrow(pa.RecordBatch.from_pylist(rows), msgspec.structs.replace(ACCEPT, limits=limits))


def test_an_import_may_bring_log_times():
    """A trusted caller's rows keep theirs."""
    table = pa.record_batch(
        {"type": ["view", "view"], "user_id": ["a", "b"], "item_id": ["x", "y"], "log_time": [5, None]}
    )
    check_schema(table.schema, TRUSTED, {})
    assert decode_arrow(table, TRUSTED).batch.rows["log_time_ms"].tolist() == [5, 0]


def test_views_are_read_within_their_buffers():
    """Short ones lie in themselves, long ones elsewhere; a view that says what it should not is refused."""
    words = ["short", "x" * 13, None, "", "é" * 20, "y" * 12]
    good = pa.array(words, pa.string_view())
    batch = pa.RecordBatch.from_arrays([pa.concat_arrays([good, good]).slice(3)], names=["type"])
    assert without_views(batch, 1_000).column(0).to_pylist() == [*words, *words][3:]
    with pytest.raises(TooLarge):
        without_views(batch, 50)
    buffers: list[Any] = good.buffers()
    validity, views, *rest = buffers
    for field, value in ((0, -1), (0, 1 << 30), (2, 1), (2, -2), (3, -1), (3, 1 << 20)):
        changed = np.frombuffer(views.to_pybytes(), dtype=np.int32).copy()
        changed[4 + field] = value
        column: Any = pa.Array.from_buffers(pa.string_view(), len(words), [validity, pa.py_buffer(changed.data), *rest])
        with pytest.raises((RequestInvalid, TooLarge)):
            without_views(pa.RecordBatch.from_arrays([column], names=["type"]), 10_000)


def test_views_of_nulls_are_not_read():
    """Arrow validates only those of values, and casts all: a null of -5 bytes would end the process."""
    whole = pa.array(["x" * 13, None, "y" * 14, None], pa.string_view())
    buffers: list[Any] = whole.buffers()
    validity, views, *rest = buffers
    changed = np.frombuffer(views.to_pybytes(), dtype=np.int32).copy().reshape(4, 4)
    changed[1], changed[3] = (-5, 7, 99, 1 << 30), (1 << 30, 7, -9, -1)
    column: Any = pa.Array.from_buffers(pa.string_view(), 4, [validity, pa.py_buffer(changed.data), *rest])
    column.validate(full=True)
    batch = pa.RecordBatch.from_arrays([column], names=["type"])
    assert without_views(batch, 27).column(0).to_pylist() == ["x" * 13, None, "y" * 14, None]


def test_views_within_other_columns_become_texts():
    """As Polars writes categories, objects and lists: sliced, with what is missing, so many bytes of them."""
    words = pa.array(["short", None, "longer than twelve", "x", "longer than twelve as well"], pa.string_view())
    coded = pa.DictionaryArray.from_arrays(pa.array([4, None, 2, 1, 0], pa.uint32()), words)
    objects = pa.StructArray.from_arrays(
        [words, pa.array(range(5))], names=["word", "n"], mask=pa.array([False, True, False, False, False])
    )
    lists = pa.array([["short"], None, [], ["longer than twelve", None], ["x"]], pa.large_list(pa.string_view()))
    small = lists.cast(pa.list_(pa.string_view()))
    columns: dict[str, Any] = {"coded": coded, "objects": objects, "lists": lists, "small": small, "plain": words}
    whole = pa.RecordBatch.from_pydict(columns)
    for first in range(5):
        batch = whole.slice(first)
        found = without_inner_views(batch, 1_000)
        found.validate(full=True)
        assert found.to_pylist() == batch.to_pylist()
        assert "view" not in str(found.drop_columns(["plain"]).schema)
        assert pa.types.is_string_view(found.schema.field("plain").type)
    with pytest.raises(TooLarge):
        without_inner_views(whole, 50)
    assert without_inner_views(whole.select(["plain"]), 0).num_rows == 5


VIEW = np.dtype([("length", "<i4"), ("prefix", "<u4"), ("buffer", "<i4"), ("offset", "<i4")])


def views_on(pieces: list[bytes], places: list[tuple[int, int, int]]) -> Any:
    """Return a column of texts that lie in buffers: for each its buffer, where in it, how many bytes (13 or more)."""
    views = np.zeros(len(places), dtype=VIEW)
    for row, (buffer, offset, length) in enumerate(places):
        prefix = int.from_bytes(pieces[buffer][offset : offset + 4], "little")
        views[row] = (length, prefix, buffer, offset)
    buffers = [None, pa.py_buffer(views.tobytes()), *map(pa.py_buffer, pieces)]
    return pa.Array.from_buffers(pa.string_view(), len(places), buffers)


@given(st.integers(0, 2**63))
def test_texts_may_lie_in_any_buffer(seed):
    """In any order, some more than once, some over each other, some buffers unused: each row has its own text."""
    rng = np.random.default_rng(seed)
    pieces = [rng.integers(97, 123, int(rng.integers(20, 60)), dtype=np.uint8).tobytes() for _ in range(5)]
    places = []
    for _ in range(int(rng.integers(1, 40))):
        buffer = int(rng.integers(5))
        length = int(rng.integers(13, 20))
        places.append((buffer, int(rng.integers(len(pieces[buffer]) - length + 1)), length))
    batch = pa.RecordBatch.from_arrays([views_on(pieces, places)], names=["user_id"])
    texts = [pieces[buffer][offset : offset + length].decode() for buffer, offset, length in places]
    start = int(rng.integers(len(texts)))
    assert without_views(batch.slice(start), 10_000).column(0).to_pylist() == texts[start:]


def test_the_texts_of_all_columns_of_views_are_bounded_together():
    """Forty columns that name one text a hundred times are forty times as much as one; each alone would pass."""
    column = views_on([b"x" * 1_000], [(0, 0, 1_000)] * 100)
    names = [f"context.c{n}" for n in range(40)]
    assert without_views(pa.RecordBatch.from_arrays([column], names=names[:1]), 100_000).num_rows == 100
    with pytest.raises(TooLarge) as caught:
        without_views(pa.RecordBatch.from_arrays([column] * 40, names=names), 1_000_000)
    assert caught.value.faults[0].where == "column context.c10"


def test_buffers_of_views_are_not_copied_whole():
    """Of a slice of a large table only the texts of its rows are: it brings all buffers of the table with it."""
    large = b"y" * 8_000_000
    batch = pa.RecordBatch.from_arrays([views_on([large] * 5, [(0, 7, 20), (4, 100, 30)])], names=["user_id"])
    pa.set_memory_pool(COUNTED)
    tracemalloc.start()
    try:
        assert without_views(batch, 1_000).column(0).to_pylist() == ["y" * 20, "y" * 30]
        peak = COUNTED.max_memory()
        assert peak is not None
        assert tracemalloc.get_traced_memory()[1] + peak < 1_000_000
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(USUAL)
