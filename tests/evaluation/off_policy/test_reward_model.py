"""The reward model: no user predicts itself, both halves are of one model, and estimates get narrower by it."""

import numpy as np
import pytest

from midstream.evaluation.off_policy.intervals import Confidence, interval
from midstream.evaluation.off_policy.reward_model import PRIOR, SlateItems, with_rewards
from midstream.evaluation.off_policy.slates import SlateLog, cascade_dr, rips


def world(draw, users=900, places=2, items=4, listed_min=0.0):
    """Return slates whose items differ much in reward, their items, and the true value of the target."""
    by_logged, by_target = np.exp(0.3 * draw.normal(size=items)), np.exp(0.5 * draw.normal(size=items))
    rate = np.linspace(0.05, 0.9, items)[draw.permutation(items)]
    rows, left = np.arange(users), np.ones((users, items), dtype=bool)
    shape = (users, places)
    logged, target, reward, chosen = np.ones(shape), np.ones(shape), np.zeros(shape), np.zeros(shape, dtype=np.intp)
    listed = []
    for place in range(places):
        one, other = by_logged * left, by_target * left
        one, other = one / one.sum(1, keepdims=True), other / other.sum(1, keepdims=True)
        at = (one.cumsum(1) > draw.uniform(size=(users, 1))).argmax(1)
        logged[:, place], target[:, place] = one[rows, at], other[rows, at]
        reward[:, place] = draw.uniform(size=users) < rate[at]
        chosen[:, place] = np.where(other[rows, at] > listed_min, at, -1)
        row, item = np.nonzero(other > listed_min)
        listed.append((row, np.full(len(row), place), item, other[row, item]))
        left[rows, at] = False
    parts = [np.concatenate(each) for each in zip(*listed, strict=True)]
    log = SlateLog(rows, reward, logged, target, np.zeros(shape))
    first = by_target / by_target.sum()
    second = np.array([sum(first[above] * by_target[each] / (by_target.sum() - by_target[above])
                           for above in range(items) if above != each) for each in range(items)])  # fmt: skip
    found = SlateItems(chosen, parts[0], parts[1], parts[2], parts[3], np.ones(shape, dtype=bool))
    return log, found, float((first + second) @ rate)


@pytest.mark.parametrize("listed_min", [0.0, 0.2])
def test_estimates_get_narrower_and_stay_right(listed_min):
    """Over 60 worlds Cascade-DR errs less than RIPS, its intervals hold the truth, and its mean error is about 0; also
    where only items with a large share are listed.
    """
    draw = np.random.default_rng(8)
    plain, doubly, held, narrower = [], [], 0, 0
    for _ in range(60):
        log, items, truth = world(draw, listed_min=listed_min)
        modelled = with_rewards(log, items)
        one, other = (
            interval(rips(log), log.users, Confidence()),
            interval(cascade_dr(modelled), log.users, Confidence()),
        )
        plain.append(rips(log).value - truth)
        doubly.append(cascade_dr(modelled).value - truth)
        held += other.low <= truth <= other.high
        narrower += other.error < one.error
    assert np.std(doubly) < (0.9 if listed_min == 0 else 1.0) * np.std(plain)
    assert abs(np.mean(doubly)) < 3 * np.std(doubly) / np.sqrt(60)
    assert held >= 53
    assert narrower >= 55


def test_no_user_predicts_itself():
    """A user's own reward changes what is predicted of others, never of its own slates."""
    log, items, _ = world(np.random.default_rng(3))
    before = with_rewards(log, items)
    reward = log.reward.copy()
    reward[7] += 5.0
    after = with_rewards(SlateLog(log.users, reward, log.logged, log.target, log.missing), items)
    assert before.predicted is not None
    assert after.predicted is not None
    same = log.users % 5 == 7 % 5
    assert np.array_equal(before.predicted[same], after.predicted[same])
    assert not np.array_equal(before.predicted[~same], after.predicted[~same])


def test_an_item_is_worth_its_ratio_and_none_that_of_its_place():
    """The numbers by hand, of one place: an item with 30 of 30 clicks among 150 slates of which 60 have one."""
    users = np.arange(150)
    chosen = np.where(users % 5 < 4, np.where(users < 75, 0, 1), 0)[:, None]
    reward = (users % 2 == 0).astype(float)[:, None]
    half = np.full((150, 1), 0.5)
    log = SlateLog(users, reward, half, half, np.zeros((150, 1)))
    none = np.empty(0, dtype=np.intp)
    exists = np.ones((150, 1), dtype=bool)
    found = with_rewards(log, SlateItems(chosen, none, none, none, np.empty(0), exists))
    outside = users % 5 != 4
    mean = reward[outside].mean()
    of_item = outside & (chosen[:, 0] == 1)
    ratio = (reward[of_item].sum() + PRIOR * mean) / (of_item.sum() * mean + PRIOR * mean)
    row = int(np.flatnonzero((users % 5 == 4) & (chosen[:, 0] == 0))[0])
    assert found.predicted is not None
    assert found.expected is not None
    assert found.expected[row, 0] == pytest.approx(mean)
    other = SlateItems(np.where(users[:, None] == row, 1, chosen), none, none, none, np.empty(0), exists)
    moved = with_rewards(log, other)
    assert moved.predicted is not None
    assert moved.predicted[row, 0] == pytest.approx(mean * ratio)


def test_places_beyond_the_end_are_worth_nothing():
    """A slate of one place has no second one to predict."""
    log, items, _ = world(np.random.default_rng(4))
    exists = items.exists.copy()
    exists[0, 1] = False
    found = with_rewards(log, SlateItems(items.chosen, items.row, items.place, items.item, items.share, exists))
    assert found.predicted is not None
    assert found.expected is not None
    assert found.predicted[0, 1] == found.expected[0, 1] == 0.0
    assert with_rewards(log.first(1), items).places == 1
