"""A file read by columns becomes the events, ids, lines and refusals of the same file read row by row."""

import csv
import gzip
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midstream.app.config.schema import Config, ItemsSection
from midstream.app.ingest.import_file import IMPORT_LIMITS
from midstream.app.mapping.batches import RowTerms, read_parts
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.pieces import TablePiece
from midstream.app.mapping.readers import open_rows
from midstream.app.mapping.table_mapper import TableMapper
from midstream.app.opening import accept_of
from midstream.core.errors import Invalid
from midstream.core.types import TimestampMs
from midstream.events.schema import concat, event_at

NOW_MS = TimestampMs(1_790_000_000_000)
CONFIG = Config(items=ItemsSection(attributes={"price": "number"}))
ACCEPT = msgspec.structs.replace(accept_of(CONFIG, IMPORT_LIMITS, trusted=True), now_ms=NOW_MS)
IDS = ["ann", "7", "é", "", "x" * 129, "a b", "q'"]
TIMES = {
    "auto": ["1700000000000", "1700000000000.0", "", "1700000000", "2024-01-31T12:00:00Z", "soon", "1800000000000"],
    "s": ["1700000000", "1700000000.5", "", "+1700000001", "x", "1e9", "1900000000"],
    "us": ["1700000000000999", "", "x"],
    "ns": ["1700000000000999999", ""],
    "iso": ["2024-01-31T12:00:00", "2024-01-31 12:00:00", "2024-01-31T12:00:00+01:00", "2024-01-31", "",
            "2024-02-30T00:00:00"],
    "%Y-%m-%d %H:%M:%S": ["2024-01-31 12:00:00", "2024-1-31 12:00:00", "2024-13-31 12:00:00", ""],
    "%d.%m.%Y": ["31.01.2024", "32.01.2024", ""],
}  # fmt: skip
NUMBERS = ["1.5", "+2", "-0", "1e3", "nan", "", "x", "007", "1_0", "39.9", "0.1234567890123456", " 1", "3."]


def rows(rng, count, time_format):
    """Return rows of texts, as a CSV has them."""

    def pick(values):
        return values[int(rng.integers(len(values)))]

    return [
        {
            "kind": pick(["click"] * 6 + ["cart", "impression", "Item", "Served", "viev", ""]),
            "visitor": pick(IDS[:4] if rng.random() < 0.7 else IDS),
            "product": pick(["lamp", "12", "rug"] if rng.random() < 0.8 else IDS),
            "when": pick(TIMES[time_format]) if rng.random() < 0.5 else TIMES[time_format][0],
            "value": pick(NUMBERS) if rng.random() < 0.3 else "2.5",
            "quantity": pick(NUMBERS) if rng.random() < 0.1 else "",
            "position": pick(["3", "3.0", "-1", "x", "", "40000"]) if rng.random() < 0.3 else "",
            "page": pick(["list", "true", "7", "", "é"]),
            "event_id": pick(["", "", f"e{int(rng.integers(50))}"]),
            "other": "thing",
        }
        for _ in range(count)
    ]


def options_of(time_format, rng):
    """Return a mapping of those columns, with constants and a template sometimes."""
    columns = {"type": "kind", "user_id": "visitor", "item_id": "product", "time": "when", "context.page": "page"}
    constants = {"context.shop": "west"} if rng.random() < 0.5 else {}
    if rng.random() < 0.3:
        columns["session_id"] = "{visitor}/{page}"
    if rng.random() < 0.2:
        constants["type"] = "view"
    return ColumnOptions(columns, constants, {"click": "view", "12": "cart"}, time_format)


def read(path, options, monkeypatch=None):
    """Return the events and refusals of a file; with ``monkeypatch`` row by row."""
    with pytest.MonkeyPatch.context() as patch:
        if monkeypatch:

            def cannot(*_):
                raise pa.ArrowInvalid("row by row")

            patch.setattr(TableMapper, "map", cannot)
            patch.setattr("midstream.app.mapping.batches.plain_lines", lambda *_: None)
        with open_rows(path) as opened:
            found = list(read_parts(opened, RowTerms(options, ACCEPT, NOW_MS)))
    batch = concat([part.batch for part in found])
    lines = np.concatenate([part.lines for part in found])
    assert len(lines) == len(batch)
    assert (np.diff(lines) >= 0).all()
    return [event_at(batch, at) for at in range(len(batch))], [each for part in found for each in part.refused]


def assert_same(path, options):
    """Both ways; NaN is like NaN, and how a row is shown in its raw form may differ in order."""
    by_columns, refused = read(path, options)
    by_rows, expected = read(path, options, monkeypatch=True)
    assert repr(by_columns) == repr(by_rows)
    assert [(each.line, each.fault) for each in refused] == [(each.line, each.fault) for each in expected]
    return by_columns


@pytest.mark.parametrize("time_format", TIMES)
@pytest.mark.parametrize("seed", range(3))
def test_a_csv_by_columns_is_the_csv_by_rows(tmp_path, time_format, seed):
    """Cells of every kind, some of them wrong; then a quote, from which on all are rows."""
    rng = np.random.default_rng(seed)
    some = rows(rng, 120, time_format)
    options = options_of(time_format, rng)
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(some[0]), delimiter=";", lineterminator="\r\n" if seed == 1 else "\n")
        writer.writeheader()
        writer.writerows(some)
        if seed == 2:
            file.write('\nview;"b\nb";lamp\n"view";ann;lamp\n')
            writer.writerows(some[:5])
    assert_same(path, options)


@pytest.mark.parametrize("seed", range(6))
def test_a_table_by_columns_is_the_table_by_rows(tmp_path, seed, monkeypatch):
    """Parquet and Arrow: numbers as ids, timestamps of any unit, nulls."""
    monkeypatch.setattr("midstream.app.mapping.readers.CHUNK_ROWS", 30)
    rng = np.random.default_rng(seed)
    count = 70
    users = rng.integers(0, 9, count)
    times = rng.integers(1_600_000_000_000, 1_700_000_000_000, count)
    kind = [pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.int64(), pa.timestamp("s")][seed % 4]
    table = pa.table(
        {
            "type": pa.array(rng.choice(["view", "cart", "viev"], count, p=[0.8, 0.15, 0.05])),
            "user_id": pa.array(users, [pa.int64(), pa.float64(), pa.uint8()][seed % 3], mask=users == 0),
            "item_id": pa.array([f"i{n}" for n in users]).dictionary_encode(),
            "time": pa.array(times).cast(pa.timestamp("ms")).cast(kind, safe=False)
            if kind != pa.int64()
            else pa.array(times),
            "value": pa.array(rng.choice([1.5, 2.5, np.inf], count, p=[0.6, 0.38, 0.02])),
            "session_id": pa.array([f"s{n}" for n in users], pa.large_string()),
            "context": pa.array([json.dumps({"page": "x", "n": int(n % 2)}) for n in users]),
        }
    )
    options = ColumnOptions(constants={"context.shop": "west"}) if seed % 2 else ColumnOptions()
    pq.write_table(table, tmp_path / "a.parquet")
    events = assert_same(tmp_path / "a.parquet", options)
    assert len(events) > 40
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=25)
    with pa.OSFile(str(tmp_path / "b.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert repr(assert_same(tmp_path / "a.arrow", options)) == repr(events)
    assert repr(assert_same(tmp_path / "b.arrow", options)) == repr(events)


@pytest.mark.parametrize("seed", range(4))
def test_ndjson_by_lines_is_ndjson_by_records(tmp_path, seed, monkeypatch):
    """Plain lines by a kernel; empty, odd and broken lines, and an export's, which keep what they had."""
    monkeypatch.setattr("midstream.app.mapping.readers.BLOCK_BYTES", 2_000)
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(150):
        event: dict[str, Any] = {
            "type": "view",
            "user_id": f"u{number % 5}",
            "item_id": "é" if number % 9 == 0 else "lamp",
        }
        draw = rng.random()
        if draw < 0.3:
            event["event_id"] = f"e{number}"
        if draw < 0.6:
            event["time"] = NOW_MS - 1_000 if rng.random() < 0.9 else NOW_MS + 10**9
        if 0.5 < draw < 0.7:
            event["log_time"] = NOW_MS - 500
        if 0.7 < draw < 0.8:
            event = {"type": "cart", "user_id": "a", "items": [{"item_id": "x"}, {"item_id": "y"}]}
        lines.append(json.dumps(event) if draw < 0.95 else ["", "  ", "{", '{"type": "view"}', "[1]"][number % 5])
    path = tmp_path / "a.ndjson"
    path.write_bytes((b"\xef\xbb\xbf" if seed else b"") + "\n".join(lines).encode())
    ids = [each.event_id for each in assert_same(path, ColumnOptions()) if each.event_id]
    assert len(set(ids)) == len(ids) > 20


def test_plain_rows_are_no_objects(tmp_path, monkeypatch):
    """A mapped CSV and a Parquet file with texts, numbers and contexts: not one row goes one by one."""
    monkeypatch.setattr("midstream.app.mapping.batches.RowReader._one_by_one", lambda *_: pytest.fail("row by row"))
    some = [
        {"visitor": f"u{n}", "product": "lamp", "when": "2024-01-31 12:00:00", "page": "list", "value": "2.5"}
        for n in range(50)
    ]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(some[0]))
        writer.writeheader()
        writer.writerows(some)
    columns = {"user_id": "visitor", "item_id": "product", "time": "when", "context.page": "page"}
    options = ColumnOptions(columns, {"type": "view"}, time_format="iso")
    events, _ = read(tmp_path / "a.csv", options)
    assert events[0].body == b'{"page":"list"}'
    pq.write_table(pa.Table.from_pylist(some), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet", options)[0]) == 50


def parquet(path, **columns):
    """Write a table of columns; return its path."""
    pq.write_table(pa.table({name: pa.array(*column) for name, column in columns.items()}), path)
    return path


def test_nan_of_a_typed_column_is_a_missing_cell(tmp_path):
    """As a frame has whole numbers of which some are missing: no user "nan", no null in a patch; infinity is
    refused.
    """
    nan, inf = float("nan"), float("inf")
    path = parquet(
        tmp_path / "a.parquet",
        type=[["item", "item", "view", "view", "view", "view"]],
        item_id=[[1.0, 2.0, 3.0, nan, 5.0, 6.0], pa.float64()],
        user_id=[[None, None, nan, 7.0, 8.0, 9.0], pa.float64()],
        session_id=[["", None, "s", "s", "s", "s"]],
        price=[[nan, inf, 1.0, 1.0, 1.0, 1.0]],
        value=[[nan, nan, nan, nan, inf, 2.0]],
        pages=[[nan, nan, nan, nan, 1.0, inf]],
        attributes=[
            [{"a": nan, "b": 1.0}, None, None, None, None, None],
            pa.struct([("a", pa.float64()), ("b", pa.float64())]),
        ],
    )
    options = ColumnOptions(columns={"attributes.price": "price", "context.pages": "pages"})
    by_rows, refused = read(path, options, monkeypatch=True)
    assert [event.item_id for event in by_rows] == ["1"]
    assert by_rows[0].body == b'{"b":1.0}'
    assert [(each.line, each.fault.where.partition(": ")[2]) for each in refused] == [
        (2, "attributes.price"),
        (3, "attributes"),
        (4, "attributes"),
        (5, "value"),
        (6, "context.pages"),
    ]
    acts = ColumnOptions(columns={"context.pages": "pages"})
    table = pq.read_table(path).drop_columns(["price", "attributes"]).slice(2)
    pq.write_table(table, path)
    events = assert_same(path, acts)
    assert [(event.user_id, event.item_id) for event in events] == [("", "3")]
    assert np.isnan(events[0].value)
    assert [each.line for each in read(path, acts)[1]] == [2, 3, 4]


def test_plainly_typed_columns_are_taken_as_csv_text_is(tmp_path):
    """Decimals, whole categories and flags of 0 and 1; a text that says text stays one."""
    path = parquet(
        tmp_path / "a.parquet",
        type=[["item", "view"]],
        item_id=[["p", "p"]],
        user_id=[[None, Decimal(7)], pa.decimal128(10, 0)],
        zip=[["01067", "01067"]],
        cost=[[Decimal("1.10"), None], pa.decimal128(10, 2)],
        group=[[7, None], pa.int16()],
        value=[[None, Decimal("2.50")], pa.decimal128(5, 2)],
        available=[[0, None], pa.int8()],
    )
    accept = msgspec.structs.replace(ACCEPT, attributes={"price": "number", "category": "category"})
    columns = {"price": "cost", "category": "group", "available": "available", "zip": "zip"}
    options = ColumnOptions(
        {"context.zip": "zip", **{f"attributes.{name}": column for name, column in columns.items()}}
    )
    with open_rows(path) as opened:
        (part,) = read_parts(opened, RowTerms(options, accept, NOW_MS))
    events = [event_at(part.batch, at) for at in range(len(part.batch))]
    # An act has no attributes and an item no context: here both were mapped.
    assert [each.line for each in part.refused] == [1, 2]
    assert not events
    only = replace(options, columns={name: column for name, column in options.columns.items() if "context" not in name})
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    with open_rows(path) as opened:
        (part,) = read_parts(opened, RowTerms(only, accept, NOW_MS))
    assert not part.refused
    assert msgspec.json.decode(event_at(part.batch, 0).body) == {
        "price": 1.1,
        "category": "7",
        "available": False,
        "zip": "01067",
    }


def test_a_typed_text_of_a_context_stays_one_by_columns_and_by_rows(tmp_path):
    """01067 and true of a column of texts, of Parquet and of NDJSON; a CSV's true is one."""
    columns = {"context.zip": "zip", "context.flag": "flag"}
    rows = [{"type": "view", "user_id": "u", "item_id": "i", "zip": "01067", "flag": "true"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.ndjson").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    for name in ("a.parquet", "a.ndjson"):
        (event,) = assert_same(tmp_path / name, ColumnOptions(columns))
        assert msgspec.json.decode(event.body) == {"zip": "01067", "flag": "true"}
    (tmp_path / "a.csv").write_text("type,user_id,item_id,zip,flag\nview,u,i,01067,true\n")
    (event,) = assert_same(tmp_path / "a.csv", ColumnOptions(columns))
    assert msgspec.json.decode(event.body) == {"zip": "01067", "flag": True}


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "arrows"])
def test_columns_of_one_name_are_refused_and_others_are_not_read(tmp_path, suffix):
    """Which of the two is meant nobody knows; what is needed by nothing costs nothing."""
    columns = [pa.array(["view"]), pa.array(["ann"]), pa.array(["lamp"]), pa.array(["x" * 50])]

    def write(names):
        table = pa.Table.from_arrays(columns, names=names)
        path = tmp_path / f"a.{suffix}"
        if suffix == "parquet":
            pq.write_table(table, path)
            return path
        new = pa.ipc.new_file if suffix == "arrow" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
        return path

    with (
        pytest.raises(Invalid, match="More than one column is named 'user_id'"),
        open_rows(write(["type", "user_id", "item_id", "user_id"])),
    ):
        pass
    with open_rows(write(["type", "user_id", "item_id", "wide"])) as opened:
        needed = TableMapper(ColumnOptions(), opened.header or (), has_types=True).needed
        (piece,) = opened.read(needed)
    assert isinstance(piece, TablePiece)
    assert piece.table.schema.names == ["type", "user_id", "item_id"]


@pytest.mark.parametrize(
    "name,content,came",
    [
        ("a.ndjson", '{"type": "view"}\n'.encode("utf-16"), "no UTF-8"),
        ("a.ndjson", '{"type": "view"}\n'.encode("utf-16-le"), "no UTF-8"),
        ("a.json", b'[{"type": "view"},\n {"type": "view"}]', "one JSON list"),
        ("a.json.gz", gzip.compress(b'\xef\xbb\xbf\n [{"type": "view"}]', mtime=0), "one JSON list"),
    ],
)
def test_what_is_no_ndjson_is_told_once(tmp_path, name, content, came):
    """And not line by line; the error says what a file would have to be."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid) as caught, open_rows(tmp_path / name):
        pass
    (fault,) = caught.value.faults
    assert fault.where == f"{name} line 1"
    assert came in fault.came
    assert "One JSON object a line, in UTF-8" in fault.right


TEXTS = pa.array(["a" * 20, None, "short", "b" * 30]).cast(pa.string_view())
ODD_COLUMNS = {
    "binary_view": pa.array([b"a" * 20, None, b"s", b"\xff"], pa.binary()).cast(pa.binary_view()),
    "list_of_views": pa.FixedSizeListArray.from_arrays(pa.concat_arrays([TEXTS, TEXTS]), 2)[0:4],
    "sliced_list_of_views": pa.FixedSizeListArray.from_arrays(pa.concat_arrays([TEXTS, TEXTS]), 1)[2:6],
    "nanoseconds": pa.array([1_700_000_000_000_000_001, None, 1, 2], pa.timestamp("ns")),
    "far_year": pa.array([10**15, None, 1, 2], pa.timestamp("s")),
}


@pytest.mark.parametrize("kind", ODD_COLUMNS)
@pytest.mark.parametrize("field", ["context.c", "user_id"])
def test_columns_of_rare_types_are_read_by_columns_as_by_rows(tmp_path, kind, field):
    """Views of bytes, one of them no UTF-8, and within lists, and times that Python has no object for."""
    with pa.ipc.new_file(tmp_path / "a.arrow", (table := rare(ODD_COLUMNS[kind])).schema) as writer:
        writer.write_table(table)
    columns = {"item_id": "item", "user_id": "user"} | {field: "c"}
    options = ColumnOptions(columns, {"type": "view", "time": "1700000000000"})
    events = assert_same(tmp_path / "a.arrow", options)
    assert events or field == "user_id" or "list" in kind
    if kind == "nanoseconds" and field == "context.c":
        assert b"2023-11-14" in events[0].body
    if kind == "binary_view":
        assert "a" * 20 in repr(events[0])


def rare(column):
    """Return four rows of which a column is as given."""
    return pa.table({"item": ["i1", "i2", "i3", "i4"], "user": ["u"] * 4, "c": column})


def test_a_column_of_which_no_rows_can_be_taken_is_refused_by_name(tmp_path):
    """A run-end encoded one; beside it, mapped or not, others are read."""
    column: Any = pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), pa.array(["p", "q"]))
    with pa.ipc.new_file(tmp_path / "a.arrow", (table := rare(column)).schema) as writer:
        writer.write_table(table)
    columns = {"item_id": "item", "user_id": "user"}
    options = ColumnOptions(columns | {"context.c": "c"}, {"type": "view"})
    with pytest.raises(Invalid) as raised:
        read(tmp_path / "a.arrow", options)
    (fault,) = raised.value.faults
    assert fault.where == "column c"
    assert "run_end_encoded" in fault.came
    assert len(read(tmp_path / "a.arrow", ColumnOptions(columns, {"type": "view"}))[0]) == 4
