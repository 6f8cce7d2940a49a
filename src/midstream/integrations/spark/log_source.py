"""Data source of PySpark over ranges of a log: a DataFrame of what it holds, or a stream of what comes.

The source knows functions: which ranges there are, and what of one is read. A stream's offset is a log position, so
what a checkpoint keeps is exact: a query that begins again reads on at the same event.

Reference: Apache Spark 4, Python Data Source API (``pyspark.sql.datasource``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midstream.events.loose_arrow import Batch, Schema
from midstream.integrations.spark.library import spark_module, spark_schema

Options = Mapping[str, str]
"""Options of a read, by name in small letters."""


@dataclass(frozen=True, slots=True)
class LogReads:
    """What a source reads, as functions; each is imported by its name where it runs."""

    name: str
    """Of the format."""
    schema: Schema
    ranges: Callable[[Options], Sequence[object]]
    """Returns the ranges of a DataFrame."""
    begin: Callable[[Options], int]
    """Returns where a new stream begins."""
    end: Callable[[Options], int]
    """Returns up to where a stream can be read."""
    events_max: Callable[[Options], int]
    """Returns how many events a batch of a stream has at most."""
    between: Callable[[Options, int, int], Sequence[object]]
    """Returns the ranges from one position to before another."""
    read: Callable[[Options, object], Iterator[Batch]]
    """Yields what a range holds."""


def source_class(reads: LogReads) -> type[Any]:
    """Return the class to register with a session.

    Raises:
        ExtraMissing: PySpark is not installed.
    """
    library = spark_module("sql.datasource")
    reader, stream_reader = _reader_class(library, reads), _stream_reader_class(library, reads)

    class LogSource(library.DataSource):  # type: ignore[misc,name-defined]  # a class of a library without types
        """The source as Spark asks for it."""

        @classmethod
        def name(cls) -> str:
            return reads.name

        def schema(self) -> Any:  # noqa: ANN401  a type of Spark
            return spark_schema(reads.schema)

        def reader(self, schema: Any) -> Any:  # noqa: ANN401  as above
            return reader(dict(self.options))

        def streamReader(self, schema: Any) -> Any:  # noqa: ANN401, N802  the library's name
            return stream_reader(dict(self.options))

    return LogSource


def _reader_class(library: Any, reads: LogReads) -> type[Any]:  # noqa: ANN401  as above
    class Reader(library.DataSourceReader):  # type: ignore[misc,name-defined]  # as above
        """Ranges of a DataFrame."""

        def __init__(self, options: Options) -> None:
            self._options = options

        def partitions(self) -> list[Any]:
            return [library.InputPartition(each) for each in reads.ranges(self._options)]

        def read(self, partition: Any) -> Iterator[Batch]:  # noqa: ANN401  as above
            # Of a log without an event Spark asks for one partition that holds None.
            part = getattr(partition, "value", None)
            return iter(()) if part is None else reads.read(self._options, part)

    return Reader


def _stream_reader_class(library: Any, reads: LogReads) -> type[Any]:  # noqa: ANN401  as above
    streaming = spark_module("sql.streaming.datasource")

    class StreamReader(library.DataSourceStreamReader, streaming.SupportsTriggerAvailableNow):  # type: ignore[misc]  # as above
        """Ranges of a stream."""

        def __init__(self, options: Options) -> None:
            self._options = options
            self._last: int | None = None
            """Up to where a query reads that ends by itself; None = it goes on."""

        def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802  as above
            self._last = reads.end(self._options)

        def getDefaultReadLimit(self) -> Any:  # noqa: ANN401, N802  as above
            return streaming.ReadMaxRows(reads.events_max(self._options))

        def initialOffset(self) -> dict[str, int]:  # noqa: N802  as above
            return {"log_position": reads.begin(self._options)}

        def latestOffset(self, start: dict[str, int], limit: Any) -> dict[str, int]:  # noqa: ANN401, N802  as above
            """Return up to where the next batch reads: never back, and so many events further at most."""
            at = int(start["log_position"])
            end = reads.end(self._options) if self._last is None else self._last
            rows_max = getattr(limit, "max_rows", None)
            return {"log_position": max(at, end if rows_max is None else min(end, at + int(rows_max)))}

        def partitions(self, start: dict[str, int], end: dict[str, int]) -> list[Any]:
            found = reads.between(self._options, int(start["log_position"]), int(end["log_position"]))
            return [library.InputPartition(each) for each in found]

        def read(self, partition: Any) -> Iterator[Batch]:  # noqa: ANN401  as above
            return reads.read(self._options, partition.value)

        def commit(self, end: dict[str, int]) -> None:
            """Keep nothing: the log has every event for as long as its retention says."""

    return StreamReader
