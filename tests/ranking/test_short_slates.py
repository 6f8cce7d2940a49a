"""A slate is short only where nobody else may come: what is left out would break a cap or a most share if it came."""

from collections import Counter
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Query, TimestampMs, Trace
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.new_items import Fresh
from midstream.ranking.rules.promote import Promoted
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK

SELECTORS = (TopK(), PlackettLuce(temperature=0.7, pool=4), EpsilonGreedy(epsilon=0.5, keep=1, pool=4))


def asked(size: int, seed: int = 0) -> Query:
    """A request for a slate of this size."""
    return Query("r", "home", None, None, size, TimestampMs(0), seed)


def case_of(seed: int) -> tuple[Arrangement, CandidateFacts, np.ndarray, int]:
    """Few candidates, most of them promoted, with pins, caps, shares and positions for new items that come together."""
    dice = np.random.default_rng(seed)
    count, size = int(dice.integers(1, 13)), int(dice.integers(1, 13))
    score = dice.standard_normal(count).astype(np.float32)
    score[dice.random(count) < 0.1] = np.nan
    codes = dice.integers(-1, 6, (count, 1)).astype(np.int32)
    has = dice.random(4) < 0.5
    shares = [(float(dice.choice([0, 0.3, 0.6])), float(dice.choice([0.1, 0.34, 0.5, 0.75, 1.0]))) for _ in range(3)]
    promotions = tuple(
        Promoted(f"p{k}", min(least, most), most, dice.random(count) < 0.7)
        for k, (least, most) in enumerate(shares[: int(dice.integers(1, 4))])
    )
    places, rows = dice.permutation(size)[:4].tolist(), dice.permutation(count)[: int(dice.integers(0, 5))].tolist()
    rules = Arrangement(
        (Cap(attribute="a", max=int(dice.integers(1, 4))),) if has[0] else (),
        Diversity(attribute="b", weight=0.8, method="dpp") if has[1] else None,
    )
    facts = CandidateFacts(
        np.arange(count, dtype=np.int32),
        (codes,) if has[0] else (),
        codes // 2 if has[1] else None,
        promotions=promotions,
        fresh=(Fresh("new", frozenset((1, 4)), dice.random(count) < 0.4),) if has[2] else (),
        pins={place: (row, "pin") for place, row in zip(places, rows, strict=False)},
    )
    return rules, facts, score, size


def broken_by(row: int, chosen: list[int], rules: Arrangement, facts: CandidateFacts) -> str:
    """Which rule a candidate would break behind a whole slate; empty = none."""
    for cap, codes in zip(rules.caps, facts.capped, strict=True):
        counts = Counter(int(codes[each, 0]) for each in chosen)
        if codes[row, 0] >= 0 and counts[int(codes[row, 0])] >= cap.max:
            return cap.name
    for each in facts.promotions:
        have = sum(bool(each.member[other]) for other in [*chosen, row])
        if each.member[row] and have > ceil(each.max * (len(chosen) + 1) - 1e-9):
            return each.name
    return ""


@settings(max_examples=2_000)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.sampled_from(SELECTORS))
def test_who_is_left_out_of_a_short_slate_would_break_a_rule(case, seed, selector) -> None:
    """Each candidate with a score is tried behind the slate; every pin is there, at its position or above it."""
    rules, facts, score, size = case_of(case)
    frame = FeatureFrame((), np.empty((len(score), 0), dtype=np.float32))
    chosen = rules.select(selector, asked(size, seed), frame, score, facts).chosen.tolist()
    assert len(set(chosen)) == len(chosen) <= size
    for position, (row, _) in facts.pins.items():
        assert chosen.index(row) <= position
    if len(chosen) < size:
        left = [row for row in range(len(score)) if row not in chosen and np.isfinite(score[row])]
        assert [row for row in left if not broken_by(row, chosen, rules, facts)] == []


def longest(promoted: int, others: int, most: float, size: int) -> int:
    """How long a slate of so many of both can be if every order of them is tried."""
    found, ends = {(0, 0)}, [(0, 0)]
    while ends:
        have, rest = ends.pop()
        for step in ((have + 1, rest), (have, rest + 1)):
            is_there = step[0] <= promoted and step[1] <= others and sum(step) <= size
            if step not in found and is_there and step[0] <= ceil(most * sum(step) - 1e-9):
                found.add(step)
                ends.append(step)
    return max(map(sum, found))


@given(
    st.lists(st.booleans(), max_size=14), st.sampled_from([0.05, 0.2, 0.34, 0.5, 0.9, 1.0]), st.floats(0, 1), st.data()
)
def test_with_one_most_share_and_no_cap_no_slate_could_be_longer(is_promoted, most, least, data) -> None:
    """Whatever comes first, by score, by likeness, as it is new or because a least share needs it."""
    member, size = np.array(is_promoted, dtype=bool), data.draw(st.integers(1, 16))
    fresh = np.array(data.draw(st.lists(st.booleans(), min_size=len(member), max_size=len(member))), dtype=bool)
    facts = CandidateFacts(
        np.arange(len(member), dtype=np.int32),
        values=np.arange(len(member), dtype=np.int32)[:, None] // 3,
        promotions=(Promoted("p", least * most, most, member),),
        fresh=(Fresh("new", frozenset((0, 3)), fresh),),
    )
    score = np.arange(len(member), 0, -1).astype(np.float32)
    frame = FeatureFrame((), np.empty((len(member), 0), dtype=np.float32))
    rules = Arrangement((), Diversity(attribute="b", weight=0.5))
    query = asked(size, data.draw(st.integers(0, 2**63 - 1)))
    found = rules.select(data.draw(st.sampled_from(SELECTORS)), query, frame, score, facts)
    others = len(member) - int(member.sum())
    assert len(found.chosen) == longest(int(member.sum()), others, most, size)


@pytest.mark.parametrize("selector", SELECTORS[::2], ids=repr)
def test_a_pin_that_moves_up_makes_room_for_a_promotion_behind_it(selector) -> None:
    """One other and four promoted, a half at most: each of three pins of others lets one more of these come."""
    facts = CandidateFacts(
        np.arange(8, dtype=np.int32),
        promotions=(Promoted("p", 0.0, 0.5, np.arange(8) >= 4),),
        pins={9: (1, "pin"), 10: (2, "pin"), 11: (3, "pin")},
    )
    frame, score = FeatureFrame((), np.empty((8, 0), dtype=np.float32)), np.arange(8, 0, -1).astype(np.float32)
    found = Arrangement().select(selector, asked(12), frame, score, facts)
    is_promoted = (found.chosen >= 4).astype(int).tolist()
    assert is_promoted == [0, 1, 1, 0, 1, 0, 1, 0]
    moved = (Trace("pin", 1, 3, "moved"), Trace("pin", 2, 5, "moved"), Trace("pin", 3, 7, "moved"))
    assert found.traces == moved


def test_a_pin_behind_one_that_moved_up_stands_at_its_position_where_the_slate_gets_there() -> None:
    """The first pin comes where nobody else may, which lets others come up to the second."""
    facts = CandidateFacts(
        np.arange(8, dtype=np.int32),
        promotions=(Promoted("p", 0.0, 0.5, np.arange(8) >= 3),),
        pins={4: (1, "pin"), 5: (2, "pin")},
    )
    frame, score = FeatureFrame((), np.empty((8, 0), dtype=np.float32)), np.arange(8, 0, -1).astype(np.float32)
    found = Arrangement().select(TopK(), asked(8), frame, score, facts)
    assert found.chosen.tolist() == [0, 3, 4, 1, 5, 2, 6]
    assert found.traces[:2] == (Trace("pin", 1, 3, "moved"), Trace("pin", 2, 5, "pinned"))
