"""A drawn slate against the same in plain Python: one place after another, from the formula."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.rules.boost import Boosted, worth_of
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.sampling import CHOSEN, uniforms

NO_FEATURES = FeatureFrame((), np.empty((0, 0), np.float32))
SCORES = st.lists(st.integers(-40, 40).map(lambda each: each / 8), min_size=1, max_size=12)


def plain(score, seed, size, options):
    """The slate, and the probability of each place given those before it."""
    order = sorted(range(len(score)), key=lambda row: -score[row])
    kept = order[: min(options.keep, size)]
    pool = order[len(kept) : max(len(kept), options.pool)]
    behind = order[max(len(kept), options.pool) :]
    mean = sum(score[row] for row in pool) / len(pool) if pool else 0.0
    spread = math.sqrt(sum((score[row] - mean) ** 2 for row in pool) / len(pool)) if pool else 0.0
    worth = [(score[row] - mean) / (options.temperature * spread) if spread > 0 else 0.0 for row in pool]
    chance = uniforms(seed, CHOSEN, len(pool)).tolist()
    drawn = sorted(range(len(pool)), key=lambda at: math.log(-math.log(chance[at])) - worth[at])
    shares = []
    for place, at in enumerate(drawn):
        left = [worth[each] for each in drawn[place:]]
        shares.append(math.exp(worth[at] - max(left)) / sum(math.exp(each - max(left)) for each in left))
    slate = [*kept, *(pool[at] for at in drawn), *behind][:size]
    return slate, [*([1.0] * len(kept)), *shares, *([1.0] * len(behind))][:size]


@given(SCORES, st.integers(0, 2**63 - 1), st.integers(1, 15), st.integers(0, 4), st.integers(1, 9))
def test_a_slate_is_drawn_place_by_place_from_its_formula(scores, seed, size, keep, pool):
    """Kept places and those behind the pool are certain; a slate is as long as it may be."""
    options = PlackettLuce(temperature=0.7, keep=keep, pool=pool)
    query = Query("r", "home", None, None, size, TimestampMs(0), seed)
    found = options.select(query, NO_FEATURES, np.array(scores, np.float32))
    slate, shares = plain(scores, seed, size, options)
    assert found.chosen.tolist() == slate
    assert len(slate) == min(size, len(scores))
    assert found.propensity.tolist() == pytest.approx(shares, rel=1e-4)


def test_shares_of_a_place_follow_the_scores_of_the_pool_alone():
    """A unit of temperature is the deviation of the scores that take part: kept ones and the rest are none of them."""
    score = np.array([9.0, 3.0, 2.0, 1.0, -50.0])
    options = PlackettLuce(temperature=1.0, keep=1, pool=4)
    chances = options.chances(NO_FEATURES, np.arange(5), score)
    spread = float(np.std([3.0, 2.0, 1.0]))
    allowed = np.array([False, True, False, True, True])
    share = chances(score, allowed)
    assert share[[0, 2, 4]].tolist() == [0.0, 0.0, 0.0]
    assert share[1] / share[3] == pytest.approx(math.exp(2.0 / spread))
    only_behind = np.array([False, False, False, False, True])
    assert chances(score, only_behind).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]
    equal = options.chances(NO_FEATURES, np.arange(5), np.ones(5))(np.ones(5), allowed)
    assert equal.tolist() == [0.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("factor", [1.2, 1.3, 1.5])
@pytest.mark.parametrize("count", [3, 7, 10])
def test_equal_scores_are_counted_in_units_of_1_whatever_a_boost_of_all_makes_of_them(factor, count):
    """Rounding gives equal numbers a deviation of 1e-17: half a unit that likeness takes would be all there is."""
    everything = (Boosted("all", factor, np.ones(count, dtype=np.bool_)),)
    worth = worth_of(np.full(count, 0.1, dtype=np.float32), everything)
    chances = PlackettLuce(temperature=1.0).chances(NO_FEATURES, np.arange(count), worth)
    left = worth.copy()
    left[0] -= 0.5
    share = chances(left, np.ones(count, dtype=np.bool_))
    assert share[0] / share[1] == pytest.approx(math.exp(-0.5))
