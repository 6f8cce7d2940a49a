"""Metrics of predicted click probabilities: ranking (AUC), log loss and calibration.

Reference: T. Fawcett, "An introduction to ROC analysis", 2006, section 7 (AUC); M. P. Naeini, G. Cooper, M. Hauskrecht,
"Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015 (expected calibration error).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.metrics.metrics import Values

Labels = NDArray[np.bool_]
Real = NDArray[np.float32] | NDArray[np.float64]
_LEAST = float(np.finfo(np.float64).eps)
"""Probabilities are taken to be this far from 0 and 1 at least, so that one certain mistake is not infinitely bad."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about one probability."""

    low: float
    high: float
    count: int
    """Rows."""
    weight: float
    """Sum of its rows' weights."""
    predicted: float
    """Mean of the predictions; NaN when there is none."""
    observed: float
    """Share of the rows that came true; NaN when there is none."""


def auc(label: Labels, score: Real, weight: Real | None = None) -> float:
    """Return the probability that a positive row has a higher score than a negative one; equal scores count half.

    Args:
        label: True for positive rows, (n,).
        score: (n,).
        weight: Of each row, (n,); None = 1.

    Returns:
        NaN without both kinds of rows. Cost: a sort.
    """
    counts = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    true, false = float(counts[label].sum()), float(counts[~label].sum())
    if not true or not false:
        return float("nan")
    values, place = np.unique(score, return_inverse=True)
    of_true = np.bincount(place[label], counts[label], minlength=len(values))
    of_false = np.bincount(place[~label], counts[~label], minlength=len(values))
    below = np.cumsum(of_false) - of_false
    return float((of_true * (below + of_false / 2)).sum() / (true * false))


def log_losses(label: Labels, probability: Real) -> Values:
    """Return -log of the probability of each observed outcome, (n,), natural logarithm: their mean is the log loss."""
    inside = np.clip(probability.astype(np.float64), _LEAST, 1.0 - _LEAST)
    return np.asarray(-np.log(np.where(label, inside, 1.0 - inside)), dtype=np.float64)


def reliability(label: Labels, probability: Real, bins: int = 10, weight: Real | None = None) -> tuple[Bin, ...]:
    """Return bins of equal width from 0 to 1, upper edges in the bin below; 0 itself is in the first.

    Args:
        label: True for positive rows, (n,).
        probability: Predicted probability of it, (n,).
        bins: Number of bins.
        weight: Of each row in the means, (n,); None = 1.
    """
    exact = probability.astype(np.float64)
    counts = np.ones(len(label)) if weight is None else weight.astype(np.float64)
    number = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], exact)
    total = np.bincount(number, counts, minlength=bins)
    known = np.where(total > 0, total, 1.0)
    predicted = np.where(total > 0, np.bincount(number, exact * counts, minlength=bins) / known, np.nan)
    observed = np.where(total > 0, np.bincount(number, label * counts, minlength=bins) / known, np.nan)
    found = (np.bincount(number, minlength=bins), total, predicted, observed)
    columns = zip(*(each.tolist() for each in found), strict=True)
    return tuple(Bin(at / bins, (at + 1) / bins, *each) for at, each in enumerate(columns))


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the mean distance of predicted and observed rates, weighted by bin: ECE. NaN without rows."""
    total = sum(each.weight for each in bins)
    if not total:
        return float("nan")
    return sum(each.weight * abs(each.predicted - each.observed) for each in bins if each.weight) / total
