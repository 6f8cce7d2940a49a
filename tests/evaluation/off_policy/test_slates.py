"""Estimators of slates: equal to `obp`, to plain loops, and unbiased over all slates that there are."""

from itertools import permutations

import numpy as np
import pytest

from midstream.core.errors import ShapeMismatch
from midstream.evaluation.off_policy.slates import SlateLog, cascade_dr, iips, rips, sips, snrips
from midstream.evaluation.off_policy.support import missing_of

PLACES, ITEMS = 4, 6
# Made once with obp 0.4.1 (the first three, which 0.5.7 gives too) and 0.5.7, from the arrays of random_slates.
OBP = {
    "sips": 0.8454654321489592,
    "iips": 1.5028659586312745,
    "rips": 1.2807355740289275,
    "snrips": 1.383389956746298,
    "cascade_dr": 1.4088550191510154,
}


def random_slates():
    """Return 600 slates of 4 of 6 items, drawn by Plackett-Luce, and what two policies and a model say of them."""
    draw = np.random.RandomState(7)
    n = 600
    score, other = draw.normal(size=(n, ITEMS)), draw.normal(size=(n, ITEMS))
    logged, target, chosen = np.empty((n, PLACES)), np.empty((n, PLACES)), np.empty((n, PLACES), dtype=np.intp)
    spread = np.zeros((n, PLACES, ITEMS))
    left, rows = np.ones((n, ITEMS), dtype=bool), np.arange(n)
    for place in range(PLACES):
        by_logged, by_target = np.exp(score) * left, np.exp(other) * left
        by_logged /= by_logged.sum(1, keepdims=True)
        by_target /= by_target.sum(1, keepdims=True)
        chosen[:, place] = (by_logged.cumsum(1) > draw.uniform(size=(n, 1))).argmax(1)
        logged[:, place], target[:, place] = by_logged[rows, chosen[:, place]], by_target[rows, chosen[:, place]]
        spread[:, place] = by_target
        left[rows, chosen[:, place]] = False
    reward = draw.binomial(1, 0.3, size=(n, PLACES)).astype(float)
    model = draw.uniform(size=(n, PLACES, ITEMS))
    marginals = draw.uniform(0.1, 1, (n, PLACES)), draw.uniform(0, 1, (n, PLACES))
    predicted = np.take_along_axis(model, chosen[:, :, None], axis=2)[:, :, 0]
    log = SlateLog(
        rows, reward, logged, target, np.zeros((n, PLACES)), predicted=predicted, expected=(spread * model).sum(axis=2)
    )
    return log, marginals


ESTIMATORS = {"sips": sips, "rips": rips, "snrips": snrips, "cascade_dr": cascade_dr}


@pytest.mark.parametrize("name", OBP)
def test_an_estimate_of_random_slates_is_that_of_obp(name):
    """All five give the Open Bandit Pipeline's figures to 1e-9."""
    log, marginals = random_slates()
    terms = iips(log, *marginals) if name == "iips" else ESTIMATORS[name](log)
    assert terms.value == pytest.approx(OBP[name], abs=1e-9, rel=0)


def test_an_estimate_is_that_of_plain_loops():
    """The products of prefixes are multiplied place by place."""
    log, _ = random_slates()
    whole = prefix = doubly = 0.0
    by_place = [[0.0, 0.0] for _ in range(PLACES)]
    for row in range(len(log.users)):
        weight = 1.0
        for place in range(PLACES):
            above, weight = weight, weight * log.target[row][place] / log.logged[row][place]
            prefix += weight * log.reward[row][place]
            by_place[place][0] += weight * log.reward[row][place]
            by_place[place][1] += weight
            doubly += weight * (log.reward[row][place] - log.predicted[row][place]) + above * log.expected[row][place]
        whole += weight * sum(log.reward[row])
    rows = len(log.users)
    assert sips(log).value == pytest.approx(whole / rows)
    assert rips(log).value == pytest.approx(prefix / rows)
    assert cascade_dr(log).value == pytest.approx(doubly / rows)
    assert snrips(log).value == pytest.approx(sum(rewards / weights for rewards, weights in by_place))


def every_slate(seed, dead=0):
    """Return all slates of 3 of 4 items with their probabilities, rewards that depend on what is above, and a model.

    Args:
        seed: Of both policies and the rewards.
        dead: Items, the last ones, that the logging policy never chooses while others are left.
    """
    draw = np.random.default_rng(seed)
    by_logged, by_target = np.exp(draw.normal(size=4)), np.exp(draw.normal(size=4))
    by_logged[4 - dead :] = 0.0
    worth = {prefix: draw.uniform() for length in (1, 2, 3) for prefix in permutations(range(4), length)}
    model = draw.uniform(size=(3, 4))
    rows = [each for each in permutations(range(4), 3) if not dead or max(each) < 4 - dead]
    shape = (len(rows), 3)
    logged, target, reward = np.ones(shape), np.ones(shape), np.zeros(shape)
    predicted, expected, missing = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for row, slate in enumerate(rows):
        for place, item in enumerate(slate):
            left = [each for each in range(4) if each not in slate[:place]]
            logged[row, place] = by_logged[item] / by_logged[left].sum()
            target[row, place] = by_target[item] / by_target[left].sum()
            reward[row, place] = worth[slate[: place + 1]]
            predicted[row, place] = model[place, item]
            expected[row, place] = (by_target[left] * model[place, left]).sum() / by_target[left].sum()
            missing[row, place] = sum(by_target[each] for each in left if by_logged[each] == 0) / by_target[left].sum()
    log = SlateLog(np.arange(len(rows)), reward, logged, target, missing, predicted, expected)
    truth = 0.0
    for slate in permutations(range(4), 3):
        chance = 1.0
        for place, item in enumerate(slate):
            chance *= by_target[item] / by_target[[each for each in range(4) if each not in slate[:place]]].sum()
        truth += chance * sum(worth[slate[: place + 1]] for place in range(3))
    return log, truth


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_over_all_slates_is_the_truth(seed):
    """Each slate times its probability sums to the target's value, with a model that is wrong too."""
    log, truth = every_slate(seed)
    chance = log.logged.prod(axis=1)
    assert chance.sum() == pytest.approx(1.0)
    for make in (sips, rips, cascade_dr):
        terms = make(log)
        found = (chance * (terms.base + terms.correction.sum(axis=1))).sum()
        assert found == pytest.approx(truth), make.__name__


@pytest.mark.parametrize("seed", range(3))
def test_mass_without_support_is_counted_though_no_such_slate_was_logged(seed):
    """The mass is 1 less that of the slates which can be logged."""
    log, _ = every_slate(seed, dead=1)
    chance = log.logged.prod(axis=1)
    assert chance.sum() == pytest.approx(1.0)
    rows = len(chance)
    found = missing_of(log.weight_above * chance[:, None] * rows, log.missing)
    supported = (chance * log.weight[:, -1]).sum()
    assert 0 < supported < 1
    assert found[-1] == pytest.approx(1 - supported)
    assert (np.diff(found) >= 0).all()


def test_the_first_places_are_those_of_the_whole_log():
    """A cut log has no model, whose rewards would count places that are cut off."""
    log, _ = random_slates()
    cut = log.first(2)
    assert cut.places == 2
    assert cut.predicted is None
    assert np.array_equal(cut.weight, log.weight[:, :2])
    assert log.first(9) is log
    with pytest.raises(ShapeMismatch, match="no rewards of a model"):
        cascade_dr(cut)
