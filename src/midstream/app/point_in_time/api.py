"""Point-in-time features for the command line and programs: questions from a file, a frame or the served records."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from midstream.app.config.reader import read_config
from midstream.app.config.schema import Config
from midstream.app.mapping.pieces import CHUNK_ROWS
from midstream.app.mapping.readers import TABLE_TEXT_BYTES_MAX
from midstream.app.opening import Outside, config_of
from midstream.app.point_in_time.files import table_format, write_tables
from midstream.app.point_in_time.lookup import AsOfOptions, LookupRows, Past, answer
from midstream.app.point_in_time.request_columns import PAGE
from midstream.app.point_in_time.requests import OrderedRequests, of_batches, of_file
from midstream.app.point_in_time.served_requests import ServedCounts, of_served, served_range
from midstream.core.errors import Fault, Invalid
from midstream.engine.child_process import Notify, nobody
from midstream.evaluation.metrics.feature_statistics import StreamingStatistics
from midstream.events.arrow.views import without_inner_views, without_views
from midstream.events.loose_arrow import Batch, pa


@dataclass(frozen=True, slots=True)
class AsOfSummary:
    """Result of a lookup."""

    questions: int
    rows: int
    served: ServedCounts | None = None
    """What was found of served records; None = others were asked about."""
    as_logged: tuple[str, ...] = ()
    """Columns that hold what was kept with served slates; see ``LookupRows``."""


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """Options of the command."""

    questions: Path | None
    """A file; None = served records."""
    served: str | None
    """``FROM..TO``; None = the file."""
    out: Path
    format: str | None
    """One of ``TABLE_FORMATS``; None = by the name of ``out``."""
    config: Path | None
    """Declares the features; None = that of the folder."""
    options: AsOfOptions


def write_answers(folder: Path, wanted: LookupRequest, notify: Notify = nobody) -> AsOfSummary:
    """Write the features of what is asked about to a file, which appears when it is whole.

    Raises:
        Invalid: Questions, features, format or range are not as they should be.
        LogDamaged: The log cannot be trusted.
    """
    if (wanted.questions is None) == (wanted.served is None):
        came = "Neither came." if wanted.served is None else "Both came."
        raise Invalid((Fault("FILE, --served", came, "A file of questions, or --served FROM..TO.", PAGE),))
    chosen = table_format(wanted.out, wanted.format)
    _refuse_replacing(wanted)
    place = wanted.out.absolute().parent
    past = past_of(folder, wanted.config)
    with ExitStack() as stack:
        counts: ServedCounts | None = None
        if wanted.questions is not None:
            asked = of_file(wanted.questions, stack, place)
        else:
            bounds = served_range(wanted.served or "..", Outside().clock())
            asked, counts = of_served(past, bounds, stack, place)
        answers = answer(past, asked, replace(wanted.options, place=place), notify)
        gathered = StreamingStatistics(past.block(wanted.options.features).names)
        rows = write_tables(wanted.out, chosen, answers.schema, noting(answers.batches, gathered))
        gathered.statistics().write(statistics_path(wanted.out))
        return AsOfSummary(len(asked.order), rows, counts, answers.as_logged if counts is not None else ())


def _refuse_replacing(wanted: LookupRequest) -> None:
    """Raise ``Invalid`` where what is read would be replaced by what is written."""
    for read in (wanted.questions, wanted.config):
        if read is not None and read.resolve() in {wanted.out.resolve(), statistics_path(wanted.out).resolve()}:
            came = f"{wanted.out} would replace {read}, which is read."
            raise Invalid((Fault("--out", came, "Another file.", PAGE),))


def statistics_path(out: Path) -> Path:
    """Return where the statistics of a file of features stand: beside it."""
    return out.with_name(f"{out.name}.statistics.json")


def noting(batches: Iterator[Batch], gathered: StreamingStatistics) -> Iterator[Batch]:
    """Yield the batches, and gather what their features are like."""
    for batch in batches:
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in gathered.names]
        if columns:
            gathered.add(np.stack(columns, axis=1).astype(np.float32, copy=False))
        yield batch


def past_of(folder: Path, path: Path | None) -> Past:
    """Return the log of a folder with the configuration of a file, that of the folder without one.

    Raises:
        ConfigInvalid: It cannot be used.
        LogDamaged: The log cannot be trusted.
    """
    return Past(folder, config_of(folder)) if path is None else Past(folder, read_config(path), path.name)


def features_of_table(
    folder: str | Path, questions: object, features: Sequence[str] | None, config: Config | str | Path | None
) -> Any:  # noqa: ANN401  the stubs know no schema
    """Return the features of questions as an Arrow table, in their order; see ``midstream.features_as_of``."""
    table: Any = questions if isinstance(questions, pa.Table) else pa.table(questions)
    wholes = (without_inner_views(each, TABLE_TEXT_BYTES_MAX) for each in table.to_batches())
    parts = (whole.slice(start, CHUNK_ROWS) for whole in wholes for start in range(0, len(whole), CHUNK_ROWS))
    plain = (without_views(each, TABLE_TEXT_BYTES_MAX) for each in parts)
    with ExitStack() as stack:
        asked = of_batches(plain, "questions", stack)
        return _table(_past(folder, config), asked, features)


def features_of_served(
    folder: str | Path, served: str, features: Sequence[str] | None, config: Config | str | Path | None
) -> Any:  # noqa: ANN401  as above
    """Return the features of served slates as an Arrow table; see ``midstream.features_of_served``."""
    past = _past(folder, config)
    with ExitStack() as stack:
        asked, _ = of_served(past, served_range(served, Outside().clock()), stack)
        return _table(past, asked, features)


def _past(folder: str | Path, config: Config | str | Path | None) -> Past:
    if isinstance(config, Config):
        return Past(Path(folder), config)
    return past_of(Path(folder), None if config is None else Path(config))


def _table(past: Past, asked: OrderedRequests, features: Sequence[str] | None) -> Any:  # noqa: ANN401  as above
    names = None if features is None else tuple(features)
    found: LookupRows = answer(past, asked, AsOfOptions(names, in_input_order=True))
    return pa.Table.from_batches(list(found.batches), schema=found.schema)
