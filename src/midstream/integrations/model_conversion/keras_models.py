"""Models of Keras on TensorFlow as ONNX files, by Keras' own export, which calls tf2onnx."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from midstream.core.errors import ExtraMissing
from midstream.core.types import Score
from midstream.integrations.model_conversion.converted_model import (
    NETWORK_TOLERANCE,
    ConvertedModel,
    Real,
    converting,
    last_of,
)

OPSET = 18
"""Every ONNX Runtime since 2023 reads it, and tf2onnx writes it."""


def of_keras(model: Any, columns: Sequence[str]) -> ConvertedModel:  # noqa: ANN401  any model
    """Return a model of one input (rows, columns) as an ONNX file.

    Raises:
        ExtraMissing: tf2onnx is not installed.
        Invalid: It has been given no input yet, or it cannot be written.
    """
    import keras  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports]

    try:
        import tf2onnx  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports]  # noqa: F401
    except ImportError as error:
        raise ExtraMissing("models of Keras are written by tf2onnx: pip install tf2onnx") from error
    library: Any = keras
    with converting(type(model).__name__), TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        model.export(str(target), format="onnx", verbose=False, opset_version=OPSET)
        content = target.read_bytes()

    def predict(values: Score) -> Real:
        return last_of(model.predict(values, verbose=0))

    return ConvertedModel(f"keras {library.__version__}", tuple(columns), content, predict, NETWORK_TOLERANCE)
