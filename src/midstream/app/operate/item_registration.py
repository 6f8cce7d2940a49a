"""Registration of an item model from a notebook: vectors of items, and what makes the user's vector of a history.

What is published scores sample histories as the library does, to ``NETWORK_TOLERANCE`` of the largest score, or it is
refused. A sample is read and not kept: the golden histories are drawn from the ids, with the scores of the library.
These prove the conversion, and not which row of an encoder's own table is whose: the module itself says both sides of
them. So a table that rows look up has to be as long as the ids, and none of these scores counts as one that somebody
expects.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midstream.app.opening import config_of
from midstream.app.operate.model_registration import RegisteredModel, Registration, require_name
from midstream.app.operate.model_registry import promote, registry_of
from midstream.core.errors import ArtifactInvalid, Fault, Invalid, ScoresUnavailable
from midstream.integrations.model_conversion.converted_model import NETWORK_TOLERANCE, PAGE, ConvertedEncoder
from midstream.integrations.model_conversion.history_encoders import converted_encoder, of_mean
from midstream.models.artifact.golden import made_histories
from midstream.models.histories import Histories
from midstream.models.items.onnx_items import KIND, OnnxItems, item_model_of
from midstream.models.onnx.session import RUNNER
from midstream.models.vocabulary import ItemVocabulary
from midstream.training.onnx_items_import import (
    Expected,
    OnnxItemsImport,
    item_ids,
    item_vectors,
    publish_item_model,
)

SAMPLE_HISTORIES_MAX = 256
"""Histories of a sample that are compared, the first ones: for 100,000 items of 64 numbers 5 s."""
LAST = 50
"""Last items of a history that are read: all that a request has."""
_PIECE = 65_536
"""Vectors that are multiplied in float64 at a time."""
_NO_IDS = (TypeError, ValueError, RuntimeError)
"""What Python, NumPy and PyTorch raise of what holds no ids: of a number, of nothing, of rows of several."""
_RIGHT = "ids, text or whole numbers (n,), each once; and their vectors, floats (n, d), row by row."


@dataclass(frozen=True, slots=True, eq=False)
class GivenItems:
    """What a notebook has of an item model."""

    ids: Any
    """Row by row."""
    vectors: Any
    """Of the items, (n, d)."""
    encoder: Any = None
    """Module that makes the user's vector of a history; None = the mean of the history's vectors."""


def register_items(folder: Path, given: GivenItems, wanted: Registration) -> RegisteredModel:
    """Convert, compare and publish an item model; the sample is histories of ids, oldest first.

    Raises:
        ExtraMissing: A library that converts or runs it is not installed.
        Invalid: It cannot be converted, is none of these items, or scores otherwise; each is named.
        ArtifactTooLarge: It has more bytes than a version may have.
        FolderLocked: It is to be promoted, and a process that is no server has the folder open.
    """
    require_name(wanted.name)
    if wanted.columns:
        came = f"{', '.join(wanted.columns)} came beside vectors of items."
        raise Invalid((Fault("columns", came, "None: an item model reads histories.", PAGE),))
    vocabulary = item_ids(_ids(given.ids), "ids", _RIGHT)
    vectors = item_vectors(_array(given.vectors), len(vocabulary), "vectors", _RIGHT)
    is_mean = given.encoder is None
    encoder = of_mean(vectors) if is_mean else converted_encoder(given.encoder, vectors)
    try:
        read, graph = item_model_of(encoder.content, vocabulary, vectors, LAST)
        histories = sample_histories(vocabulary, wanted.sample)
        difference = compared_items(read, encoder, histories)
    except (ArtifactInvalid, ScoresUnavailable) as error:
        right = "A module that makes one vector of numbers of every history of these items."
        raise Invalid((Fault("encoder", f"What it was converted to cannot be used: {error}.", right, PAGE),)) from error
    facts: dict[str, object] = {
        "library": encoder.library, "compared_histories": len(histories), "compared_difference": difference,
        "expected_histories": 0,  # the golden scores are the module's own
    }  # fmt: skip
    module: object = given.encoder
    source = "the mean of the vectors" if is_mean else f"{type(module).__module__}.{type(module).__qualname__}"
    told = OnnxItemsImport(wanted.name, LAST, source=source, options=facts)
    registry = registry_of(folder)
    registry.require_size(wanted.name, len(encoder.content) + vectors.nbytes + len(vocabulary.text))
    version = publish_item_model(registry, read, graph, told, _golden(read, encoder))
    if wanted.promote:
        promote(folder, config_of(folder), wanted.name, version)
    return RegisteredModel(wanted.name, version, KIND, RUNNER, len(histories), difference)


def compared_items(model: OnnxItems, encoder: ConvertedEncoder, histories: Histories) -> float:
    """Return the largest difference between an item model and its library, as a part of the largest score.

    Raises:
        Invalid: It is above ``NETWORK_TOLERANCE``; the history and the item are named.
    """
    worst, scale, faults = -1.0, 0.0, dict[str, float | int]()
    for number, expected in enumerate(_expected(model, encoder, histories)):
        found = model.scores(histories.part(number, number + 1))[0].astype(np.float64)
        apart = np.abs(found - expected)
        apart[np.isnan(apart)] = np.inf
        scale, item = max(scale, float(np.abs(expected).max())), int(np.argmax(apart))
        if apart[item] > worst:
            worst = float(apart[item])
            faults = {"number": number, "item": item, "expected": expected[item], "found": found[item]}
    scale = scale or 1.0
    if not worst <= NETWORK_TOLERANCE * scale:
        name = model.vocabulary.id_of(int(faults["item"]))
        came = (
            f'After history {faults["number"]} the model gives "{name}" {faults["expected"]:.9g}, what it was '
            f"converted to {faults['found']:.9g}."
        )
        right = f"A difference of at most {NETWORK_TOLERANCE:g} of the largest score, {scale:.6g}."
        raise Invalid((Fault("sample", came, right, PAGE),))
    return worst / scale


def sample_histories(vocabulary: ItemVocabulary, sample: Any) -> Histories:  # noqa: ANN401  any library's
    """Return the histories of a sample as rows, without those of unknown items alone; drawn where there is no sample.

    Args:
        vocabulary: The items.
        sample: Histories of ids, oldest first; None = drawn.

    Raises:
        Invalid: There is no history with a known item.
    """
    if sample is None:
        return made_histories(len(vocabulary), 0)
    rows = {each: row for row, each in enumerate(vocabulary.ids)}
    found, read = list[list[int]](), 0
    right = "Histories of ids that are among the items, oldest first: [[id, id], [id]]."
    try:
        for history in sample:
            items = [] if isinstance(history, str) else [str(_plain(each)) for each in history]
            if known := [rows[each] for each in items if each in rows]:
                found.append(known)
            if len(found) == SAMPLE_HISTORIES_MAX:
                break
            read += 1
    except _NO_IDS as error:
        came = f"{type(sample).__name__} came, whose history {read} has no ids: {' '.join(str(error).split())[:200]}."
        raise Invalid((Fault("sample", came, right, PAGE),)) from error
    if not found:
        raise Invalid((Fault("sample", "No history has an item that is known.", right, PAGE),))
    return Histories.of(found)


def _expected(model: OnnxItems, encoder: ConvertedEncoder, histories: Histories) -> Iterator[NDArray[np.float64]]:
    """Yield the scores of the library after each history, (items,)."""
    for number in range(len(histories)):
        user = encoder.read(histories.part(number, number + 1).row[-model.last :])
        parts = [
            model.vectors[begin : begin + _PIECE].astype(np.float64) @ user
            for begin in range(0, len(model.vectors), _PIECE)
        ]
        yield np.concatenate(parts)


def _golden(model: OnnxItems, encoder: ConvertedEncoder) -> Expected:
    """Return histories that nobody has, with the scores of the library."""
    histories = made_histories(len(model.vocabulary), 0)
    return Expected(histories, np.stack([*_expected(model, encoder, histories)]).astype(np.float32))


def _ids(items: Any) -> NDArray[np.generic]:  # noqa: ANN401
    """Return ids of a list, an array or a column as an array of text or whole numbers, where they are such."""
    try:
        plain: list[Any] = [_plain(each) for each in items]
    except _NO_IDS as error:
        axes = getattr(items, "shape", None)
        came = f"{type(items).__name__}{'' if axes is None else f' {tuple(axes)}'} came."
        raise Invalid((Fault("ids", came, _RIGHT, PAGE),)) from error
    kinds: set[type] = {type(each) for each in plain}
    return np.array(plain) if len(kinds) == 1 else np.array(plain, dtype=object)


def _plain(value: Any) -> Any:  # noqa: ANN401  of any library
    return value.item() if hasattr(value, "item") else value


def _array(vectors: Any) -> NDArray[np.generic]:  # noqa: ANN401
    """Return vectors of any library as an array; a tensor may be on a device and learn."""
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().cpu().float()
    try:
        return np.asarray(vectors)
    except (ValueError, TypeError, RuntimeError) as error:
        came = f"{type(vectors).__name__} came: {' '.join(str(error).split())[:200]}"
        raise Invalid((Fault("vectors", came, _RIGHT, PAGE),)) from error
