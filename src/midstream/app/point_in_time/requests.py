"""Point-in-time questions from tables: read in any order, checked, spilled to disk, answered in the order of the log.

A row is one question. It has a user and session (``user_id``, ``session_id``), items (``items``, or one ``item_id``),
and a moment: a ``log_position``, a ``time``, or both. All other columns are copied to the answers. It takes 20 bytes of
memory a row, whatever the rows hold.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute

from midstream.app.mapping.pieces import LinePiece, Piece
from midstream.app.mapping.readers import open_rows
from midstream.app.point_in_time.request_columns import CARRIED, PAGE, RequestColumns, columns_of
from midstream.app.point_in_time.request_records import batch_of_lines
from midstream.app.point_in_time.spill import RecordBatchSpill, Rows
from midstream.core.errors import Fault, Invalid
from midstream.core.types import LogPosition, Query, TimestampMs
from midstream.events.loose_arrow import Array, Batch, Schema, pa
from midstream.features.as_of import PointInTimeQuestion
from midstream.ranking.record.served import ServedRecord

pc: Any = pyarrow.compute
CHUNK_ROWS_MAX, CHUNK_ITEMS_MAX = 10_000, 65_536
"""Asked at once: with 40 columns 10 MB of answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Some questions, in the order of the log."""

    questions: list[PointInTimeQuestion]
    kept: Batch
    """What goes along to the answers, a row for each question."""
    per_item: Mapping[str, Array]
    """``item_id``, and what else is known of each item, those of all questions end to end."""
    records: Sequence[ServedRecord] = ()
    """What was served, where that is what the questions are about."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """Questions as they lie on disk."""

    name: str
    """Of where they come from, for messages."""
    spill: RecordBatchSpill
    """A row a question."""
    keys: Rows
    """Log position of each, or its time where ``by_time``."""
    counts: Rows
    """Number of items of each."""
    make: Callable[[Batch], Chunk]
    """Makes questions of rows of the spill."""
    kept: Schema
    """Of ``Chunk.kept``."""
    per_item: Schema
    """Of ``Chunk.per_item``."""
    by_time: bool = False


class OrderedRequests:
    """Questions, asked in the order of the log."""

    def __init__(self, laid: Laid, left_out: Rows | None = None) -> None:
        """Find the order.

        Args:
            laid: The questions.
            left_out: Numbers of rows that are not asked.
        """
        self._laid = laid
        order = np.argsort(laid.keys, kind="stable").astype(np.int64)
        self.order: Rows = order if left_out is None else order[~np.isin(order, left_out)]
        """Numbers of the rows in the order of the log."""
        self.name, self.kept, self.per_item, self.by_time = laid.name, laid.kept, laid.per_item, laid.by_time

    @property
    def first(self) -> int | None:
        """Log position or time of the first question; None = there is none."""
        return int(self._laid.keys[self.order[0]]) if len(self.order) else None

    @property
    def last(self) -> int | None:
        """Log position or time of the last question."""
        return int(self._laid.keys[self.order[-1]]) if len(self.order) else None

    @property
    def is_in_order(self) -> bool:
        """Whether the rows that are asked came in the order of the log."""
        return bool((np.diff(self.order) > 0).all())

    @property
    def counts(self) -> Rows:
        """Number of items of each row, in the order of the input."""
        return self._laid.counts

    def chunks(self) -> Iterator[Chunk]:
        """Yield all questions, some at a time."""
        ends = np.cumsum(self._laid.counts[self.order])
        start = 0
        while start < len(self.order):
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + CHUNK_ITEMS_MAX, side="right"))
            stop = min(max(stop, start + 1), start + CHUNK_ROWS_MAX, len(self.order))
            yield self._laid.make(self._laid.spill.take(self.order[start:stop]))
            start = stop


def of_file(path: Path, stack: ExitStack, place: Path | None = None) -> OrderedRequests:
    """Return the questions of a file: CSV, NDJSON, Parquet or Arrow.

    Args:
        path: Its name says what it is.
        stack: At whose end what was laid on disk is removed.
        place: Folder with room for it.

    Raises:
        Invalid: Columns that are needed are missing, or a row cannot be asked; it says which.
    """
    with open_rows(path) as opened:
        batches = (_batch_of(piece) for piece in opened.read(None))
        return of_batches(batches, path.name, stack, place, has_types=opened.has_types)


def of_batches(
    batches: Iterable[Batch], name: str, stack: ExitStack, place: Path | None = None, *, has_types: bool = True
) -> OrderedRequests:
    """Return the questions of record batches that have the same columns; see ``of_file``.

    Args:
        batches: At least one with a row.
        name: Of where they come from, for messages.
        stack: As of ``of_file``.
        place: As of ``of_file``.
        has_types: A text is one; else, as in CSV, it may stand for a number or a truth value.
    """
    columns: RequestColumns | None = None
    spill: RecordBatchSpill | None = None
    keys, counts = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    row = 0
    for batch in batches:
        if not len(batch):
            continue
        columns = columns or columns_of(batch, name, has_types=has_types)
        normal = columns.normal(batch, row)
        spill = spill or stack.enter_context(RecordBatchSpill(normal.schema, place))
        spill.write(normal)
        keys.append(np.asarray(normal.column(columns.key)).astype(np.int64))
        counts.append(np.asarray(pc.list_value_length(normal.column("items"))).astype(np.int64))
        row += len(normal)
    if columns is None or spill is None:
        raise Invalid((Fault(name, "It holds no row.", "A question in each row.", PAGE),))
    kept = pa.schema([each.with_name(each.name.removeprefix(CARRIED)) for each in _kept_fields(spill.schema)])
    per_item = pa.schema([("item_id", pa.string())])
    by_time = columns.key == "time"
    return OrderedRequests(
        Laid(name, spill, np.concatenate(keys), np.concatenate(counts), _chunk_of, kept, per_item, by_time)
    )


def _kept_fields(schema: Schema) -> list[Any]:
    return [schema.field("row"), *(each for each in schema if each.name.startswith(CARRIED))]


def _batch_of(piece: Piece) -> Batch:
    if piece.refused:
        raise Invalid((piece.refused[0].fault,))
    return batch_of_lines(piece) if isinstance(piece, LinePiece) else piece.table


def _chunk_of(rows: Batch) -> Chunk:
    kept = _kept_fields(rows.schema)
    columns = {
        each.name: rows.column(each.name).to_pylist() for each in rows.schema if not each.name.startswith(CARRIED)
    }
    every = zip(*columns.values(), strict=True)
    questions = [_question_of(dict(zip(columns, values, strict=True))) for values in every]
    names = [each.name.removeprefix(CARRIED) for each in kept]
    table = pa.RecordBatch.from_arrays([rows.column(each.name) for each in kept], names=names)
    return Chunk(questions, table, {"item_id": rows.column("items").flatten()})


def _question_of(told: Mapping[str, Any]) -> PointInTimeQuestion:
    items: tuple[str, ...] = tuple(told["items"])
    fields: dict[str, list[float | None]] = msgspec.json.decode(told["item_fields"]) if told["item_fields"] else {}
    query = Query(
        request_id="",
        placement=told["placement"],
        user_id=told["user_id"],
        session_id=told["session_id"],
        slate_size=len(items),
        now_ms=TimestampMs(told["time"]),
        seed=told["seed"],
        items=tuple(told["basket"]),
        context=msgspec.json.decode(told["context"]) if told["context"] else {},
        item_fields=item_fields_of(items, fields),
    )
    position = told["log_position"]
    return PointInTimeQuestion(query, items, None if position < 0 else LogPosition(position), told["row"])


def item_fields_of(items: tuple[str, ...], fields: Mapping[str, list[float | None]]) -> dict[str, dict[str, float]]:
    """Return the fields of each item, from a list for each field; what is None is not there."""
    found: dict[str, dict[str, float]] = {}
    for name, values in fields.items():
        for item, value in zip(items, values, strict=True):
            if value is not None:
                found.setdefault(item, {})[name] = value
    return found
