"""Rows that come sorted by time, slice by slice, fold to the digest of an import of the file."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import midstream
from midstream.app import opening as running
from midstream.app.config.schema import Config, ItemsSection
from midstream.app.ingest import import_file as importing
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.spark.backfill import TIME_COLUMN, import_sorted, slices, terms_of, with_times
from midstream.core.errors import Invalid
from midstream.engine import log_opening

START_MS = 1_700_000_000_000
CONFIG = Config(items=ItemsSection(attributes={"price": "number"}))
COLUMNS = ColumnOptions({"user_id": "visitor"}, {}, {"pageview": "view"})


@pytest.fixture(autouse=True)
def one_log_id(monkeypatch):
    """Let every log have one id, so that states of different folders can be compared."""
    begin = log_opening.open_log
    monkeypatch.setattr(running, "open_log", lambda data, _, *rest: begin(data, bytes(16), *rest))
    monkeypatch.setattr(importing, "_new_log_id", lambda: bytes(16))


def rows(count=3_000, seed=1):
    """Return a file's rows in no order: items without a time, acts, many of the same time, and rows that are none."""
    rng = np.random.default_rng(seed)
    items = [{"type": "item", "item_id": f"i{at}", "attributes": f'{{"price": {at}}}'} for at in range(40)]
    acts = [
        {
            "type": "pageview" if rng.random() < 0.9 else "purchase",
            "visitor": f"u{rng.integers(50)}",
            "item_id": f"i{rng.integers(45)}",
            "time": START_MS + int(rng.integers(400)) * 60_000,
            "value": float(rng.integers(5)),
        }
        for _ in range(count)
    ]
    broken = [{"type": "wave", "visitor": "u1", "item_id": "i1", "time": START_MS}] * 3
    found = [*items, *acts, *acts[:30], *broken]
    return [found[at] for at in rng.permutation(len(found))]


def table_of(listed):
    """Return rows as a table."""
    names = ("type", "visitor", "item_id", "time", "value", "attributes")
    texts = (pa.string(),) * 3
    kinds: tuple[pa.DataType, ...] = (*texts, pa.int64(), pa.float64(), pa.string())
    return pa.Table.from_pylist(listed, schema=pa.schema(list(zip(names, kinds, strict=True))))


def sorted_batches(table, size=256, columns=COLUMNS):
    """Return what tasks and a sort make of a table."""
    timed = pa.Table.from_batches(
        list(with_times(terms_of(CONFIG, columns), table.schema.names, table.to_batches(size)))
    )
    order = np.argsort(timed.column(TIME_COLUMN).to_numpy(), kind="stable")
    return iter(timed.take(pa.array(order, pa.int64())).to_batches(max_chunksize=size))


def digest_of(folder):
    """Return the digest of the state, and where the log ends."""
    fold = state_of(folder, CONFIG, LogView(folder)).fold
    return fold.digest(), fold.log_position


@pytest.mark.parametrize("seed", range(3))
def test_the_digest_is_that_of_an_import(tmp_path, seed):
    """With ties, equal rows, rows that are no events and items without a time."""
    table = table_of(rows(seed=seed))
    pq.write_table(table, tmp_path / "rows.parquet")
    told = import_file(tmp_path / "one", CONFIG, tmp_path / "rows.parquet", COLUMNS)
    found = import_sorted(tmp_path / "two", CONFIG, COLUMNS, sorted_batches(table))
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")
    assert (found.rows, found.recorded, found.rejected) == (told.rows, told.recorded, told.rejected) != (0, 0, 0)
    assert (found.log_time, told.log_time) == ("event time", "event time")
    assert (len(found.slices), found.rejected) == (1, 3)


def test_a_history_comes_back(tmp_path):
    """Its times are timestamps, to the microsecond as Spark has them; the digest is that of an import of the export."""
    import_sorted(tmp_path / "shop", CONFIG, COLUMNS, sorted_batches(table_of(rows(500))))
    events = midstream.read_events(tmp_path / "shop", kinds=["item", "interaction"])
    pq.write_table(events, tmp_path / "export.parquet")
    import_file(tmp_path / "one", CONFIG, tmp_path / "export.parquet")
    for name in ("time", "log_time"):
        stamped = events.column(name).cast(pa.timestamp("ms", "UTC")).cast(pa.timestamp("us", "UTC"))
        events = events.set_column(events.schema.get_field_index(name), name, stamped)
    found = import_sorted(tmp_path / "two", CONFIG, ColumnOptions(), sorted_batches(events, columns=ColumnOptions()))
    assert (found.rejected, found.log_time) == (0, "event time")
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")


def test_slices_are_imports_one_after_another(tmp_path):
    """The events of one slice are those of several, in the same order; run again, nothing is new."""
    table = table_of(rows())
    one = import_sorted(tmp_path / "one", CONFIG, COLUMNS, sorted_batches(table))
    many = import_sorted(tmp_path / "many", CONFIG, COLUMNS, sorted_batches(table), slice_rows=500)
    assert len(many.slices) > 3
    assert (many.rows, many.recorded, many.log_time) == (one.rows, one.recorded, "event time")
    first, second = (
        [event for batch in LogView(tmp_path / name).batches() for event in told(batch)] for name in ("one", "many")
    )
    assert first == second
    again = import_sorted(tmp_path / "many", CONFIG, COLUMNS, sorted_batches(table), slice_rows=500)
    assert (again.recorded, again.known) == (0, one.recorded)


def told(batch):
    """Return the events of a batch but for accounts of imports."""
    rows = batch.rows[batch.rows["kind"] != 7]
    return list(
        map(repr, zip(rows["kind"].tolist(), rows["event_time_ms"].tolist(), rows["value"].tolist(), strict=True))
    )


class Gone(Exception):
    """The end of a driver."""


def broken(batches, number):
    """Yield so many batches, and end."""
    for at, batch in enumerate(batches):
        if at == number:
            raise Gone
        yield batch


def changed_rows():
    """Return rows, and of some items and of each slice changes with a time beside those without one."""
    dated = [
        {"type": "item", "item_id": f"i{at % 7}", "attributes": f'{{"price": {1_000 + at}}}', "time": START_MS + at}
        for at in range(0, 400 * 60_000, 1_700_000)
    ]
    return table_of([*rows(), *dated])


@pytest.mark.parametrize("number", [5, 9])
def test_a_backfill_that_was_broken_off_goes_on(tmp_path, number):
    """Log times, digest and all: an item's first state is known though a later slice changed it."""
    table = changed_rows()
    whole = import_sorted(tmp_path / "one", CONFIG, COLUMNS, sorted_batches(table), slice_rows=800)
    with pytest.raises(Gone):
        import_sorted(tmp_path / "two", CONFIG, COLUMNS, broken(sorted_batches(table), number), slice_rows=800)
    assert 500 < LogView(tmp_path / "two").end < 3_000
    found = import_sorted(tmp_path / "two", CONFIG, COLUMNS, sorted_batches(table), slice_rows=800)
    assert (found.log_time, found.recorded + found.known) == ("event time", whole.recorded)
    assert events_of(tmp_path / "two") == events_of(tmp_path / "one")
    assert digest_of(tmp_path / "two")[0] == digest_of(tmp_path / "one")[0]


def events_of(folder):
    """Return the events of a log but for accounts of imports, as an export has them."""
    return midstream.read_events(folder, kinds=["item", "user", "interaction", "impression"]).to_pylist()


@pytest.mark.parametrize("slice_rows", [800, 10_000])
def test_a_backfill_that_is_done_again_adds_nothing(tmp_path, slice_rows):
    """Whatever the slices: the last price is not set back to the first one."""
    table = changed_rows()
    first = import_sorted(tmp_path, CONFIG, COLUMNS, sorted_batches(table), slice_rows=slice_rows)
    before = digest_of(tmp_path)
    again = import_sorted(tmp_path, CONFIG, COLUMNS, sorted_batches(table), slice_rows=slice_rows)
    assert (again.recorded, again.known, again.log_time) == (0, first.recorded, "event time")
    assert digest_of(tmp_path) == before


def test_a_slice_behind_another_writer_is_refused(tmp_path):
    """It would be folded now, where those before were folded as they happened."""
    table = table_of(rows())

    def disturbed():
        for at, batch in enumerate(sorted_batches(table)):
            if at == 6:
                with midstream.open(tmp_path, CONFIG) as shop:
                    shop.record([{"type": "view", "user_id": "ann", "item_id": "i1"}])
            yield batch

    with pytest.raises(Invalid, match="newer events than rows of this part"):
        import_sorted(tmp_path, CONFIG, COLUMNS, disturbed(), slice_rows=800)
    assert "ann" in midstream.read_events(tmp_path).column("user_id").to_pylist()


def test_an_act_without_a_time_is_refused(tmp_path):
    """Before anything is recorded: a history folds as it happened."""
    table = table_of([*rows(100), {"type": "view", "visitor": "u1", "item_id": "i1"}])
    with pytest.raises(Invalid, match="act without a time"):
        import_sorted(tmp_path, CONFIG, COLUMNS, sorted_batches(table))
    assert LogView(tmp_path).end == 0
    assert import_sorted(tmp_path, CONFIG, COLUMNS, iter(())).rows == 0


@pytest.mark.parametrize("seed", range(20))
def test_a_slice_ends_between_two_times(seed):
    """All rows come, in their order; equal times are together; a slice has at least so many rows."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 40, size=int(rng.integers(0, 400))))
    edges = np.sort(rng.integers(0, len(times) + 1, size=9))
    parts = np.split(times, edges)
    batches = [pa.RecordBatch.from_pydict({TIME_COLUMN: pa.array(each, pa.int64())}) for each in parts]
    found = [
        np.concatenate([np.asarray(batch.column(TIME_COLUMN)) for batch in part]) for part in slices(iter(batches), 50)
    ]
    assert np.array_equal(np.concatenate([np.empty(0, np.int64), *found]), times)
    assert all(one[-1] < other[0] for one, other in pairwise(found))
    assert all(len(each) >= 50 for each in found[:-1])
