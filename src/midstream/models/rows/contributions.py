"""Contributions of each input to the score of a row model, where they are exact.

Trees have Shapley values (``tree_shap``), linear models their own terms: the weight of a value's bin and that of the
value itself. Other kinds of models have none: numbers that do not add up to the score explain nothing.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Score
from midstream.models.model import RowModel
from midstream.models.rows.ftrl import Ftrl
from midstream.models.rows.logistic_regression import LogisticRegression, parts_of
from midstream.models.rows.tree_shap import Real, shapley_values
from midstream.models.rows.trees import Trees

Link = Literal["sum", "logistic"]


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """A base and the contribution of each input in each row."""

    names: tuple[str, ...]
    values: Real
    """(n, names)."""
    base: float
    """Score of a row without values (trees: the mean of the fitted rows; linear: the bias)."""
    link: Link = "sum"
    """``sum``: base and values add up to the score; ``logistic``: to x, and the score is 1 / (1 + exp(−scale · x))."""
    scale: float = 1.0


def contributions(model: RowModel, values: Score) -> Contributions | None:
    """Return the contributions of a model's inputs to some rows' scores; None = it has no exact ones.

    Args:
        model: Any row model.
        values: Of its inputs, (n, inputs), NaN = missing. Cost of trees: 0.1 s for 20 rows of 300.
    """
    if isinstance(model, Trees):
        base, parts = shapley_values(model, values)
        link: Link = "sum" if model.sigmoid == 0.0 else "logistic"
        return Contributions(model.inputs, parts, base, link, model.sigmoid or 1.0)
    if isinstance(model, Ftrl | LogisticRegression):
        parts = linear_parts(values, model.edges, (model.mean, model.scale), model.weights)
        return Contributions(model.inputs, parts, float(model.weights[-1]), "logistic")
    return None


def linear_parts(
    values: Score, edges: Score, standard: tuple[NDArray[np.float64], NDArray[np.float64]], weights: Real
) -> Real:
    """Return what ``predict_rows`` adds up for each input but the bias, (n, inputs)."""
    parts = parts_of(values, edges, *standard)
    found: Real = (parts.data * weights[parts.indices]).reshape(*values.shape, 2).sum(axis=2)
    return found
