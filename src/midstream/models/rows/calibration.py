"""Scores as probabilities: a straight line in log-odds, fitted on rows that the model has not learned.

A straight line keeps every order and needs few rows, where a stepwise fit ties the best of a slate with each other. A
model whose scores are probabilities already is corrected in its log-odds; the score of one that only orders is taken as
it is. With labels pulled towards the middle by one row each (Platt's targets) the line stays finite where a score
parts all clicks from all others.

Reference: J. Platt, "Probabilistic outputs for support vector machines", 1999; the fit: H.-T. Lin, C.-J. Lin, R. Weng,
"A note on Platt's probabilistic outputs for support vector machines", Machine Learning 68, 2007, algorithm 1.
"""

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Calibration, Mask, Score

STEPS_MAX = 100
"""Of Newton's method in two dimensions; ten are usual."""
_HALVINGS_MAX = 40
_RIDGE = 1e-12
_DONE = 1e-9
Real = NDArray[np.float64]


def fit_calibration(
    score: Score, is_good: Mask, weight: NDArray[np.float32], *, is_probability: bool
) -> Calibration | None:
    """Return the calibration of scores; None where all rows have the same label.

    Args:
        score: Of rows outside of the training, (n,).
        is_good: Label of each row, (n,).
        weight: Of each row, 0 or more, (n,).
        is_probability: Whether the scores are probabilities already.

    Returns:
        A rising line; for scores in reverse order the share of positive rows, for every row.
    """
    is_known = np.isfinite(score) & (weight > 0)
    good, weighed = is_good[is_known], weight[is_known].astype(np.float64)
    if good.all() or not good.any():
        return None
    odds = log_odds(score[is_known]) if is_probability else score[is_known].astype(np.float64)
    # Of numbers that are all equal the deviation is 1e-16 as often as 0, and a slope in units of it has no end.
    spread = float(odds.std()) if odds.min() < odds.max() else 0.0
    mean = float(np.average(odds, weights=weighed))
    # As many as there are rows, in the proportions of the weights: a weight says whom a row stands for.
    weighed *= len(weighed) / weighed.sum()
    count = np.array([weighed[~good].sum(), weighed[good].sum()])
    target = np.full(len(good), 1.0 / (count[0] + 2.0), dtype=np.float64)
    target[good] = (count[1] + 1.0) / (count[1] + 2.0)
    share = float(np.log(count[1] / count[0]))
    if not spread > 0.0:
        return Calibration(0.0, share, is_probability)
    slope, offset = _line((odds - mean) / spread, target, weighed, share)
    if not slope > 0.0:
        return Calibration(0.0, share, is_probability)
    return Calibration(slope / spread, offset - slope * mean / spread, is_probability)


def _line(odds: Real, target: Real, weight: Real, share: float) -> tuple[float, float]:
    """Return slope and offset of the least weighted log loss, by Newton's method with halved steps."""
    line: Real = np.array([0.0, share])
    loss = _loss(line, odds, target, weight)
    columns = np.stack((odds, np.ones_like(odds)))
    for _ in range(STEPS_MAX):
        predicted = _logistic(line[0] * odds + line[1])
        gradient = columns @ (weight * (predicted - target))
        if float(np.abs(gradient).max()) < _DONE * len(odds):
            break
        curvature = (columns * (weight * predicted * (1.0 - predicted))) @ columns.T + _RIDGE * np.eye(2)
        step: Real = np.linalg.solve(curvature, gradient).astype(np.float64)
        for _ in range(_HALVINGS_MAX):
            tried: Real = line - step
            tried_loss = _loss(tried, odds, target, weight)
            if tried_loss <= loss:
                break
            step /= 2.0
        else:
            break
        line, loss = tried, tried_loss
    return float(line[0]), float(line[1])


def _loss(line: Real, odds: Real, target: Real, weight: Real) -> float:
    """Return the weighted log loss of a line."""
    value = line[0] * odds + line[1]
    return float(weight @ (np.logaddexp(0.0, value) - target * value))


def _logistic(value: Real) -> Real:
    half: Real = np.tanh(value / 2.0)
    return np.asarray(0.5 * (1.0 + half), dtype=np.float64)


LEAST = 2.0**-24
"""Probabilities are taken to be at least so far from 0 and 1: float32 has no smaller step below 1."""


def log_odds(probability: Score) -> Real:
    """Return ln(p / (1 − p)) of probabilities, (n,), NaN where they are."""
    within = np.clip(probability.astype(np.float64), LEAST, 1.0 - LEAST)
    return np.asarray(np.log(within) - np.log1p(-within), dtype=np.float64)


def probabilities(calibration: Calibration, score: Score) -> Real:
    """Return the calibrated probabilities of scores, (n,), NaN where they are. Cost: 5 µs for 500."""
    odds = log_odds(score) if calibration.is_probability else score.astype(np.float64)
    return _logistic(calibration.slope * odds + calibration.offset)
