"""Import of rankers that other programs wrote as ONNX: checked, asked golden questions, and published as a version.

The golden rows are made up, around the numbers that the graph's trees compare with, that it takes off its columns, or
around mean and deviation of a sample's columns, so a version holds no row of anybody. A graph that gives no number for
an unknown value is asked about known values alone, and its manifest says so.

A check that could not fail is none: where all scores are one number, further rows are tried, and then the graph is
refused. So is one that gives a row another number alone, or in another order, than among others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, Fault, Invalid
from midstream.core.types import Score
from midstream.models.artifact.artifact import NAME, Draft
from midstream.models.artifact.golden import ROWS_MAX, TOLERANCE, bounded, made_rows, row_content
from midstream.models.onnx.graph import PAGE
from midstream.models.onnx.session import RUNNER, library
from midstream.models.rows.onnx_ranker import KIND, OnnxRanker, facts_of, marks_of, ranker_of
from midstream.training.registry import Registry

STEPS = (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
"""Sizes of made up values that are tried, one after the other, until scores vary."""
VARIED_MIN = 8
"""Golden rows whose scores are apart from the one in the middle by more than a load allows."""
ALONE = 3
"""Golden rows that are asked alone as well."""
SAME = 1e-6
"""Part of the largest score by which a row's may differ alone and among others: float32 has 1.2e-7 of it."""


@dataclass(frozen=True, slots=True)
class OnnxImport:
    """What a graph becomes."""

    name: str
    """Of the model."""
    columns: tuple[str, ...] = ()
    """Features that it reads, in its order; none = as its inputs are called."""
    output: str = ""
    """Of the graph; empty = the only one with a number a row."""
    source: str = ""
    """Where it came from; kept in the options of the version."""
    spread: Sequence[NDArray[np.float64]] | None = None
    """Numbers around which the values of each column lie; None = those of the graph's trees."""
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    """What else a version says of how it was made."""


def publish_onnx(registry: Registry, content: bytes, wanted: OnnxImport) -> str:
    """Publish an ONNX file as a version of a model; return the version. Cost: that of a session, twice, and 512 rows.

    Raises:
        ArtifactTooLarge: It has more bytes than a version may have.
        ArtifactInvalid: It gives no numbers, or the model has no name of ours.
        Invalid: It is no ONNX file, may not be run, or is no ranker over these columns: each reason is named.
        ExtraMissing: ONNX Runtime is not installed.
        OSError: The disk; nothing remains.
    """
    if not NAME.match(wanted.name):
        said = f"{wanted.name!r}" if wanted.name else "none"
        message = f"say which model the graph becomes a version of: a name of small letters, digits and _, not {said}"
        raise ArtifactInvalid(message)
    registry.require_size(wanted.name, len(content))
    try:
        ranker = ranker_of(content, wanted.columns, wanted.output)
    except ArtifactInvalid as error:
        right = "A whole file, as an exporter of ONNX wrote it."
        raise Invalid((Fault(wanted.source or "file", f"It cannot be read as ONNX: {error}.", right, PAGE),)) from error
    return publish_ranker(registry, ranker, wanted)


def publish_ranker(registry: Registry, ranker: OnnxRanker, wanted: OnnxImport) -> str:
    """Publish a graph that was read; raises as ``publish_onnx`` does."""
    rows, unknown = golden_rows(ranker, marks_of(ranker) if wanted.spread is None else wanted.spread)
    options: dict[str, object] = {
        "source": wanted.source,
        **facts_of(ranker),
        "runner_version": str(library().__version__),
        "unknown_values": unknown,
        **wanted.options,
    }
    draft = Draft(name=wanted.name, kind=KIND, runner=RUNNER, inputs=ranker.inputs, options=options)
    return registry.publish(draft, row_content(ranker, rows))


def golden_rows(ranker: OnnxRanker, marks: Sequence[NDArray[np.float64]]) -> tuple[Score, str]:
    """Return rows that a graph has a number for, and what it makes of an unknown value: ``read`` or ``no number``.

    Raises:
        ArtifactInvalid: There are rows of known values that it has none for.
        Invalid: All rows have one score, or that of a row depends on those beside it.
    """
    useful, first = bounded(marks), float("nan")
    for step in STEPS:
        rows, unknown = _known_rows(ranker, [each if len(each) else np.array([-step, 0.0, step]) for each in useful])
        scores = ranker.score(rows)
        if _varied(scores) >= VARIED_MIN:
            _require_alone(ranker, rows, scores)
            return rows, unknown
        first = float(scores[0])
        if all(len(each) for each in useful):
            break
    came = f"The {ROWS_MAX} made up rows have the score {first:.6g}, whatever their values are."
    right = "Scores that differ: a sample, as midstream.register_model takes one, says where the values of columns lie."
    raise Invalid((Fault("graph.output", came, right, PAGE),))


def _known_rows(ranker: OnnxRanker, marks: Sequence[NDArray[np.float64]]) -> tuple[Score, str]:
    """Return made up rows, without unknown values where a graph has no number for these, and which of both it is."""
    rows = made_rows(ranker, 0, marks)
    if np.isfinite(ranker.score(rows)).all():
        return rows, "read"
    middle = np.array([float(each.mean()) for each in marks], dtype=np.float32)
    known = np.where(np.isnan(rows), middle, rows)
    if bad := int(np.count_nonzero(~np.isfinite(ranker.score(known)))):
        message = f"the graph gives no number for {bad} of {len(known)} rows without an unknown value"
        raise ArtifactInvalid(message)
    return known, "no number"


def _varied(scores: Score) -> int:
    """Return how many scores a load would tell from the one in the middle."""
    exact = scores.astype(np.float64)
    return int(np.count_nonzero(np.abs(exact - np.median(exact)) > TOLERANCE * np.abs(exact).max()))


def _require_alone(ranker: OnnxRanker, rows: Score, scores: Score) -> None:
    """Refuse a graph that scores a row by those beside it: candidates differ from request to request.

    Raises:
        Invalid: A row has another score alone, or in another order.
    """
    largest = float(np.abs(scores).max())
    turned = ranker.score(np.ascontiguousarray(rows[::-1]))[::-1]
    told = {"in another order": (scores, turned)}
    picked = np.argsort(scores, kind="stable")[np.linspace(0, len(scores) - 1, ALONE).astype(int)]
    alone = np.concatenate([ranker.score(rows[[at]]) for at in picked])
    told["alone"] = (scores[picked], alone)
    for how, (expected, found) in told.items():
        apart = np.abs(found.astype(np.float64) - expected)
        worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
        if not apart[worst] <= SAME * largest:
            came = f"A row has the score {expected[worst]:.9g} among others, and {found[worst]:.9g} {how}."
            right = "Rows that do not depend on each other: no sum, maximum or softmax along the first axis."
            raise Invalid((Fault("graph.output", came, right, PAGE),))
