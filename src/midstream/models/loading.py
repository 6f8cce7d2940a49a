"""From a verified artifact to a model that answers: which reader belongs to which kind, and what is checked of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.models.als import Als
from midstream.models.artifact import Artifact
from midstream.models.ftrl import Ftrl
from midstream.models.golden import check_item_golden, check_row_golden
from midstream.models.item_to_item import ItemToItem
from midstream.models.kinds import ITEM_KINDS
from midstream.models.model import ItemModel, RowModel
from midstream.models.sequence import Sequence
from midstream.models.sequence_onnx import answering
from midstream.models.trees import Trees
from midstream.models.vocabulary import ItemVocabulary

_GOLDEN_VALUES = "golden.values"


@dataclass(frozen=True, slots=True)
class ItemKind:
    """How an item model of one kind is read."""

    read: Callable[[ItemVocabulary, Artifact], ItemModel]
    """Makes the model of the vocabulary and what was verified; raises ``ArtifactInvalid`` for what does not fit."""
    not_finite: frozenset[str] = field(default=frozenset())
    """Names of arrays in which NaN or infinity means something."""


@dataclass(frozen=True, slots=True)
class RowKind:
    """How a row model of one kind is read."""

    read: Callable[[Artifact], RowModel]
    """As of ``ItemKind``; the names of the inputs are in the manifest."""
    not_finite: frozenset[str] = field(default=frozenset())


KINDS: Mapping[str, ItemKind | RowKind] = {
    "item_to_item": ItemKind(lambda vocabulary, artifact: ItemToItem.read(vocabulary, artifact.arrays)),
    "als": ItemKind(lambda vocabulary, artifact: Als.restore(vocabulary, artifact.arrays)),
    "sasrec": ItemKind(
        lambda vocabulary, artifact: answering(Sequence.restore(vocabulary, artifact.arrays), artifact.files)
    ),
    "trees": RowKind(lambda artifact: Trees.restore(artifact.arrays), frozenset({"threshold"})),
    "ftrl": RowKind(lambda artifact: Ftrl.restore(artifact.arrays), frozenset({"edges"})),
}
"""Kinds of artifacts that are read beside those of ``models.kinds``, which read what they fit."""


def load(artifact: Artifact, kinds: Mapping[str, ItemKind | RowKind] = KINDS) -> ItemModel | RowModel:
    """Return the model of an artifact, which has answered its golden inputs as it should.

    Cost: that of the kind's reader, and of 16 histories or 256 rows.

    Raises:
        ArtifactInvalid: The kind is not known; an array holds NaN or infinity where it may not, is of the wrong shape
            or type; vocabulary or inputs are not those of the manifest; a golden answer differs.
        ExtraMissing: A library that reads this kind is not installed.
    """
    manifest = artifact.manifest
    kind = kinds.get(manifest.kind) or _fitted(manifest.kind)
    if kind is None:
        known = ", ".join(sorted({*kinds, *ITEM_KINDS}))
        message = f"{artifact.version}: no kind {manifest.kind!r} is known: {known}"
        raise ArtifactInvalid(message)
    try:
        _require_finite(artifact, kind.not_finite | {_GOLDEN_VALUES})
        return _item_model(artifact, kind) if isinstance(kind, ItemKind) else _row_model(artifact, kind)
    except ArtifactInvalid as error:
        message = f"{artifact.version}: {error}"
        raise ArtifactInvalid(message) from error
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, MemoryError, RecursionError) as error:
        # Hashes say that this is what was written, so it was written by something else than what reads it.
        message = f"{artifact.version}: it is no {manifest.kind}: {type(error).__name__}: {error}"
        raise ArtifactInvalid(message) from error


def _fitted(name: str) -> ItemKind | None:
    """Return how a kind of item model that is fitted here is read; None = there is none."""
    found = ITEM_KINDS.get(name)
    return None if found is None else ItemKind(lambda vocabulary, artifact: found.restore(vocabulary, artifact.arrays))


def _item_model(artifact: Artifact, kind: ItemKind) -> ItemModel:
    vocabulary = ItemVocabulary.restore(dict(artifact.arrays))
    if vocabulary.content_hash != artifact.manifest.vocabulary_hash:
        raise ArtifactInvalid("its vocabulary is not the one of the manifest")
    model = kind.read(vocabulary, artifact)
    check_item_golden(model, artifact.arrays)
    return model


def _row_model(artifact: Artifact, kind: RowKind) -> RowModel:
    model = kind.read(artifact)
    if model.inputs != artifact.manifest.inputs:
        raise ArtifactInvalid("its inputs are not those of the manifest")
    check_row_golden(model, artifact.arrays)
    return model


def _require_finite(artifact: Artifact, excepted: frozenset[str]) -> None:
    for name, array in artifact.arrays.items():
        if array.dtype.kind == "f" and name not in excepted and not _is_finite(array.reshape(-1)):
            message = f"{name} holds NaN or infinity"
            raise ArtifactInvalid(message)


def _is_finite(flat: NDArray[np.generic]) -> bool:
    """Return whether all numbers are finite; in pieces, so that a large array needs no mask of its size."""
    piece = 1 << 22
    return all(
        bool(np.isfinite(flat[start : start + piece].astype(np.float64)).all()) for start in range(0, len(flat), piece)
    )
