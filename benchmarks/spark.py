"""Spark in local mode beside one process on the same machine: backfill, history, tables and features of a past.

PySpark and pandas stand beside the environment, in folders that PYTHONPATH names (scripts/spark.lock, frames.lock):

    PYTHONPATH=.venv-spark:.venv-frames ./scripts/bench spark --events 10000000

Rows are those of ``world``, written once as Parquet in no order. Each pair does the same work on the same rows, and
what both make is compared. Seconds are those of the clock, then those of processors.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from world import World, interactions

import midstream
import midstream.spark
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView, state_from_the_beginning
from midstream.app.opening import config_of
from tests.support.spark import spark_session

FILES = 16
QUESTIONS, CANDIDATES = 20_000, 20
STEP_MS = 1_000
ACTS = 10
"""Of a user and of a session, on average."""
TOML = """\
[[features]]
name = "views"
kind = "count"
actions = ["view"]
windows = ["1h", "1d"]
half_life = ["6h"]

[[features]]
name = "mine"
kind = "count"
scope = "user_item"
actions = ["view"]
"""


def write_rows(folder: Path, world: World) -> list[Path]:
    """Write the events as Parquet files, in no order; times are ``STEP_MS`` apart."""
    user, item, session = interactions(world)
    order = np.random.default_rng(1).permutation(world.events)
    now_ms = time.time_ns() // 1_000_000
    times = now_ms - STEP_MS * (world.events - order)
    files = []
    for number, part in enumerate(np.array_split(np.arange(world.events), FILES)):
        own = order[part]
        columns = {
            "type": pa.array(["view"]).take(pa.array(np.zeros(len(own), dtype=np.int32))),
            "user_id": pa.array(user[own]).cast(pa.string()),
            "session_id": pa.array(session[own]).cast(pa.string()),
            "item_id": pa.array(item[own]).cast(pa.string()),
            "time": pa.array(times[part], pa.timestamp("ms", "UTC")),
        }
        files.append(folder / f"{number:02}.parquet")
        pq.write_table(pa.table(columns), files[-1])
    return files


def processor_s() -> float:
    """Return the seconds of processors that this process took, with Spark and its workers, those that ended too."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(each.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks[pid] for pid in own) / os.sysconf("SC_CLK_TCK")


def timed(work):
    """Return what a function returns, and its seconds: by the clock, and of processors."""
    began, used = time.perf_counter(), processor_s()
    found = work()
    return found, [round(time.perf_counter() - began, 1), round(processor_s() - used, 1)]


def noop(frame):
    """Make all rows of a DataFrame, and keep none."""
    frame.write.format("noop").mode("overwrite").save()


def shop_at(place: Path) -> Path:
    """Return a folder with the features."""
    place.mkdir()
    (place / "midstream.toml").write_text(TOML)
    return place


def are_equal(found: pa.Table, expected: pa.Table) -> bool:
    """Return whether two tables have the same rows: numbers to the bit, a missing one like another."""
    if found.num_rows != expected.num_rows or found.schema.names != expected.schema.names:
        return False
    pairs = [[each[name].combine_chunks() for each in (found, expected)] for name in found.schema.names]
    return all(
        np.array_equal(one.to_numpy(zero_copy_only=False), two.to_numpy(zero_copy_only=False), equal_nan=True)
        if pa.types.is_floating(one.type)
        else one.cast(two.type).equals(two)
        for one, two in pairs
    )


def said(name: str, told: dict[str, object]) -> None:
    """Print a figure as soon as it is there, so that a run which is ended has said what it knew."""
    print(json.dumps({name: told, "load": round(os.getloadavg()[0], 1)}), flush=True)


def questions_of(folder: Path, world: World) -> pa.Table:
    """Return questions at moments all over the log."""
    rng, view = np.random.default_rng(2), LogView(folder)
    return pa.table(
        {
            "number": np.arange(QUESTIONS),
            "log_position": np.sort(rng.integers(0, view.end, QUESTIONS)),
            "user_id": pa.array(rng.integers(0, world.users, QUESTIONS)).cast(pa.string()),
            "items": [[str(each) for each in rng.integers(0, 2_000, CANDIDATES)] for _ in range(QUESTIONS)],
        }
    )


def measured(spark, place: Path, world: World) -> None:
    """Print seconds of one process and of Spark, for each kind of work."""
    (place / "rows").mkdir()
    files = write_rows(place / "rows", world)
    whole = place / "rows.parquet"
    with pq.ParquetWriter(whole, pq.read_schema(files[0])) as writer:
        for each in files:
            writer.write_table(pq.read_table(each))
    one, two = shop_at(place / "one"), shop_at(place / "two")
    said("rows", {"events": world.events, "cores": os.cpu_count()})
    told, local_s = timed(lambda: import_file(one, config_of(one), whole))
    done, spark_s = timed(lambda: midstream.spark.backfill(spark.read.parquet(str(place / "rows")), two))
    said("log_of_rows_s", {"one": local_s, "spark": spark_s, "equal": told.recorded == done.recorded})
    rows, local_s = timed(lambda: sum(map(len, midstream.stream_events(one))))
    _, spark_s = timed(lambda: noop(midstream.spark.history(spark, one)))
    said("history_s", {"one": local_s, "spark": spark_s, "rows": rows})
    asked = questions_of(one, world)
    table, local_s = timed(lambda: midstream.features_as_of(one, asked))
    frame = midstream.spark.features_as_of(spark.createDataFrame(asked), one)
    answers, spark_s = timed(frame.toArrow)
    by = [("number", "ascending"), ("position", "ascending")]
    names = [name for name in answers.schema.names if name != "time"]
    is_equal = are_equal(answers.select(names).sort_by(by), table.select(names).sort_by(by))
    said("features_s", {"one": local_s, "spark": spark_s, "questions": QUESTIONS, "equal": is_equal})
    fold, local_s = timed(lambda: state_from_the_beginning(one, config_of(one), LogView(one)))
    del fold
    _, spark_s = timed(lambda: noop(midstream.spark.popularity(spark, one)))
    pairs, pairs_s = timed(lambda: midstream.spark.covisitation(spark, one).count())
    said("tables_s", {"one_both": local_s, "popularity": spark_s, "covisitation": pairs_s, "rows": pairs})
    said("driver", {"rss_mib_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10})


def main(arguments):
    """Print the figures."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    events = int(options.get("--events", 10_000_000))
    world = World(events=events, users=max(1, events // ACTS), sessions=max(1, events // ACTS))
    with tempfile.TemporaryDirectory(dir=options.get("--folder")) as made:
        place = Path(made)
        with spark_session(place) as spark:
            measured(spark, place, world)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
