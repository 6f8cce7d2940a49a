"""No cell of a CSV of ours is a formula, and what is imported again is what was exported."""

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.export.events import ExportOptions, export_events
from midstream.app.export.writers import WRITERS, ExportedSlate
from midstream.app.ingest.import_file import import_file
from midstream.app.mapping.csv_cells import CsvTable, unescaped
from midstream.app.point_in_time.files import write_tables
from midstream.core.types import LogPosition
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import events_in

FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "''@x", "'-"]
FORMULAS += [
    " =1",
    "\u00a0=1",
    "\u200b+1",
    "\ufeff@x",
    "'\u3000-1",
    "﹣1",
    "﹢1",
    "−1",
    "\u2060\t=1",
    "\u2066=1",
    "\x00-1",
    "\x1f@x",
]
PLAIN = ["lamp", "'tis", "a=b", "", "''", " ", "5", "é"]
STARTS = "=+-@＝＋－＠﹣﹢−"
NOW_MS = 1_700_000_000_000


def seen_of(cell):
    """Return a cell as a program has it that takes away what is not seen in front of it."""
    return cell.lstrip().lstrip("\u200b\ufeff\u2060\u2066\x00\x1f").lstrip()


def texts_of(cells):
    """Return cells as they were before they were escaped."""
    return unescaped(pa.RecordBatch.from_pydict({"cell": cells}))["cell"].to_pylist()


def cells_of(table):
    """Return all cells of a CSV as a program reads them, the header first."""
    sink = io.BytesIO()
    writer = CsvTable(sink, table.schema)
    writer.write_table(table)
    writer.close()
    return list(csv.reader(io.StringIO(sink.getvalue().decode(), newline="")))


@given(st.lists(st.one_of(st.sampled_from([*FORMULAS, *PLAIN]), st.text("='-+@\tab \u200b", max_size=4)), min_size=1))
def test_no_text_is_a_formula_and_each_comes_back(texts):
    """Texts of every type that Arrow has for them, the names of columns too; numbers stay numbers."""
    columns = {
        "=name": pa.array(texts, pa.string()),
        "large": pa.array(texts, pa.large_string()),
        "coded": pa.array(texts).dictionary_encode(),
        "number": pa.array([-1.5] * len(texts)),
        "whole": pa.array([-7] * len(texts)),
    }
    header, *rows = cells_of(pa.table(columns))
    assert header == ["'=name", *list(columns)[1:]]
    for text, row in zip(texts, rows, strict=True):
        assert all(not seen_of(cell) or seen_of(cell)[0] not in STARTS for cell in row[:3])
        assert texts_of(row[:3]) == [text] * 3
        assert row[3:] == ["-1.5", "-7"]
    assert texts_of([row[0] for row in rows]) == texts
    assert all(cell in (text, f"'{text}") for text, (cell, *_) in zip(texts, rows, strict=True))


def test_an_export_is_escaped_and_imports_to_the_same_events(tmp_path):
    """Ids and actions that are formulas, in a log, through CSV into another log: the same events, byte for byte."""
    texts = [each for each in [*FORMULAS, *PLAIN] if each.isprintable() and each]
    events = [
        Event(
            1,
            event_id=f"{text}{at}",
            action="-view",
            user_id=text,
            item_id=text,
            body=b"",
            value=-2.0,
            log_time_ms=NOW_MS,
        )
        for at, text in enumerate(texts)
    ]
    log = SegmentLog(tmp_path / "one" / "data" / "log", RealDisk(), bytes(16))
    log.append(build(events))
    expected = events_in(log.read(LogPosition(0), 100))
    log.close()
    config = parse_config('[events.types]\n"-view" = {}\n')
    path = tmp_path / "out.csv"
    export_events(tmp_path / "one", config, path, ExportOptions("csv"))
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert len(rows) == len(texts)
    assert {row["type"] for row in rows} == {"'-view"}
    assert all(not cell or cell[0] not in STARTS for row in rows for name, cell in row.items() if name != "value")
    assert {row["value"] for row in rows} == {"-2"}
    summary = import_file(tmp_path / "two", config, path)
    assert (summary.recorded, summary.rejected) == (len(texts), 0), summary.faults
    reader = SegmentReader(tmp_path / "two" / "data" / "log", RealDisk())
    assert events_in(reader.read(LogPosition(0), 100, LogPosition(len(texts)))) == expected


def test_a_csv_of_others_is_taken_as_it_stands(tmp_path):
    """An apostrophe in a file with other columns is part of the id."""
    path = tmp_path / "a.csv"
    path.write_text("type,user_id,item_id\nview,'-ann,lamp\n")
    import_file(tmp_path, Config(), path)
    reader = SegmentReader(tmp_path / "data" / "log", RealDisk())
    ((_, batch),) = reader.read(LogPosition(0), 10, LogPosition(1))
    assert b"'-ann" in batch.text


@pytest.mark.parametrize("text", FORMULAS)
def test_tables_of_features_and_slates_are_escaped(tmp_path, text):
    """What else is written as CSV goes through the same writer."""
    columns: dict[str, Any] = {"item_id": pa.string(), "score": pa.float32(), "time": pa.timestamp("ms", "UTC")}
    schema = pa.schema(columns)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    batch = pa.RecordBatch.from_pylist([{"item_id": text, "score": -1.0, "time": moment}], schema)
    write_tables(tmp_path / "t.csv", "csv", schema, [batch])
    sink = io.BytesIO()
    writer = WRITERS["csv"](sink, ("title",))
    writer.write(
        ExportedSlate(
            text, "home", None, "full", [{"id": text, "score": -1.0, "position": 0, "fields": {"title": text}}]
        )
    )
    writer.close()
    for content in ((tmp_path / "t.csv").read_bytes(), sink.getvalue()):
        (row,) = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        assert texts_of([row["item_id"]]) == [text]
        assert all(not cell or cell[0] not in STARTS for name, cell in row.items() if name != "score")
        assert float(row["score"]) == -1.0
