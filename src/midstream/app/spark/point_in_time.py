"""Point-in-time features and training examples by the tasks of a cluster, equal to local ones to the bit.

The work that is shared out is that of reading features: a task takes the questions, or the served slates, of one
stretch of the log and folds the log up to them by the code that serves. It begins with the newest snapshot before its
first question where the folder has one, else with the beginning of the log. So whatever a feature reads, of one user or
of all the shop, is as it was, and no task depends on another one. All tasks read the log up to where it ended when the
job began.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import gettempdir

import msgspec

from midstream.app.config.reader import FILE_NAME
from midstream.app.config.schema import Config
from midstream.app.mapping.pieces import CHUNK_ROWS
from midstream.app.mapping.readers import TABLE_TEXT_BYTES_MAX
from midstream.app.opening import DATA_NAME, Outside, config_of
from midstream.app.point_in_time.lookup import AsOfOptions, Past, answer, answer_schema
from midstream.app.point_in_time.requests import of_batches
from midstream.app.point_in_time.served_examples import ServedQuestion, examples_schema, served_examples
from midstream.app.point_in_time.served_requests import ServedRange, served_range
from midstream.app.spark.log_ranges import LogPlace, rewritten
from midstream.app.spark.log_ranges import place_of as log_place
from midstream.core.errors import Fault, Invalid
from midstream.engine.folder import DataFolder
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.disk import RealDisk
from midstream.events.loose_arrow import Batch, Schema, pa, pt
from midstream.events.segments.log_identity import read_identity

PAGE = "/docs/spark.md"
_ROW = "row"
"""Number of a question among those of its task: it means nothing outside."""
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True, slots=True)
class PastPlace:
    """A log and a configuration, as they go to tasks."""

    log: LogPlace
    """Its folder holds ``midstream.toml`` as well; it ends where it ended when the job began."""
    config: Config

    @property
    def folder(self) -> Path:
        """The folder, which every machine that runs tasks has under this path."""
        return Path(self.log.folder)

    def past(self) -> Past:
        """Return the log.

        Raises:
            LogRewritten: Another log, or another writing of it, took its place since the job began.
            LogDamaged: It cannot be trusted.
        """
        self.require_same()
        return Past(self.folder, self.config, FILE_NAME, self.log.end)

    def require_same(self) -> None:
        """Refuse another log than that of the job; at the end of a task, too: its files may have been replaced midway.

        Raises:
            LogRewritten: The log is another one, or another writing of it, as erasures make.
        """
        folder = DataFolder(self.folder / DATA_NAME).log
        found = read_identity(folder, RealDisk()) if folder.is_dir() else None
        now = ("", 0) if found is None else (found.log_id, found.generation)
        if now != (self.log.log_id, self.log.generation):
            raise rewritten(folder, self.log, found)


class ExamplesPiece(msgspec.Struct, frozen=True, array_like=True):
    """Served records of one task."""

    first: int
    stop: int
    since_ms: int | None
    until_ms: int | None


def place_of(folder: Path, config: Config | None = None) -> tuple[PastPlace, Past]:
    """Return a folder's log as it stands now, for tasks and for the driver."""
    past = Past(folder, config_of(folder) if config is None else config)
    return PastPlace(log_place(folder, past.log), past.config), past


def question_key(columns: Sequence[str]) -> str:
    """Return the column by which questions are shared out.

    Raises:
        Invalid: There is none.
    """
    for name in ("log_position", "time"):
        if name in columns:
            return name
    came = f"The columns are {', '.join(columns)}."
    raise Invalid((Fault("questions", came, "A log_position, or a time, in each row.", PAGE),))


def features_schema(past: Past, example: Sequence[Batch], features: Sequence[str] | None) -> Schema:
    """Return the columns of answers to questions like some; nothing is folded.

    Raises:
        Invalid: A question cannot be asked, or there is no such feature.
    """
    block = past.block(features)
    with ExitStack() as stack:
        asked = of_batches(_plain(example), "questions", stack)
        return _spark_columns(answer_schema(asked, block.names))


def features_of(place: PastPlace, features: tuple[str, ...] | None, questions: Iterable[Batch]) -> Iterator[Batch]:
    """Yield the answers to the questions of one task, in the order of the log."""
    parts = (part for part in _plain(questions) if len(part))
    first = next(parts, None)
    if first is None:
        return
    with ExitStack() as stack:
        asked = of_batches(chain((first,), parts), "questions", stack)
        found = answer(place.past(), asked, AsOfOptions(features))
        schema = _spark_columns(found.schema)
        for batch in found.batches:
            yield _as_spark(batch, schema)
    place.require_same()


def example_pieces(past: Past, served: str, tasks: int) -> list[bytes]:
    """Return the served records of a range, cut into stretches of the log of equal length.

    Raises:
        Invalid: The range is none.
    """
    bounds = served_range(served, Outside().clock(), "served")
    first = max(int(past.log.begin), bounds.first)
    stop = int(past.log.end) if bounds.stop is None else min(bounds.stop, int(past.log.end))
    step = max(1, -(-(stop - first) // tasks))
    pieces = (
        ExamplesPiece(at, min(at + step, stop), bounds.since_ms, bounds.until_ms) for at in range(first, stop, step)
    )
    return [msgspec.msgpack.encode(each) for each in pieces]


def examples_of(place: PastPlace, features: tuple[str, ...] | None, piece: bytes) -> Iterator[Batch]:
    """Yield the examples of one task, in the order of the log."""
    told = msgspec.msgpack.decode(piece, type=ExamplesPiece)
    bounds = ServedRange(told.first, told.stop, told.since_ms, told.until_ms)
    question = ServedQuestion(place.folder, bounds, Path(gettempdir()), features)
    with ExitStack() as stack:
        found = served_examples(place.past(), question, stack)
        schema = _spark_columns(found.schema)
        for batch in found.batches:
            yield _as_spark(batch, schema)
    place.require_same()


def example_columns(past: Past, features: Sequence[str] | None) -> Schema:
    """Return the columns of examples; nothing is folded.

    Raises:
        Invalid: No feature is declared, or there is no such feature.
    """
    return _spark_columns(examples_schema(past, features))


def _plain(batches: Iterable[Batch]) -> Iterator[Batch]:
    for each in batches:
        whole = without_inner_views(each, TABLE_TEXT_BYTES_MAX)
        for start in range(0, len(whole), CHUNK_ROWS):
            yield without_views(whole.slice(start, CHUNK_ROWS), TABLE_TEXT_BYTES_MAX)


def _spark_columns(schema: Schema) -> Schema:
    """Return columns as Spark has them: times to the microsecond, and no number of a row within its task."""
    kept = [each for each in schema if each.name != _ROW]
    return pa.schema([each.with_type(_TIME) if pt.is_timestamp(each.type) and each.type.tz else each for each in kept])


def _as_spark(batch: Batch, schema: Schema) -> Batch:
    columns = [batch.column(each.name).cast(each.type) for each in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
