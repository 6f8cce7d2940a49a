"""Frames of pandas and Polars, and the files that both write, become the events of the same rows as dicts.

With what each has for a missing value, texts that repeat, times of a zone and whole numbers of which one is missing.
"""

from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pytest

from midstream.app.config.schema import Config, ItemsSection
from midstream.app.ingest.import_file import IMPORT_LIMITS
from midstream.app.mapping.batches import RowTerms, read_parts
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.readers import open_rows
from midstream.app.opening import accept_of
from midstream.app.point_in_time.requests import of_batches
from midstream.core.types import TimestampMs
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.dataframe_input import batches_of
from midstream.events.json.decode import decode_objects
from midstream.events.pieces import table_piece
from midstream.events.schema import concat, event_at
from tests.support.libraries import library

pytestmark = pytest.mark.integration
NOW_MS = TimestampMs(1_790_000_000_000)
KINDS = {"price": "number", "category": "category", "fresh": "boolean"}
CONFIG = Config(items=ItemsSection(attributes=KINDS))
ACCEPT = msgspec.structs.replace(accept_of(CONFIG, IMPORT_LIMITS, trusted=True), now_ms=NOW_MS)
MOMENTS = [datetime(2026, 1, 1, 12, tzinfo=UTC), None, datetime(2026, 7, 1, 12, 30, tzinfo=UTC)]
COLUMNS: dict[str, list[Any]] = {
    "type": ["view", "cart", "view"],
    "user_id": ["ann", "bob", None],
    "session_id": [None, "s2", "s3"],
    "item_id": ["lamp", "rug", "lamp"],
    "time": MOMENTS,
    "value": [2.5, None, 0.25],
    "position": [3, None, 0],
    "context.page": ["list", None, "home"],
}
ROWS = [
    {
        **{name: values[at] for name, values in COLUMNS.items() if "." not in name and values[at] is not None},
        **({"context": {"page": COLUMNS["context.page"][at]}} if COLUMNS["context.page"][at] else {}),
    }
    for at in range(3)
]


def told(batch):
    """Return what of events no way of sending changes, as text, in which NaN is like NaN."""
    return [repr(event_at(batch, at)._replace(event_id="")) for at in range(len(batch))]


def expected():
    """Return the events of the rows as dicts."""
    rows = [{**row, **({"time": row["time"].isoformat()} if "time" in row else {})} for row in ROWS]
    decoded = decode_objects(rows, ACCEPT)
    assert not decoded.rejected
    return told(decoded.batch)


def recorded(frame):
    """Return the events of a frame, as ``shop.record`` decodes it."""
    parts = [table_piece(batch, ACCEPT, first).decoded for first, batch in batches_of(frame, ACCEPT)]
    assert not [each.fault for part in parts for each in part.rejected]
    return told(concat([part.batch for part in parts]))


def imported(path, options):
    """Return the events of a file, and what is refused of it."""
    with open_rows(path) as opened:
        parts = list(read_parts(opened, RowTerms(options, ACCEPT, NOW_MS)))
    return told(concat([part.batch for part in parts])), [each for part in parts for each in part.refused]


def pandas_frames(pd):
    """Return the rows in every way in which pandas keeps them."""
    plain = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in COLUMNS.items()})
    typed = plain.assign(
        time=pd.to_datetime(plain["time"], utc=True),
        value=plain["value"].astype(float),
        position=plain["position"].astype(float),
    )
    texts = ["type", "user_id", "session_id", "item_id", "context.page"]
    return {
        "object": typed,
        "inferred": typed.infer_objects(),
        "text": typed.astype(dict.fromkeys(texts, "string")),
        "categorical": typed.astype(dict.fromkeys(texts, "category")),
        "nullable": typed.convert_dtypes(),
        "arrow": typed.convert_dtypes(dtype_backend="pyarrow"),
        "zoned": typed.assign(time=typed["time"].dt.tz_convert("Europe/Berlin")),
        "index": typed.set_axis(["a", "b", "c"]),
    }


def polars_frames(pl):
    """Return the rows in every way in which Polars keeps them."""
    plain = pl.DataFrame(COLUMNS)
    return {
        "plain": plain,
        "categorical": plain.with_columns(pl.col("user_id", "item_id", "context.page").cast(pl.Categorical)),
        "enum": plain.with_columns(pl.col("type").cast(pl.Enum(["view", "cart", "purchase"]))),
        "zoned": plain.with_columns(pl.col("time").dt.convert_time_zone("Europe/Berlin").dt.cast_time_unit("ns")),
        "small": plain.with_columns(pl.col("position").cast(pl.Int16), pl.col("value").cast(pl.Float32)),
        "decimal": plain.with_columns(pl.col("value").cast(pl.Decimal(10, 2))),
        "struct": plain.with_columns(context=pl.struct(page="context.page")).drop("context.page"),
        "chunks": pl.concat([plain[:1], plain[1:]], rechunk=False),
    }


@pytest.mark.parametrize("frames", [pandas_frames, polars_frames])
def test_a_frame_gives_the_events_of_its_rows(frames):
    """In every way in which the library keeps them."""
    made = frames(library(frames.__name__.partition("_")[0]))
    assert len(made) == 8
    for name, frame in made.items():
        assert recorded(frame) == expected(), name


@pytest.mark.parametrize("frames", [pandas_frames, polars_frames])
def test_a_parquet_file_of_a_frame_gives_the_events_of_its_rows(tmp_path, frames):
    """And an Arrow file or stream that Polars writes; where a context stands in a column of its own it is mapped."""
    made = frames(library(frames.__name__.partition("_")[0]))
    path = tmp_path / "a.parquet"
    for name, frame in made.items():
        (frame.to_parquet if frames is pandas_frames else frame.write_parquet)(path)
        page = {} if name == "struct" else {"context.page": "context.page"}
        assert imported(path, ColumnOptions(page)) == (expected(), []), name
        if frames is polars_frames:
            for suffix, write in (("arrow", frame.write_ipc), ("arrows", frame.write_ipc_stream)):
                write(tmp_path / f"a.{suffix}")
                assert imported(tmp_path / f"a.{suffix}", ColumnOptions(page)) == (expected(), []), (name, suffix)


def test_csv_and_json_of_frames_give_the_events_of_their_rows(tmp_path):
    """Times with an offset, whole numbers as 3.0, what is missing as nothing; every text in quotes too."""
    pd, pl = library("pandas"), library("polars")
    page = {"context.page": "context.page"}
    path = tmp_path / "a.csv"
    for name, frame in pandas_frames(pd).items():
        for quoting in (0, 2):
            frame.to_csv(path, index=False, quoting=quoting)
            assert imported(path, ColumnOptions(page, time_format="iso")) == (expected(), []), name
        frame.to_json(tmp_path / "a.ndjson", orient="records", lines=True, date_format="iso")
        assert imported(tmp_path / "a.ndjson", ColumnOptions(page)) == (expected(), []), name
    for name in ("plain", "categorical", "enum"):
        polars_frames(pl)[name].write_csv(path)
        assert imported(path, ColumnOptions(page, time_format="iso")) == (expected(), []), name
        polars_frames(pl)[name].write_csv(path, quote_style="always")
        assert imported(path, ColumnOptions(page, time_format="iso")) == (expected(), []), name


def test_lists_and_objects_of_polars_are_taken(tmp_path):
    """Tags, vectors and attributes in one object, as a frame and as files; sliced ones too, and what is missing."""
    pl = library("polars")
    columns = {
        "type": ["item"] * 3,
        "item_id": ["a", "b", "c"],
        "attributes.tags": [["red", "a tag that is longer than twelve"], None, []],
        "attributes.look": [[1.0, 2.0], [3.0, 4.0], None],
        "attributes": [{"brand": "x", "price": 1.5}, {"brand": None, "price": 2.0}, None],
    }
    kinds = {"tags": "tags", "look": "vector:2", "price": "number"}
    accept = msgspec.structs.replace(ACCEPT, attributes=kinds)
    frame = pl.DataFrame(columns).with_columns(pl.col("attributes.look").cast(pl.List(pl.Float32)))
    bodies = [
        {"brand": "x", "price": 1.5, "tags": ["red", "a tag that is longer than twelve"], "look": [1.0, 2.0]},
        {"price": 2.0, "look": [3.0, 4.0]},
        {"tags": []},
    ]
    for first in (0, 1):
        part = frame[first:]
        pieces = [table_piece(batch, accept, at).decoded for at, batch in batches_of(part, accept)]
        assert not [each.fault for piece in pieces for each in piece.rejected]
        assert bodies_of(pieces[0].batch) == bodies[first:]
        options = ColumnOptions({name: name for name in columns if "." in name})
        for suffix, write in (
            ("arrow", part.write_ipc),
            ("arrows", part.write_ipc_stream),
            ("parquet", part.write_parquet),
        ):
            path = tmp_path / f"a.{suffix}"
            write(path)
            with open_rows(path) as opened:
                (read,) = read_parts(opened, RowTerms(options, accept, NOW_MS))
            assert not read.refused
            assert bodies_of(read.batch) == bodies[first:], suffix


def bodies_of(batch):
    """Return the attributes of each item."""
    return [msgspec.json.decode(event_at(batch, at).body or b"{}") for at in range(len(batch))]


def test_a_catalogue_of_a_frame_is_taken_as_it_is_declared(tmp_path):
    """Ids that are whole numbers of which one is missing, NaN as no price, 0 and 1, codes of a category."""
    pd, pl = library("pandas"), library("polars")
    nan = float("nan")
    columns = {"sku": [1.0, 2.0, nan], "price": [10.5, nan, 1.0], "group": [7.0, nan, 9.0], "fresh": [1, 0, 1]}
    options = ColumnOptions(
        {
            "item_id": "sku",
            **{f"attributes.{each}": each for each in ("price", "fresh")},
            "attributes.category": "group",
        },
        {"type": "item"},
    )
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    pl.DataFrame(columns).write_parquet(tmp_path / "b.parquet")
    pd.DataFrame(columns).convert_dtypes().to_parquet(tmp_path / "c.parquet")
    pd.DataFrame(columns).astype({"group": "category"}).to_parquet(tmp_path / "d.parquet")
    for name in "abcd":
        with open_rows(tmp_path / f"{name}.parquet") as opened:
            (part,) = read_parts(opened, RowTerms(options, ACCEPT, NOW_MS))
        events = [event_at(part.batch, at) for at in range(len(part.batch))]
        assert [(each.item_id, msgspec.json.decode(each.body)) for each in events] == [
            ("1", {"price": 10.5, "fresh": True, "category": "7"}),
            ("2", {"fresh": False}),
        ], name
        assert [each.line for each in part.refused] == [3], name


def test_questions_of_a_frame_are_asked_as_they_are_typed():
    """Categories, times of a zone, NaN and numbers that are text, of both libraries."""
    pd, pl = library("pandas"), library("polars")
    time = datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    columns = {
        "time": [time, time],
        "item_id": ["a", "b"],
        "user_id": ["7", None],
        "context.zip": ["01067", "12"],
        "context.n": [float("nan"), 2.0],
    }
    frames = {
        "pandas": pd.DataFrame(columns),
        "categorical": pd.DataFrame(columns).astype({"context.zip": "category", "user_id": "category"}),
        "polars": pl.DataFrame(columns),
        "polars categorical": pl.DataFrame(columns).with_columns(pl.col("context.zip", "user_id").cast(pl.Categorical)),
    }
    for name, frame in frames.items():
        with ExitStack() as stack:
            tables = [without_inner_views(each, 1 << 20) for each in pa.table(frame).to_batches()]
            batches = [without_views(each, 1 << 20) for each in tables]
            (chunk,) = of_batches(batches, "questions", stack).chunks()
        queries = [each.query for each in chunk.questions]
        assert [each.context for each in queries] == [{"zip": "01067"}, {"zip": "12", "n": 2.0}], name
        assert [each.user_id for each in queries] == ["7", None], name
        assert {each.now_ms for each in queries} == {int(time.timestamp() * 1_000)}, name
