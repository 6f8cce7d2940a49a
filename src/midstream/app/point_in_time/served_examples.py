"""Training examples of served slates: features as of each request, how it was served, and its outcomes.

Two passes over the log run side by side, one for the features and one for the outcomes. Both give slates in the order
in which they were served, so they are joined as a stream, in bounded memory: that of two states.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pyarrow.compute

from midstream.app.config_history import settings_of
from midstream.app.inspect.folder_view import beginning_of
from midstream.app.opening import DATA_NAME, Outside, config_of
from midstream.app.point_in_time.api import noting, statistics_path
from midstream.app.point_in_time.files import table_format, write_tables
from midstream.app.point_in_time.lookup import AsOfOptions, LookupRows, Past, answer, answer_schema
from midstream.app.point_in_time.served_requests import Picks, ServedCounts, ServedRange, of_served, served_range
from midstream.app.point_in_time.spill import Rows
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.evaluation.metrics.feature_statistics import StreamingStatistics
from midstream.events.loose_arrow import Batch, Schema, pa
from midstream.feedback.examples import ExampleOptions, example_schema, outcome_examples
from midstream.feedback.rewards import rewards_of

pc: Any = pyarrow.compute
_PLACES = 1 << 16
"""More positions than a slate has: a log position times this and a position is one number for both."""
_LEFT_OUT = frozenset(
    ("row", "placement", "tier", "request_id", "item_id", "propensity", "position", "log_position", "served_position")
)
"""Columns of the answers that the outcomes have as well, or that mean nothing here; features have no such names."""


@dataclass(frozen=True, slots=True)
class ExampleSummary:
    """Result of an export of examples."""

    rows: int
    served: ServedCounts
    as_logged: tuple[str, ...] = ()
    """Columns that hold what was kept with the slates; see ``LookupRows``."""
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Slates and positions that gave no example, by why."""


@dataclass(frozen=True, slots=True)
class ServedQuestion:
    """Which served records examples are made of."""

    folder: Path
    """Holds ``data``."""
    bounds: ServedRange
    place: Path
    """Folder with room for what does not fit into memory."""
    features: tuple[str, ...] | None = None
    """Names of declared features; None = all."""
    rewards: Mapping[str, float] = field(default_factory=dict[str, float])
    """Of each action that is worth anything; none = as ``[feedback]`` says."""


@dataclass(slots=True)
class Unjoined:
    """Positions of slates that have only one of the two sides of an example, as far as the rows were read."""

    features: int = 0
    """Outcomes without features, although others of their slate have some."""
    outcomes: int = 0
    """Features without outcomes: the table of outcomes did not take the slate."""


@dataclass(frozen=True, slots=True)
class ServedExamples:
    """Examples of what was served, as they come."""

    schema: Schema
    batches: Iterator[Batch]
    """Slates in the order in which they were served, positions in theirs."""
    served: ServedCounts
    """What was found of served records."""
    as_logged: tuple[str, ...]
    """See ``LookupRows``."""
    unjoined: Unjoined
    """Whole when the last batch was read."""

    def left_out(self) -> dict[str, int]:
        """Return how many slates and positions gave no example, by why; whole when the last batch was read."""
        own = {
            "positions_without_features": self.unjoined.features,
            "positions_without_outcomes": self.unjoined.outcomes,
        }
        return {why: count for why, count in {**self.served.left_out(), **own}.items() if count}


def write_served_examples(
    folder: Path, served: str, out: Path, named: str | None = None, notify: Notify = nobody
) -> ExampleSummary:
    """Write the examples of a range of served records to a file, which appears when it is whole.

    Args:
        folder: Holds ``midstream.toml`` and ``data``.
        served: ``FROM..TO``.
        out: The file.
        named: One of ``TABLE_FORMATS``; None = by the name of ``out``.
        notify: Told how far the features are.

    Raises:
        Invalid: No feature is declared, or the range or format is none.
        LogDamaged: The log cannot be trusted.
    """
    chosen = table_format(out, named)
    past = Past(folder, config_of(folder))
    bounds = served_range(served, Outside().clock(), "FROM..TO")
    with ExitStack() as stack:
        found = served_examples(past, ServedQuestion(folder, bounds, out.absolute().parent), stack, notify)
        gathered = StreamingStatistics(past.block().names)
        count = write_tables(out, chosen, found.schema, noting(found.batches, gathered))
        gathered.statistics().write(statistics_path(out))
        return ExampleSummary(count, found.served, found.as_logged, found.left_out())


def served_examples(past: Past, question: ServedQuestion, stack: ExitStack, notify: Notify = nobody) -> ServedExamples:
    """Return the examples of a range of served records as they come.

    Args:
        past: The log, and the configuration by which features are read.
        question: Which.
        stack: What is laid on disk is removed with it.
        notify: Told how far the features are.

    Raises:
        Invalid: No feature is declared, or a name is that of none.
        LogDamaged: The log cannot be trusted.
    """
    asked, counts = of_served(past, question.bounds, stack, question.place, Picks.in_slates())
    options = AsOfOptions(question.features, in_input_order=True, place=question.place)
    features = answer(past, asked, options, notify)
    schema = _schema_of(features.schema, past)
    unjoined = Unjoined()
    rows = _joined(features, _outcomes(past, question), schema, unjoined)
    return ServedExamples(schema, rows, counts, features.as_logged, unjoined)


def _outcomes(past: Past, question: ServedQuestion) -> Iterator[Batch]:
    """Yield what came of each slate that may be wanted."""
    config, log, bounds = past.config, past.log, question.bounds
    stop = log.end if bounds.stop is None else LogPosition(bounds.stop)
    rewards = question.rewards or rewards_of(config.feedback.reward, config.events.types)
    data = DataFolder(question.folder / DATA_NAME)
    fold = log.pass_by(beginning_of(data, settings_of(data, config), log))

    def read() -> Iterator[tuple[LogPosition, EventBatch]]:
        return batches(log.read, log.begin, log.end)

    for batch in outcome_examples(fold, read, ExampleOptions(LogPosition(bounds.first), stop, rewards)):
        yield batch.filter(pc.equal(batch.column("placement"), bounds.placement)) if bounds.placement else batch


def examples_schema(past: Past, features: Sequence[str] | None) -> Schema:
    """Return the columns of examples; nothing is folded.

    Raises:
        Invalid: As of ``served_examples``.
    """
    block = past.block(features)
    with ExitStack() as stack:
        asked, _ = of_served(past, ServedRange(past.log.end), stack, picks=Picks.in_slates())
        return _schema_of(answer_schema(asked, block.names), past)


def _schema_of(features: Schema, past: Past) -> Schema:
    actions = past.config.fold_settings().action_names()
    outcomes: Any = example_schema(actions)
    return pa.schema([*outcomes, *(features.field(at) for at in _kept(features))])


def _kept(features: Schema) -> list[int]:
    """Return the places of the columns of answers that go beside the outcomes."""
    return [at for at, each in enumerate(features) if each.name not in _LEFT_OUT]


def _joined(features: LookupRows, outcomes: Iterator[Batch], schema: Schema, unjoined: Unjoined) -> Iterator[Batch]:
    """Yield the rows that both sides have, and count the others.

    Each side comes in the order of the served record, then of the position. Outcomes of a slate that has no
    features at all are not counted here: why it is not asked about is.
    """
    waiting = pa.RecordBatch.from_pylist([], schema=features.schema)
    for known in outcomes:
        keys = _keys_of(known, "log_position")
        parts = [waiting]
        while len(keys) and (not len(parts[-1]) or _last(parts[-1]) < keys[-1]):
            more = next(features.batches, None)
            if more is None:
                break
            parts.append(more)
        waiting = pa.concat_batches(parts)
        own = _keys_of(waiting, "served_position")
        at = np.searchsorted(own, keys)
        is_there = at < len(own)
        is_there[is_there] = own[at[is_there]] == keys[is_there]
        yield _beside(known.take(pa.array(np.flatnonzero(is_there))), waiting.take(pa.array(at[is_there])), schema)
        unjoined.features += int(np.isin(keys[~is_there] // _PLACES, own // _PLACES).sum())
        done = int(np.count_nonzero(own <= keys[-1])) if len(keys) else 0
        unjoined.outcomes += done - int(is_there.sum())
        waiting = waiting.slice(done)
    unjoined.outcomes += len(waiting) + sum(map(len, features.batches))


def _keys_of(rows: Batch, served: str) -> Rows:
    positions: Rows = np.asarray(rows.column("position")).astype(np.int64)
    served_positions: Rows = np.asarray(rows.column(served)).astype(np.int64)
    return served_positions * _PLACES + positions


def _last(rows: Batch) -> int:
    return int(_keys_of(rows.slice(len(rows) - 1), "served_position")[0])


def _beside(known: Batch, features: Batch, schema: Schema) -> Batch:
    """Return the columns of both, each taken by its place, so that no name is read from the other side."""
    columns = [*known.columns, *(features.column(at) for at in _kept(features.schema))]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def examples_table(folder: str | Path, served: str, features: Sequence[str] | None) -> Any:  # noqa: ANN401  the stubs know no schema
    """Return the examples of a range of served records as an Arrow table; see ``midstream.examples``."""
    root = Path(folder)
    past = Past(root, config_of(root))
    bounds = served_range(served, Outside().clock(), "served")
    names = None if features is None else tuple(features)
    with ExitStack() as stack:
        found = served_examples(past, ServedQuestion(root, bounds, Path(gettempdir()), names), stack)
        return pa.Table.from_batches(list(found.batches), schema=found.schema)
