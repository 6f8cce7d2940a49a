"""Golden questions: inputs and outputs recorded when a model is written, and compared whenever it is loaded.

Hashes find damage; this finds other faults: a changed reader, another version of a library, features in another order.
Expected and actual values may differ by 1e-4 of the largest expected number of the same history (of all rows, for a row
model): sums of float32 whose order a linear algebra library chooses by the CPU differ by about 2^-24 times the root of
their length, which is 2e-6 at 1,000 terms, and a fold-in that solves a system magnifies that by its condition, some
ten. Real faults differ by the size of the numbers themselves.

The inputs are generated from a seed and the model's metadata, so a version, which never changes, holds no user's acts:
no erasure concerns it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Score
from midstream.models.artifact.artifact import ArtifactContent
from midstream.models.histories import Histories
from midstream.models.model import ItemModel, RowModel

TOLERANCE = 1e-4
HISTORIES_MAX = 16
ROWS_MAX = 256
HISTORY_ACTS_MAX = 20
"""Acts of a history that is made up."""
BEST = 20
"""Length of the recorded lists."""
COLUMNS_MAX = 4_096
"""Items whose scores are kept, evenly spread over the rows of the vocabulary: 256 KiB at 16 histories; others beside
them where ``item_content`` is told so."""


def made_histories(items: int, seed: int) -> Histories:
    """Return 16 histories that nobody has: rows of the vocabulary drawn at random, without times.

    Args:
        items: Rows of the vocabulary; at least one.
        seed: The same gives the same.
    """
    dice = np.random.default_rng(seed)
    sizes = dice.integers(1, HISTORY_ACTS_MAX + 1, HISTORIES_MAX)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    acts = int(start[-1])
    row = dice.integers(0, items, acts).astype(np.int32)
    return Histories(row, dice.integers(1, 4, acts).astype(np.float32), start)


def made_rows(model: RowModel, seed: int, known: Sequence[NDArray[np.float64]] | None = None) -> Score:
    """Return 256 rows (256, inputs) that nobody has, an eighth of their values NaN.

    A column's values are at and around what the model compares it with (thresholds of trees, edges and mean of a linear
    model), which is in its arrays anyway; those of a column that it compares with nothing are normal.

    Args:
        model: Of whose inputs.
        seed: The same gives the same.
        known: Numbers around which the values of each input lie; None = those that the model compares them with.
    """
    dice = np.random.default_rng(seed)
    values = dice.standard_normal((ROWS_MAX, len(model.inputs)))
    for column, marks in enumerate(bounded(_marks(model) if known is None else known)):
        if len(marks):
            spread = float(np.ptp(marks)) / 2 or max(1.0, float(np.abs(marks).max()))
            is_apart = dice.random(ROWS_MAX) >= 0.25  # noqa: PLR2004  the others are exactly at a mark
            values[:, column] = dice.choice(marks, ROWS_MAX) + spread * values[:, column] * is_apart
    values[dice.random(values.shape) < 1 / 8] = np.nan
    largest = np.finfo(np.float32).max / 4
    return np.clip(values, -largest, largest).astype(np.float32)


MARK_MAX = 1e30
"""What is further from 0 tells what is unknown or without end from numbers, and says nothing of where these are."""


def _marks(model: RowModel) -> list[NDArray[np.float64]]:
    """Return the numbers that each input is compared with, as far as the model has any."""
    arrays, columns = model.arrays(), range(len(model.inputs))
    if "feature" in arrays and "threshold" in arrays:
        feature, threshold = arrays["feature"], arrays["threshold"].astype(np.float64)
        found = [threshold[feature == column] for column in columns]
    elif "mean" in arrays:
        mean = arrays["mean"].astype(np.float64)
        edges = arrays["edges"].astype(np.float64) if "edges" in arrays else np.empty((len(mean), 0))
        found = [np.append(edges[column], mean[column]) for column in columns]
    else:
        found = [np.empty(0) for _ in columns]
    return found


def bounded(marks: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return marks without those that say nothing of where values are."""
    return [each[np.abs(each) < MARK_MAX] for each in marks]


def item_content(
    model: ItemModel,
    histories: Histories,
    files: Mapping[str, bytes] | None = None,
    rows: Sequence[int] | NDArray[np.int64] = (),
) -> ArtifactContent:
    """Return what is written of an item model: what was fitted, its vocabulary, and golden answers.

    Args:
        model: Fitted.
        histories: Some that it may be asked about, such as ``made_histories``; the first 16 are used and kept as they
            are, so real ones would outlive an erasure. At least one.
        files: What a library wrote of it.
        rows: Of items whose scores are kept in any case, such as those of the largest, by which tolerances go.

    Raises:
        ValueError: No history came.
    """
    if not len(histories):
        raise ValueError("a model is asked about one history at least before it is written")
    asked = histories.part(0, min(len(histories), HISTORIES_MAX))
    step = max(1, -(-len(model.vocabulary) // COLUMNS_MAX))
    spread = np.arange(0, len(model.vocabulary), step, dtype=np.int32)
    columns = np.union1d(spread, np.asarray(rows, dtype=np.int32))
    golden: dict[str, NDArray[np.generic]] = {
        "golden.row": asked.row,
        "golden.weight": asked.weight,
        "golden.start": asked.start,
        "golden.items": columns,
        "golden.scores": model.scores(asked)[:, columns],
    }
    if asked.time_ms is not None:
        golden["golden.time_ms"] = asked.time_ms
    return ArtifactContent({**model.arrays(), **model.vocabulary.arrays(), **golden}, files or {})


def row_content(model: RowModel, values: Score, files: Mapping[str, bytes] | None = None) -> ArtifactContent:
    """Return what is written of a row model: what was fitted, and golden answers.

    Args:
        model: Fitted.
        values: Some rows of its inputs, (n, inputs), NaN = unknown, such as ``made_rows``; the first 256 are used and
            kept as they are. At least one.
        files: What a library wrote of it.

    Raises:
        ValueError: No row came.
    """
    if not len(values):
        raise ValueError("a model is asked about one row at least before it is written")
    asked = values[:ROWS_MAX].astype(np.float32)
    golden = {"golden.values": asked, "golden.scores": model.score(asked)}
    return ArtifactContent({**model.arrays(), **golden}, files or {})


def check_item_golden(model: ItemModel, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Compare an item model with its golden answers.

    Raises:
        ArtifactInvalid: It answers otherwise, or the golden inputs are invalid.
    """
    row, start = _array(arrays, "golden.row", "<i4"), _array(arrays, "golden.start", "<i8")
    weight, columns = _array(arrays, "golden.weight", "<f4"), _array(arrays, "golden.items", "<i4")
    expected = _array(arrays, "golden.scores", "<f4", 2)
    time_ms = _array(arrays, "golden.time_ms", "<i8") if "golden.time_ms" in arrays else None
    histories = Histories(
        row.astype(np.int32),
        weight.astype(np.float32),
        start.astype(np.int64),
        None if time_ms is None else time_ms.astype(np.int64),
    )
    items = len(model.vocabulary)
    is_right = _are_histories(histories) and expected.shape == (len(histories), len(columns))
    if not is_right or not _within(row, items) or not _within(columns, items):
        raise ArtifactInvalid("its golden histories are none")
    found = model.scores(histories)
    if found.shape != (len(histories), items):
        message = f"it gives scores of shape {found.shape} where {(len(histories), items)} is right"
        raise ArtifactInvalid(message)
    names = [model.vocabulary.id_of(int(row)) for row in columns]
    _require_close(found[:, columns.astype(np.int64)], expected.astype(np.float32), names)
    # A request asks for the best alone: whatever that compiles or loads is done here and not while somebody waits.
    rows, scores = model.best(histories.part(0, 1), BEST)
    if not np.array_equal(found[0, rows], scores):
        raise ArtifactInvalid("the best that it gives are not those of its scores")


def check_row_golden(model: RowModel, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Compare a row model with its golden answers.

    Raises:
        ArtifactInvalid: It answers otherwise, or the golden inputs are invalid.
    """
    values, expected = _array(arrays, "golden.values", "<f4", 2), _array(arrays, "golden.scores", "<f4")
    if not 0 < len(values) <= ROWS_MAX or values.shape != (len(expected), len(model.inputs)):
        raise ArtifactInvalid("its golden rows are none")
    found = model.score(values.astype(np.float32))
    if found.shape != expected.shape:
        message = f"it gives scores of shape {found.shape} where {expected.shape} is right"
        raise ArtifactInvalid(message)
    _require_close(found[None, :], expected.astype(np.float32)[None, :])


def _array(arrays: Mapping[str, NDArray[np.generic]], name: str, kind: str, axes: int = 1) -> NDArray[np.generic]:
    found = arrays.get(name)
    if found is None or found.dtype.str != kind or found.ndim != axes:
        message = f"{name} is missing, or of another type than {kind} of {axes} axes"
        raise ArtifactInvalid(message)
    return found


def _are_histories(asked: Histories) -> bool:
    """Return whether these are histories, as many as are written: kernels look at no index."""
    start, acts = asked.start, len(asked.row)
    if not 1 < len(start) <= HISTORIES_MAX + 1 or not _within(start, acts + 1) or (start[1:] < start[:-1]).any():
        return False
    times = acts if asked.time_ms is None else len(asked.time_ms)
    return (int(start[0]), int(start[-1])) == (0, acts) and len(asked.weight) == times == acts


def _within(rows: NDArray[np.generic], count: int) -> bool:
    return bool(((rows.astype(np.int64) >= 0) & (rows.astype(np.int64) < count)).all())


def _require_close(found: Score, expected: Score, names: Sequence[str] = ()) -> None:
    """Refuse what differs from what is expected by more than the tolerance, row by row, or is no number.

    Args:
        found: (questions, n).
        expected: Likewise.
        names: Of the n, for the message; none = they have none.
    """
    if not expected.size:
        return
    right = expected.astype(np.float64)
    scale = np.abs(right).max(axis=1, keepdims=True)
    apart = np.abs(found - right)
    wrong = np.argwhere(~(apart <= TOLERANCE * scale))  # NaN is wrong
    if len(wrong):
        which = f', such as that of "{names[int(wrong[0][1])]}"' if names else ""
        message = (
            f"it answers {len(wrong)} of {expected.size} golden questions otherwise than when it was written{which}"
        )
        raise ArtifactInvalid(message)
