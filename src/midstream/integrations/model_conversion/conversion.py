"""Conversion of a fitted model by the library that its class comes from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from midstream.core.errors import Fault, Invalid
from midstream.integrations.model_conversion.boosted_trees import of_lightgbm, of_xgboost
from midstream.integrations.model_conversion.converted_model import PAGE, ConvertedModel
from midstream.integrations.model_conversion.scikit_learn import of_scikit_learn

LIBRARIES: Mapping[str, Callable[[Any, Sequence[str]], ConvertedModel]] = {
    "xgboost": of_xgboost,
    "lightgbm": of_lightgbm,
    "sklearn": of_scikit_learn,
}
"""By package; estimators of the first two are ones of scikit-learn too."""


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
        f"A model of {', '.join(LIBRARIES)}. Of others write ONNX (torch.onnx.export, tf2onnx), then "
        "midstream models import FILE.onnx --columns a,b,c."
    )
    raise Invalid((Fault("model", came, right, PAGE),))
