"""Registration of a fitted model from a notebook: converted, compared with its library on a sample, published.

What is published scores a sample as the library does, to its ``tolerance`` of the largest score, or it is refused. A
sample is read and not kept: of it only mean and deviation of each column, around which golden rows are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstream.app.opening import config_of
from midstream.app.operate.model_registry import promote, registry_of
from midstream.core.errors import Fault, Invalid
from midstream.core.types import Score
from midstream.integrations.model_conversion.conversion import converted
from midstream.integrations.model_conversion.converted_model import FAILURES, PAGE, ConvertedModel
from midstream.models.artifact.artifact import ARRAYS, NAME, Draft
from midstream.models.artifact.golden import made_rows, row_content
from midstream.models.model import RowModel
from midstream.models.onnx.session import RUNNER
from midstream.models.rows.onnx_ranker import OnnxRanker, marks_of, ranker_of
from midstream.models.rows.trees import Trees
from midstream.training.onnx_import import OnnxImport, golden_rows, publish_ranker
from midstream.training.registry import Registry

SAMPLE_ROWS_MAX = 100_000
"""Rows of a sample that are compared, the first ones: at 40 columns 16 MB."""


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A version that was published."""

    name: str
    """Of the model."""
    version: str
    kind: str
    """``onnx``, ``trees`` or ``onnx_items``."""
    runner: str
    """What computes its answers."""
    rows: int
    """Rows, or histories of an item model, on which it was compared with its library."""
    difference: float
    """The largest one, as a part of the largest score."""


@dataclass(frozen=True, slots=True)
class Registration:
    """What a fitted model becomes."""

    name: str
    columns: tuple[str, ...]
    sample: Any = None
    """Rows as an array or a frame; None = made up."""
    promote: bool = False
    """Whether the version is in service when this returns."""


def register(folder: Path, model: Any, wanted: Registration) -> RegisteredModel:  # noqa: ANN401  any library's model
    """Convert, compare and publish a model.

    Raises:
        ExtraMissing: A library that converts or runs it is not installed.
        Invalid: It cannot be converted, does not go with columns or sample, or scores otherwise; each is named.
        ArtifactInvalid: It cannot be published.
        FolderLocked: It is to be promoted, and a process that is no server has the folder open.
    """
    require_name(wanted.name)
    if not wanted.columns:
        right = "The features that a ranker reads, in order; of an item model midstream.ItemVectors as the model."
        raise Invalid((Fault("columns", "None came.", right, PAGE),))
    told = converted(model, wanted.columns)
    ranker: OnnxRanker | Trees = (
        told.content if isinstance(told.content, Trees) else ranker_of(told.content, told.columns)
    )
    values = None if wanted.sample is None else sample_values(wanted.sample, wanted.columns, told.columns)
    rows = _made(ranker) if values is None else values
    difference = compared(ranker, told, rows)
    registry = registry_of(folder)
    facts: dict[str, object] = {
        "library": told.library, "compared_rows": len(rows), "compared_difference": difference,
    }  # fmt: skip
    source = f"{type(model).__module__}.{type(model).__qualname__}"
    if isinstance(ranker, Trees):
        version, kind, runner = (
            _publish_trees(registry, ranker, wanted.name, {"source": source, **facts}),
            "trees",
            ARRAYS,
        )
    else:
        spread = None if values is None else spread_of(values)
        imported = OnnxImport(wanted.name, ranker.inputs, source=source, spread=spread, options=facts)
        version, kind, runner = publish_ranker(registry, ranker, imported), "onnx", RUNNER
    if wanted.promote:
        promote(folder, config_of(folder), wanted.name, version)
    return RegisteredModel(wanted.name, version, kind, runner, len(rows), difference)


def require_name(name: str) -> None:
    """Refuse a name that no model has.

    Raises:
        Invalid: It is none.
    """
    if not NAME.match(name):
        right = "Small letters, digits and _, up to 64, a letter first."
        raise Invalid((Fault("name", f"{name!r} came.", right, PAGE),))


def _publish_trees(registry: Registry, trees: Trees, name: str, options: dict[str, object]) -> str:
    draft = Draft(name=name, kind="trees", inputs=trees.inputs, options=options)
    return registry.publish(draft, row_content(trees, made_rows(trees, 0)))


def _made(ranker: OnnxRanker | Trees) -> Score:
    """Return rows that nobody has, without unknown values: a library may refuse these."""
    rows = made_rows(ranker, 0) if isinstance(ranker, Trees) else golden_rows(ranker, marks_of(ranker))[0]
    return np.nan_to_num(rows)


def compared(ranker: RowModel, told: ConvertedModel, rows: Score) -> float:
    """Return the largest difference between a converted model and its library, as a part of the largest score.

    Raises:
        Invalid: It is above ``told.tolerance``, or one gives a number where the other gives none.
    """
    try:
        expected = told.predict(rows)
    except FAILURES as error:
        came = f"The model itself does not score it: {' '.join(str(error).split())[:300]}"
        right = "Rows that it scores, or a step of the pipeline that fills in unknown values."
        raise Invalid((Fault("sample", came, right, PAGE),)) from error
    found = ranker.score(rows).astype(np.float64)
    if expected.shape != found.shape:
        right = "One number a row: two classes, or one target."
        raise Invalid((Fault("model", f"It gives {expected.shape} for {len(rows)} rows.", right, PAGE),))
    scale = float(np.nanmax(np.abs(expected), initial=0.0)) or 1.0
    apart = np.where(np.isnan(expected) & np.isnan(found), 0.0, np.abs(found - expected)) / scale
    worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
    if not apart[worst] <= told.tolerance:
        came = f"Row {worst}: the model gives {expected[worst]:.9g}, what it was converted to {found[worst]:.9g}."
        right = f"A difference of at most {told.tolerance:g} of the largest score, {scale:.6g}."
        raise Invalid((Fault("sample", came, right, PAGE),))
    return float(apart[worst])


def sample_values(sample: Any, given: Sequence[str], columns: Sequence[str]) -> Score:  # noqa: ANN401  any library's
    """Return the rows of a sample as features are, float32, NaN = unknown.

    Args:
        sample: An array whose columns are those given, or a frame of any library, whose columns have names.
        given: Names of the columns of an array.
        columns: Those that are wanted, in order: the same names.

    Raises:
        Invalid: A column is missing, there are no rows, or they are no numbers.
    """
    names = getattr(sample, "columns", None) if not hasattr(sample, "column_names") else sample.column_names
    try:
        if names is None:
            table = np.asarray(sample, dtype=np.float32)
            if table.shape[1:] == (len(given),):
                table = table[:, [list(given).index(each) for each in columns]]
        else:
            there = [str(each) for each in names]
            if missing := [each for each in columns if each not in there]:
                came = f'It has no column "{missing[0]}".'
                raise Invalid((Fault("sample", came, f"It has: {', '.join(there[:20])}", PAGE),))
            parts = [np.asarray(sample[each], dtype=np.float32) for each in columns]
            table = np.stack(parts, axis=1)
    except (ValueError, TypeError) as error:
        came = f"It holds no numbers: {' '.join(str(error).split())[:200]}"
        raise Invalid((Fault("sample", came, "Numbers, NaN where one is unknown.", PAGE),)) from error
    if table.shape != (len(table), len(columns)) or not len(table):
        came = f"Its shape is {table.shape}."
        right = f"One row at least, and {len(columns)} columns: {', '.join(columns)}."
        raise Invalid((Fault("sample", came, right, PAGE),))
    return np.ascontiguousarray(table[:SAMPLE_ROWS_MAX])


def spread_of(values: Score) -> list[NDArray[np.float64]]:
    """Return mean and deviation of each column as three numbers around which others are drawn."""
    found: list[NDArray[np.float64]] = []
    for column in values.T.astype(np.float64):
        known = column[np.isfinite(column)]
        middle, apart = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        found.append(np.array([middle - apart, middle, middle + apart]))
    return found
