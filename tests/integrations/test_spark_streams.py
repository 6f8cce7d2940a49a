"""Streams of a real Spark into a shop, folder or server, and out of its log: each row of each batch is there once."""

import json
from collections import Counter
from pathlib import Path

import pytest

import midstream
import midstream.spark
from midstream.core.errors import Invalid
from tests.crash.servers import serving
from tests.support import spark_fixtures
from tests.support.spark import CONFIG, write_stream

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
session, spark = spark_fixtures.session, spark_fixtures.spark
ROWS = 207


def write_files(folder: Path, first: int, count: int) -> int:
    """Write files of rows, each row with a number of its own as its value; return the number of the next row."""
    folder.mkdir(exist_ok=True)
    number = first
    for file in range(count):
        rows = []
        for _ in range(ROWS):
            moment = f"2026-01-01T00:{number % 60:02}:00Z"
            context = json.dumps({"number": number % 3})
            rows.append(
                {
                    "type": "view",
                    "user_id": f"u{number % 11}",
                    "item_id": f"i{number % 5}",
                    "value": float(number),
                    "time": moment,
                    "context": context,
                }
            )
            number += 1
        path = folder / f"{first:08}-{file:04}.json"
        path.with_suffix(".part").write_text("".join(f"{json.dumps(each)}\n" for each in rows))
        path.with_suffix(".part").rename(path)
    return number


def values_of(folder: Path) -> Counter[float | None]:
    """Return how often each row is in a log."""
    table = midstream.stream_events(folder, kinds=["interaction"]).read_all()
    return Counter(table.column("value").to_pylist())


def test_each_row_is_an_event_once(spark, tmp_path):
    """A second run of the query adds what is new; the places stand in the state; the same batch again adds nothing."""
    shop_folder, source = tmp_path / "shop", tmp_path / "files"
    shop_folder.mkdir()
    (shop_folder / "midstream.toml").write_text(CONFIG)
    count = write_files(source, 0, 3)
    with midstream.open(shop_folder) as shop:
        write_stream(spark, shop, source, tmp_path / "checkpoint").awaitTermination()
        count = write_files(source, count, 2)
        write_stream(spark, shop, source, tmp_path / "checkpoint").awaitTermination()
        row = shop.running.engine.fold.inputs.find("clicks")
        assert row is not None
        assert (row.topic, dict(row.next)) == ("spark", {"0": "5:0"})
        with pytest.raises(Exception, match="wrote it before"):
            write_stream(spark, shop, source, tmp_path / "other").awaitTermination()
        write_stream(spark, shop, source, tmp_path / "another", "more").awaitTermination()
    assert values_of(shop_folder) == Counter({float(number): 2 for number in range(count)})


def test_rows_that_are_no_events_are_dead_letters(spark, tmp_path):
    """The others of their batch are recorded; a column that cannot be ordered is named."""
    source = tmp_path / "files"
    write_files(source, 0, 1)
    (source / "z.json").write_text('{"type": "wave", "user_id": "u", "item_id": "i", "value": 1.5}\n')
    with midstream.open(tmp_path) as shop:
        write_stream(spark, shop, source, tmp_path / "checkpoint").awaitTermination()
        assert shop.running.ingest.dead_letters is not None
        assert shop.running.ingest.dead_letters.counts.kept == 1
        frame = spark.sql("SELECT 'view' AS type, map('page', 'home') AS context")
        to = midstream.spark.sink(shop, "maps")
        with pytest.raises(Invalid, match="no query hands over"):
            to(frame, 0)
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", "q")
        with pytest.raises(Invalid, match="no order"):
            to(frame, 0)
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    assert len(values_of(tmp_path)) == ROWS


def test_batches_are_sent_to_a_server(spark, tmp_path):
    """Sent again, as behind a kill between the write and the commit, they are duplicates."""
    source, folder = tmp_path / "files", tmp_path / "shop"
    folder.mkdir()
    count = write_files(source, 0, 2)
    with serving(folder) as (_, url):
        write_stream(spark, url, source, tmp_path / "checkpoint").awaitTermination()
        frame = spark.read.schema("type string, user_id string, item_id string, value double").json(str(source))
        to = midstream.spark.sink(url, "again")
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", "q")
        to(frame, 0)
        to(frame.repartition(7), 0)
        spark.sparkContext.setLocalProperty("sql.streaming.queryId", None)
    assert values_of(folder) == Counter({float(number): 2 for number in range(count)})


def test_a_log_is_read_as_a_stream(spark, tmp_path):
    """Each event once and in batches of a size, over two runs of a query; a new one begins where it is told to."""
    out, checkpoint = str(tmp_path / "out"), str(tmp_path / "checkpoint")

    def run(count):
        rows = spark.readStream.format("midstream").option("maxEventsPerTrigger", "40").load(str(tmp_path / "shop"))
        writer = rows.writeStream.format("parquet").option("path", out).option("checkpointLocation", checkpoint)
        query = writer.start()
        try:
            query.processAllAvailable()
        finally:
            query.stop()
        found = [row["log_position"] for row in spark.read.parquet(out).select("log_position").collect()]
        assert sorted(found) == list(range(count))
        return query

    def record(count):
        with midstream.open(tmp_path / "shop") as shop:
            start = int(shop.running.engine.fold.log_position)
            shop.record([{"type": "view", "user_id": "u", "item_id": f"i{at}"} for at in range(start, count)])
            return run(count)

    midstream.spark.register(spark)
    record(130)
    query = record(200)
    assert len([each for each in query.recentProgress if each["numInputRows"]]) == 2  # 70 events, 40 at most
