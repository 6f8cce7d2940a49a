"""Metrics of predicted probabilities: hand-computed values, and definitions written out in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.metrics.click_metrics import auc, calibration_error, log_losses, reliability

LABEL = np.array([True, False, True, False, False])
PROBABILITY = np.array([0.9, 0.6, 0.6, 0.2, 0.0])


def test_values_computed_by_hand():
    """Of six pairs five are in order and one is a tie; -ln of .9, .4, .6, .8 and 1."""
    assert auc(LABEL, PROBABILITY) == pytest.approx(5.5 / 6)
    assert log_losses(LABEL, PROBABILITY).tolist() == pytest.approx(
        [0.105360516, 0.916290732, 0.510825624, 0.223143551, 0.0], abs=1e-9
    )
    assert log_losses(np.array([True]), np.zeros(1))[0] == pytest.approx(52 * math.log(2))


def test_bins_are_what_they_hold():
    """Halves: 0.2 and 0.0 of which none came true; 0.9, 0.6 and 0.6 of which two did."""
    low, high = reliability(LABEL, PROBABILITY, 2)
    assert (low.low, low.high, low.count, low.observed) == (0.0, 0.5, 2, 0.0)
    assert (high.low, high.high, high.count) == (0.5, 1.0, 3)
    assert (low.predicted, high.predicted, high.observed) == pytest.approx((0.1, 0.7, 2 / 3))
    assert calibration_error((low, high)) == pytest.approx((2 * 0.1 + 3 * (0.7 - 2 / 3)) / 5)
    empty = reliability(LABEL[:0], PROBABILITY[:0])
    assert [each.count for each in empty] == [0] * 10
    assert math.isnan(empty[0].observed)
    assert math.isnan(calibration_error(empty))


rows = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.999, 1.0])), max_size=30)


@given(rows)
def test_auc_counts_pairs_in_order(rows):
    """Every pair of a row that came true and one that did not."""
    label, score = np.array([row[0] for row in rows], dtype=np.bool_), np.array([row[1] for row in rows])
    pairs = [(yes > no) + (yes == no) / 2 for is_true, yes in rows if is_true for is_other, no in rows if not is_other]
    expected = sum(pairs) / len(pairs) if pairs else math.nan
    assert auc(label, score) == pytest.approx(expected, nan_ok=True)


@given(rows, st.integers(1, 12))
def test_bins_hold_every_row_once(rows, bins):
    """Counts add up, a mean lies in its bin, and the error is between 0 and 1."""
    label, score = np.array([row[0] for row in rows], dtype=np.bool_), np.array([row[1] for row in rows], dtype=float)
    found = reliability(label, score, bins)
    assert sum(each.count for each in found) == len(rows)
    assert sum(each.weight for each in found) == len(rows)
    assert all(each.low - 1e-12 <= each.predicted <= each.high + 1e-12 for each in found if each.count)
    assert sum(each.count * each.observed for each in found if each.count) == pytest.approx(label.sum())
    if rows:
        assert 0.0 <= calibration_error(found) <= 1.0


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_values_are_those_of_scikit_learn(seed, is_weighted):
    """To 1e-9 on random probabilities with ties, edges of bins and certainties among them, each row by its weight."""
    theirs = pytest.importorskip("sklearn.metrics", reason='needs the extra "train": pip install "midstream[train]"')
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    random = np.random.default_rng(seed)
    probability = np.round(random.random(4_000) ** 2, 2)
    label = random.random(4_000) < 0.7 * probability
    weight = random.uniform(0.0, 3.0, 4_000) if is_weighted else None
    assert auc(label, probability, weight) == pytest.approx(
        theirs.roc_auc_score(label, probability, sample_weight=weight), abs=1e-9
    )
    loss = float(np.average(log_losses(label, probability), weights=weight))
    assert loss == pytest.approx(theirs.log_loss(label, probability, sample_weight=weight), abs=1e-9)
    # Weights of whole numbers are so many rows, which is all that theirs takes.
    copies = np.ones(4_000, dtype=np.int64) if weight is None else np.round(weight).astype(np.int64)
    observed, predicted = curve(np.repeat(label, copies), np.repeat(probability, copies), n_bins=10)
    ours = [each for each in reliability(label, probability, weight=copies.astype(np.float64)) if each.weight]
    assert [each.observed for each in ours] == pytest.approx(observed.tolist(), abs=1e-9)
    assert [each.predicted for each in ours] == pytest.approx(predicted.tolist(), abs=1e-9)
    shares = np.array([each.weight for each in ours]) / copies.sum()
    error = calibration_error(reliability(label, probability, weight=copies.astype(np.float64)))
    assert error == pytest.approx(float(shares @ np.abs(observed - predicted)), abs=1e-9)
