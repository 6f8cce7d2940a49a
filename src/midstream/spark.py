"""Spark: a log as a DataFrame and back, features, examples and tables by the tasks of a cluster, and streams.

Sessions and DataFrames are those of PySpark 4 (extra ``spark``). Tasks import this package, so it is installed wherever
they run, and they read the folder of the log under the same path as the driver. See docs/spark.md.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from midstream.app.config.schema import Config
from midstream.app.export.events import Moment
from midstream.app.mapping.columns import ColumnOptions
from midstream.app.opening import config_of
from midstream.app.spark import event_shards, log_ranges, point_in_time, shard_tables, taken_back
from midstream.app.spark.backfill import TIME_COLUMN, BackfillSummary, import_sorted, terms_of, with_times
from midstream.app.spark.log_source import FORMAT, fixed, source
from midstream.app.spark.stream_sink import FolderSink, ServerSink
from midstream.core.errors import Fault, Invalid
from midstream.engine.recommender import Recommender
from midstream.integrations.spark.frames import mapped, of_pieces, sorted_by_time, to_driver
from midstream.integrations.spark.grouping import folded_by_shard, heaviest

__all__ = [
    "BackfillSummary",
    "backfill",
    "covisitation",
    "examples",
    "features_as_of",
    "history",
    "popularity",
    "register",
    "sink",
]
PARTITION_ROWS = 500_000
"""Rows of a backfill that are in memory of the driver at once: 100 MB."""
SHARDS_A_TASK = 4
"""So that a task that has two shards does not end long after the others."""
NEIGHBOURS = 32
"""Of an item, as many as the live table keeps by default."""
Frame = Any
"""``pyspark.sql.DataFrame``"""
Session = Any
"""``pyspark.sql.SparkSession``"""


def register(spark: Session) -> None:
    """Let a session read logs by name: ``spark.read.format("midstream").load("shop")``, and ``readStream`` alike.

    Raises:
        ExtraMissing: PySpark is not installed.
    """
    spark.dataSource.register(source())


def history(
    spark: Session,
    folder: str | Path,
    *,
    since: Moment = None,
    until: Moment = None,
    kinds: Sequence[str] | None = None,
) -> Frame:
    """Return the events of a folder's log as a DataFrame, also while a server has it open.

    Sealed days are read from their Parquet files and the rest from the log's segments, with every checksum. The rows
    are all events that were durable when this was called, but acts that had been taken back by then; a copy of an event
    that a crash left in the log is there twice, where the state and ``midstream.read_events`` pass the second one by.

    Args:
        spark: The session.
        folder: Holds ``data``.
        since: Log time from which on, as in ``midstream.read_events``.
        until: Log time before which.
        kinds: Such as ``["interaction", "item"]``; all when None.

    Returns:
        ``log_position`` long; ``log_time`` and ``time`` (null = not sent) timestamp; the other columns of an export.
        Partitions and rows come in the order of the log, until an operation of Spark changes it.

    Raises:
        ExtraMissing: PySpark is not installed.
        Invalid: A kind or a time is none.
        LogDamaged: The log cannot be trusted.

    When it is computed after an erasure rewrote the log, it fails: call this again.

    Cost: of the call a pass over the log by tasks, for retractions, from a day before ``since`` on.
    """
    register(spark)
    options = {"path": str(Path(folder).absolute())}
    for name, value in (("since", since), ("until", until)):
        if value is not None:
            options[name] = str(value) if isinstance(value, str | int) else value.isoformat()
    if kinds is not None:
        options["kinds"] = ",".join(kinds)
    return spark.read.format(FORMAT).options(**fixed(options, partial(_taken_back, spark))).load()


def backfill(
    rows: Frame,
    folder: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, str] | None = None,
    types: Mapping[str, str] | None = None,
    order: Sequence[str] = (),
) -> BackfillSummary:
    """Record the rows of a DataFrame in the order of their times, as ``midstream import`` records those of a file.

    The log folds to the digest that an import of the same rows gives, in the order of the DataFrame: items and users
    without a time first, then all by time, those of one time by ``order``, then as the DataFrame has them. Spark sorts,
    one writer writes. Run again, it goes on where it was broken off.

    Args:
        rows: A row is an event. Sorted by Spark, read twice, and counted before.
        folder: Of the log, on the driver; made if it is not there.
        columns: Field to column, as ``--map`` of an import: ``{"user_id": "visitor"}``.
        constants: Field to value, as ``--set``: ``{"type": "view"}``.
        types: Value of the type column to type, as ``--types``.
        order: Columns that order rows of one time. Without it a DataFrame that comes out of a shuffle may have another
            order each time.

    Returns:
        Outcomes of all rows, and of each slice of 10 million rows. Durable and applied.

    Raises:
        ExtraMissing: PySpark is not installed.
        Invalid: An act has no time, or the options do not fit; nothing was recorded. Or somebody else wrote between two
            slices; what was recorded before stays.
        FolderLocked: Another process has the folder open, and it is no server that can be reached.
        AppendFailed: The log could not be made durable; run it again to go on.

    Cost: the sort, and on the driver 3 to 4 µs a row, 70 bytes a row of a slice and 160 bytes of disk; of each slice
    0.5 µs for each event that the log has, so of n slices n / 2 reads of the whole.
    """
    root = Path(folder)
    config = config_of(root)
    options = ColumnOptions(dict(columns or {}), dict(constants or {}), dict(types or {}))
    add_times = partial(with_times, terms_of(config, options), tuple(rows.columns))
    ready = sorted_by_time(rows, add_times, TIME_COLUMN, order, PARTITION_ROWS)
    return import_sorted(root, config, options, to_driver(ready))


def features_as_of(
    questions: Frame,
    folder: str | Path,
    *,
    features: Sequence[str] | None = None,
    config: Config | None = None,
    tasks: int | None = None,
) -> Frame:
    """Return features as they were at the place of each question, equal to ``midstream.features_as_of`` to the bit.

    Each task answers the questions of one stretch of the log: it folds the log up to them, beginning with the newest
    snapshot before where there is one, and holds one state.

    Args:
        questions: With the columns of ``midstream.features_as_of``.
        folder: Holds ``midstream.toml`` and ``data``.
        features: Names of declared features; all when None.
        config: Declares the features; that of the folder when None.
        tasks: Stretches; as many as the session runs at once when None.

    Returns:
        A row for each item of each question: the question's columns, ``position`` of the item, ``item_id``, where it
        was asked, and a float column for each column of the features. Rows of a partition come in the order of the log.

    Raises:
        ExtraMissing: PySpark is not installed.
        Invalid: A question cannot be asked, or there is no such feature.
        LogDamaged: The log cannot be trusted.
    """
    place, past = point_in_time.place_of(Path(folder), config)
    key = point_in_time.question_key(questions.columns)
    names = None if features is None else tuple(features)
    example = questions.limit(1).toArrow().to_batches()
    schema = point_in_time.features_schema(past, example, names)
    shared = questions.repartitionByRange(_tasks(questions.sparkSession, tasks), key)
    return mapped(shared, partial(point_in_time.features_of, place, names), schema)


def examples(
    spark: Session,
    folder: str | Path,
    served: str = "..",
    *,
    features: Sequence[str] | None = None,
    tasks: int | None = None,
) -> Frame:
    """Return training examples of served slates, equal to ``midstream.examples`` to the bit.

    Args:
        spark: The session.
        folder: Holds ``midstream.toml`` and ``data``.
        served: ``FROM..TO``, as in ``midstream.examples``.
        features: Names of declared features; all when None.
        tasks: Stretches of the log, one a task; as many as the session runs at once when None.

    Returns:
        A row for each item of each slate, with the columns of ``midstream.examples``, in the order of the log.

    Raises:
        ExtraMissing: PySpark is not installed.
        Invalid: No feature is declared, there is no such feature, or the range is none.
        LogDamaged: The log cannot be trusted.

    Cost: of each task one fold of the log up to its slates and one of the whole log for their outcomes, 2 to 5 µs an
    event, and 0.5 ms a slate.
    """
    place, past = point_in_time.place_of(Path(folder))
    names = None if features is None else tuple(features)
    pieces = point_in_time.example_pieces(past, served, _tasks(spark, tasks))
    work = partial(point_in_time.examples_of, place, names)
    return of_pieces(spark, pieces, work, point_in_time.example_columns(past, names))


def popularity(spark: Session, folder: str | Path, *, shards: int | None = None) -> Frame:
    """Return the popularity of all items of a log: those numbers that the live state has, to the bit.

    Where acts of several items have one event id, which no two acts should, each item has one of them here.

    Args:
        spark: The session.
        folder: Holds ``midstream.toml`` and ``data``.
        shards: Of the items; four times as many as the session runs tasks at once when None. A task has memory for one.

    Returns:
        ``item_id``, ``available``, ``heat_<half-life>`` (what ``popular`` and ``trending`` order by) and
        ``<action>_<window>``, as of the log's last event.

    Raises:
        ExtraMissing: PySpark is not installed.
        LogDamaged: The log cannot be trusted.

    Cost: three passes over the log, about 2 µs an event, shared by all tasks.
    """
    job, frame, count = _sharded(spark, Path(folder), "item", shards)
    schema = shard_tables.popularity_schema(job.settings())
    return folded_by_shard(frame, partial(shard_tables.popularity_of, job), schema, count)


def covisitation(
    spark: Session, folder: str | Path, *, neighbours: int = NEIGHBOURS, shards: int | None = None
) -> Frame:
    """Return for each item of a log the items that are acted on in the same sessions, the heaviest first.

    Weights are those of the live table where an item never had more neighbours than the live row holds, up to the last
    bits (sums in another order); where it had, those of the live table are lower, as it forgot some.

    Args:
        spark: The session.
        folder: Holds ``midstream.toml`` and ``data``.
        neighbours: Kept of each item.
        shards: Of the sessions of users; as above.

    Returns:
        ``item_id``, ``neighbour_id``, ``weight`` as of the log's last event, ``pairs`` (how many acts made it),
        ``share`` (sum of all weights of the item) and ``rank`` from 1.

    Raises:
        ExtraMissing: PySpark is not installed.
        LogDamaged: The log cannot be trusted.
    """
    job, frame, count = _sharded(spark, Path(folder), "session", shards)
    parts = folded_by_shard(frame, partial(shard_tables.pairs_of, job), shard_tables.PAIR_SCHEMA, count)
    return heaviest(parts, neighbours)


def sink(
    target: Recommender | str, name: str, *, headers: Mapping[str, str] | None = None, begin_at: int | None = None
) -> Callable[[Frame, int], None]:
    """Return what writes each batch of a stream into a shop, each row once: for ``foreachBatch`` of one query.

    Columns are the fields of docs/events.md. Rows that are no events become dead letters.

    Args:
        target: An open shop, of ``midstream.open`` in the driver: exactly once, as the place in the stream stands in
            the log beside the events. Or the address of a server, ``http://127.0.0.1:8000``: once for as long as the
            server remembers event ids (24 h, 10 million).
        name: Of the stream, its own in the shop, of up to 64 characters.
        headers: Of requests to the server, such as a key.
        begin_at: Of a shop: number of a batch that may come though the log lacks those before it.

    Raises:
        Invalid: The target is neither, or the name is none.

    Example: ``events.writeStream.foreachBatch(sink(shop, "clicks")).option("checkpointLocation", path).start()``
    """
    if isinstance(target, Recommender):
        return FolderSink(target, name, begin_at)
    if not str(target).startswith(("http://", "https://")):  # a path, or None
        right = "An open shop, with midstream.open(folder), or the address of a server, such as http://127.0.0.1:8000."
        raise Invalid((Fault("target", f"{target!r} came.", right, "/docs/spark.md"),))
    if begin_at is not None:
        came = f"{begin_at} came for a server, which keeps no place of a stream."
        raise Invalid((Fault("begin_at", came, "Leave it out: a server takes every batch.", "/docs/spark.md"),))
    return ServerSink(target, name, dict(headers or {}))


def _sharded(
    spark: Session, folder: Path, by: event_shards.By, shards: int | None
) -> tuple[shard_tables.ShardJob, Frame, int]:
    """Return the job, the events of each shard, and the number of shards."""
    count = SHARDS_A_TASK * _tasks(spark, None) if shards is None else max(1, shards)
    place, last_ms = log_ranges.place_and_time(folder)
    parts = place.ranges(place.begin, place.end)
    merged = event_shards.MergedUsers()
    if by == "session":
        ranges = [log_ranges.encode_range(each) for each in parts]
        found = of_pieces(spark, ranges, partial(event_shards.merges_of, place), event_shards.MERGE_SCHEMA)
        merged = event_shards.joined_users([(row[0], row[1]) for row in found.collect()])
    acts = _taken_back(spark, place, place.begin)
    pieces = [event_shards.encode_piece(each, acts) for each in parts]
    sharding = event_shards.Sharding(by, count, merged)
    frame = of_pieces(spark, pieces, partial(event_shards.sharded, place, sharding), event_shards.SHARD_SCHEMA)
    return shard_tables.job_of(folder, config_of(folder), last_ms), frame, count


def _taken_back(spark: Session, place: log_ranges.LogPlace, first: int) -> taken_back.TakenBack:
    """Return the acts that the events of a log from a position on take back, found by tasks."""
    pieces = [log_ranges.encode_range(each) for each in place.ranges(first, place.end)]
    found = of_pieces(spark, pieces, partial(taken_back.retractions_of, place), taken_back.TAKEN_BACK_SCHEMA)
    return taken_back.joined_acts((row[0], row[1]) for row in found.collect())


def _tasks(spark: Session, wanted: int | None) -> int:
    return max(1, int(spark.sparkContext.defaultParallelism) if wanted is None else wanted)
