"""Logs as DataFrames of a real Spark and back: digests, features, examples and tables are the local ones."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import midstream
import midstream.spark
from midstream.app import opening as running
from midstream.app.ingest import import_file as importing
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of
from midstream.app.operate.seal import seal_folder
from midstream.core.errors import Invalid
from midstream.engine import log_opening
from tests.app.point_in_time import test_lookup, test_served_examples
from tests.app.spark import test_log_ranges, test_shard_tables
from tests.app.spark.test_backfill import rows as backfill_rows
from tests.app.spark.test_backfill import table_of
from tests.app.spark.test_point_in_time import same
from tests.support import spark_fixtures

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
session, spark = spark_fixtures.session, spark_fixtures.spark
asked_folder = test_lookup.folder
served_folder = test_served_examples.folder
log_folder = test_log_ranges.folder
shop_folder = test_shard_tables.folder


@pytest.fixture
def one_log_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every log have one id, so that states of different folders can be compared."""
    begin = log_opening.open_log
    monkeypatch.setattr(running, "open_log", lambda data, _, *rest: begin(data, bytes(16), *rest))
    monkeypatch.setattr(importing, "_new_log_id", lambda: bytes(16))


def digest_of(folder: Path) -> tuple[str, int]:
    """Return the digest of the state, and where the log ends."""
    fold = state_of(folder, config_of(folder), LogView(folder)).fold
    return fold.digest(), fold.log_position


def test_history_is_what_the_log_holds(spark, log_folder):
    """Each event once at its position, with the columns of an export, from Parquet and from segments."""
    for _ in range(2):
        test_log_ranges.assert_whole(midstream.spark.history(spark, log_folder).toArrow(), log_folder)
        seal_folder(log_folder, config_of(log_folder))
    part = midstream.spark.history(spark, log_folder, kinds=["item"])
    assert part.count() == np.count_nonzero(test_log_ranges.LOG.rows["kind"] == 3)
    frame = midstream.spark.history(spark, log_folder)
    kinds = dict(frame.dtypes)
    assert (kinds["log_position"], kinds["time"], kinds["value"], kinds["position"]) == (
        *("bigint", "timestamp", "double", "int"),
    )
    assert midstream.spark.history(spark, log_folder / "nowhere").count() == 0


@pytest.mark.usefixtures("one_log_id")
def test_a_backfill_has_the_digest_of_an_import(spark, tmp_path):
    """Of the same rows in the same order, in no order by time, with ties, several partitions and files."""
    (tmp_path / "rows").mkdir()
    table = table_of(backfill_rows(5_000, seed=7))
    for number, start in enumerate(range(0, table.num_rows, 1_300)):
        pq.write_table(table.slice(start, 1_300), tmp_path / "rows" / f"{number}.parquet")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "midstream.toml").write_text('[items.attributes]\nprice = "number"\n')
    frame = spark.read.parquet(str(tmp_path / "rows"))
    ordered = pa.Table.from_batches(frame.toArrow().to_batches())
    pq.write_table(ordered, tmp_path / "rows.parquet")
    columns, types = {"user_id": "visitor"}, {"pageview": "view"}
    told = import_file(
        tmp_path / "one", config_of(tmp_path / "one"), tmp_path / "rows.parquet", ColumnOptions(columns, {}, types)
    )
    found = midstream.spark.backfill(frame, tmp_path / "two", columns=columns, types=types)
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")
    assert (found.recorded, found.rejected, found.log_time) == (told.recorded, told.rejected, "event time")
    again = midstream.spark.backfill(frame, tmp_path / "two", columns=columns, types=types)
    assert (again.recorded, again.known) == (0, told.recorded)


@pytest.mark.usefixtures("one_log_id")
def test_a_log_comes_back_from_its_history(spark, tmp_path):
    """The history of a shop, backfilled, folds to the digest of its export, imported."""
    for name in ("shop", "one", "two"):
        (tmp_path / name).mkdir()
    table = table_of(backfill_rows(2_000, seed=8))
    frame = spark.createDataFrame(table)
    midstream.spark.backfill(frame, tmp_path / "shop", columns={"user_id": "visitor"}, types={"pageview": "view"})
    history = midstream.spark.history(spark, tmp_path / "shop").where("type != 'control'")
    midstream.spark.backfill(history.drop("log_position"), tmp_path / "two", order=["log_time"])
    events = midstream.read_events(tmp_path / "shop", kinds=["item", "interaction"])
    pq.write_table(events, tmp_path / "export.parquet")
    import_file(tmp_path / "one", config_of(tmp_path / "one"), tmp_path / "export.parquet")
    assert digest_of(tmp_path / "two") == digest_of(tmp_path / "one")


def test_features_are_those_of_one_pass(spark, asked_folder):
    """Of a question in any partition, to the bit; a question without a place is refused before anything runs."""
    questions = pa.Table.from_pylist(test_lookup.asked(300, seed=3)).append_column("number", pa.array(range(300)))
    by: list[tuple[str, Literal["ascending", "descending"]]] = [("number", "ascending"), ("position", "ascending")]
    told = midstream.features_as_of(asked_folder, questions).sort_by(by)
    frame = spark.createDataFrame(questions).repartition(5)
    found = midstream.spark.features_as_of(frame, asked_folder, tasks=3)
    assert found.rdd.getNumPartitions() == 3
    same(found.toArrow().sort_by(by), told, [name for name in told.schema.names if name != "row"])
    with pytest.raises(Invalid, match="log_position"):
        midstream.spark.features_as_of(frame.drop("log_position"), asked_folder)
    with pytest.raises(Invalid, match='Nearest: "mine"'):
        midstream.spark.features_as_of(frame, asked_folder, features=["mien"])


def test_examples_are_those_of_one_pass(spark, served_folder):
    """In the order of the log, to the bit; of a range those of the range."""
    folder, _ = served_folder
    told = midstream.examples(folder)
    same(midstream.spark.examples(spark, folder, tasks=4).toArrow(), told, told.schema.names)
    middle = told.column("log_position")[told.num_rows // 2].as_py()
    part = midstream.spark.examples(spark, folder, f"{middle}..", tasks=2).toArrow()
    same(part, midstream.examples(folder, f"{middle}.."), told.schema.names)
    assert 0 < part.num_rows < told.num_rows


def test_popularity_is_that_of_the_state(spark, shop_folder):
    """Heat of every item to the bit, and its counts."""
    frame = midstream.spark.popularity(spark, shop_folder, shards=5)
    table = frame.toArrow()
    fold = state_of(shop_folder, config_of(shop_folder), LogView(shop_folder)).fold
    index = fold.vocabulary.item_indices(table.column("item_id").to_pylist())
    for half_life in fold.settings.half_lives:
        own = fold.items.heat(half_life.ms, index)
        assert table.column(f"heat_{half_life}").to_numpy().tobytes() == own.tobytes()
    assert len(index) == len(set(index.tolist())) > 60


def test_neighbours_are_those_of_the_state(spark, shop_folder):
    """The heaviest of each item, their weights up to the order of the sums, and the item's whole weight."""
    rows = midstream.spark.covisitation(spark, shop_folder, neighbours=4, shards=5).collect()
    fold = state_of(shop_folder, config_of(shop_folder), LogView(shop_folder)).fold
    by_item: dict[str, list[Any]] = {}
    for row in sorted(rows, key=lambda each: each["rank"]):
        by_item.setdefault(row["item_id"], []).append(row)
    assert len(by_item) > 60
    for item, found in by_item.items():
        index = fold.vocabulary.item_index(item)
        neighbours, weights = fold.pairs.neighbours(index, fold.log_time_ms)
        order = np.argsort(-weights, kind="stable")[: len(found)]
        assert [each["weight"] for each in found] == pytest.approx(weights[order].tolist(), rel=1e-12)
        assert {each["neighbour_id"] for each in found} <= set(fold.vocabulary.item_ids(neighbours))
        assert found[0]["share"] == pytest.approx(fold.pairs.share(index, fold.log_time_ms), rel=1e-12)
        assert [each["rank"] for each in found] == list(range(1, len(found) + 1))
