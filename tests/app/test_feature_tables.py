"""Tables from elsewhere: what a file may be, what is refused and how, and that what is read is what stands in it."""

import hashlib
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.feature_tables import read_tables
from midstream.app.wiring import plans
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid
from midstream.core.types import Candidates, LogPosition, Models, Query, TimestampMs
from midstream.engine.answer.feature_reads import view_of
from midstream.events.schema import Event, build
from midstream.features.readers.external import External, Table, TableColumns, bound, table_faults
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings
from tests.support.ids import KEY, hash_of

NOW = 1_700_000_000_000
CSV = f"""id,time,score,is_new,note
a,{NOW - 10},1.5,true,x
b,{NOW - 5},2,false,y
a,{NOW - 3},2.5,,z
a,{NOW},9,true,now
,{NOW - 1},4,true,nobody's
"""


def table(path="t.csv", **options):
    return Table(name="t", path=path, **options)


def values(content, hashes, now_ms=NOW, columns=None):
    """Return what a table says of keys, (columns, n)."""
    places = np.arange(len(content.columns)) if columns is None else np.array(columns)
    return content.versions.read(np.array(hashes, dtype=np.uint64), now_ms, content.ttl_ms, places)


def read(folder, declared):
    return read_tables([declared], (), folder, KEY)["t"]


def fault(folder, declared):
    with pytest.raises(ConfigInvalid) as raised:
        read_tables([declared], (), folder, KEY)
    return raised.value.faults[0]


def test_a_csv_is_read_as_it_stands(tmp_path):
    """Numbers and truth values, the newest row before now, rows without an id counted, the hash of the file."""
    (tmp_path / "t.csv").write_text(CSV)
    found = read(tmp_path, table())
    assert found.columns == ("score", "is_new")
    assert (found.rows, found.incomplete_rows, found.newest_ms) == (4, 1, NOW)
    assert found.sha256 == hashlib.sha256(CSV.encode()).hexdigest()
    read_values = values(found, [hash_of("a"), hash_of("b"), hash_of("c")])
    np.testing.assert_array_equal(read_values, [[2.5, 2.0, np.nan], [np.nan, 0.0, np.nan]])
    np.testing.assert_array_equal(values(found, [hash_of("a")], NOW + 1), [[9.0], [1.0]])


TIMES = {
    "ms": pa.array([NOW - 1, NOW], pa.int64()),
    "seconds": pa.array([datetime.fromtimestamp(NOW / 1_000 - 1, UTC)] * 2, pa.timestamp("s", "UTC")),
    "ns": pa.array([(NOW - 1) * 1_000_000 + 999_999, NOW * 1_000_000], pa.timestamp("ns")),
    "zoned": pa.array(
        [datetime.fromtimestamp(NOW / 1_000, UTC) - timedelta(microseconds=1)] * 2, pa.timestamp("us", "Europe/Berlin")
    ),
    "iso": pa.array(["2023-11-14T22:13:19.999Z", "2023-11-14 23:13:20+01:00"]),
    "digits": pa.array([str(NOW - 1), str(NOW)]),
    "date": pa.array([datetime(2023, 11, 14, tzinfo=UTC).date(), datetime(2023, 11, 15, tzinfo=UTC).date()]),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_every_kind_are_read_to_the_millisecond(tmp_path, kind):
    """The first row is before now whatever its unit; a fraction of a millisecond is cut off, not rounded up."""
    rows = pa.table({"id": ["a", "b"], "time": TIMES[kind], "n": [1.0, 2.0]})
    pq.write_table(rows, tmp_path / "t.parquet")
    found = values(read(tmp_path, table("t.parquet")), [hash_of("a"), hash_of("b")])
    assert found[0, 0] == 1.0
    assert math.isnan(found[0, 1]) == (kind not in {"seconds", "zoned"})


@pytest.mark.parametrize("suffix, between", [("csv", ","), ("tsv", "\t")])
def test_ids_that_look_like_nothing_are_ids(tmp_path, suffix, between):
    """``NA`` may be Namibia, and whoever is called Null is somebody; nothing at all, and no time, are missing."""
    ids = ["NA", "null", "nan", "N/A", "NULL", "#N/A"]
    lines = [["id", "time", "n"], *([each, str(NOW), "1"] for each in ids), ["", str(NOW), "1"], ["b", "NA", "1"]]
    (tmp_path / f"t.{suffix}").write_text("\n".join(between.join(line) for line in lines) + "\n")
    found = read(tmp_path, table(f"t.{suffix}"))
    assert (found.rows, found.incomplete_rows) == (len(ids), 2)


def test_ids_that_are_numbers_are_their_digits(tmp_path):
    """As in an import."""
    pq.write_table(pa.table({"sku": [7], "at": [NOW - 1], "n": [True]}), tmp_path / "t.parquet")
    found = read(tmp_path, table("t.parquet", id="sku", time="at", columns=("n",)))
    assert values(found, [hash_of("7")]).tolist() == [[1.0]]


@given(rows=st.lists(st.tuples(st.sampled_from("abc"), st.integers(NOW, NOW + 5), st.integers(0, 9)), max_size=12))
def test_every_row_of_a_file_is_found_at_its_time(tmp_path_factory, rows):
    """A plain twin: the last row of the file among the newest before each moment."""
    folder = tmp_path_factory.mktemp("t")
    lines = [f"{key},{time},{number}" for key, time, number in rows]
    (folder / "t.csv").write_text("\n".join(["id,time,n", *lines]) + "\n")
    found = read(folder, table(columns=("n",))) if rows else None
    for key in "abc" if found is not None else "":
        for now in range(NOW, NOW + 7):
            past = [row for row in rows if row[0] == key and row[1] < now]
            newest = [row[2] for row in past if row[1] == max(each[1] for each in past)]
            right = float(newest[-1]) if newest else math.nan
            np.testing.assert_array_equal(values(found, [hash_of(key)], now), [[right]])


def _csv(text):
    return lambda folder: (folder / "t.csv").write_text(text)


REFUSED: tuple[tuple[Any, dict[str, Any], str, str], ...] = (
    (lambda _: None, {}, "path", "cannot be read"),
    (_csv(CSV), {"path": "t.xlsx"}, "path", "t.xlsx"),
    (_csv(CSV), {"id": "idd"}, "id", 'Nearest: "id"'),
    (_csv(CSV), {"time": "when"}, "time", "when"),
    (_csv(CSV), {"columns": ("scor",)}, "columns", 'Nearest: "score"'),
    (_csv(CSV), {"columns": ("note",)}, "columns", "string"),
    (_csv(CSV), {"rows_max": 3}, "path", "rows"),
    (_csv(CSV), {"bytes_max": 20}, "path", "bytes"),
    (_csv("id,time\na,1700000000000\n"), {}, "columns", "no column of numbers"),
    (_csv("id,time,n\na,yesterday,1\n"), {}, "time", "yesterday"),
    (_csv("id,time,n\na,1700000000,1\n"), {}, "time", "looks like seconds"),
    (_csv("id,time,n\na,1700000000000000,1\n"), {}, "time", "looks like microseconds"),
    (_csv("id,time,n\na,1700000000000000000,1\n"), {}, "time", "or nanoseconds"),
    (_csv("id,time,n\na,1\n"), {}, "path", "cannot be read"),
    (_csv(f"id,time,n,n\na,{NOW},1,2\n"), {}, "path", '"n" twice'),
    (_csv(f"id,id,time,n\na,b,{NOW},1\n"), {}, "path", '"id" twice'),
    (_csv("id,time,n\na,99999999999999999999999,1\n"), {}, "time", "999"),
    (_csv(f"id,time,n\na,{'9' * 5_000},1\n"), {}, "time", "999"),
    (_csv("id,time,n\na,9223372036854775808,1\n"), {}, "time", "9223372036854775808"),
)


@pytest.mark.parametrize("make,options,where,came", REFUSED)
def test_what_is_no_such_table_is_refused_in_four_parts(tmp_path, make, options, where, came):
    """Where it is declared, what came, what would be right, and the page."""
    make(tmp_path)
    found = fault(tmp_path, table(**{"path": "t.csv", **options}))
    assert found.where == f"$.tables[0].{where}"
    assert came.lower() in found.came.lower()
    assert found.page == "/docs/features.md"


def _wide(folder, rows, groups=1):
    """Write a file that is small and large when it is read: one long text and one number, again and again."""
    part = pa.table(
        {
            "id": pa.array(["a"] * rows),
            "time": pa.array([NOW] * rows),
            "n": pa.array([1.0] * rows),
            "text": pa.array(["x" * 1_000] * rows),
        }
    )
    with pq.ParquetWriter(folder / "t.parquet", part.schema, compression="zstd") as file:
        for _ in range(groups):
            file.write_table(part)


@pytest.mark.parametrize(
    "options,came",
    [({"rows_max": 39_999}, "40,000 rows"), ({"bytes_max": 200_000}, "bytes")],
)
def test_a_parquet_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch, options, came):
    """What its footer says is enough: no row of it is read."""
    _wide(tmp_path, 20_000, groups=2)
    assert (tmp_path / "t.parquet").stat().st_size < 200_000

    def unread(*_, **__):
        pytest.fail("it was read")

    for name in ("read", "read_row_group", "read_row_groups", "iter_batches"):
        monkeypatch.setattr(pq.ParquetFile, name, unread)
    assert came in fault(tmp_path, table("t.parquet", **options)).came


def test_columns_that_are_no_numbers_are_not_read(tmp_path):
    """Arrow's memory holds ids, times and numbers, not 40 MB of texts; all groups of rows are read."""
    _wide(tmp_path, 20_000, groups=2)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        found = read(tmp_path, table("t.parquet"))
    finally:
        pa.set_memory_pool(before)
    assert (found.columns, found.rows) == (("n",), 40_000)
    assert (pool.max_memory() or math.inf) < 20_000_000


@pytest.mark.parametrize("time", [pa.array([2**63], pa.uint64()), pa.array([2**60], pa.timestamp("ms"))])
def test_a_time_of_a_parquet_file_beyond_64_bits_is_refused(tmp_path, time):
    """It does not become one of the past."""
    pq.write_table(pa.table({"id": ["a"], "time": time, "n": [1.0]}), tmp_path / "t.parquet")
    assert fault(tmp_path, table("t.parquet")).where == "$.tables[0].path"


@pytest.mark.parametrize("options", [{}, {"columns": ("n",)}])
def test_a_text_with_more_rows_than_allowed_is_not_read_to_its_end(tmp_path, options):
    """What comes after is never looked at, so that what is wrong there is not what is said."""
    lines = [f"a,{NOW},1"] * 100_000
    (tmp_path / "t.csv").write_text("\n".join(["id,time,n", *lines, "broken"]) + "\n")
    assert "more than 1,000 rows" in fault(tmp_path, table(rows_max=1_000, **options)).came


@pytest.mark.parametrize("last", ["1.5", "", "word"])
def test_a_column_of_a_text_has_one_type_to_its_end(tmp_path, last):
    """A file of several blocks: a number with a fraction after many without is read, a word is a text as before."""
    lines = [f"a,{NOW},1,1"] * 70_000
    (tmp_path / "t.csv").write_text("\n".join(["id,time,n,m", *lines, f"b,{NOW - 1},{last},2"]) + "\n")
    if last in {"1.5", ""}:
        found = values(read(tmp_path, table()), [hash_of("b")])
        np.testing.assert_array_equal(found, [[float(last or "nan")], [2.0]])
    else:
        assert read(tmp_path, table()).columns == ("m",)


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    """Bytes that are none."""
    (tmp_path / "t.parquet").write_bytes(b"no")
    assert fault(tmp_path, table("t.parquet")).where == "$.tables[0].path"


def test_features_name_tables_and_columns_that_there_are(tmp_path):
    """Before a file is read where that is enough, after it where the columns are those of the file."""
    (tmp_path / "t.csv").write_text(CSV)
    feature = External(name="q", table="t", columns=("scor",))
    with pytest.raises(ConfigInvalid, match="score"):
        read_tables([table()], [feature], tmp_path, KEY)
    assert [each.where for each in table_faults([table(columns=("score",))], [feature])] == ["$.features[0].columns"]
    assert [each.where for each in table_faults([], [feature])] == ["$.features[0].table"]
    wrong = [table(), table(rows_max=0, ttl=Duration("0s"))]
    assert [each.where for each in table_faults(wrong, [])] == [
        "$.tables[1].name",
        "$.tables[1].rows_max",
        "$.tables[1].ttl",
    ]


ENTITIES = {
    "item": [[1.0, np.nan, 3.0]],
    "user": [[7.0, 7.0, 7.0]],
    "global": [[9.0, 9.0, 9.0]],
}


@pytest.mark.parametrize("entity", ENTITIES)
def test_items_users_and_everybody_have_rows_of_their_own(tmp_path, entity):
    """A candidate reads its own row, or the asking user's, or the one of all; a merged user that of who it became."""
    rows = {"item": [("a", 1.0), ("c", 3.0)], "user": [("ann", 7.0), ("anon", 8.0)], "global": [("", 9.0)]}[entity]
    text = "\n".join(["id,time,n", *(f"{key},{NOW - 1},{number}" for key, number in rows)])
    (tmp_path / "t.csv").write_text(text + "\n")
    fold = Fold(FoldSettings())
    seen = [Event(1, action="view", user_id="anon", item_id=each, event_time_ms=NOW, log_time_ms=NOW) for each in "abc"]
    merge = Event(4, 4, user_id="ann", body=b'{"from":"anon"}', log_time_ms=NOW)
    fold.apply(LogPosition(0), build([*seen, merge]))
    moment = fold.moment(Query("r", "home", "anon", None, 3, TimestampMs(NOW), 1), Models({}))
    items = fold.vocabulary.item_indices(("a", "b", "c"))
    candidates = Candidates(items, (), np.empty((3, 0), np.float32), np.empty((3, 0), np.int32))
    tables = read_tables([table(entity=entity)], (), tmp_path, KEY)
    reader = bound(TableColumns("t", ("n",)), tables)
    found = np.full((1, 3), np.nan)
    reader.fill(moment, candidates, found)
    np.testing.assert_array_equal(found, ENTITIES[entity])


CONFIG = """
[[tables]]
name = "t"
path = "t.csv"
columns = ["score", "is_new"]
ttl = "1d"

[[features]]
name = "quality"
kind = "external"
table = "t"
columns = ["score"]

[[features]]
name = "both"
kind = "external"
table = "t"
columns = ["is_new", "score"]

[[features]]
name = "doubled"
kind = "expression"
text = "quality * 2"

[[placements]]
features = ["both", "doubled", "quality"]
"""


def test_a_configured_table_is_read_with_the_plans(tmp_path):
    """Columns in the order of the placement, the newest row before the question, and as of a moment in the past too."""
    (tmp_path / "t.csv").write_text(CSV)
    (block,) = plans(parse_config(CONFIG), tmp_path)["default"].features
    fold = Fold(FoldSettings())
    fold.apply(LogPosition(0), build([Event(3, 1, item_id=each, body=b"{}", log_time_ms=NOW - 100) for each in "ab"]))
    items = fold.vocabulary.item_indices(("a", "b", "c"))
    candidates = Candidates(items, (), np.empty((3, 0), np.float32), np.empty((3, 0), np.int32))
    assert block.names == ("both_is_new", "both_score", "doubled", "quality")
    for now_ms, right in (
        (NOW, [[np.nan, 2.5, 5.0, 2.5], [0.0, 2.0, 4.0, 2.0], [np.nan] * 4]),
        (NOW - 3, [[1.0, 1.5, 3.0, 1.5], [0.0, 2.0, 4.0, 2.0], [np.nan] * 4]),
        (NOW - 10, [[np.nan] * 4] * 3),
        (NOW + 86_400_000 - 5, [[1.0, 9.0, 18.0, 9.0], [np.nan] * 4, [np.nan] * 4]),
    ):
        moment = fold.moment(Query("r", "home", None, None, 3, TimestampMs(now_ms), 1), Models({}))
        np.testing.assert_array_equal(block.read(moment, candidates), np.array(right, dtype=np.float32))


def test_plans_are_others_when_a_file_is_another(tmp_path):
    """The configuration read again puts a new file in service, and is no change while the file's bytes are the same."""
    (tmp_path / "t.csv").write_text(CSV)
    config = parse_config(CONFIG)
    before = plans(config, tmp_path)
    assert plans(config, tmp_path) == before
    (tmp_path / "t.csv").write_text(CSV.replace("2.5", "2.75"))
    after = plans(config, tmp_path)
    assert after != before
    assert after["default"].declared != before["default"].declared


def test_a_configuration_says_what_is_wrong_with_its_tables(tmp_path):
    """Before any file is read, and when it is."""
    with pytest.raises(ConfigInvalid, match=r"\$\.features\[0\]\.table\n.*\"tt\""):
        parse_config(CONFIG.replace('table = "t"', 'table = "tt"', 1))
    with pytest.raises(ConfigInvalid, match=r"\$\.tables\[0\]\.entity\n"):
        parse_config(CONFIG.replace("ttl", 'entity = "itm"\nttl'))
    with pytest.raises(ConfigInvalid, match=r"^midstream\.toml: \$\.tables\[0\]\.path\n"):
        plans(parse_config(CONFIG), tmp_path)


def test_what_a_file_lacks_is_said_with_the_name_of_the_configuration(tmp_path):
    """A column that a feature reads, as what is wrong with the configuration alone."""
    (tmp_path / "t.csv").write_text("id,time,other\na,1700000000000,1\n")
    with pytest.raises(ConfigInvalid, match=r"^midstream\.toml: \$\.features\[0\]\.columns\n"):
        plans(parse_config(CONFIG.replace('columns = ["score", "is_new"]', "", 1)), tmp_path)


def test_a_view_of_a_feature_says_which_file_was_read(tmp_path):
    """Its hash, rows and newest time, and whose id the table has."""
    (tmp_path / "t.csv").write_text(CSV)
    found = view_of(Fold(FoldSettings()), plans(parse_config(CONFIG), tmp_path), "quality", NOW)
    assert found is not None
    assert found.table is not None
    assert (found.scope, found.table.name, found.table.rows, found.table.incomplete_rows) == ("item", "t", 4, 1)
    assert (found.table.sha256, found.table.newest) == (hashlib.sha256(CSV.encode()).hexdigest(), NOW)


def test_a_table_without_a_whole_row_has_no_newest_time(tmp_path):
    """Rather than a time before 1970."""
    (tmp_path / "t.csv").write_text(CSV.splitlines()[0] + "\n")
    found = view_of(Fold(FoldSettings()), plans(parse_config(CONFIG), tmp_path), "quality", NOW)
    assert found is not None
    assert found.table is not None
    assert (found.table.rows, found.table.newest) == (0, None)
