"""Files of any shop: the same rows from CSV, TSV, compressed text and Parquet, and errors that say where."""

import gzip
import time
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid, NotFound
from midstream.evaluation.data.tables import FileColumns, read_table

ID = st.text("0123456789abcäß", min_size=1, max_size=6)
ROWS = st.lists(st.tuples(ID, ID, st.integers(0, 10**12)), min_size=1, max_size=20)
COLUMNS = FileColumns(item="what", time="when", session="visit")


def rows_of(found):
    """The rows again."""
    return list(zip(found.session_id.tolist(), found.item_id.tolist(), found.time_ms.tolist(), strict=True))


@given(ROWS, st.sampled_from([".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet"]))
def test_every_kind_of_file_gives_the_same_rows(tmp_path_factory, rows, suffix):
    """Ids come back as the text they were, leading zeros and all, times to the millisecond, in the file's order."""
    path = tmp_path_factory.mktemp("table") / f"clicks{suffix}"
    if suffix == ".parquet":
        columns = {name: [row[place] for row in rows] for place, name in enumerate(("visit", "what", "when"))}
        pq.write_table(pa.table(columns), path)
    else:
        between = "\t" if "tsv" in suffix else ","
        text = "\n".join(between.join(map(str, row)) for row in [("visit", "what", "when"), *rows]) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    assert rows_of(read_table(path, COLUMNS)) == [(visit, what, when) for visit, what, when in rows]


@pytest.mark.parametrize(
    "unit, written",
    [("s", "1592337718.25"), ("ms", "1592337718250"), ("iso", "2020-06-16T20:01:58.250Z")],
)
def test_times_of_every_unit_mean_the_same(tmp_path, unit, written):
    """Seconds with a fraction, milliseconds and ISO text of one moment give one number."""
    path = tmp_path / "clicks.csv"
    path.write_text(f"what,when,visit\na,{written},1\n")
    found = read_table(path, FileColumns(item="what", time="when", session="visit", time_unit=unit))
    assert found.time_ms.tolist() == [1592337718250]


@pytest.fixture
def elsewhere(monkeypatch):
    """The machine's clock is nine hours ahead of UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_a_parquet_timestamp_needs_no_unit(tmp_path):
    """A column of type timestamp is read as what it says, without a zone as UTC, wherever the machine stands."""
    path = tmp_path / "clicks.parquet"
    moment = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
    pq.write_table(pa.table({"what": ["a"], "when": [moment.replace(tzinfo=None)], "who": [7]}), path)
    found = read_table(path, FileColumns(item="what", time="when", session=None, user="who"))
    assert found.time_ms.tolist() == [round(moment.timestamp() * 1000)]
    assert found.user_id.tolist() == ["7"]


def test_unusable_rows_are_dropped_and_counted(tmp_path):
    """A row without item, time or owner is not there, and each counts once, under its first reason."""
    path = tmp_path / "clicks.csv"
    path.write_text("what,when,visit\na,1,1\n,2,1\nb,,1\nc,3,\n,,\n")
    found = read_table(path, COLUMNS)
    assert rows_of(found) == [("1", "a", 1)]
    assert found.dropped == {"no item": 2, "no time": 1, "no session or user": 1}


def test_every_missing_column_is_named(tmp_path):
    """The error has one fault for each column that is not there, and the columns that are."""
    path = tmp_path / "clicks.csv"
    path.write_text("wat,when,user\na,1,1\n")
    with pytest.raises(Invalid) as caught:
        read_table(path, COLUMNS)
    assert [fault.came for fault in caught.value.faults] == [
        'has no column "what". Nearest: "wat".',
        'has no column "visit".',
    ]
    assert all("wat, when, user" in fault.right for fault in caught.value.faults)


@pytest.mark.parametrize("unit, written", [("s", "today"), ("ms", "12:30"), ("iso", "1592337718"), ("ms", "nan")])
def test_a_time_that_cannot_be_read_is_named_with_its_row(tmp_path, unit, written):
    """The error says which row, what it held and what would be right."""
    path = tmp_path / "clicks.csv"
    path.write_text(f"what,when,visit\na,,1\na,{written},1\n")
    with pytest.raises(Invalid) as caught:
        read_table(path, FileColumns(item="what", time="when", session="visit", time_unit=unit))
    (fault,) = caught.value.faults
    assert fault.where == "clicks.csv, row 2"
    assert written in fault.came


def test_a_missing_file_is_named(tmp_path):
    """The error carries the path."""
    with pytest.raises(NotFound, match="nowhere"):
        read_table(tmp_path / "nowhere.csv", COLUMNS)
