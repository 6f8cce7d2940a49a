"""Slates of more places than rules decide: the first as in a slate of these, what follows in order of worth."""

import asyncio
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.schema import Config, ItemsSection, Placement
from midstream.app.wiring import plans
from midstream.core.types import FeatureFrame, Query, TimestampMs
from midstream.ranking.explain.rerun import rerun
from midstream.ranking.pipeline import recommend
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.rules.arrangement import DECIDED_MAX, Arrangement
from midstream.ranking.rules.boost import Boost, Boosted, worth_of
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity, Likest, Volume
from midstream.ranking.rules.new_items import Fresh
from midstream.ranking.rules.promote import Promoted, Shares
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.rules.traces import pack_traces
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK
from tests.ranking.test_pipeline import plan_of, shop_of, slate
from tests.support.frozen_shop import SMALL

SELECTORS = (TopK(), PlackettLuce(temperature=0.7, pool=1_000), EpsilonGreedy(epsilon=0.5, keep=2, pool=1_000))
LONG = 130
"""Places, of up to 150 candidates."""


def asked(size: int, seed: int = 0) -> Query:
    """A request for a slate of this size."""
    return Query("r", "home", None, None, size, TimestampMs(0), seed)


def case_of(seed: int) -> tuple[Arrangement, CandidateFacts, np.ndarray]:
    """Every rule but some, over candidates of which some have no score."""
    dice = np.random.default_rng(seed)
    count = int(dice.integers(90, 151))
    score = dice.standard_normal(count).astype(np.float32)
    score[dice.random(count) < 0.03] = np.nan
    codes = dice.integers(-1, 40, (count, 1)).astype(np.int32)
    members = [dice.random(count) < share for share in (0.2, 0.1, 0.1)]
    has = dice.random(5) < 0.6
    rules = Arrangement(
        (Cap(attribute="a", max=int(dice.integers(1, 5))),) if has[0] else (),
        Diversity(attribute="b", weight=0.8, method=("mmr", "dpp")[seed % 2]) if has[1] else None,
    )
    facts = CandidateFacts(
        np.arange(count, dtype=np.int32),
        (codes,) if has[0] else (),
        (codes // 4).astype(np.int32) if has[1] else None,
        boosts=(Boosted("boost", 3.0, members[0]),) if has[2] else (),
        promotions=(Promoted("promote", 0.3, 0.6, members[1]),) if has[3] else (),
        fresh=(Fresh("new", frozenset((5, 50)), members[2]),),
        pins={7: (int(dice.integers(count)), "pin")} if has[4] else {},
    )
    return rules, facts, score


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.sampled_from(SELECTORS))
def test_what_follows_the_decided_places_is_in_order_of_worth(case, seed, selector):
    """The first are those of a slate of as many places; behind them caps hold, and nothing is left to chance or out."""
    rules, facts, score = case_of(case)
    frame = FeatureFrame((), np.empty((len(score), 0), dtype=np.float32))
    first = rules.select(selector, asked(DECIDED_MAX, seed), frame, score, facts)
    whole = rules.select(selector, asked(LONG, seed), frame, score, facts)
    chosen = whole.chosen.tolist()
    assert chosen[: len(first.chosen)] == first.chosen.tolist()
    assert whole.propensity[: len(first.chosen)].tobytes() == first.propensity.tobytes()
    assert len(set(chosen)) == len(chosen) <= LONG
    if len(first.chosen) < DECIDED_MAX:
        assert len(chosen) == len(first.chosen)
        return
    counts = Counter(value for row in chosen[:DECIDED_MAX] for value in (facts.capped[0][row] if rules.caps else ()))
    most = rules.caps[0].max if rules.caps else 0
    worth = worth_of(score, facts.boosts)
    behind: list[int] = []
    for row in np.argsort(-worth, kind="stable").tolist():
        value = int(facts.capped[0][row, 0]) if rules.caps else -1
        if row in chosen[:DECIDED_MAX] or not np.isfinite(score[row]) or (value >= 0 and counts[value] >= most):
            continue
        counts[value] += 1
        behind.append(row)
    assert chosen[DECIDED_MAX:] == behind[: LONG - DECIDED_MAX]
    assert set(whole.propensity[DECIDED_MAX:].tolist()) <= {1.0}


def test_a_pin_behind_the_decided_places_stands_there() -> None:
    """What a pin is asked for does not depend on how the other places are filled."""
    score = np.linspace(1, 0, 150, dtype=np.float32)
    frame = FeatureFrame((), np.empty((150, 0), dtype=np.float32))
    facts = CandidateFacts(np.arange(150, dtype=np.int32), pins={120: (3, "pin")})
    chosen = Arrangement().select(TopK(), asked(130), frame, score, facts).chosen.tolist()
    assert chosen == [*range(3), *range(4, 121), 3, *range(121, 130)]


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_more_pins_than_decided_places_move_up_beside_diversity(method) -> None:
    """Nobody else may come, so that all of them stand before their positions; likeness counts for none of them."""
    facts = CandidateFacts(
        np.arange(120, dtype=np.int32),
        values=np.zeros((120, 1), dtype=np.int32),
        pins={150 + row: (row, "pin") for row in range(120)},
    )
    frame = FeatureFrame((), np.empty((120, 0), dtype=np.float32))
    rules = Arrangement((), Diversity(attribute="b", method=method))
    found = rules.select(TopK(), asked(300), frame, np.full(120, np.nan, dtype=np.float32), facts)
    assert found.chosen.tolist() == list(range(120))
    assert {each.what for each in found.traces} == {"moved"}


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_no_more_places_are_looked_through_than_are_decided(method, monkeypatch) -> None:
    """The work of a slate of 1,000 is that of its decided places, whatever its rules."""
    looks = Counter[str]()

    def counting(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def counted(*args: object) -> object:
            looks[name] += 1
            return real(*args)

        monkeypatch.setattr(kind, name, counted)

    counting(Shares, "needing")
    counting(Volume if method == "dpp" else Likest, "take")
    dice = np.random.default_rng(3)
    score = dice.standard_normal(1_000).astype(np.float32)
    codes = dice.integers(0, 30, (1_000, 1)).astype(np.int32)
    facts = CandidateFacts(
        np.arange(1_000, dtype=np.int32), (), codes, promotions=(Promoted("p", 0.2, 0.9, dice.random(1_000) < 0.1),)
    )
    frame = FeatureFrame((), np.empty((1_000, 0), dtype=np.float32))
    rules = Arrangement((), Diversity(attribute="b", method=method))
    whole = rules.select(TopK(), asked(1_000), frame, score, facts)
    assert len(whole.chosen) == 1_000
    assert looks == {"needing": DECIDED_MAX, "take": DECIDED_MAX}
    assert [each for each in whole.traces if each.what in ("held", "short")] == []


def test_a_ranking_of_three_hundred_items_with_a_boost_is_logged_and_run_again() -> None:
    """Each of its positions comes back from the record, those above 254 too."""
    shop = shop_of(300)
    boost = Boost(name="odd", where='item.category == "odd"', factor=0.5)
    wired = plans(Config(items=ItemsSection(attributes=SMALL.attributes), placements=(Placement(rules=(boost,)),)))
    plan = replace(plan_of(), arrangement=wired["default"].arrangement)
    items = tuple(f"i{number}" for number in range(300))
    asking = replace(shop.query(), given=items, slate_size=300)
    served = asyncio.run(recommend(plan, shop.moment, asking, lambda: math.inf))
    ids = slate(shop, served)
    assert sorted(ids) == sorted(items)
    record = decode_served(encode_served(served, ids, pack_traces(served, shop.fold.vocabulary)))
    lifted = {each.position: each.item_id for each in record.traces}
    assert len(record.traces) == len(served.traces) == len(lifted)
    assert all(ids[place] == item for place, item in lifted.items() if place is not None)
    assert {each.position for each in served.traces} == set(lifted)
    again = asyncio.run(rerun(plan, shop.moment, record))
    assert slate(shop, again) == ids
    assert again.traces == served.traces
