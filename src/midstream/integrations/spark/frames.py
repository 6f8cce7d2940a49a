"""DataFrames from functions over record batches: pieces of work shared out to tasks, and rows brought to the driver.

What a task runs is a function of this package, or one with some of its arguments given, so a task imports it by its
name: the package is installed wherever tasks run.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.integrations.spark.library import spark_module, spark_schema

MapBatches = Callable[[Iterator[Batch]], Iterator[Batch]]
"""What a task makes of the record batches of its partition."""
PACKED_ROWS = 10_000
"""Rows that come to the driver at once: 2 MB at 200 B."""
_PIECE = "piece"
_PACKED = "packed"
NUMBER = "_midstream_number"
"""Column of the place of each row in its DataFrame."""


def mapped(frame: Any, work: MapBatches, schema: Schema) -> Any:  # noqa: ANN401  DataFrames
    """Return the DataFrame that a function makes of each partition."""
    return frame.mapInArrow(work, spark_schema(schema))


def of_pieces(
    spark: Any,  # noqa: ANN401  a session
    pieces: Sequence[bytes],
    work: Callable[[bytes], Iterator[Batch]],
    schema: Schema,
) -> Any:  # noqa: ANN401  a DataFrame
    """Return a DataFrame with a partition for each piece of work, in their order."""
    if not pieces:
        return spark.createDataFrame([], spark_schema(schema))
    functions = spark_module("sql.functions")
    rows = [(number, piece) for number, piece in enumerate(pieces)]
    listed = spark.createDataFrame(rows, f"number int, {_PIECE} binary")
    # By range each piece has a partition of its own; by hash two could share one, and another would be empty.
    shared = listed.repartitionByRange(len(pieces), functions.col("number")).select(_PIECE)
    return mapped(shared, partial(_each_piece, work), schema)


def _each_piece(work: Callable[[bytes], Iterator[Batch]], batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        for piece in batch.column(0).to_pylist():
            yield from work(piece)


def to_driver(frame: Any) -> Iterator[Batch]:  # noqa: ANN401  a DataFrame
    """Yield the rows of a DataFrame in the order of its partitions, as record batches; one partition at a time.

    Rows are packed by the tasks, as Spark hands single rows over at a tenth of the speed.
    """
    packed = mapped(frame, _packed, pa.schema([(_PACKED, pa.binary())]))
    for row in packed.toLocalIterator():
        with pa.ipc.open_stream(bytes(row[0])) as reader:
            yield from reader


def _packed(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield rows as binaries, each a stream of record batches with up to ``PACKED_ROWS`` rows."""
    for batch in batches:
        for start in range(0, len(batch), PACKED_ROWS):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
                writer.write_batch(batch.slice(start, PACKED_ROWS))
            column = pa.array([sink.getvalue().to_pybytes()], pa.binary())
            yield pa.RecordBatch.from_arrays([column], names=[_PACKED])


def sorted_by_time(frame: Any, add_time: MapBatches, time: str, order: Sequence[str], rows: int) -> Any:  # noqa: ANN401  DataFrames
    """Return a DataFrame sorted by a time that a function adds, then by columns, then as the rows came.

    Args:
        frame: The rows; those of the same time and order come as its partitions have them.
        add_time: Adds a column of milliseconds behind the others, of which the last one is the number of each row.
        time: Name of that column.
        order: Columns that order rows of the same time.
        rows: Of a partition, about: as many are in memory of the driver at once.
    """
    functions, types = spark_module("sql.functions"), spark_module("sql.types")
    numbered = frame.withColumn(NUMBER, functions.monotonically_increasing_id())
    timed = types.StructType([*numbered.schema.fields, types.StructField(time, types.LongType())])
    keys = [functions.col(f"`{name}`").asc_nulls_first() for name in (time, *order, NUMBER)]
    parts = max(1, -(-frame.count() // rows))
    found = numbered.mapInArrow(add_time, timed).repartitionByRange(parts, *keys).sortWithinPartitions(*keys)
    return found.drop(NUMBER)
