"""Import of rankers that other programs wrote as ONNX: checked, asked golden questions, and published as a version.

The golden rows are made up, around the numbers that the graph's trees compare with, or around mean and deviation of a
sample's columns, so a version holds no row of anybody. A graph that gives no number for an unknown value is asked about
known values alone, and its manifest says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Score
from midstream.models.artifact.artifact import NAME, Draft
from midstream.models.artifact.golden import made_rows, row_content
from midstream.models.onnx.session import RUNNER, library
from midstream.models.rows.onnx_ranker import KIND, OnnxRanker, facts_of, marks_of, ranker_of
from midstream.training.registry import Registry


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
        ArtifactInvalid: It is no ONNX file, cannot be run, gives no numbers, or the model has no name of ours.
        Invalid: It may not be run, or is no ranker over these columns: each reason is named.
        ExtraMissing: ONNX Runtime is not installed.
        OSError: The disk; nothing remains.
    """
    if not NAME.match(wanted.name):
        said = f"{wanted.name!r}" if wanted.name else "none"
        message = f"say which model the graph becomes a version of: a name of small letters, digits and _, not {said}"
        raise ArtifactInvalid(message)
    registry.require_size(wanted.name, len(content))
    return publish_ranker(registry, ranker_of(content, wanted.columns, wanted.output), wanted)


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
    """
    rows = made_rows(ranker, 0, marks)
    if np.isfinite(ranker.score(rows)).all():
        return rows, "read"
    middle = np.array([float(each.mean()) if len(each) else 0.0 for each in marks], dtype=np.float32)
    known = np.where(np.isnan(rows), middle, rows)
    if bad := int(np.count_nonzero(~np.isfinite(ranker.score(known)))):
        message = f"the graph gives no number for {bad} of {len(known)} rows without an unknown value"
        raise ArtifactInvalid(message)
    return known, "no number"
