"""The reward model: no unit predicts itself, both halves are of one model, and estimates get narrower by it."""

from collections import defaultdict

import numpy as np
import pytest

from midstream.evaluation.off_policy.choices import ChoiceLog, dm, dr, ipw
from midstream.evaluation.off_policy.intervals import Confidence, interval
from midstream.evaluation.off_policy.report import estimate_slates
from midstream.evaluation.off_policy.reward_model import FOLDS, SlateItems, with_rewards
from midstream.evaluation.off_policy.slates import SlateLog, cascade_dr, rips
from tests.support.known import known
from tests.support.slate_worlds import SlateWorld

NOBODY = np.empty(0, dtype=np.intp)


def modelled(log, items):
    """Return predicted and expected rewards."""
    found = with_rewards(log, items)
    assert found.predicted is not None
    assert found.expected is not None
    return found.predicted, found.expected


def logged_items(fold, chosen):
    """Return items without a list of the target, whose logged ones count as listed."""
    return SlateItems(fold, chosen, chosen >= 0, NOBODY, NOBODY, NOBODY, np.empty(0))


def rewarded(log, reward):
    return SlateLog(log.users, reward, log.logged, log.target, log.missing)


def of_first_place(log):
    """Return a modelled log of one place as choices."""
    parts = (log.reward, log.logged, log.target, log.missing, log.predicted, log.expected)
    return ChoiceLog(log.users, *(each[:, 0] for each in parts))


@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.parametrize("listed_max", [None, 3])
def test_estimates_get_narrower_and_stay_right(places, listed_max):
    """Over 80 worlds the error is 0 on average, the intervals hold the truth, and both are less than without a model;
    also where only three items of a place are listed.
    """
    draw = np.random.default_rng(8)
    plain, doubly, held, narrower = [], [], 0, 0
    for _ in range(80):
        world = SlateWorld.drawn(draw, places=places, spread=1.5)
        log, _, items = world.slates(draw, 1_000, listed_max)
        truth, found = world.truth(), with_rewards(log, items)
        one, other = (interval(each, log.users, Confidence()) for each in (rips(log), cascade_dr(found)))
        plain.append(rips(log).value - truth)
        doubly.append(cascade_dr(found).value - truth)
        held += other.low <= truth <= other.high
        narrower += other.error < one.error
    assert abs(np.mean(doubly)) < 3 * np.std(doubly) / np.sqrt(80)
    assert np.std(doubly) < 0.95 * np.std(plain)
    assert held >= 70
    assert narrower >= 76


def test_doubly_robust_is_right_by_a_wrong_model_or_by_wrong_probabilities():
    """A model of other rewards leaves DR right, and itself far off; the true rates do so with wrong propensities."""
    draw = np.random.default_rng(5)
    by_wrong_model, alone, by_wrong_chances, weighted = [], [], [], []
    for _ in range(400):
        world = SlateWorld.drawn(draw, places=1)
        log, kind, items = world.slates(draw, 1_000)
        truth = world.truth()
        wrong = with_rewards(rewarded(log, 2.0 - 3.0 * log.reward), items)
        choices = of_first_place(log.with_model(wrong.predicted, wrong.expected))
        by_wrong_model.append(dr(choices).value - truth)
        alone.append(dm(choices).value - truth)
        share = np.exp(world.target[kind])
        true = log.with_model(
            world.rate[kind, items.chosen[:, 0]][:, None],
            (share * world.rate[kind]).sum(axis=1, keepdims=True) / share.sum(axis=1, keepdims=True),
        )
        guessed = SlateLog(log.users, log.reward, np.sqrt(log.logged), log.target, log.missing)
        choices = of_first_place(guessed.with_model(true.predicted, true.expected))
        by_wrong_chances.append(dr(choices).value - truth)
        weighted.append(ipw(choices).value - truth)
    for errors in (by_wrong_model, by_wrong_chances):
        assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(400)
    assert abs(np.mean(alone)) > 0.3
    assert abs(np.mean(weighted)) > 0.1


def test_estimates_of_rarely_logged_items_do_not_drift_to_the_logged_mean():
    """Two rows an item: a model that saw the row which it predicts would take a tenth of the difference between both
    policies away, since items are known best where they happened to be logged most.
    """
    draw = np.random.default_rng(2)
    errors, gains = [], []
    for _ in range(200):
        world = SlateWorld.drawn(draw, items=200, places=1, types=1, spread=2.5, boldness=0.3)
        log, _, items = world.slates(draw, 400)
        truth = world.truth()
        errors.append(cascade_dr(with_rewards(log, items)).value - truth)
        gains.append(truth - log.reward.mean())
    assert np.mean(gains) > 0.05
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(200)


def test_no_unit_predicts_itself():
    """A unit's own reward changes what is predicted of other folds, never of its own."""
    draw = np.random.default_rng(3)
    log, _, items = SlateWorld.drawn(draw).slates(draw, 900)
    reward = log.reward.copy()
    reward[7] += 5.0
    before, after = modelled(log, items), modelled(rewarded(log, reward), items)
    same = items.fold == items.fold[7]
    assert 0 < same.sum() < 900
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one[same], other[same])
        assert not np.array_equal(one[~same], other[~same])


def test_effects_are_those_of_variance_components():
    """Item and place by hand, in loops: mean of the place, the item's effect, then that of the item at the place."""
    draw = np.random.default_rng(6)
    log, _, items = SlateWorld.drawn(draw, items=6, places=3).slates(draw, 500)
    rate = 0.1 + 0.1 * items.chosen + 0.2 * ((items.chosen + np.arange(3)) % 2)
    log = rewarded(log, (draw.uniform(size=log.reward.shape) < rate).astype(float))
    predicted, _ = modelled(log, items)
    rest = np.flatnonzero(items.fold != 0)
    mean = log.reward[rest].mean(axis=0)

    def shrunken(group, error, size):
        rows = defaultdict(list)
        for each, y, a in zip(group, error, size, strict=True):
            rows[each].append((y, a))
        total = {each: sum(a for _, a in of) for each, of in rows.items()}
        gain = {each: sum(y for y, _ in of) for each, of in rows.items()}
        between = sum(gain[each] ** 2 / total[each] for each in rows)
        noise = (sum(y * y / a for of in rows.values() for y, a in of) - between) / (len(error) - len(rows))
        whole = sum(total.values())
        spread = between - (len(rows) - 1) * noise
        spread /= whole - sum(a * a for a in total.values()) / whole
        return {each: gain[each] / (total[each] + noise / spread) if spread > 0 else 0.0 for each in rows}

    spots = [(row, place) for row in rest for place in range(3)]
    item = [items.chosen[spot] for spot in spots]
    size = [mean[place] for _, place in spots]
    error = [log.reward[spot] - mean[spot[1]] for spot in spots]
    of_item = shrunken(item, error, size)
    left = [y - a * of_item[each] for y, a, each in zip(error, size, item, strict=True)]
    of_cell = shrunken([(each, place) for each, (_, place) in zip(item, spots, strict=True)], left, size)
    last = items.chosen[:, 2]  # no place is below it
    for row in np.flatnonzero(items.fold == 0):
        effect = of_item[last[row]] + of_cell.get((last[row], 2), 0.0)
        assert predicted[row, 2] == pytest.approx(mean[2] * (1 + effect))
    assert max(abs(each) for each in of_item.values()) > 0.3
    assert max(abs(each) for each in of_cell.values()) > 0.1


def test_items_that_differ_by_chance_alone_have_the_mean_of_their_place():
    """In pure noise predictions spread less than a quarter of what raw means of items do."""
    draw = np.random.default_rng(4)
    spread, raw = [], []
    for _ in range(30):
        log, _, items = SlateWorld.drawn(draw, items=50, places=2).slates(draw, 500)
        reward = (draw.uniform(size=log.reward.shape) < 0.3).astype(float)
        predicted, _ = modelled(rewarded(log, reward), items)
        spread.append(np.mean([predicted[items.fold == number, 1].std() for number in range(FOLDS)]))
        count = np.bincount(items.chosen[:, 1], minlength=50)
        earned = np.bincount(items.chosen[:, 1], reward[:, 1], minlength=50)
        raw.append((earned[count > 0] / count[count > 0]).std())
    assert np.mean(spread) < 0.25 * np.mean(raw)


def test_rewards_of_both_signs_are_predicted_within_their_range():
    """The mean of the place is about 0: effects are of its mean absolute reward, so no division by 0 blows them up."""
    draw = np.random.default_rng(9)
    log, _, items = SlateWorld.drawn(draw, items=10, places=2, spread=2.0).slates(draw, 1_000)
    reward = np.where(items.chosen % 2, 1.0, -1.0)
    reward[::2] = 0.0
    predicted, _ = modelled(rewarded(log, reward - reward.mean(axis=0)), items)
    assert np.isfinite(predicted).all()
    last = predicted[:, 1]
    assert (np.sign(last) == np.where(items.chosen[:, 1] % 2, 1.0, -1.0)).mean() > 0.95
    assert np.abs(last).max() < 1.0


def test_an_item_that_was_never_logged_has_the_mean_of_its_place():
    """So has one that the target does not list, in both halves."""
    draw = np.random.default_rng(12)
    log, _, items = SlateWorld.drawn(draw, places=1).slates(draw, 500)
    inside = items.fold == 2
    mean = log.reward[~inside].mean()
    unseen = items.chosen.copy()
    unseen[inside] = 99
    never = SlateItems(items.fold, unseen, unseen >= 0, items.row, items.place, items.item + 99, items.share)
    unlisted = SlateItems(items.fold, items.chosen, np.zeros_like(items.is_listed), NOBODY, NOBODY, NOBODY, np.empty(0))
    for each in (never, unlisted):
        predicted, expected = modelled(log, each)
        assert predicted[inside] == pytest.approx(mean)
        assert expected[inside] == pytest.approx(mean)


def test_the_order_of_slates_does_not_matter():
    """Slates in another order have the same estimate."""
    draw = np.random.default_rng(13)
    log, _, items = SlateWorld.drawn(draw, places=2).slates(draw, 400)
    order = draw.permutation(400)
    back = np.argsort(order)
    other = SlateLog(log.users[order], log.reward[order], log.logged[order], log.target[order], log.missing[order])
    moved = SlateItems(
        items.fold[order], items.chosen[order], items.is_listed[order],
        back[items.row], items.place, items.item, items.share,
    )  # fmt: skip
    assert cascade_dr(with_rewards(other, moved)).value == pytest.approx(
        cascade_dr(with_rewards(log, items)).value, rel=1e-12
    )


def test_a_place_counts_those_below_it_as_far_as_the_slate_has_them():
    """A slate that ends above a place is worth less by the mean of what the target expects there, and has no reward
    below its end.
    """
    draw = np.random.default_rng(4)
    log, _, items = SlateWorld.drawn(draw, places=2, boldness=1.0).slates(draw, 9_000)
    chosen = items.chosen.copy()
    chosen[0, 1] = -1
    kept = (items.row != 0) | (items.place != 1)
    short = SlateItems(
        items.fold, chosen, items.is_listed & (chosen >= 0),
        items.row[kept], items.place[kept], items.item[kept], items.share[kept],
    )  # fmt: skip
    reward = log.reward.copy()
    reward[0, 1] = 0.0
    predicted, expected = modelled(rewarded(log, reward), short)
    assert predicted[0, 1] == expected[0, 1] == 0.0
    of_all, expected_of_all = modelled(log, items)
    below = expected_of_all[0, 0] - expected[0, 0]
    assert below == pytest.approx(of_all[0, 0] - predicted[0, 0])
    assert below == pytest.approx(expected_of_all[items.fold != items.fold[0], 1].mean(), rel=0.05)
    assert below > 1.2 * log.reward[:, 1].mean()


@pytest.mark.parametrize("users", [1, 2])
@pytest.mark.parametrize("reward", [0.0, 1.0, -1e6])
def test_logs_that_say_nothing_have_finite_predictions(users, reward):
    """One slate, one unit, one item, no reward at all: means, and 0 of folds that have no others."""
    shape = (users, 2)
    log = SlateLog(np.zeros(users, dtype=np.intp), np.full(shape, reward), *(np.ones(shape),) * 2, np.zeros(shape))
    predicted, expected = modelled(log, logged_items(np.arange(users), np.zeros(shape, dtype=np.intp)))
    assert np.isfinite(predicted).all()
    assert np.isfinite(expected).all()
    assert predicted[0, 0] == (2 * reward if users > 1 else 0.0)
    empty = SlateLog(NOBODY, *(np.empty((0, 2)),) * 4)
    assert len(modelled(empty, logged_items(NOBODY, np.empty((0, 2), dtype=np.intp)))[0]) == 0


@pytest.mark.parametrize("little", [1.0, 1e-10, 1e-20])
def test_places_of_very_different_rewards_have_predictions(little):
    """A kept place of one item that earns a million, above one that earns next to nothing: no sum is lost to rounding
    that something is divided by.
    """
    draw = np.random.default_rng(21)
    chosen = np.stack([np.zeros(600, dtype=np.intp), 1 + draw.integers(0, 4, 600)], axis=1)
    reward = (draw.uniform(size=chosen.shape) < np.where(chosen == 2, 0.8, 0.2)) * [1e6, little]
    log = SlateLog(np.arange(600), reward, *(np.ones(chosen.shape),) * 2, np.zeros(chosen.shape))
    predicted, expected = modelled(log, logged_items(np.arange(600) % FOLDS, chosen))
    assert np.isfinite(expected).all()
    assert (predicted > 0).all()
    assert predicted[:, 1].mean() == pytest.approx(reward[:, 1].mean(), rel=0.2)


def test_a_report_of_one_place_has_every_estimator_of_choices():
    """All eight, and the intervals of those that are right hold the truth."""
    draw = np.random.default_rng(20)
    world = SlateWorld.drawn(draw, places=1)
    log, _, items = world.slates(draw, 3_000)
    report = estimate_slates(log, model=lambda cut: with_rewards(cut, items))
    found = {each.name: each for each in report.estimates}
    assert list(found) == ["ipw", "snipw", "ipw_clipped", "dm", "dr", "sndr", "switch_dr", "dr_os"]
    assert report.chosen == "dr"
    for name in ("ipw", "snipw", "dr", "sndr"):
        assert known(found[name].low) < world.truth() < known(found[name].high)
    widths = {name: known(found[name].high) - known(found[name].low) for name in ("dr", "ipw")}
    assert widths["dr"] < widths["ipw"]
