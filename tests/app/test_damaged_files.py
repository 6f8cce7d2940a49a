"""Files that are damaged: each is read, its rows are refused, or the error says where, what came and what is right."""

import gzip
import io
import os
import random
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from midstream.app.config.schema import Config, ItemsSection
from midstream.app.evaluation.rankers import _read as read_examples
from midstream.app.feature_tables import read_table as read_external
from midstream.app.ingest import import_file as importing
from midstream.app.ingest.import_file import import_file
from midstream.app.mapping import csv_reader, readers
from midstream.app.mapping.batches import RowTerms, read_parts
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.readers import open_rows
from midstream.app.opening import accept_of
from midstream.app.point_in_time.requests import of_file
from midstream.core.errors import Invalid, LogDamaged, MidstreamError
from midstream.core.types import TimestampMs
from midstream.evaluation.data.tables import FileColumns, read_table
from midstream.events.disk import RealDisk
from midstream.events.history.history_file import FileReader, FileWriter
from midstream.events.schema import Event, build
from midstream.features.readers.external import Table
from tests.support.ids import KEY

NOW_MS = TimestampMs(1_800_000_000_000)
CONFIG = Config(items=ItemsSection(attributes={"price": "number"}))
MUTATIONS = int(os.environ.get("MUTATIONS", "200"))
"""Of each file."""
TABLE = pa.table(
    {
        "type": ["view", "view", "cart", None] * 10,
        "user_id": pa.array([f"u{at % 7}" for at in range(40)]).dictionary_encode(),
        "item_id": [f"lamp-{at}" for at in range(40)],
        "time": pa.array([datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=at) for at in range(40)]),
        "value": [at / 3 for at in range(40)],
        "context": [{"page": "list", "n": at} for at in range(40)],
    }
)
FLAT = TABLE.drop_columns(["context"]).append_column("note", pa.array(['say "hi"', "plain"] * 20))


def written(write: Callable[..., Any], table: pa.Table, **options: Any) -> bytes:
    """Return a file that pyarrow writes."""
    sink = io.BytesIO()
    write(table, sink, **options)
    return sink.getvalue()


def ipc_stream(table: pa.Table, sink: io.BytesIO) -> None:
    """Write an Arrow stream."""
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


LINES = b"".join(msgspec.json.encode(row) + b"\n" for row in TABLE.to_pylist())
CELLS = written(pa.csv.write_csv, FLAT)
FILES = {
    "a.parquet": written(pq.write_table, TABLE, row_group_size=15, compression="zstd"),
    "b.parquet": written(pq.write_table, TABLE, compression="none", write_page_index=True, use_dictionary=False),
    "a.feather": written(pa.feather.write_feather, TABLE, compression="uncompressed"),
    "a.arrows": written(ipc_stream, TABLE),
    "a.csv": CELLS,
    "b.csv": CELLS.replace(b'"', b""),
    "a.ndjson": LINES,
    "a.csv.gz": gzip.compress(CELLS),
    "a.ndjson.gz": gzip.compress(LINES),
}


def seeded(name: str) -> random.Random:
    """Return the same chances in each run."""
    return random.Random(name)  # noqa: S311  nothing is secret


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return a file with some bytes or bits changed, left out, doubled or put in, or cut short."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        # Headers and footers are small and say the most.
        near = rng.choice((len(found), 64))
        at = rng.choice((rng.randrange(near), len(found) - 1 - rng.randrange(near))) % len(found)
        match rng.randrange(6):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at] = rng.choice(b'\x00\x7f\x80\xff\r\n",{')
            case 2:
                found[at : at + rng.choice((1, 4, 30))] = b""
            case 3:
                found[at:at] = found[at : at + rng.choice((1, 8, 100))]
            case 4:
                found[at:at] = rng.randbytes(rng.choice((1, 4, 9)))
            case _:
                found[at:] = b"" if rng.random() < 0.2 else found[at:]
        if len(found) < 4:
            break
    return bytes(found)


def import_rows_of(path: Path) -> None:
    """Read a file as an import does, up to where its rows go into the log."""
    terms = RowTerms(ColumnOptions(), accept_of(CONFIG, importing.IMPORT_LIMITS, trusted=True), NOW_MS)
    with open_rows(path) as opened:
        for part in read_parts(opened, terms):
            for refused in part.refused:
                assert refused.fault.where
                assert refused.fault.right


def error_of(read: Callable[[], object], what: str) -> MidstreamError | None:
    """Return the error that reading ends with; one that nobody expects fails the test."""
    try:
        read()
    except MidstreamError as error:
        return error
    except Exception as error:
        message = f"{what}: {error!r}"
        raise AssertionError(message) from error
    return None


def in_parts(error: MidstreamError | None) -> bool:
    """Say whether an error has its four parts; what is none has."""
    return not isinstance(error, Invalid) or all(
        each.where and each.came and each.right and each.page for each in error.faults
    )


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_refused_by_rows_or_told(tmp_path, name):
    """Whatever bytes change: nothing but an error that says where, what came and what would be right."""
    rng = seeded(name)
    path = tmp_path / name
    path.write_bytes(FILES[name])
    import_rows_of(path)
    told = 0
    for number in range(MUTATIONS):
        path.write_bytes(mutated(FILES[name], rng))
        error = error_of(partial(import_rows_of, path), f"mutation {number} of {name}")
        assert in_parts(error), error
        told += error is not None
    assert told > 0 or name.endswith((".csv", ".ndjson"))


def test_footers_that_are_cut_are_told(tmp_path):
    """Bytes of a Parquet file's footer one by one, and half of the file: an import says so in four parts."""
    content = FILES["a.parquet"]
    path = tmp_path / "a.parquet"
    footer = int.from_bytes(content[-8:-4], "little") + 8
    told = 0
    for at in range(len(content) - footer, len(content), 11):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        error = error_of(partial(import_rows_of, path), f"byte {at}")
        assert in_parts(error), error
        told += error is not None
    assert told > 30
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Invalid, match="or a damaged one"):
        import_file(tmp_path, CONFIG, path)


def ask(path: Path) -> None:
    """Read a file of questions about the past."""
    with ExitStack() as stack:
        of_file(path, stack)


QUESTIONS = pa.table({"item_id": ["a", "b"], "user_id": ["u", "v"], "time": [1, 2]})
READERS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "t.parquet": (
        FILES["a.parquet"],
        lambda path: read_external(Table(name="t", path=path.name, id="item_id"), path.parent, "$", KEY),
    ),
    "t.csv": (CELLS, lambda path: read_external(Table(name="t", path=path.name, id="item_id"), path.parent, "$", KEY)),
    "e.parquet": (
        FILES["a.parquet"],
        lambda path: read_table(path, FileColumns(item="item_id", time="time", user="user_id")),
    ),
    "e.csv.gz": (
        FILES["a.csv.gz"],
        lambda path: read_table(path, FileColumns(item="item_id", time="time", user="user_id")),
    ),
    "j.parquet": (FILES["a.parquet"], read_examples),
    "j.arrow": (FILES["a.feather"], read_examples),
    "q.parquet": (written(pq.write_table, QUESTIONS), ask),
}


@pytest.mark.parametrize("name", READERS)
def test_other_readers_of_damaged_files_say_so_too(tmp_path, name):
    """Tables of the configuration, evaluation's data, files of examples and of questions."""
    content, read = READERS[name]
    path = tmp_path / name
    rng = seeded(name)
    for number in range(MUTATIONS // 2):
        path.write_bytes(mutated(content, rng))
        error = error_of(partial(read, path), f"mutation {number} of {name}")
        assert in_parts(error), error


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.csv.gz", "quoted.csv.gz"])
def test_a_packing_that_becomes_far_too_much_is_refused(tmp_path, monkeypatch, name):
    """30 M line ends in 30 kB: refused once they are more than 200 for a byte, at a line."""
    begin = b"" if "ndjson" in name else b"type,user_id,item_id\n" + (b'"view",u,i\n' if "quoted" in name else b"")
    path = tmp_path / name
    path.write_bytes(gzip.compress(begin + b"\n" * 30_000_000))
    monkeypatch.setattr(readers, "PACKED_FREE_BYTES", 3 << 20)
    size = path.stat().st_size
    told: list[int] = []
    with pytest.raises(Invalid, match=r"line [0-9]+\n +[0-9]+ bytes of the file become [0-9]+.*\n.*At most 200"):
        import_file(tmp_path, CONFIG, path, notify=lambda _stage, done, _total: told.append(done))
    assert all(0 < each <= size for each in told)
    assert not list((tmp_path / "data").glob("*spill*"))


@pytest.mark.parametrize("name", ["a.ndjson", "a.csv", "quoted.csv"])
def test_empty_lines_are_counted_and_cost_little(tmp_path, monkeypatch, name):
    """Lines without anything are handed on a bounded number at a time, and what follows them has its line."""
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 1 << 16)
    count = 300_005
    header = b"" if "ndjson" in name else b"type,user_id,item_id\n"
    first = b'"view",u,i\n' if "quoted" in name else b""
    path = tmp_path / name
    path.write_bytes(header + first + b"\n" * count + b'{"type": 1, "user_id": 2}\n')
    with open_rows(path) as opened:
        terms = RowTerms(ColumnOptions(), accept_of(CONFIG, importing.IMPORT_LIMITS, trusted=True), NOW_MS)
        parts = list(read_parts(opened, terms))
    refused = [each for part in parts for each in part.refused]
    assert [each.line for each in refused] == [count + 1 + header.count(b"\n") + first.count(b"\n")]
    assert len(parts) >= (4 if "csv" in name else 1)


def test_history_that_is_damaged_says_so_as_damage(tmp_path):
    """A file of history is refused with its own error, whatever its bytes are."""
    disk = RealDisk()
    batch = build([Event(1, event_id=f"e{at}", user_id="u", body=b"{}", log_time_ms=NOW_MS) for at in range(30)])
    writer = FileWriter(tmp_path, disk, 0)
    writer.add(batch)
    file = writer.close()
    path = tmp_path / file.name
    content = path.read_bytes()
    rng = seeded("history")
    found = 0
    for _ in range(MUTATIONS // 2):
        path.write_bytes((mutated(content, rng) + bytes(file.bytes))[: file.bytes])
        try:
            FileReader(path, disk, file).read_group(0)
        except LogDamaged:
            found += 1
    assert found > MUTATIONS // 4
