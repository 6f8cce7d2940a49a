"""Loading of a verified artifact as a model: the reader of each kind, and its checks."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing, MidstreamError
from midstream.events.processes.thread_pace import Rest, no_rest
from midstream.models.artifact.artifact import ARRAYS, Artifact
from midstream.models.artifact.golden import check_item_golden, check_row_golden
from midstream.models.items import onnx_items
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.kinds import ITEM_KINDS, ROW_KINDS
from midstream.models.model import Arrays, ItemModel, RowModel
from midstream.models.onnx.session import RUNNER
from midstream.models.rows import onnx_ranker
from midstream.models.vocabulary import ItemVocabulary

_GOLDEN_VALUES = "golden.values"
_PIECE_NUMBERS = 1 << 18


READ: Mapping[str, Callable[[ItemVocabulary, Arrays], ItemModel]] = {
    "item_to_item": ItemToItem.read,
    onnx_items.KIND: onnx_items.OnnxItems.restore,
}
"""Kinds of item models that are read and not fitted here, by name: beside those of ``models.kinds``."""
READ_ROWS: Mapping[str, Callable[[Arrays], RowModel]] = {onnx_ranker.KIND: onnx_ranker.OnnxRanker.restore}
"""Kinds of row models that are read and not fitted here."""
RUNNERS: Mapping[str, str] = {onnx_ranker.KIND: RUNNER, onnx_items.KIND: RUNNER}
"""What computes the answers of a kind, where it is a library; a manifest names it."""


def load(artifact: Artifact, rest: Rest = no_rest) -> ItemModel | RowModel:
    """Return the model of an artifact, which has answered its golden inputs as it should.

    Cost: that of the kind's reader, and of 16 histories or 256 rows. ``rest`` is called after each MiB that is looked
    through.

    Raises:
        ArtifactInvalid: The kind is not known; an array holds NaN or infinity where it may not, is of the wrong shape
            or type; vocabulary or inputs are not those of the manifest; a golden answer differs.
        ExtraMissing: A library that reads this kind is not installed.
    """
    manifest = artifact.manifest
    known = (*ITEM_KINDS, *READ, *ROW_KINDS, *READ_ROWS)
    if manifest.kind not in known:
        message = f"{artifact.version}: no kind {manifest.kind!r} is known: {', '.join(sorted(known))}"
        raise ArtifactInvalid(message)
    _require_runner(artifact)
    rows = ROW_KINDS.get(manifest.kind)
    restore = rows.restore if rows else READ_ROWS.get(manifest.kind)
    try:
        _require_finite(artifact, {_GOLDEN_VALUES, *(rows.not_finite if rows else ())}, rest)
        return _row_model(artifact, restore) if restore else _item_model(artifact)
    except ExtraMissing:
        raise
    except MidstreamError as error:
        # Whatever a reader says of the arrays, such as faults of options, it is the version that is wrong.
        message = f"{artifact.version}: {'; '.join(line.strip() for line in str(error).splitlines())}"
        raise ArtifactInvalid(message) from error
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, MemoryError, RecursionError) as error:
        # Hashes say that this is what was written, so it was written by something else than what reads it.
        message = f"{artifact.version}: it is no {manifest.kind}: {type(error).__name__}: {error}"
        raise ArtifactInvalid(message) from error


def _require_runner(artifact: Artifact) -> None:
    """Refuse a version whose manifest names another runner than its kind has: its answers would be others.

    Raises:
        ArtifactInvalid: It does.
    """
    manifest = artifact.manifest
    right = RUNNERS.get(manifest.kind, ARRAYS)
    if manifest.runner != right:
        message = f"{artifact.version}: its runner is {manifest.runner!r}, that of kind {manifest.kind} is {right!r}"
        raise ArtifactInvalid(message)


def _item_model(artifact: Artifact) -> ItemModel:
    vocabulary = ItemVocabulary.restore(dict(artifact.arrays))
    if vocabulary.content_hash != artifact.manifest.vocabulary_hash:
        raise ArtifactInvalid("its vocabulary is not the one of the manifest")
    kind = ITEM_KINDS.get(artifact.manifest.kind)
    model = (READ[artifact.manifest.kind] if kind is None else kind.restore)(vocabulary, artifact.arrays)
    check_item_golden(model, artifact.arrays)
    return model


def _row_model(artifact: Artifact, restore: Callable[[Arrays], RowModel]) -> RowModel:
    model = restore(artifact.arrays)
    if model.inputs != artifact.manifest.inputs:
        raise ArtifactInvalid("its inputs are not those of the manifest")
    check_row_golden(model, artifact.arrays)
    return model


def _require_finite(artifact: Artifact, excepted: Collection[str], rest: Rest) -> None:
    for name, array in artifact.arrays.items():
        if array.dtype.kind == "f" and name not in excepted and not _is_finite(array.reshape(-1), rest):
            message = f"{name} holds NaN or infinity"
            raise ArtifactInvalid(message)


def _is_finite(flat: NDArray[np.generic], rest: Rest) -> bool:
    """Return whether all numbers are finite; in pieces, so that a large array needs no mask of its size."""
    for start in range(0, len(flat), _PIECE_NUMBERS):
        if not np.isfinite(flat[start : start + _PIECE_NUMBERS].astype(np.float64)).all():
            return False
        rest()
    return True
