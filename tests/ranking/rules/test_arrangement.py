"""Rules of a slate: no cap is ever broken, unlike items come first, and propensities are right with both."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.thompson import Thompson
from midstream.ranking.selectors.top_k import TopK

DRAWS = 1_500
FRAME = FeatureFrame(("clicks", "seen"), np.array([[1, 30], [40, 900], [5, 10], [3, 25], [9, 100]], dtype=np.float32))
SCORE = np.array([0.9, 0.8, 0.5, 0.45, 0.1], dtype=np.float32)
ROWS = np.arange(5, dtype=np.int32)
SELECTORS = [
    TopK(),
    PlackettLuce(temperature=0.7),
    PlackettLuce(temperature=0.7, keep=1, pool=3),
    EpsilonGreedy(epsilon=0.4),
    EpsilonGreedy(epsilon=0.4, keep=1, pool=3),
    Thompson(acts="clicks", impressions="seen"),
    Thompson(acts="clicks", impressions="seen", keep=1, pool=3),
]


def asked(size: int, seed: int = 0) -> Query:
    """A request for a slate of this size."""
    return Query("r", "home", None, None, size, TimestampMs(0), seed)


def codes_of(*values: int) -> np.ndarray:
    """Value codes of a category."""
    return np.array(values, dtype=np.int32)[:, None]


@st.composite
def cases(draw):
    """Scores of which some are NaN, codes of tags, a cap, and a diversity of codes or of vectors."""
    count, width = draw(st.integers(0, 40)), draw(st.integers(1, 3))
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    score = dice.choice([0.0, 1.0, 1.0, 2.5, -3.0, np.nan], count).astype(np.float32)
    codes = np.sort(dice.integers(-1, draw(st.integers(1, 6)), (count, width)).astype(np.int32))[:, ::-1]
    for column in range(1, width):  # distinct in a row, -1 behind
        codes = np.where((codes[:, column : column + 1] == codes[:, column - 1 : column]), -1, codes)
    vectors = dice.standard_normal((count, 4)).astype(np.float32)
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    vectors[dice.random(count) < 0.2] = 0
    by = draw(st.sampled_from(["nothing", "codes", "vectors"]))
    rules = Arrangement(
        (Cap(attribute="a", max=draw(st.integers(1, 4))),),
        None if by == "nothing" else Diversity(attribute="b", weight=draw(st.sampled_from([0.1, 0.7, 1.0]))),
    )
    likes = CandidateFacts(
        np.arange(count, dtype=np.int32), (codes,), {"nothing": None, "codes": codes, "vectors": vectors}[by]
    )
    frame = FeatureFrame(("clicks", "seen"), dice.choice([np.nan, 0, 4, 60], (count, 2)).astype(np.float32))
    return rules, likes, frame, score


@given(cases(), st.integers(0, 2**63 - 1), st.integers(1, 30), st.sampled_from(SELECTORS))
def test_no_cap_is_broken_and_no_place_lost(case, seed, size, selector):
    """Distinct rows with a score, no value above its cap; the slate ends only where it is full or nothing may come."""
    rules, likes, frame, score = case
    before = score.copy()
    selection = rules.select(selector, asked(size, seed), frame, score, likes)
    chosen = selection.chosen.tolist()
    assert len(set(chosen)) == len(chosen) <= size
    assert np.isfinite(score[chosen]).all()
    assert selection.propensity.dtype == np.float32
    assert ((selection.propensity > 0) & (selection.propensity <= 1)).all()
    counts = Counter(value for row in chosen for value in set(likes.capped[0][row].tolist()) - {-1})
    most = rules.caps[0].max
    assert max(counts.values(), default=0) <= most
    full = {value for value, count in counts.items() if count >= most}
    left = [
        row
        for row in np.flatnonzero(np.isfinite(score)).tolist()
        if row not in chosen and not full & set(likes.capped[0][row].tolist())
    ]
    assert len(chosen) == size or not left
    again = rules.select(selector, asked(size, seed), frame, score, likes)
    assert again.chosen.tolist() == chosen
    assert np.array_equal(before, score, equal_nan=True)


@given(cases(), st.integers(1, 30))
def test_top_k_is_that_of_a_plain_twin(case, size):
    """Place by place the best of what is left, by score less likeness, computed for each pair."""
    rules, likes, frame, score = case
    chosen = rules.select(TopK(), asked(size), frame, score, likes).chosen.tolist()
    finite = sorted(np.flatnonzero(np.isfinite(score)).tolist(), key=lambda row: (-score[row], row))
    slate: list[int] = []
    spread = (float(score[finite[0]]) - float(score[finite[-1]])) or 1.0 if finite else 0.0
    sets = [set(row) - {-1} for row in likes.capped[0].tolist()]
    while len(slate) < size:
        counts = Counter(value for row in slate for value in sets[row])
        may = [row for row in finite if row not in slate and all(counts[v] < rules.caps[0].max for v in sets[row])]
        if not may:
            break
        worth = [float(score[row]) - spread * cost(rules, likes, row, slate) for row in may]
        best = max(worth)
        # Where two are equal but for rounding, either is right.
        near = [row for row, each in zip(may, worth, strict=True) if each >= best - 1e-6]
        assert chosen[len(slate)] in near
        slate.append(chosen[len(slate)])
    assert chosen == slate


@pytest.mark.parametrize("method", ["mmr", "dpp"])
@pytest.mark.parametrize("selector", [TopK(), EpsilonGreedy(epsilon=0.0), PlackettLuce(temperature=0.01)], ids=repr)
def test_of_equal_scores_likeness_decides(method, selector):
    """Whatever the scores are: where they say nothing, one of each category comes before a second of any."""
    codes = codes_of(0, 0, 0, 1, 1, 2)
    rules = Arrangement((), Diversity(attribute="b", method=method, weight=1.0))
    for level in (0.0, 0.25, -7.0):
        score = np.full(6, level, dtype=np.float32)
        facts = CandidateFacts(np.arange(6, dtype=np.int32), (), codes)
        frame = FeatureFrame((), np.empty((6, 0), dtype=np.float32))
        chosen = rules.select(selector, asked(6), frame, score, facts).chosen
        assert sorted(codes[chosen[:3], 0].tolist()) == [0, 1, 2]
        assert len(chosen) == 6


def cost(rules: Arrangement, likes: CandidateFacts, row: int, slate: list[int]) -> float:
    """What likeness takes from a row, in plain Python."""
    if rules.diversity is None or likes.values is None or not slate:
        return 0.0
    if likes.values.dtype == np.float32:
        return rules.diversity.weight * max(max(0.0, float(likes.values[row] @ likes.values[each])) for each in slate)
    sets = [set(each) - {-1} for each in likes.values.tolist()]
    return rules.diversity.weight * max(
        len(sets[row] & sets[each]) / len(sets[row] | sets[each]) if sets[row] | sets[each] else 0.0 for each in slate
    )


@pytest.mark.parametrize("selector", SELECTORS[1:], ids=repr)
def test_a_propensity_is_the_share_of_requests(selector):
    """Given the places before it and the rules, an item stands at a place as often as its propensity says."""
    diversity = None if isinstance(selector, Thompson) else Diversity(attribute="b", weight=0.5)
    rules = Arrangement((Cap(attribute="a", max=1),), diversity)
    likes = CandidateFacts(ROWS, (codes_of(0, 0, 1, 2, -1),), None if diversity is None else codes_of(0, 1, 1, 1, 0))
    seen: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    said: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for seed in range(DRAWS):
        selection = rules.select(selector, replace(asked(3), seed=seed * 7_919), FRAME, SCORE, likes)
        slate = tuple(selection.chosen.tolist())
        for place, row in enumerate(slate):
            seen[slate[:place]][row] += 1
            said[slate[:place]][row] = float(selection.propensity[place])
    for prefix, counts in seen.items():
        many = counts.total()
        for row, count in counts.items():
            propensity = said[prefix][row]
            assert abs(count - many * propensity) <= 5 * np.sqrt(many * propensity * (1 - propensity)) + 1, prefix
        assert sum(said[prefix].values()) <= 1 + 1e-5
    assert sum(said[()].values()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_without_rules_the_probabilities_are_those_of_the_selector(selector):
    """The first place has the same probabilities as the selector alone gives them, to rounding."""
    likes, free = CandidateFacts(ROWS), Arrangement()
    alone, ruled = {}, {}
    for seed in range(2_000):
        one = selector.select(asked(1, seed), FRAME, SCORE)
        other = free.select(selector, asked(1, seed), FRAME, SCORE, likes)
        alone[int(one.chosen[0])], ruled[int(other.chosen[0])] = float(one.propensity[0]), float(other.propensity[0])
    for row in alone.keys() & ruled.keys():
        assert alone[row] == pytest.approx(ruled[row], rel=1e-5)
    assert sum(alone.values()) == pytest.approx(1, abs=2e-3)
    assert sum(ruled.values()) == pytest.approx(1, abs=2e-3)
