"""What predicted probabilities of a click are worth: whether they order, whether they are true, and where they are not.

Reference: T. Fawcett, "An introduction to ROC analysis", 2006, section 7 (AUC); M. P. Naeini, G. Cooper, M. Hauskrecht,
"Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015 (expected calibration error).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.metrics import Values

Labels = NDArray[np.bool_]
_LEAST = float(np.finfo(np.float64).eps)
"""Probabilities are taken to be this far from 0 and 1 at least, so that one certain mistake is not infinitely bad."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of about one probability."""

    low: float
    high: float
    count: int
    predicted: float
    """Mean of the predictions; NaN when there is none."""
    observed: float
    """Share of the rows that came true; NaN when there is none."""


def auc(label: Labels, score: Values) -> float:
    """Return the probability that a row that came true has a higher score than one that did not; equal ones count half.

    NaN where there are not both. Cost: a sort.
    """
    true_count, count = int(label.sum()), len(label)
    if true_count in {0, count}:
        return float("nan")
    _, place, copies = np.unique(score, return_inverse=True, return_counts=True)
    # Rows of one score share the mean of their ranks, from 1.
    rank = (np.cumsum(copies) - (copies - 1) / 2)[place]
    return float((rank[label].sum() - true_count * (true_count + 1) / 2) / (true_count * (count - true_count)))


def log_losses(label: Labels, probability: Values) -> Values:
    """Return -log of the probability given to what happened, (n,), natural logarithm: their mean is the log loss."""
    inside = np.clip(probability, _LEAST, 1.0 - _LEAST)
    return np.asarray(-np.log(np.where(label, inside, 1.0 - inside)), dtype=np.float64)


def reliability(label: Labels, probability: Values, bins: int = 10) -> tuple[Bin, ...]:
    """Return bins of equal width from 0 to 1; 1 itself is in the last."""
    number = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    known = np.where(count > 0, count, 1)
    predicted = np.where(count > 0, np.bincount(number, probability, minlength=bins) / known, np.nan)
    observed = np.where(count > 0, np.bincount(number, label, minlength=bins) / known, np.nan)
    columns = zip(count.tolist(), predicted.tolist(), observed.tolist(), strict=True)
    return tuple(Bin(at / bins, (at + 1) / bins, *each) for at, each in enumerate(columns))


def calibration_error(bins: tuple[Bin, ...]) -> float:
    """Return the mean distance of predicted and observed, each bin by its rows: ECE. NaN when there are no rows."""
    total = sum(each.count for each in bins)
    if total == 0:
        return float("nan")
    return sum(each.count * abs(each.predicted - each.observed) for each in bins if each.count) / total
