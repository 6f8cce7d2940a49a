"""Encoders of histories as ONNX files: a module of PyTorch, or the mean of the vectors of the items."""

from typing import Any

import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.core.types import Index, Score
from midstream.integrations.model_conversion.converted_model import PAGE, ConvertedEncoder, Real
from midstream.integrations.model_conversion.torch_modules import of_encoder
from midstream.models.onnx.writing import node, onnx_file, value


def of_mean(vectors: Score) -> ConvertedEncoder:
    """Return what makes the mean of the vectors of a history.

    Args:
        vectors: (items, d).
    """
    nodes = [node("ReduceMean", ["items"], ["user"], axes=[0], keepdims=1)]
    width = vectors.shape[1]
    content = onnx_file(nodes, [value("items", ("count", width))], [value("user", (1, width))], {})

    def read(rows: Index) -> Real:
        found: Real = vectors[rows].astype(np.float64).mean(axis=0)
        return found

    return ConvertedEncoder("numpy", content, read)


def converted_encoder(model: Any, vectors: Score) -> ConvertedEncoder:  # noqa: ANN401  any module
    """Return an encoder of histories as it is published.

    Raises:
        ExtraMissing: A library that converts it is not installed.
        Invalid: It is of another library, makes no vector of the user, or cannot be converted.
    """
    if any(each.__module__.partition(".")[0] == "torch" for each in type(model).__mro__):
        return of_encoder(model, vectors)
    came = f"{type(model).__module__}.{type(model).__qualname__} came."
    right = (
        "A module of torch, or none for the mean of the vectors. Of others write ONNX with an exporter of theirs, then "
        "midstream models import FILE.onnx --items FILE.npz."
    )
    raise Invalid((Fault("encoder", came, right, PAGE),))
