"""Logs as DataFrames of a real Spark and back: digests and features as of past moments are the local ones."""

from pathlib import Path
from typing import Any

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
from midstream.core.errors import Invalid
from midstream.engine import log_opening
from tests.app.point_in_time import test_lookup, test_served_examples
from tests.app.spark import test_log_ranges, test_shard_tables
from tests.app.spark.test_backfill import rows as backfill_rows
from tests.app.spark.test_backfill import table_of
from tests.app.spark.test_point_in_time import same
from tests.support.libraries import library
from tests.support.services.record import note
from tests.support.spark import spark_session

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
asked_folder = test_lookup.folder
served_folder = test_served_examples.folder
log_folder = test_log_ranges.folder
shop_folder = test_shard_tables.folder


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Yield a session of two threads."""
    library("pyspark")
    library("pandas")
    with spark_session(tmp_path_factory.mktemp("spark")) as found:
        yield found


@pytest.fixture
def spark(session: Any) -> Any:
    """Return the session, and keep its version for the page of compatibility."""
    note("spark", session.version)
    return session


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


def test_features_are_those_of_one_pass(spark, asked_folder):
    """Of a question in any partition, to the bit; a question without a place is refused before anything runs."""
    questions = pa.Table.from_pylist(test_lookup.asked(300, seed=3)).append_column("number", pa.array(range(300)))
    by = [("number", "ascending"), ("position", "ascending")]
    told = midstream.features_as_of(asked_folder, questions).sort_by(by)
    frame = spark.createDataFrame(questions).repartition(5)
    found = midstream.spark.features_as_of(frame, asked_folder, tasks=3)
    assert found.rdd.getNumPartitions() == 3
    same(found.toArrow().sort_by(by), told, [name for name in told.schema.names if name != "row"])
    with pytest.raises(Invalid, match="log_position"):
        midstream.spark.features_as_of(frame.drop("log_position"), asked_folder)
    with pytest.raises(Invalid, match='Nearest: "mine"'):
        midstream.spark.features_as_of(frame, asked_folder, features=["mien"])
