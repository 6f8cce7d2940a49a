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
from midstream.app.opening import Outside, config_of, open_running
from midstream.app.spark import stream_sink
from midstream.core.types import TimestampMs
from midstream.engine.recommender import Recommender

SCHEMA = "type string, user_id string, item_id string, value double, time timestamp, context string"
PIECE_ROWS = 3
"""Rows of a frame in a driver that is killed: many for each batch."""
BEGAN = "a batch began"
"""Printed by such a driver for each batch."""
START_MS = 1_767_225_600_000
BATCH_MS = 60_000
"""Between the times of two batches of a driver that is killed: by its clock all of a batch happens at one moment."""
CONFIG = """\
[limits]
event_ids_max = 1

[snapshots]
interval = "5s"
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


class BatchClock:
    """Clock of a shop that stands at the time of the batch under way."""

    def __init__(self) -> None:
        """Begin before all batches."""
        self.now_ms = START_MS - 1

    def __call__(self) -> TimestampMs:
        """Return the time."""
        return TimestampMs(self.now_ms)


def main() -> None:
    """Write the files of a folder into a shop, one a batch: until it is killed, or all that there are.

    Arguments: the folder of the shop, that of the files, the checkpoint, and "all" or "on".
    """
    folder, source, checkpoint = (Path(each) for each in sys.argv[1:4])
    vars(stream_sink)["PIECE_EVENTS"] = PIECE_ROWS
    clock = BatchClock()
    config = config_of(folder)
    running = open_running(folder, config, outside=Outside(clock=clock))
    accept = running.service.accept
    with Recommender(running, lambda: accept) as shop, spark_session(checkpoint.parent) as spark:
        write = midstream.spark.sink(shop, "clicks")

        def write_at_its_time(frame: Any, batch: int) -> None:
            clock.now_ms = START_MS + batch * BATCH_MS
            print(BEGAN, flush=True)
            write(frame, batch)

        rows = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", "1").json(str(source))
        writer = rows.writeStream.foreachBatch(write_at_its_time).option("checkpointLocation", str(checkpoint))
        query = (writer.trigger(availableNow=True) if sys.argv[4] == "all" else writer).start()
        query.awaitTermination()


if __name__ == "__main__":
    import midstream.spark

    main()
