"""Sessions of Spark in this process, and a driver in a process of its own that writes a stream of files into a shop."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import midstream
from midstream.app.spark import stream_sink

SCHEMA = "type string, user_id string, item_id string, value double, time timestamp, context string"
PIECE_ROWS = 50
"""Rows of a frame in a driver that is killed: several for each batch."""
CONFIG = """\
[limits]
event_ids_max = 1
"""
"""Of a shop that remembers one event id: what is written twice is there twice."""


@contextmanager
def spark_session(folder: Path) -> Iterator[Any]:
    """Yield a session of two threads on loopback, whose files are below a folder; ``pyspark`` is installed."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    sql = import_module("pyspark.sql")
    builder = sql.SparkSession.builder.master("local[2]").appName("midstream")
    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            session.stop()


def write_stream(spark: Any, shop: Any, source: Path, checkpoint: Path, name: str = "clicks") -> Any:
    """Return a query that writes the files that are there into a shop, one a batch, and ends."""
    rows = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", "1").json(str(source))
    writer = rows.writeStream.foreachBatch(midstream.spark.sink(shop, name))
    return writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()


def main() -> None:
    """Write all files of a folder into a shop."""
    folder, source, checkpoint = (Path(each) for each in sys.argv[1:4])
    stream_sink.PIECE_EVENTS = PIECE_ROWS
    with midstream.open(folder) as shop, spark_session(checkpoint.parent) as spark:
        query = write_stream(spark, shop, source, checkpoint)
        query.awaitTermination()


if __name__ == "__main__":
    import midstream.spark

    main()
