"""Evaluation of rankers on a file of examples: fitted on the earlier requests, tested on the later ones.

The file is one of ``midstream examples``: of served slates with their outcomes, or of a replay. Rows are chosen as in a
training: seen, where impressions are logged, and old enough for their outcomes to be known. The outcome window
separates train and test part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq

from midstream.app.opening import config_to_read
from midstream.app.point_in_time.served_requests import ServedRange
from midstream.app.training.ranker_data import RankerQuestion, RankerRows, rows_of_batch, rows_of_groups
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.nearest import nearest
from midstream.evaluation.metrics.click_metrics import Bin, reliability
from midstream.evaluation.metrics.statistics import PairedDifference, Resampling, difference
from midstream.events.loose_arrow import UNREADABLE, Batch, pa, pt, said
from midstream.models.kinds import ROW_KINDS, RowKind
from midstream.models.model import QUIET, RowModel
from midstream.models.rows.examples import Examples
from midstream.training.calibrating import calibrated
from midstream.training.validation import ndcg_values, row_validation_of

PAGE = "/docs/evaluation.md"
_NOT_FEATURES = frozenset(("propensity", "reward", "score"))
"""Columns of float32 that are none."""


@dataclass(frozen=True, slots=True)
class RankerOptions:
    """Which kinds are judged, and on which rows."""

    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """Of the first kind, as text or as they are; all others at their defaults."""
    against: str | None = None
    """Another kind with its defaults, judged on the same rows."""
    placement: str = ""
    """Placement of the slates; empty = all."""
    share: float = 0.2
    """Share of the requests in the test part, the latest ones."""


@dataclass(frozen=True, slots=True)
class JudgedRanker:
    """Figures of a kind."""

    kind: str
    options: dict[str, object]
    metrics: dict[str, float | None]
    """As in the manifest of a version."""
    reliability: tuple[Bin, ...]
    """Of probabilities; empty where scores only order."""
    calibrated: tuple[Bin, ...] = ()
    """Of what a calibration makes of them, which was fitted on the earlier half of what is asked, on the later half."""


@dataclass(frozen=True, slots=True)
class RankerReport:
    """One ranker on a file of examples, or two with the difference of the first from the second."""

    data: str
    is_replay: bool
    """Candidates that could have been shown, some of them drawn; else positions that were served."""
    learned: int
    """Requests."""
    between: int
    """Requests within the outcome window before the test part: in neither part."""
    left_out: dict[str, int]
    rankers: tuple[JudgedRanker, ...]
    ndcg_difference: PairedDifference | None
    """Of the requests, drawn by user, else by session; None = there is one ranker, or nothing to rank."""


def judge_rankers(path: Path, kind_name: str, options: RankerOptions, folder: Path) -> RankerReport:
    """Fit a kind of ranker on the earlier requests of a file and evaluate it on the later ones.

    Args:
        path: Parquet or Arrow, from ``midstream examples``.
        kind_name: Of ``ROW_KINDS``.
        options: Of the evaluation.
        folder: Its ``[feedback] window`` decides which rows are old enough; the default's without a file.

    Raises:
        NotFound: There is no such file.
        Invalid: No such kind or option, it is no file of examples, or one of the two parts has no requests.
        ExtraMissing: A library that the ranker is fitted with is not installed.
    """
    kinds_of(kind_name, options)
    return judge_examples(_read(path), path.name, kind_name, options, folder)


def kinds_of(kind_name: str, options: RankerOptions) -> list[tuple[str, RowKind[Any], msgspec.Struct]]:
    """Return name, kind and settings of each ranker that is asked for.

    Raises:
        Invalid: No such kind or option.
    """
    names = [kind_name] if options.against is None else [kind_name, options.against]
    kinds = [_row_kind(name) for name in names]
    chosen = [kind.decoded(options.options if not at else {}) for at, kind in enumerate(kinds)]
    return list(zip(names, kinds, chosen, strict=True))


def judge_examples(batch: Batch, where: str, kind_name: str, options: RankerOptions, folder: Path) -> RankerReport:
    """Return the same of examples in memory; ``where`` names them in the report and in faults."""
    kinds = kinds_of(kind_name, options)
    _require_examples(batch.schema.names, where)
    is_replay = "group" in batch.schema.names
    window_ms = config_to_read(folder).feedback.window.ms
    rows = _rows(batch, options.placement, window_ms, is_replay=is_replay)
    earlier, later = rows.examples.split(options.share, 0 if is_replay else window_ms)
    if not len(earlier) or not len(later):
        came = f"{len(earlier.time_ms)} requests to learn from, {len(later.time_ms)} to ask about. Left out: "
        raise Invalid((Fault(where, came + str(dict(rows.left_out)), "Both: a longer stretch of the log.", PAGE),))
    judged: list[JudgedRanker] = []
    models: list[RowModel] = []
    for name, kind, settings in kinds:
        models.append(kind.fit(earlier, settings, QUIET))
        judged.append(_judged(name, models[-1], (kind, settings), later, is_sampled=is_replay))
    between = len(rows.examples.time_ms) - len(earlier.time_ms) - len(later.time_ms)
    parted = difference_of(models, later) if len(models) > 1 else None
    left = dict(rows.left_out)
    return RankerReport(where, is_replay, len(earlier.time_ms), between, left, tuple(judged), parted)


def _judged(
    name: str, model: RowModel, told: tuple[RowKind[Any], msgspec.Struct], later: Examples, *, is_sampled: bool
) -> JudgedRanker:
    kind, settings = told
    is_probability = kind.is_probability(settings)
    metrics = row_validation_of(model, later, is_probability=is_probability, is_sampled=is_sampled)
    bins: tuple[Bin, ...] = ()
    if is_probability:
        bins = reliability(later.label > 0, model.score(later.values), weight=later.weight)
    line = calibrated(model, later, is_probability=is_probability)
    return JudgedRanker(name, msgspec.to_builtins(settings), {**metrics, **line.metrics}, bins, line.bins)


def difference_of(models: Sequence[RowModel], later: Examples) -> PairedDifference | None:
    """Return NDCG of the first less the second, by user: the requests of one user are alike."""
    ours, theirs = (ndcg_values(later, model.score(later.values)) for model in models)
    known = ~np.isnan(ours)
    if not known.any():
        return None
    hashes = np.arange(len(known), dtype=np.uint64) if later.owner is None else later.owner
    owner = np.unique(hashes, return_inverse=True)[1]
    return difference(ours[known], theirs[known], owner[known], Resampling())


def _row_kind(name: str) -> RowKind[Any]:
    if name not in ROW_KINDS:
        came = f"{name!r} is no kind of ranker.{nearest(name, ROW_KINDS)}"
        raise Invalid((Fault("kind", came, "one of " + ", ".join(ROW_KINDS), PAGE),))
    return ROW_KINDS[name]


def _read(path: Path) -> Batch:
    """Return all of a file as one batch."""
    if not path.is_file():
        message = f"{path} is no file"
        raise NotFound(message)
    parquet: Any = pq  # what its functions return is said in part
    try:
        table = parquet.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(str(path)).read_all()
        table.validate(full=True)
    except UNREADABLE as error:
        raise _no_examples(path.name, f"It cannot be read: {said(error)}.") from error
    _require_examples(table.schema.names, path.name)
    return batch_of(table)


def batch_of(table: Any) -> Batch:  # noqa: ANN401  the stubs know no table of a batch
    """Return all of a table as one batch."""
    return pa.concat_batches(table.to_batches()) if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)


def _require_examples(names: Sequence[str], where: str) -> None:
    """Refuse columns that are not those of examples.

    Raises:
        Invalid: They are so.
    """
    known = set(names)
    if "time" not in known or not ({"group", "label"} <= known or {"log_position", "reward", "impression"} <= known):
        raise _no_examples(where, f"Columns {', '.join(names)} came.")


def _no_examples(name: str, came: str) -> Invalid:
    right = "A table that midstream examples wrote to Parquet or Arrow, or that midstream.examples returned."
    return Invalid((Fault(name, came, right, PAGE),))


def _rows(batch: Batch, placement: str, window_ms: int, *, is_replay: bool) -> RankerRows:
    """Return the rows of a file; features are its columns of float32 but for how it was served and what came of it."""
    floats = [each.name for each in batch.schema if pt.is_float32(each.type)]
    features = tuple(name for name in floats if name not in _NOT_FEATURES)
    if is_replay:
        return RankerRows(rows_of_groups(batch, features), {})
    times = np.asarray(batch.column("time").cast("int64")).astype(np.int64)
    mature_ms = int(times.max()) - window_ms if len(times) else None
    question = RankerQuestion(Path(), placement, features, ServedRange(), len(batch), Path(), mature_ms=mature_ms)
    return rows_of_batch(batch, question)
