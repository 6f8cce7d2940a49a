"""Data source of PySpark over ranges of a log: a DataFrame of what it holds, or a stream of what comes.

The source knows functions: which ranges there are, and what of one is read. A stream's offset is a log position and
which writing of which log it is of, so what a checkpoint keeps is exact: a query that begins again reads on at the same
event, or is told that there is none.

Reference: Apache Spark 4, Python Data Source API (``pyspark.sql.datasource``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midstream.events.loose_arrow import Batch, Schema
from midstream.integrations.spark.library import spark_module, spark_schema

Options = Mapping[str, str]
"""Options of a read, by name in small letters."""
POSITION = "log_position"
"""Of an offset, beside what tells which log it is of."""


@dataclass(frozen=True, slots=True)
class LogReads:
    """What a source reads, as functions; each is imported by its name where it runs."""

    name: str
    """Of the format."""
    schema: Schema
    ranges: Callable[[Options], Sequence[object]]
    """Returns the ranges of a DataFrame."""
    begin: Callable[[Options], dict[str, Any]]
    """Returns the offset at which a new stream begins."""
    end: Callable[[Options, Mapping[str, Any]], dict[str, Any]]
    """Returns the offset up to which a stream at another one can be read."""
    events_max: Callable[[Options], int]
    """Returns how many events a batch of a stream has at most."""
    between: Callable[[Options, Mapping[str, Any], Mapping[str, Any]], Sequence[object]]
    """Returns the ranges from one offset to before another."""
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
    class Reader(library.DataSourceReader):  # type: ignore[misc]  # as above
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

    class StreamReader(library.DataSourceStreamReader, streaming.SupportsTriggerAvailableNow):  # type: ignore[misc,name-defined]  # as above
        """Ranges of a stream."""

        def __init__(self, options: Options) -> None:
            self._options = options
            self._ends = False
            """Whether the query ends by itself."""
            self._last: int | None = None
            """Up to where it reads then; known when it begins."""

        def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802  as above
            self._ends = True

        def getDefaultReadLimit(self) -> Any:  # noqa: ANN401, N802  as above
            return streaming.ReadMaxRows(reads.events_max(self._options))

        def initialOffset(self) -> dict[str, Any]:  # noqa: N802  as above
            return reads.begin(self._options)

        def latestOffset(self, start: dict[str, Any], limit: Any) -> dict[str, Any]:  # noqa: ANN401, N802  as above
            """Return up to where the next batch reads: never back, and so many events further at most."""
            at, found = int(start[POSITION]), reads.end(self._options, start)
            end = int(found[POSITION])
            if self._ends:
                self._last = end if self._last is None else self._last
                end = self._last
            rows_max = getattr(limit, "max_rows", None)
            return {**found, POSITION: max(at, end if rows_max is None else min(end, at + int(rows_max)))}

        def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> list[Any]:
            found = reads.between(self._options, start, end)
            return [library.InputPartition(each) for each in found]

        def read(self, partition: Any) -> Iterator[Batch]:  # noqa: ANN401  as above
            return reads.read(self._options, partition.value)

        def commit(self, end: dict[str, Any]) -> None:
            """Keep nothing: the log has every event for as long as its retention says."""

    return StreamReader
