"""The probability of a given slate: that of all slates is 1, and that of a drawn one is what was logged."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.slate_chances import slate_chances
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK

SCORES = np.array([0.4, 2.0, np.nan, 1.5, 0.4, -1.0], dtype=np.float32)
COUNTS = np.array([[3, 60], [1, 10], [0, 0], [8, 90], [2, 40], [np.nan, 5]], dtype=np.float32)
FEATURES = FeatureFrame(("clicks", "seen"), COUNTS)
SELECTORS = [
    TopK(),
    PlackettLuce(temperature=0.7),
    PlackettLuce(temperature=0.7, keep=2),
    PlackettLuce(temperature=1.5, keep=1, pool=3),
    PlackettLuce(temperature=0.01),
    EpsilonGreedy(epsilon=0.3),
    EpsilonGreedy(epsilon=0.3, keep=1, pool=3),
    Thompson(acts="clicks", impressions="seen"),
    Thompson(acts="clicks", impressions="seen", keep=1, pool=3),
]


def query(seed, size):
    return Query("r", "home", None, None, size, TimestampMs(0), seed)


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_slates_that_there_are_have_all_of_the_probability(selector, size):
    """Over every order of every choice of rows with a score, probabilities sum to 1; so do the shares of a place."""
    total = 0.0
    for slate in permutations((0, 1, 3, 4, 5), size):
        found = slate_chances(selector, FEATURES, SCORES, np.array(slate, dtype=np.intp))
        total += found.chosen.prod()
        sums = found.share.sum(axis=1)
        alive = np.concatenate(([True], found.chosen[:-1] > 0))
        assert sums[alive] == pytest.approx(1.0)
        assert not sums[~alive].any()
        assert not found.share[:, 2].any()
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
@given(seed=st.integers(0, 2**63 - 1), size=st.integers(1, 7))
def test_the_probability_of_a_drawn_slate_is_what_was_logged(selector, seed, size):
    """Place by place, for every seed and size; Thompson's quadrature has other points where a place is kept."""
    within = 1e-3 if isinstance(selector, Thompson) and selector.keep else 1e-5
    drawn = selector.select(query(seed, size), FEATURES, SCORES)
    found = slate_chances(selector, FEATURES, SCORES, drawn.chosen)
    assert found.chosen == pytest.approx(drawn.propensity.astype(np.float64), rel=within)
    above: list[int] = []
    for place, row in enumerate(drawn.chosen.tolist()):
        assert found.share[place, row] == found.chosen[place]
        assert not found.share[place, above].any()
        above.append(row)


@given(
    st.lists(st.integers(-40, 40).map(lambda each: each / 8), min_size=1, max_size=30),
    st.integers(0, 2**63 - 1),
    st.sampled_from([each for each in SELECTORS if not isinstance(each, Thompson)]),
)
def test_any_scores_are_counted_as_they_are_drawn(scores, seed, selector):
    """Equal scores, one score, and more rows than the pool too."""
    score = np.array(scores, dtype=np.float32)
    none = FeatureFrame((), np.empty((len(score), 0), dtype=np.float32))
    drawn = selector.select(query(seed, 12), none, score)
    found = slate_chances(selector, none, score, drawn.chosen)
    assert found.chosen == pytest.approx(drawn.propensity.astype(np.float64), rel=1e-4)


def test_what_cannot_be_ends_the_slate():
    """An item that is no row, one without a score, one above, and another than the kept best have 0, and all below."""
    selector = PlackettLuce(temperature=1.0)
    for slate in ([1, -1, 3], [1, 2, 3], [1, 1, 3]):
        found = slate_chances(selector, FEATURES, SCORES, np.array(slate, dtype=np.intp))
        assert found.chosen[0] > 0
        assert found.chosen[1:].tolist() == [0.0, 0.0]
        assert found.share[1].sum() == pytest.approx(1.0)
        assert not found.share[2].any()
    kept = slate_chances(PlackettLuce(keep=1), FEATURES, SCORES, np.array([3, 1], dtype=np.intp))
    assert kept.chosen.tolist() == [0.0, 0.0]
    assert kept.share[0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_a_slate_longer_than_its_candidates_ends():
    """Without scores nothing is likely, and after the last row there is none."""
    nothing = slate_chances(TopK(), FEATURES, np.full(6, np.nan, dtype=np.float32), np.array([0], dtype=np.intp))
    assert nothing.chosen.tolist() == [0.0]
    long = slate_chances(TopK(), FEATURES, SCORES, np.array([1, 3, 0, 4, 5, 2], dtype=np.intp))
    assert long.chosen.tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert slate_chances(TopK(), FEATURES, SCORES, np.array([1, 3, 0], dtype=np.intp), 2).chosen.tolist() == [1.0, 1.0]
