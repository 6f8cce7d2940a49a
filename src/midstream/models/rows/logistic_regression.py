"""Logistic regression by scikit-learn, scored by our linear kernel: features in bins, as ``ftrl`` has them.

A feature is told to the model as the bin that its value falls into and as the value itself, standardised; what is
unknown is a bin of its own. With one bin, the default, that is the plain regression with an indicator of what is
unknown. ``ftrl`` learns the same form row by row; here all rows are seen at once, until nothing changes.

Reference: D. R. Cox, "The Regression Analysis of Binary Sequences", Journal of the Royal Statistical Society B 20(2),
1958; the solver: R. H. Byrd, P. Lu, J. Nocedal, C. Zhu, "A Limited Memory Algorithm for Bound Constrained
Optimization", SIAM Journal on Scientific Computing 16(5), 1995.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid, ExtraMissing
from midstream.core.types import Score
from midstream.models.model import QUIET, Arrays, Watch
from midstream.models.rows.clicks import Debias, clicks_of
from midstream.models.rows.examples import Examples, names_of, names_text
from midstream.models.rows.ftrl import BINS_MAX, FAR, bins_of, predict_rows, settled

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Real = NDArray[np.float64]
_TYPES = {"inputs": "|u1", "edges": "<f4", "mean": "<f8", "scale": "<f8", "weights": "<f8"}


class LogisticRegressionOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How weights are fitted."""

    regularization: Annotated[float, msgspec.Meta(ge=1e-6, le=1e9)] = 1.0
    """Of the sum of squared weights, against the sum of the log losses of rows that weigh 1 on average (1 / C)."""
    bins: Annotated[int, msgspec.Meta(ge=1, le=BINS_MAX)] = 1
    """Bins of a feature, of about equally many rows each; 1 = the value alone."""
    iterations_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    """Of the solver; where it ends before nothing changes, the model is not ``converged``."""
    debias: Debias = "none"
    """``propensity``: rows count by 1 / propensity."""
    weight_max: Annotated[float, msgspec.Meta(ge=1, le=1e6)] = 20.0
    """The most that a row counts by it."""


@dataclass(frozen=True, slots=True, eq=False)
class LogisticRegression:
    """A linear model over named inputs: a row model whose scores are probabilities."""

    inputs: tuple[str, ...]
    """Names of the features that it reads, in order."""
    edges: Score
    """As ``Ftrl`` has them, and so the next two; (inputs, bins − 1)."""
    mean: Real
    scale: Real
    weights: Real
    """Of each input's bins, of what is unknown, of the value; last the bias, (inputs · (bins + 2) + 1,)."""
    iterations: int = 0
    """Of the solver; 0 = it was read again, and what is said of its fit stands in the manifest."""
    is_converged: bool = True
    """Whether the solver ended because nothing changed any more."""

    def score(self, values: Score) -> Score:
        """Return the probability of a click for each row of values (n, len(inputs)), NaN = unknown."""
        found = np.empty(len(values), dtype=np.float32)
        told = np.ascontiguousarray(values, dtype=np.float32)
        predict_rows(told, self.edges, self.mean, self.scale, self.weights, found)
        return found

    def arrays(self) -> Arrays:
        """Return what ``restore`` makes the same model of."""
        return {name: names_text(self.inputs) if name == "inputs" else getattr(self, name) for name in _TYPES}

    @classmethod
    def restore(cls, arrays: Arrays) -> "LogisticRegression":
        """Return the model whose ``arrays`` these are.

        Raises:
            ArtifactInvalid: They are no linear model.
        """
        for name, kind in _TYPES.items():
            if name not in arrays or arrays[name].dtype.str != kind or np.isnan(arrays[name]).any():
                message = f"{name} of the linear model is missing, not {kind}, or no number"
                raise ArtifactInvalid(message)
        names = names_of(arrays["inputs"])
        edges = np.ascontiguousarray(arrays["edges"], dtype=np.float32)
        mean, scale, weights = (arrays[name].astype(np.float64) for name in ("mean", "scale", "weights"))
        count, width = len(names), edges.shape[-1] + 3
        shapes = (edges.shape, mean.shape, scale.shape, weights.shape)
        finite = all(np.isfinite(each).all() for each in (mean, scale, weights))
        if shapes != ((count, width - 3), (count,), (count,), (count * width + 1,)) or not finite:
            message = f"the parts of the linear model do not go together: {shapes}"
            raise ArtifactInvalid(message)
        return cls(names, edges, mean, scale, weights)


def fit_logistic_regression(
    examples: Examples, options: LogisticRegressionOptions, watch: Watch = QUIET
) -> LogisticRegression:
    """Return the weights of some rows; a label above 0 is a click. The same for the same examples and options.

    Cost: iterations × rows × features, 2 s for 100,000 rows of 40 features.

    Raises:
        ExtraMissing: scikit-learn is not installed.
        Invalid: All rows were clicked, or none.
        FitStopped: ``watch`` said so before the library began: it tells of no step.
    """
    try:
        import sklearn.exceptions  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
        import sklearn.linear_model  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        message = "logistic regression is fitted by scikit-learn: install midstream[train]"
        raise ExtraMissing(message) from error
    clicked, weight = clicks_of(examples, options.debias, options.weight_max)
    watch.step("weights", 0.0)
    edges, mean, scale = bins_of(examples, options.bins, is_standardised=True)
    package: Any = sklearn
    unfinished = package.exceptions.ConvergenceWarning
    library = package.linear_model.LogisticRegression(C=1.0 / options.regularization, max_iter=options.iterations_max)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", unfinished)
        parts = parts_of(examples.values, edges, mean, scale)
        library.fit(parts, clicked, sample_weight=weight)
    for each in said:
        if each.category is not unfinished:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    is_converged = all(each.category is not unfinished for each in said)
    fitted = np.append(library.coef_[0], library.intercept_[0]).astype(np.float64)
    weights = settled(fitted, np.append(parts.T @ weight, 0.0), len(examples.names), options.bins)
    return LogisticRegression(examples.names, edges, mean, scale, weights, int(np.max(library.n_iter_)), is_converged)


def parts_of(values: Score, edges: Score, mean: Real, scale: Real) -> "csr_matrix":
    """Return what ``predict_rows`` multiplies with the weights but the bias, (rows, inputs · (bins + 2))."""
    from scipy.sparse import csr_matrix

    count, inputs, width = len(values), len(mean), edges.shape[1] + 3
    entry_count = count * inputs * 2
    index = np.int32 if entry_count <= np.iinfo(np.int32).max else np.int64
    # Filled column by column: beside the two arrays that stay, a column is all that is held.
    places: NDArray[np.signedinteger] = np.empty((count, inputs, 2), dtype=index)
    entries: Real = np.ones((count, inputs, 2))
    for column in range(inputs):
        told: Real = values[:, column].astype(np.float64)
        known: NDArray[np.bool_] = ~np.isnan(told)
        places[:, column, 0] = width * (column + 1) - 2
        places[known, column, 0] = width * column + np.searchsorted(edges[column], values[known, column])
        places[:, column, 1] = width * (column + 1) - 1
        entries[:, column, 1] = 0.0
        if scale[column] > 0:
            entries[known, column, 1] = np.clip((told[known] - mean[column]) * scale[column], -FAR, FAR)
    begins: NDArray[np.signedinteger] = (np.arange(count + 1) * (2 * inputs)).astype(index)
    return csr_matrix((entries.ravel(), places.ravel(), begins), shape=(count, inputs * width))
