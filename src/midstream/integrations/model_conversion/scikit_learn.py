"""Estimators and pipelines of scikit-learn as ONNX files, by skl2onnx."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from midstream.core.errors import ExtraMissing
from midstream.core.types import Score
from midstream.integrations.model_conversion.converted_model import (
    ConvertedModel,
    Real,
    converting,
    fitted_columns,
    numbers_of,
)

_OPSETS = {"": 18, "ai.onnx.ml": 3}
"""Versions of operators that are written: every ONNX Runtime since 2023 reads them."""


def of_scikit_learn(model: Any, columns: Sequence[str]) -> ConvertedModel:  # noqa: ANN401  any estimator
    """Return an estimator as an ONNX file. One that was fitted on a frame has an input for each column, by its name.

    Raises:
        ExtraMissing: skl2onnx is not installed.
        Invalid: It was fitted on other columns, or skl2onnx cannot write it.
    """
    try:
        import skl2onnx.common.data_types  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        message = "models of scikit-learn are converted by skl2onnx: pip install skl2onnx"
        raise ExtraMissing(message) from error
    import sklearn  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

    library: Any = sklearn
    writer: Any = skl2onnx
    floats = writer.common.data_types.FloatTensorType
    names, is_named = fitted_columns(model, columns)
    inputs: list[tuple[str, Any]] = (
        [(each, floats([None, 1])) for each in names] if is_named else [("rows", floats([None, len(names)]))]
    )
    with converting(type(model).__name__):
        content: bytes = writer.convert_sklearn(model, initial_types=inputs, target_opset=_OPSETS).SerializeToString()
    ask = numbers_of(model)

    def predict(values: Score) -> Real:
        exact = values.astype(np.float64)
        return ask(_frame(names, exact) if is_named else exact)

    return ConvertedModel(f"scikit-learn {library.__version__}", names, content, predict)


def _frame(names: Sequence[str], values: Real) -> Any:  # noqa: ANN401
    """Return rows as a frame of pandas: a model that knows names was fitted on one."""
    try:
        import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ExtraMissing("a model that was fitted on a frame is asked with one: pip install pandas") from error
    library: Any = pd
    return library.DataFrame(values, columns=list(names))
