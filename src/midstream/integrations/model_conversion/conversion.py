"""Conversion of a fitted model by the library that its class comes from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from midstream.core.errors import Fault, Invalid
from midstream.integrations.model_conversion.boosted_trees import of_lightgbm, of_xgboost
from midstream.integrations.model_conversion.converted_model import PAGE, ConvertedModel
from midstream.integrations.model_conversion.keras_models import of_keras
from midstream.integrations.model_conversion.scikit_learn import of_scikit_learn
from midstream.integrations.model_conversion.torch_modules import of_torch

LIBRARIES: Mapping[str, Callable[[Any, Sequence[str]], ConvertedModel]] = {
    "xgboost": of_xgboost,
    "lightgbm": of_lightgbm,
    "sklearn": of_scikit_learn,
    "keras": of_keras,
    "torch": of_torch,
}
"""By package, the first that is among the classes of a model: estimators of the first two are ones of scikit-learn too,
and a model of Keras may be a module of PyTorch."""


def converted(model: Any, columns: Sequence[str]) -> ConvertedModel:  # noqa: ANN401  any model
    """Return a fitted model as it is published.

    Raises:
        ExtraMissing: A library that converts it is not installed.
        Invalid: It is of another library, cannot be converted, or was fitted on other columns.
    """
    packages = {each.__module__.partition(".")[0] for each in type(model).__mro__}
    for name, convert in LIBRARIES.items():
        if name in packages:
            return convert(model, columns)
    came = f"{type(model).__module__}.{type(model).__qualname__} came."
    right = (
        f"A model of {', '.join(LIBRARIES)}. Of others write ONNX with an exporter of theirs, then "
        "midstream models import FILE.onnx --columns a,b,c."
    )
    raise Invalid((Fault("model", came, right, PAGE),))
