"""Selectors that leave places to chance: each place's propensity is the share of requests in which it comes so."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.sampling import CHOSEN, LOGGED, uniforms
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK
from midstream.testing.conformance import check_selector

DRAWS = 4_000
SCORE = np.array([0.1, 0.9, np.nan, 0.5, 0.45, -0.2, 0.9], dtype=np.float32)
FRAME = FeatureFrame(
    ("clicks", "seen"),
    np.array([[1, 30], [40, 900], [5, 10], [np.nan, np.nan], [3, 25], [0, 60], [9, 100]], dtype=np.float32),
)
SELECTORS = [
    PlackettLuce(temperature=1.0),
    PlackettLuce(temperature=0.3, keep=1, pool=4),
    EpsilonGreedy(epsilon=0.3),
    EpsilonGreedy(epsilon=1.0, keep=1, pool=4),
    Thompson(acts="clicks", impressions="seen"),
    Thompson(acts="clicks", impressions="seen", keep=1, pool=3),
]


GOLDEN = 0x9E3779B97F4A7C15


def splitmix(state: int) -> int:
    """The twin: one step of SplitMix64 in plain integers."""
    value = state % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def asked(size: int, seed: int = 0) -> Query:
    """A request for a slate of this size."""
    return Query("r", "home", None, None, size, TimestampMs(0), seed)


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_a_propensity_is_the_share_of_requests(selector):
    """Given the places before it, an item stands at a place as often as its propensity says, over many seeds."""
    query = asked(4)
    seen: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    said: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for seed in range(DRAWS):
        selection = selector.select(replace(query, seed=seed * 7_919), FRAME, SCORE)
        slate = tuple(selection.chosen.tolist())
        for place, row in enumerate(slate):
            seen[slate[:place]][row] += 1
            before = said[slate[:place]].setdefault(row, float(selection.propensity[place]))
            assert before == pytest.approx(float(selection.propensity[place]), abs=1e-6)
    for prefix, counts in seen.items():
        many = counts.total()
        for row, count in counts.items():
            propensity = said[prefix][row]
            # Five standard errors, and one draw: some hundred of these are compared.
            assert abs(count - many * propensity) <= 5 * np.sqrt(many * propensity * (1 - propensity)) + 1, prefix
        assert sum(said[prefix].values()) <= 1 + 1e-5


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_all_that_may_come_at_a_place_adds_up_to_one(selector):
    """The propensities of what was ever first are 1 together: no item comes that was not expected, and none is lost."""
    first = {}
    for seed in range(3_000):
        selection = selector.select(asked(1, seed), FRAME, SCORE)
        first[int(selection.chosen[0])] = float(selection.propensity[0])
    assert sum(first.values()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_a_slate_begins_as_a_shorter_one(selector):
    """What stands first does not depend on how many are asked for."""
    for seed in range(50):
        whole = selector.select(asked(6, seed), FRAME, SCORE)
        part = selector.select(asked(2, seed), FRAME, SCORE)
        assert part.chosen.tolist() == whole.chosen[:2].tolist()
        assert part.propensity.tolist() == whole.propensity[:2].tolist()


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan"))), min_size=1, max_size=40),
    st.integers(0, 2**64 - 1),
    st.integers(0, 5),
    st.integers(1, 50),
)
def test_every_selector_conforms(scores, seed, keep, pool):
    """Distinct rows with a score, propensities in (0, 1], the same for the same seed; kept places are top_k's."""
    score = np.array(scores, dtype=np.float32)
    dice = np.random.default_rng(seed % 2**32)
    values = dice.choice([np.nan, 0, 1, 5, 1e3, 1e9, -1, np.inf], (len(score), 2)).astype(np.float32)
    frame = FeatureFrame(("clicks", "seen"), values)
    for selector in (
        PlackettLuce(temperature=0.01, keep=keep, pool=pool),
        EpsilonGreedy(epsilon=0.5, keep=keep, pool=pool),
        Thompson(acts="clicks", impressions="seen", keep=keep, pool=pool),
    ):
        check_selector(selector, asked(8, seed), frame, score)
        best = TopK().select(asked(8, seed), frame, score)
        selection = selector.select(asked(8, seed), frame, score)
        assert selection.chosen[:keep].tolist() == best.chosen[:keep].tolist()
        assert len(selection.chosen) == len(best.chosen)
        assert (selection.propensity[:keep] == 1).all()


def test_a_low_temperature_is_top_k():
    """Near 0 nothing is left to chance; at the highest every order is about as likely."""
    score = np.linspace(1, 0, 30).astype(np.float32)
    cold = PlackettLuce(temperature=1e-4).select(asked(10, 3), FRAME, score)
    assert cold.chosen.tolist() == list(range(10))
    assert cold.propensity.min() > 0.999
    hot = PlackettLuce(temperature=1_000).select(asked(10, 3), FRAME, score)
    assert hot.propensity == pytest.approx(1 / (30 - np.arange(10)), rel=0.01)


def test_scores_on_another_scale_are_drawn_alike():
    """A blend of 0.02 and a ranker of 20 are as bold: the temperature is in standard deviations."""
    score = np.array([3, 2, 1, 0.5], dtype=np.float32)
    for factor, more in ((1 / 64, 0), (64, 512)):
        scaled = (score * factor + more).astype(np.float32)
        one, other = (PlackettLuce().select(asked(4, 5), FRAME, each) for each in (score, scaled))
        assert one.chosen.tolist() == other.chosen.tolist()
        assert one.propensity == pytest.approx(other.propensity, rel=1e-4)


def test_thompson_draws_as_often_as_a_rate_is_highest():
    """The share of the first place is that of drawing a rate for each item, of few and of many counted."""
    dice = np.random.default_rng(1)
    seen = dice.choice([0, 3, 50, 2_000, 100_000], 25).astype(np.float32)
    clicks = np.floor(seen * dice.uniform(0.02, 0.06, 25)).astype(np.float32)
    frame = FeatureFrame(("clicks", "seen"), np.stack((clicks, seen), axis=1))
    selector, score = Thompson(acts="clicks", impressions="seen"), np.linspace(1, 0, 25).astype(np.float32)
    said = {}
    for seed in range(4_000):
        selection = selector.select(asked(1, seed), frame, score)
        said[int(selection.chosen[0])] = float(selection.propensity[0])
    rates = dice.beta(clicks + 1, seen - clicks + 19, (200_000, 25))
    share = np.bincount(rates.argmax(axis=1), minlength=25) / len(rates)
    assert all(said.get(item, 0.0) == pytest.approx(share[item], abs=0.01) for item in range(25))


@pytest.mark.parametrize("new", [0, 1, 10])
def test_new_items_come_as_often_as_their_beta_distributions_say(new):
    """Items without an impression among others that are known well or badly: within a hundredth in all."""
    dice = np.random.default_rng(new)
    seen = np.concatenate((np.zeros(new), 10.0 ** dice.integers(1, 7, 40)))
    clicks = np.floor(seen * dice.uniform(0.03, 0.06, len(seen)))
    frame = FeatureFrame(("clicks", "seen"), np.stack((clicks, seen), axis=1).astype(np.float32))
    score = np.linspace(1, 0, len(seen))
    chances = Thompson(acts="clicks", impressions="seen", pool=100).chances(frame, np.arange(len(seen)), score)
    share = chances(score, np.ones(len(seen), dtype=np.bool_))
    rates = dice.beta(clicks + 1, seen - clicks + 19, (200_000, len(seen)))
    drawn = np.bincount(rates.argmax(axis=1), minlength=len(seen)) / len(rates)
    assert np.abs(share / share.sum() - drawn).sum() / 2 < 0.015


def test_uniforms_are_of_a_seed_and_a_purpose():
    """Those of SplitMix64, others for another purpose, spread evenly; the first do not depend on the count."""
    assert uniforms(5, CHOSEN, 8)[:3].tolist() == uniforms(5, CHOSEN, 3).tolist()
    assert uniforms(5, CHOSEN, 3).tolist() != uniforms(5, LOGGED, 3).tolist()
    many = np.concatenate([uniforms(seed, CHOSEN, 10) for seed in range(2_000)])
    assert 0 < many.min() < many.max() < 1
    assert np.abs(np.histogram(many, 20, (0, 1))[0] / 1_000 - 1).max() < 0.15
    # Those of which the first number is the highest there is, and of which the second is.
    assert uniforms(4986917811905122024, CHOSEN, 1)[0] < 1
    one = FeatureFrame((), np.empty((3, 0), dtype=np.float32))
    EpsilonGreedy(epsilon=1.0).select(asked(3, 14250277901296924941), one, np.ones(3, dtype=np.float32))
    for seed in (0, 5, 2**64 - 1):
        state = splitmix(seed + CHOSEN * GOLDEN)
        expected = [(splitmix(state + place * GOLDEN) >> 12) / 2**52 + 2**-53 for place in (1, 2, 3)]
        assert uniforms(seed, CHOSEN, 3).tolist() == expected
