"""A file goes into a log once, whatever its format, however often, wherever it was interrupted; and comes out again."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app import opening as running
from midstream.app.config.schema import Config, ItemsSection
from midstream.app.export.events import FORMATS, ExportOptions, export_events
from midstream.app.ingest import import_file as importing
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.mapping import readers
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.server_address import Address, publish
from midstream.cli.data.import_file import print_summary
from midstream.core.errors import FolderLocked, Invalid
from midstream.core.fault_groups import FaultGroup
from midstream.core.kinds import Kind
from midstream.engine import log_opening
from midstream.engine.ingest import writer
from midstream.events.arrow.to_arrow import SCHEMA
from midstream.events.dead_letters.dead_letters import DeadLetters, read_letters
from midstream.events.disk import RealDisk
from midstream.events.schema import Event, build
from midstream.events.segments.segments import SegmentLog
from midstream.serving.options import ServerOptions
from midstream.simulation.world import example_events
from tests.support.patience import PATIENCE_S

START_MS = 1_700_000_000_000
SERVER = Path(__file__).parents[2] / "service" / "fake_server.py"
CONFIG = Config(items=ItemsSection(attributes={"price": "number", "category": "category"}))
ACTS = [
    {
        "event_id": f"e{n}",
        "type": "view",
        "user_id": f"u{n % 3}",
        "item_id": f"i{n % 5}",
        "time": START_MS + n % 7 * 60_000,
    }
    for n in range(40)
]


@pytest.fixture(autouse=True)
def one_log_id(monkeypatch):
    """Let every log have one id, and so one key of ids: states of different folders are compared by their hashes."""
    begin = log_opening.open_log
    monkeypatch.setattr(running, "open_log", lambda data, _, *rest: begin(data, bytes(16), *rest))
    monkeypatch.setattr(importing, "_new_log_id", lambda: bytes(16))


@pytest.fixture
def example(tmp_path):
    """Write a shop's catalogue and 120 acts as NDJSON."""
    path = tmp_path / "example.ndjson"
    path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in example_events(3, START_MS, 20, 120)))
    return path


def digest_of(folder):
    """Return the digest of the state that a folder's log gives."""
    return state_of(folder, CONFIG, LogView(folder)).fold.digest()


def test_a_second_import_adds_nothing(tmp_path, example):
    """The first run records all rows, the second none and says that they were known."""
    first = import_file(tmp_path, CONFIG, example)
    assert (first.rows, first.recorded, first.known, first.log_time) == (140, 140, 0, "event time")
    assert 0 < first.starting_seconds < first.seconds
    second = import_file(tmp_path, CONFIG, example)
    assert (second.rows, second.recorded, second.known, second.starting_seconds) == (140, 0, 140, 0)
    assert (LogView(tmp_path).end, second.run) == (141, "")  # with the account of the first run


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_import_goes_on(tmp_path, example, monkeypatch, after):
    """Broken off in the middle and run again, every row is there once, in the state of a run without interruption."""
    monkeypatch.setattr(importing, "RECORD_ROWS", 10)
    parts = 0

    def interrupt(stage, _done, _total):
        nonlocal parts
        parts += stage == "recording"
        if parts == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(tmp_path / "broken", CONFIG, example, notify=interrupt)
    begun = int(LogView(tmp_path / "broken").end)
    assert 0 < begun < 140
    rest = import_file(tmp_path / "broken", CONFIG, example)
    assert (rest.recorded, rest.known, rest.log_time) == (140 - begun, begun, "event time")
    import_file(tmp_path / "whole", CONFIG, example)
    one, other = (
        state_of(tmp_path / name, CONFIG, LogView(tmp_path / name)).fold.arrays() for name in ("broken", "whole")
    )
    # One has the accounts of two runs, so it stands an event further.
    assert {key for key, array in one.items() if array.tobytes() != other[key].tobytes()} == {"fold.place"}


def test_parts_with_much_text_go_one_after_another(tmp_path, example, monkeypatch):
    """Parts whose bytes do not fit beside others into what may wait for the log are recorded all the same."""
    monkeypatch.setattr(importing, "RECORD_ROWS", 10)
    monkeypatch.setattr(writer, "QUEUE_BYTES_MAX", 1)
    assert import_file(tmp_path, CONFIG, example).recorded == 140


def test_every_format_gives_the_same_state(tmp_path):
    """CSV, TSV, packed CSV, NDJSON and Parquet of the same rows fold to the same state."""
    names = list(ACTS[0])
    for name, delimiter in (("a.csv", ";"), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ACTS)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    (tmp_path / "a.ndjson").write_text("".join(f"{json.dumps(each)}\n\n" for each in ACTS))
    pq.write_table(pa.Table.from_pylist(ACTS), tmp_path / "a.parquet")
    digests = set()
    for name in ("a.csv", "a.tsv", "a.csv.gz", "a.ndjson", "a.parquet"):
        summary = import_file(tmp_path / f"{name}-folder", CONFIG, tmp_path / name)
        assert (summary.recorded, summary.rejected) == (40, 0), (name, summary.faults)
        digests.add(digest_of(tmp_path / f"{name}-folder"))
    assert len(digests) == 1


def test_rows_that_are_wrong_alike_are_counted_and_told_early(tmp_path):
    """A kind of fault is told once, with its count; at once where none of the first rows is an event."""
    path, many = tmp_path / "a.ndjson", 10_000
    row = f'{{"type": "viuw", "user_id": "u", "item_id": "{"i" * 120}"}}\n'
    path.write_text(row * many + row.replace("viuw", "view"))
    assert path.stat().st_size > readers.BLOCK_BYTES
    warned: list[tuple[str, int]] = []

    def warn(groups: Sequence[FaultGroup]) -> None:
        warned.extend((each.first.where, each.count) for each in groups)

    summary = import_file(tmp_path, CONFIG, path, warn=warn)
    (told,) = summary.faults
    assert (told.first.where, told.count, summary.recorded) == ("line 1: type", many, 1)
    ((where, count),) = warned
    assert where == "line 1: type"
    assert importing.WARNED_ROWS <= count < many
    path.write_text(row.replace("viuw", "cart") + row * many)
    import_file(tmp_path, CONFIG, path, warn=warn)
    assert len(warned) == 1


def test_rejected_rows_have_their_line(tmp_path):
    """Each row that is no event is named by line, and stands whole in the file of rejected rows; others go in."""
    path = tmp_path / "a.csv"
    path.write_text(
        "type,user_id,item_id,time\n"
        f"view,ann,lamp,{START_MS}\n"
        "view,ann,lamp\n"
        "view,ann,lamp,soon\n"
        f"viuw,ann,lamp,{START_MS}\n"
        f"view,,lamp,{START_MS}\n"
        "view,ann,lamp,4000000000000\n"
        f'view,"b\nb",lamp,{START_MS}\n'
        f"view,bob,mug,{START_MS}\n"
    )
    summary = import_file(tmp_path, CONFIG, path)
    assert (summary.rows, summary.recorded, summary.rejected) == (8, 2, 6)
    file = tmp_path / "data" / summary.rejected_file
    lines = file.read_text().splitlines()
    where = [json.loads(line)["reason"]["where"] for line in lines]
    assert [each.split(":")[0] for each in where] == ["line 3", "line 4", "line 5", "line 6", "line 7", "line 8"]
    assert sum(each.count for each in summary.faults) == 6
    assert "viuw" in lines[2]
    assert "later than now" in lines[4]
    letters = DeadLetters(file, RealDisk())
    assert letters.forget(["ann", "a", "view,"]) == 4
    assert [each.reason.where.split(":")[0] for each in letters.read()] == ["line 6", "line 8"]
    letters.close()


def test_rejected_rows_are_those_of_the_last_import(tmp_path):
    """All files of them go with the next one, also the older one of an import that had many."""
    path = tmp_path / "a.csv"
    path.write_text(f"type,user_id,item_id,time\nview,ann,lamp,{START_MS}\n")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("import-rejected.ndjson", "import-rejected.ndjson.old", "import-rejected.ndjson.new"):
        (data / name).write_text('{"user_id": "bob"}\n')
    assert import_file(tmp_path, CONFIG, path).rejected == 0
    assert not list(data.glob("import-rejected*"))


def test_rejected_rows_that_are_not_kept_are_counted(tmp_path, monkeypatch, capsys):
    """Two files hold the last ones; the summary, its words and the file's last line say how many are in neither. The
    next import removes both, whatever it brings.
    """
    monkeypatch.setattr("midstream.app.rejected_rows.DeadLetters", partial(DeadLetters, file_bytes_max=2_000))
    path = tmp_path / "a.csv"
    path.write_text("type,user_id,item_id\n" + "".join(f"nothing,ann,i{at}\n" for at in range(200)))
    summary = import_file(tmp_path, CONFIG, path)
    kept = read_letters(tmp_path / "data" / summary.rejected_file, RealDisk())
    assert summary.rejected == 200
    assert 0 < summary.rejected_kept == len(kept) < 40
    assert kept[-1].reason.where == "line 201: type"
    old = tmp_path / "data" / f"{summary.rejected_file}.old"
    assert "ann" in old.read_text()
    last = (tmp_path / "data" / summary.rejected_file).read_text().splitlines()[-1]
    assert json.loads(last) == {"rejected_rows": 200, "kept": len(kept), "not_kept": 200 - len(kept)}
    print_summary(summary)
    said = " ".join(capsys.readouterr().err.split())
    assert f"200 rows rejected, the last {len(kept)} of them in data/import-rejected.ndjson" in said
    assert f"hold no more: {200 - len(kept)} are not" in said
    path.write_text("type,user_id,item_id\n")
    assert import_file(tmp_path, CONFIG, path).rejected_kept == 0
    assert not list((tmp_path / "data").glob("import-rejected*"))


def test_bad_options_record_nothing(tmp_path):
    """A mapping that does not fit the file is told before anything is recorded."""
    path = tmp_path / "a.csv"
    path.write_text("visitor,item_id\nann,lamp\n")
    with pytest.raises(Invalid):
        import_file(tmp_path, CONFIG, path, ColumnOptions(columns={"user_id": "nobody"}))
    assert not (tmp_path / "data" / "log").exists()


def test_a_locked_folder_without_a_server_is_told(tmp_path, example):
    """Where another process holds the folder and nobody listens, the import says who, and changes nothing."""
    log = SegmentLog(tmp_path / "data" / "log", RealDisk(), bytes(16))
    try:
        with pytest.raises(FolderLocked):
            import_file(tmp_path, CONFIG, example)
    finally:
        log.close()


@contextmanager
def served_elsewhere(folder):
    """Hold a folder as a server of another process does, one in front of an engine of dicts."""
    log = SegmentLog(folder / "data" / "log", RealDisk(), bytes(16))
    process = subprocess.Popen(
        [sys.executable, str(SERVER), f"--log={log.public_name}"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        publish(folder / "data", Address(url, log.public_name, process.pid))
        yield url
    finally:
        process.kill()
        process.communicate()
        log.close()


def test_a_wide_catalogue_goes_through_a_server(tmp_path):
    """Rows of a kilobyte each, more of them than a server takes as one message, go in as several."""
    rows = 18_000
    words = "x" * 1_000
    catalogue = tmp_path / "wide.ndjson"
    catalogue.write_text(
        "".join(
            f'{{"type":"item","operation":"put","item_id":"i{n}","attributes":{{"title":"{words}"}}}}\n'
            for n in range(rows)
        )
    )
    assert rows * 1_000 > CONFIG.server.bulk_message_bytes_max
    with served_elsewhere(tmp_path) as url:
        summary = import_file(tmp_path, CONFIG, catalogue)
        last = httpx.get(f"{url}/v1/items/i{rows - 1}", timeout=PATIENCE_S).json()
    assert (summary.recorded, summary.rejected, summary.through) == (rows, 0, url)
    assert last["attributes"] == {"title": words}


def test_a_server_that_takes_little_at_once_gets_little(tmp_path, example):
    """The bound of its configuration is kept."""
    config = msgspec.structs.replace(CONFIG, server=ServerOptions(bulk_message_bytes_max=8_192))
    sent = []
    with served_elsewhere(tmp_path) as url:
        summary = import_file(tmp_path, config, example, notify=lambda stage, done, _: sent.append((stage, done)))
    assert (summary.recorded, summary.through) == (140, url)
    assert sum(stage == "sending" for stage, _ in sent) > 1


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_imports_to_the_same_state(tmp_path, example, name):
    """What was exported in any format folds to the same state in another folder, log time included."""
    import_file(tmp_path / "a", CONFIG, example)
    log = SegmentLog(tmp_path / "a" / "data" / "log", RealDisk(), bytes(16))
    later = log.last_log_time_ms + 1_000
    log.append(
        build(
            [
                Event(Kind.INTERACTION, action="view", user_id="ann", item_id="x", log_time_ms=later, quantity=2.5),
                Event(Kind.SERVED, request_id="r", body=b"\x93\x01\x02\xff", log_time_ms=later),
                Event(Kind.TICK, log_time_ms=later + 60_000),
            ]
        )
    )
    log.close()
    file = tmp_path / f"export.{name}"
    assert export_events(tmp_path / "a", CONFIG, file, ExportOptions(name)).events == 144
    summary = import_file(tmp_path / "b", CONFIG, file)
    assert (summary.recorded, summary.rejected) == (144, 0), summary.faults
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    # Beside the ids that an import gives to events that had none, and its own account behind them.
    one, other = (state_of(tmp_path / name, CONFIG, LogView(tmp_path / name)).fold.arrays() for name in "ab")
    assert one.keys() == other.keys()
    for key, array in one.items():
        assert key.startswith(("event_ids.", "fold.place")) or array.tobytes() == other[key].tobytes(), key


VECTORS = Config(items=ItemsSection(attributes={"look": "vector:3"}))


@pytest.mark.parametrize("name", FORMATS)
def test_vectors_come_from_columns_of_lists_and_go_round(tmp_path, name):
    """Of a Parquet file, a row of another length refused; an export in any format brings the same vectors back."""
    looks = [[0.1, -2.0, 3e38], None, [1.0, 2.0], [4.0, 5.0, 6.0]]
    mapped = ColumnOptions(columns={"attributes.look": "embedding"})
    kinds: Any = (pa.list_(pa.float64()), pa.list_(pa.float32()))
    for at, kind in enumerate(kinds):
        columns = {"type": ["item"] * 4, "item_id": list("abcd"), "embedding": pa.array(looks, kind)}
        pq.write_table(pa.table(columns), tmp_path / "items.parquet")
        summary = import_file(tmp_path / f"a{at}", VECTORS, tmp_path / "items.parquet", mapped)
        assert (summary.recorded, summary.rejected) == (3, 1)
        assert "A list of 2." in str(summary.faults[0])
        file = tmp_path / f"export.{name}"
        export_events(tmp_path / f"a{at}", VECTORS, file, ExportOptions(name))
        assert import_file(tmp_path / f"b{at}", VECTORS, file).rejected == 0
        folds = [state_of(tmp_path / f"{each}{at}", VECTORS, LogView(tmp_path / f"{each}{at}")).fold for each in "ab"]
        found = [each.items.vectors("look", each.vocabulary.item_indices(tuple("abcd"))) for each in folds]
        expected = np.array([looks[0], [np.nan] * 3, [np.nan] * 3, looks[3]], dtype=np.float32)
        for each in found:
            np.testing.assert_array_equal(each, expected)


def rows_of(folder):
    """Return what of the events of a log no import may change, as text, in which NaN is like NaN."""
    rows = np.concatenate([batch.rows for batch in LogView(folder).batches()])
    rows = rows[rows["kind"] != Kind.CONTROL]  # accounts of imports
    return repr(rows[["kind", "event_time_ms", "log_time_ms", "value", "quantity"]].tolist())


def test_an_export_holds_each_event_once(tmp_path):
    """A second copy that a crash left in the log is left out, of a conflict the first stays; kinds can be chosen."""
    log = SegmentLog(tmp_path / "data" / "log", RealDisk(), bytes(16))
    event = Event(Kind.INTERACTION, event_id="1", action="view", user_id="ann", item_id="x", log_time_ms=START_MS)
    other = event._replace(item_id="y")
    log.append(build([event, event._replace(event_id="2"), Event(Kind.TICK, log_time_ms=START_MS)]))
    log.append(build([event, other]))
    log.close()
    file = tmp_path / "all.ndjson"
    summary = export_events(tmp_path, CONFIG, file)
    assert (summary.events, summary.duplicates, summary.left_out) == (3, 2, 0)
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each.get("event_id") for each in found] == ["1", "2", None]
    assert found[0]["item_id"] == "x"
    only = export_events(tmp_path, CONFIG, file, ExportOptions(kinds=("tick",)))
    assert (only.events, only.left_out) == (1, 2)
    with pytest.raises(Invalid):
        export_events(tmp_path, CONFIG, file, replace(ExportOptions(), format="xml"))


def test_times_and_kinds_can_be_chosen(tmp_path, example):
    """By log time, from a point on and before another; the first copy of an event may lie before what is wanted."""
    import_file(tmp_path, CONFIG, example)
    log = SegmentLog(tmp_path / "data" / "log", RealDisk(), bytes(16))
    last = log.last_log_time_ms
    copy = Event(Kind.INTERACTION, event_id="e", action="view", user_id="a", item_id="x", log_time_ms=last + 5_000)
    log.append(build([copy, copy._replace(log_time_ms=last + 10_000)]))
    log.close()
    whole = midstream.read_events(tmp_path)
    times: list[Any] = whole["log_time"].to_pylist()
    assert whole.schema == SCHEMA
    assert times == sorted(times)
    middle = times[100]
    for since in (
        middle,
        datetime.fromtimestamp(middle / 1_000, UTC),
        f"{datetime.fromtimestamp(middle / 1_000, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
    ):
        found = midstream.read_events(tmp_path, since=since, until=times[120])
        assert found["log_time"].to_pylist() == [each for each in times if middle <= each < times[120]]
    assert midstream.read_events(tmp_path, since=last + 6_000).num_rows == 0, (
        "a second copy, though its first is left out"
    )
    assert midstream.read_events(tmp_path, since="1h").num_rows == 0
    items = midstream.read_events(tmp_path, kinds=["item"])
    assert set(items["type"].to_pylist()) == {"item"}
    assert pa.Table.from_batches(list(midstream.stream_events(tmp_path, kinds=["item"]))) == items
    for wrong in ({"since": "soon"}, {"until": "2w"}, {"kinds": ["view"]}):
        with pytest.raises(Invalid):
            midstream.read_events(tmp_path, **wrong)


@pytest.mark.parametrize(
    "name,content,came",
    [
        ("a.csv.gz", b"item_id,user_id\n", "cannot be unpacked"),
        ("a.ndjson.gz", gzip.compress(b'{"type": "view"}\n' * 9_000, mtime=0)[:-20], "cannot be unpacked"),
        ("a.parquet", b"item_id,user_id\n", "no Parquet file"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_told(tmp_path, name, content, came):
    """Damaged packing and a wrong ending are expected failures that name the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Invalid) as caught:
        import_file(tmp_path, CONFIG, tmp_path / name)
    (fault,) = caught.value.faults
    assert fault.where == name
    assert came in fault.came
