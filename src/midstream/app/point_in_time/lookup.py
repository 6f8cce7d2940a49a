"""Features as of many past moments, from the log of a folder, in one pass and bounded memory.

The folder may be open elsewhere: only what its log holds is read, and nothing is changed. The pass begins with the
newest snapshot that lies before the first question, of the same fold version: its state is that of the log to the bit,
so it saves time and changes nothing. A compaction passes by all earlier events of items that were deleted before it, so
what lies before it is folded without, and what comes after it with it, as it was served. Acts that were taken back are
passed by, those that wait for a rebuild too, unless the values are to be those that were served. The log is folded up
to the last question, less the tables that neither another table nor a declared feature reads: 15 % of the time, and the
memory of pairs and of the session index.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.reader import FILE_NAME
from midstream.app.config.schema import Config
from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import DATA_NAME, loaded_state
from midstream.app.point_in_time.request_columns import PAGE
from midstream.app.point_in_time.requests import Chunk, OrderedRequests
from midstream.app.point_in_time.spill import RecordBatchSpill
from midstream.app.wiring import declarations
from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.snapshots import compactions
from midstream.engine.snapshots.base_state import is_counted
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.features.as_of import FoldCursor, Handover, PointInTimeAnswer, Read, as_of
from midstream.features.declarations import Declarations
from midstream.features.declared import DeclaredFeatures
from midstream.features.kinds.kinds import KnnScore, PairScore
from midstream.features.parity import comparable
from midstream.ranking.frame import read_or_stop
from midstream.ranking.plan import FEATURES
from midstream.ranking.record.served import ServedRecord
from midstream.state.fold import Fold
from midstream.state.pairs.covisitation import Pairs
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.settings import FoldSettings

TIME = pa.timestamp("ms", "UTC")
_READS: Mapping[type, type] = {PairScore: Pairs, KnnScore: SessionIndex}
"""Kinds of features that read tables which no other table reads."""
_TAKEN_QUESTIONS = 500
"""Put in order at once: 50,000 rows with 100 items each."""


@dataclass(frozen=True, slots=True)
class AsOfOptions:
    """What is read, and how it comes out."""

    features: tuple[str, ...] | None = None
    """Names of declared features; None = all."""
    in_input_order: bool = False
    """Answers in the order of the questions as they came, which costs a copy on disk where that is not the log's."""
    place: Path | None = None
    """Folder with room for what does not fit into memory; None = where the system has temporary files."""


@dataclass(frozen=True, slots=True)
class LookupRows:
    """A table of answers as it comes: a row for each item of each question."""

    schema: Schema
    batches: Iterator[Batch]
    as_logged: tuple[str, ...] = ()
    """Columns that depend on candidates that were not chosen, which nobody keeps: of a served slate they hold what was
    kept with it by this configuration (``log_features``), NaN without."""


@dataclass(frozen=True, slots=True)
class Eras:
    """The settings of a fold of the past: those without a compaction before it, those in service from it on.

    Acts that a rebuild passes by are passed by in both.
    """

    earlier: FoldSettings
    current: FoldSettings
    since: LogPosition
    """Where the current ones begin; 0 = they are used throughout."""

    def at(self, position: int) -> FoldSettings:
        """Return by which settings the state at a log position is made."""
        return self.current if position >= self.since else self.earlier


class Past:
    """The log of a folder, and a configuration by which to fold it."""

    def __init__(self, folder: Path, config: Config, name: str = FILE_NAME, end: int | None = None) -> None:
        """Look at the log.

        Args:
            folder: Holds the log, and the files of tables.
            config: By which it is folded.
            name: Of the configuration's file, with which what is wrong with it begins.
            end: As ``LogView`` has it.

        Raises:
            LogDamaged: It cannot be trusted.
        """
        self.config = config
        self.log = LogView(folder, end)
        self._folder, self._name = folder, name
        self._data = DataFolder(folder / DATA_NAME)

    @cached_property
    def declared(self) -> Declarations:
        """All declared features. Raises ``Invalid`` when a table cannot be read."""
        return declarations(self.config, self.eras.current, self._folder, self._name)

    @cached_property
    def eras(self) -> "Eras":
        """By which settings the log is folded."""
        current = settings_of(self._data, self.config)
        dropped = compactions.dropped_by(self._data, current)
        acts = compactions.of_acts(dropped)
        earlier = msgspec.structs.replace(current, compaction=acts.name)
        since = dropped.before if len(dropped.item_hash) else LogPosition(0)
        if since <= self.log.begin or self.log.reader is None or not is_counted(earlier, acts, self.log.reader):
            return Eras(current, current, LogPosition(0))
        return Eras(earlier, current, since)

    def block(self, names: Sequence[str] | None = None) -> DeclaredFeatures:
        """Return the block of some features, or all; one that is named again is read once.

        Raises:
            Invalid: A name is not that of a declared feature, none is declared, or a table cannot be read.
        """
        declared = self.declared
        if not declared.names:
            raise Invalid((Fault("$.features", "No feature is declared.", f"[[features]] in {self._name}.", PAGE),))
        wanted = declared.names if names is None else tuple(dict.fromkeys(names))
        faults = [
            Fault("--features", f'"{each}".{nearest(each, declared.names)}', ", ".join(declared.names), PAGE)
            for each in wanted
            if each not in declared.names
        ]
        if faults:
            raise Invalid(tuple(faults))
        return declared.block(wanted)

    def reader(self, block: DeclaredFeatures) -> Read:
        """Return what reads a block, or raises ``FeatureFailed``: no value is put in the place of one that failed."""
        return lambda moment, candidates: read_or_stop(block, moment, candidates, self.declared)

    def cursor(
        self,
        before: LogPosition,
        notify: Notify = nobody,
        until: LogPosition | None = None,
        *,
        everything: bool = False,
        as_served: bool = False,
    ) -> FoldCursor:
        """Return a fold that stands at or before a log position and can be led to the log's end.

        Args:
            before: Log position of the first question.
            notify: Told how far the fold is.
            until: Log position of the last question, for ``notify``; None = the log's end.
            everything: Fold all tables, not only those that features read.
            as_served: Go by the acts that were taken back and wait for a rebuild, as the state in service did.
        """
        log, eras = self.log, self.eras
        if log.reader is None:
            return FoldCursor(Fold(eras.current), ())
        reader = log.reader
        total = log.end if until is None else until

        def begun(position: LogPosition) -> tuple[Fold, Iterator[tuple[LogPosition, EventBatch]]]:
            settings, end = eras.at(position), position
            if not as_served:  # a snapshot behind such an act has it
                end = min(end, log.first_waiting(compactions.dropped_by(self._data, settings)))
            fold = loaded_state(self._data, settings, reader, end).fold
            if not as_served:
                log.pass_by(fold)
            if not everything:
                fold.leave_out(fold.leaves - self._read())
            return fold, told(fold.log_position)

        def told(begin: LogPosition) -> Iterator[tuple[LogPosition, EventBatch]]:
            for first, batch in batches(log.read, begin, log.end):
                yield first, batch
                notify("folding", min(first + len(batch), total), total)

        handover = None
        if before < eras.since:
            ((_, last), *_) = log.read(LogPosition(eras.since - 1), 1)
            handover = Handover(eras.since, int(last.rows["log_time_ms"][0]), begun)
        return FoldCursor(*begun(before), handover)

    def _read(self) -> frozenset[type]:
        """Return the tables that a declared feature reads, of those that no other table does."""
        kinds = {type(each) for each in self.config.features}
        return frozenset(table for kind, table in _READS.items() if kind in kinds)

    def position_at(self, time_ms: int) -> LogPosition:
        """Return the number of events whose log time is before a time."""
        return self.log.position_at(time_ms)


def answer(past: Past, asked: OrderedRequests, options: AsOfOptions, notify: Notify = nobody) -> LookupRows:
    """Return the answers to questions.

    Args:
        past: The log, and the configuration whose features are read.
        asked: By log position or by time.
        options: Which features, and in which order.
        notify: Told how far the fold is.

    Returns:
        A row for each item of each question: ``row`` (number of the question in the input, from 0), ``position``
        (place of the item in its question, of a slate that continues another counted on from that one), the question's
        other columns, ``item_id``, ``log_position`` (number of
        events that were seen), ``time`` (when it was asked), and a float32 column for each column of the features;
        NaN = nothing was known.

    Raises:
        Invalid: There is no such feature, or questions lie outside of what the log holds.
        FeatureFailed: A feature cannot be read; raised by the batches.
    """
    block = past.block(options.features)
    schema = answer_schema(asked, block.names)
    cursor = cursor_for(past, asked, notify)
    known = past.declared.block(comparable(past.declared)).names
    as_logged = tuple(name for name in block.names if name not in known)
    logged = Logged(block.names, as_logged, past.config.config_hash)

    def rows() -> Iterator[Batch]:
        for chunk in asked.chunks():
            answers = list(as_of(cursor, chunk.questions, past.reader(block)))
            if chunk.records and as_logged:
                answers = [logged.put(each, record) for each, record in zip(answers, chunk.records, strict=True)]
            yield table_of(chunk, answers, schema)

    if options.in_input_order and not asked.is_in_order:
        return LookupRows(schema, _in_input_order(rows(), schema, asked, options.place), as_logged)
    return LookupRows(schema, rows(), as_logged)


@dataclass(frozen=True, slots=True)
class Logged:
    """Puts what was kept with slates in the place of what cannot be read again."""

    names: tuple[str, ...]
    """Of all columns."""
    as_logged: tuple[str, ...]
    """Of those that cannot."""
    config_hash: str
    """By which the names mean what they mean here."""

    def put(self, answer: PointInTimeAnswer, record: ServedRecord) -> PointInTimeAnswer:
        """Return an answer with the kept values of its slate, NaN where none were kept."""
        values, kept = answer.values.copy(), record.features
        failed = any(each.component == FEATURES for each in record.failures)
        if failed or record.config_hash != self.config_hash:
            kept = None
        for name in self.as_logged:
            is_there = kept is not None and name in kept.names
            values[:, self.names.index(name)] = (
                kept.values[:, kept.names.index(name)] if kept is not None and is_there else np.nan
            )
        return replace(answer, values=values)


def cursor_for(past: Past, asked: OrderedRequests, notify: Notify, *, as_served: bool = False) -> FoldCursor:
    """Return a fold at or before the first question, or say that the log does not hold what is asked about."""
    first, last = asked.first, asked.last
    log = past.log
    if first is None or last is None:
        return past.cursor(log.end, notify, as_served=as_served)
    if asked.by_time:
        positions = past.position_at(first), past.position_at(last)
        is_before = log.begin > 0 and positions[0] <= log.begin
    else:
        positions = LogPosition(first), LogPosition(last)
        is_before = positions[0] < log.begin
    if is_before:
        came = f"The first question is about {_named(asked, first)}, before what the log holds."
        raise Invalid((Fault(asked.name, came, f"From log position {log.begin} on: {_since(past)}.", PAGE),))
    if positions[1] > log.end:
        came = f"The last question is about log position {last}."
        raise Invalid((Fault(asked.name, came, f"At most {log.end}, where the log ends.", PAGE),))
    return past.cursor(positions[0], notify, positions[1], as_served=as_served)


def _named(asked: OrderedRequests, key: int) -> str:
    return f"time {key}" if asked.by_time else f"log position {key}"


def _since(past: Past) -> str:
    ((_, batch), *_) = past.log.read(past.log.begin, 1)
    return f"log time {int(batch.rows['log_time_ms'][0])}"


def answer_schema(asked: OrderedRequests, names: Sequence[str]) -> Schema:
    """Return the columns of answers.

    Raises:
        Invalid: A column that goes along has the name of another one.
    """
    row, *kept = asked.kept
    fields = [row, pa.field("position", pa.int32()), *kept, *asked.per_item]
    fields += [pa.field("log_position", pa.int64()), pa.field("time", TIME)]
    fields += [pa.field(name, pa.float32()) for name in names]
    told = [each.name for each in fields]
    if twice := sorted({name for name in told if told.count(name) > 1}):
        right = "Another name in the table, or fewer features."
        raise Invalid((Fault(asked.name, f"Two columns would be called {', '.join(twice)}.", right, PAGE),))
    return pa.schema(fields)


def table_of(chunk: Chunk, answers: Sequence[PointInTimeAnswer], schema: Schema) -> Batch:
    """Return the answers to a chunk of questions as a table, a row an item."""
    counts = np.array([len(each.item_index) for each in answers], dtype=np.int64)
    question = np.repeat(np.arange(len(answers)), counts)
    first = np.array([each.query.first_position for each in answers], dtype=np.int64)
    place = np.arange(len(question)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    values = np.concatenate([each.values for each in answers]) if answers else np.empty((0, 0), np.float32)
    row, *kept = chunk.kept.take(pa.array(question)).columns
    columns = [
        row,
        pa.array(place.astype(np.int32)),
        *kept,
        *chunk.per_item.values(),
        pa.array(np.array([each.log_position for each in answers], dtype=np.int64)[question]),
        pa.array(np.array([each.query.now_ms for each in answers], dtype=np.int64)[question]).cast(TIME),
        *(pa.array(column) for column in np.ascontiguousarray(values.T)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _in_input_order(
    rows: Iterator[Batch], schema: Schema, asked: OrderedRequests, place: Path | None
) -> Iterator[Batch]:
    """Lay all answers on disk, then yield them in the order in which the questions came."""
    with RecordBatchSpill(schema, place) as spill:
        for batch in rows:
            spill.write(batch)
        counts = asked.counts[asked.order]
        starts = np.cumsum(counts) - counts
        came = np.argsort(asked.order)  # rows that are left out are in no order
        for first in range(0, len(came), _TAKEN_QUESTIONS):
            own = came[first : first + _TAKEN_QUESTIONS]
            each = counts[own]
            within = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
            yield spill.take(np.repeat(starts[own], each) + within)
