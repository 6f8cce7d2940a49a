"""Golden inputs: what a model was asked when it was written, and what it answered. Asked again whenever it is loaded.

Hashes find damage; this finds what they cannot: a reader that changed, a library of another version, features in
another order. Expected and found may differ by 1e-4 of the largest expected number of the same history (of all rows,
for a row model): sums of float32 whose order a linear algebra library chooses by the CPU differ by about
2^-24 times the root of their length, which is 2e-6 at 1,000 terms, and a fold-in that solves a system magnifies that
by its condition, some ten. What this is to find is off by the size of the numbers themselves.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Score
from midstream.models.artifact import Content
from midstream.models.histories import Histories
from midstream.models.model import ItemModel, RowModel

TOLERANCE = 1e-4
HISTORIES_MAX = 16
ROWS_MAX = 256
BEST = 20
"""Best items asked for."""
COLUMNS_MAX = 4_096
"""Items whose scores are kept, evenly spread over the rows of the vocabulary: 256 KiB at 16 histories."""


def item_content(model: ItemModel, histories: Histories, files: Mapping[str, bytes] | None = None) -> Content:
    """Return what is written of an item model: what was fitted, its vocabulary, and golden answers.

    Args:
        model: Fitted.
        histories: Some that it may be asked about; the first 16 are used. At least one.
        files: What a library wrote of it.

    Raises:
        ValueError: No history came.
    """
    if not len(histories):
        raise ValueError("a model is asked about one history at least before it is written")
    asked = histories.part(0, min(len(histories), HISTORIES_MAX))
    step = max(1, -(-len(model.vocabulary) // COLUMNS_MAX))
    columns = np.arange(0, len(model.vocabulary), step, dtype=np.int32)
    golden: dict[str, NDArray[np.generic]] = {
        "golden.row": asked.row,
        "golden.weight": asked.weight,
        "golden.start": asked.start,
        "golden.items": columns,
        "golden.scores": model.scores(asked)[:, columns],
    }
    if asked.time_ms is not None:
        golden["golden.time_ms"] = asked.time_ms
    return Content({**model.arrays(), **model.vocabulary.arrays(), **golden}, files or {})


def row_content(model: RowModel, values: Score, files: Mapping[str, bytes] | None = None) -> Content:
    """Return what is written of a row model: what was fitted, and golden answers.

    Args:
        model: Fitted.
        values: Some rows of its inputs, (n, inputs), NaN = unknown; the first 256 are used. At least one.
        files: What a library wrote of it.

    Raises:
        ValueError: No row came.
    """
    if not len(values):
        raise ValueError("a model is asked about one row at least before it is written")
    asked = values[:ROWS_MAX].astype(np.float32)
    golden = {"golden.values": asked, "golden.scores": model.score(asked)}
    return Content({**model.arrays(), **golden}, files or {})


def check_item_golden(model: ItemModel, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Ask an item model what it was asked when it was written.

    Raises:
        ArtifactInvalid: It answers otherwise, or the golden inputs are none.
    """
    row, start = _array(arrays, "golden.row", "<i4"), _array(arrays, "golden.start", "<i8")
    weight, columns = _array(arrays, "golden.weight", "<f4"), _array(arrays, "golden.items", "<i4")
    expected = _array(arrays, "golden.scores", "<f4")
    time_ms = _array(arrays, "golden.time_ms", "<i8") if "golden.time_ms" in arrays else None
    histories = Histories(
        row.astype(np.int32),
        weight.astype(np.float32),
        start.astype(np.int64),
        None if time_ms is None else time_ms.astype(np.int64),
    )
    items = len(model.vocabulary)
    is_right = len(start) > 1 and expected.shape == (len(histories), len(columns)) and _within(columns, items)
    if not is_right or int(histories.start[-1]) != len(row) or not _within(row, items):
        raise ArtifactInvalid("its golden histories are none")
    found = model.scores(histories)
    if found.shape != (len(histories), items):
        message = f"it gives scores of shape {found.shape} where {(len(histories), items)} is right"
        raise ArtifactInvalid(message)
    _require_close(found[:, columns.astype(np.int64)], expected.astype(np.float32))
    # A request asks for the best alone: whatever that compiles or loads is done here and not while somebody waits.
    rows, scores = model.best(histories.part(0, 1), BEST)
    if not np.array_equal(found[0, rows], scores):
        raise ArtifactInvalid("the best that it gives are not those of its scores")


def check_row_golden(model: RowModel, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Ask a row model what it was asked when it was written.

    Raises:
        ArtifactInvalid: It answers otherwise, or the golden inputs are none.
    """
    values, expected = _array(arrays, "golden.values", "<f4"), _array(arrays, "golden.scores", "<f4")
    if not len(values) or values.shape != (len(expected), len(model.inputs)):
        raise ArtifactInvalid("its golden rows are none")
    found = model.score(values.astype(np.float32))
    if found.shape != expected.shape:
        message = f"it gives scores of shape {found.shape} where {expected.shape} is right"
        raise ArtifactInvalid(message)
    _require_close(found[None, :], expected.astype(np.float32)[None, :])


def _array(arrays: Mapping[str, NDArray[np.generic]], name: str, kind: str) -> NDArray[np.generic]:
    found = arrays.get(name)
    if found is None or found.dtype.str != kind:
        message = f"{name} is missing, or of another type than {kind}"
        raise ArtifactInvalid(message)
    return found


def _within(rows: NDArray[np.generic], count: int) -> bool:
    return bool(((rows.astype(np.int64) >= 0) & (rows.astype(np.int64) < count)).all())


def _require_close(found: Score, expected: Score) -> None:
    """Refuse what differs from what is expected by more than the tolerance, row by row, or is no number."""
    if not expected.size:
        return
    scale = np.abs(expected).max(axis=1, keepdims=True)
    apart = np.abs(found.astype(np.float64) - expected)
    wrong = int(np.count_nonzero(~(apart <= TOLERANCE * scale)))  # NaN is wrong
    if wrong:
        message = f"it answers {wrong} of {expected.size} golden questions otherwise than when it was written"
        raise ArtifactInvalid(message)
