"""A slate with places left to chance against the same in plain Python, place by place."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.sampling import CHOSEN, uniforms

NO_FEATURES = FeatureFrame((), np.empty((0, 0), np.float32))


def plain(score, seed, size, options):
    """The slate, and the probability of each place given those before it: two numbers are drawn for a place."""
    order = sorted(range(len(score)), key=lambda row: -score[row])
    size = min(size, len(order))
    slate, shares = order[: min(options.keep, size)], [Fraction(1)] * min(options.keep, size)
    pool = order[len(slate) : max(len(slate), options.pool)]
    epsilon = Fraction(options.epsilon)
    chance = iter(uniforms(seed, CHOSEN, 2 * len(order)).tolist())
    while pool and len(slate) < size:
        is_drawn, which = next(chance) < options.epsilon, next(chance)
        row = pool[int(which * len(pool))] if is_drawn else pool[0]
        shares.append(epsilon / len(pool) + (1 - epsilon if row == pool[0] else 0))
        pool.remove(row)
        slate.append(row)
    behind = [row for row in order if row not in slate and row not in pool][: size - len(slate)]
    return slate + behind, [*map(float, shares), *([1.0] * len(behind))]


@given(
    st.lists(st.integers(-40, 40).map(lambda each: each / 8), min_size=1, max_size=12),
    st.integers(0, 2**63 - 1),
    st.integers(1, 15),
    st.integers(0, 4),
    st.integers(1, 9),
    st.sampled_from([1e-6, 0.25, 0.75, 1.0]),
)
def test_a_slate_is_drawn_place_by_place_from_its_formula(scores, seed, size, keep, pool, epsilon):
    """Kept places and those behind the pool are certain; a slate is as long as it may be."""
    options = EpsilonGreedy(epsilon=epsilon, keep=keep, pool=pool)
    query = Query("r", "home", None, None, size, TimestampMs(0), seed)
    found = options.select(query, NO_FEATURES, np.array(scores, np.float32))
    slate, shares = plain(scores, seed, size, options)
    assert found.chosen.tolist() == slate
    assert len(slate) == min(size, len(scores))
    assert found.propensity.tolist() == pytest.approx(shares, rel=1e-6)


def test_of_those_that_may_come_the_best_has_what_chance_leaves():
    """ε / m each of the m that may, 1 − ε more for the best of them; behind the pool the best alone."""
    chances = EpsilonGreedy(epsilon=0.6, keep=2, pool=1).chances(NO_FEATURES, np.arange(4), np.zeros(4))
    worth = np.array([1.0, 5.0, 9.0, 8.0])
    assert chances(worth, np.array([True, True, True, True])).tolist() == pytest.approx([0.3, 0.7, 0.0, 0.0])
    assert chances(worth, np.array([True, False, True, True])).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])
    assert chances(worth, np.array([False, False, True, True])).tolist() == [0.0, 0.0, 1.0, 0.0]
