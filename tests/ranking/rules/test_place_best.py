"""The short ways to a slate of which nothing is drawn: what all rules together come to, to the bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Index, Query, Selection, TimestampMs
from midstream.ranking.rules import arrangement, place_kernel, place_whole
from midstream.ranking.rules.arrangement import Arrangement
from midstream.ranking.rules.boost import Boosted
from midstream.ranking.rules.cap import Cap
from midstream.ranking.rules.diversity import Diversity
from midstream.ranking.rules.new_items import Fresh
from midstream.ranking.rules.place_best import Best
from midstream.ranking.rules.place_whole import is_plain, placed
from midstream.ranking.rules.promote import Promoted
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.rules.slate_candidates import Lineup
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK


def asked(size: int) -> Query:
    """A request for a slate of this size."""
    return Query("r", "home", None, None, size, TimestampMs(0), 1)


def frame_of(count: int) -> FeatureFrame:
    """No feature of so many candidates."""
    return FeatureFrame((), np.empty((count, 0), dtype=np.float32))


def case_of(seed: int) -> tuple[Arrangement, CandidateFacts, np.ndarray]:
    """Caps, some over a time, likeness by a value, pins and boosts over candidates of which some are worth the same."""
    dice = np.random.default_rng(seed)
    count = int(dice.integers(1, 160))
    score = dice.choice(dice.normal(0, 1, 1 + int(dice.integers(60))), count).astype(np.float32)
    score[dice.random(count) < 0.1] = np.nan
    values = dice.integers(-1, int(dice.integers(1, 15)), (count, 1)).astype(np.int32)
    tags = dice.integers(-1, 12, (count, 2)).astype(np.int32)
    has = dice.random(6) < 0.6
    caps: list[tuple[Cap, Index, dict[int, int]]] = []
    if has[0]:
        caps.append((Cap(attribute="a", max=int(dice.integers(1, 6))), values, {}))
    if has[5]:
        others = dice.integers(-1, 9, (count, 1)).astype(np.int32)
        caps.insert(0, (Cap(attribute="c", max=int(dice.integers(1, 6))), others, {}))
    if has[1]:
        caps.append((Cap(attribute="t", max=9), tags, {int(value): 7 for value in dice.integers(0, 12, 3)}))
    places, rows = dice.permutation(30)[:4].tolist(), dice.permutation(count)[:4].tolist()
    weight = float(dice.choice([1e-17, 0.1, 0.3, 1.0]))
    rules = Arrangement(tuple(cap for cap, _, _ in caps), Diversity(attribute="b", weight=weight) if has[2] else None)
    facts = CandidateFacts(
        np.arange(count, dtype=np.int32),
        tuple(codes for _, codes, _ in caps),
        values if has[2] else None,
        boosts=tuple(Boosted(f"by {by}", by, dice.random(count) < 0.2) for by in (3.0, 0.1) if has[3]),
        pins={place: (row, "pin") for place, row in zip(places, rows, strict=False)} if has[4] else {},
        before=tuple(before for _, _, before in caps),
    )
    return rules, facts, score


@settings(max_examples=600)
@given(st.integers(0, 2**32 - 1), st.integers(1, 130))
def test_it_is_what_all_rules_come_to(seed, size) -> None:
    """Beside a promotion that asks nothing the long way is gone: the same rows, propensities and traces, in order."""
    rules, facts, score = case_of(seed)
    idle = (Promoted("none", 0.0, 1.0, np.zeros(len(score), dtype=np.bool_)),)
    found, other = (
        rules.select(TopK(), asked(size), frame_of(len(score)), score, each)
        for each in (facts, replace(facts, promotions=idle))
    )
    assert found.chosen.tolist() == other.chosen.tolist()
    assert found.chosen.dtype == other.chosen.dtype
    assert found.propensity.tobytes() == other.propensity.tobytes()
    assert found.traces == other.traces


@pytest.mark.parametrize(
    "selector, method, width, added, is_short",
    [
        (TopK(), "mmr", 1, {}, True),
        (TopK(), "mmr", 2, {}, False),
        (TopK(), "dpp", 1, {}, False),
        (PlackettLuce(), "mmr", 1, {}, False),
        (TopK(), "mmr", 1, {"promotions": (Promoted("p", 0.0, 1.0, np.zeros(9, dtype=np.bool_)),)}, False),
        (TopK(), "mmr", 1, {"fresh": (Fresh("n", frozenset((0,)), np.ones(9, dtype=np.bool_)),)}, False),
    ],
)
def test_it_is_gone_where_it_is_enough(selector, method, width, added, is_short, monkeypatch) -> None:
    """By one value of each, by mmr, with nothing drawn, and with no rule that gives places away."""
    made = list[Best]()

    def short(lineup: Lineup) -> Best:
        made.append(Best(lineup))
        return made[-1]

    monkeypatch.setattr(arrangement, "Best", short)
    monkeypatch.setattr(arrangement, "is_plain", lambda *_: False)
    codes = np.arange(9, dtype=np.int32)[:, None].repeat(width, axis=1)
    facts = CandidateFacts(np.arange(9, dtype=np.int32), values=codes, **added)
    rules = Arrangement((), Diversity(attribute="b", method=method))
    rules.select(selector, asked(3), frame_of(9), np.arange(9, dtype=np.float32), facts)
    assert bool(made) is is_short


@pytest.mark.parametrize(
    "method, width, pins, before, size, is_whole",
    [
        ("mmr", 1, {}, {}, 3, True),
        ("mmr", 2, {}, {}, 3, False),
        ("dpp", 1, {}, {}, 3, False),
        ("mmr", 1, {0: (1, "p")}, {}, 3, False),
        ("mmr", 1, {}, {4: 1}, 3, False),
        ("mmr", 1, {}, {}, 101, False),
    ],
)
def test_one_kernel_fills_slates_of_one_value_a_candidate(
    method, width, pins, before, size, is_whole, monkeypatch
) -> None:
    """Not with pins, with tags, with what was served before, nor behind the positions that are decided one by one."""
    made = list[int]()

    def whole(*arguments: object) -> Selection:
        made.append(1)
        return placed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(arrangement, "placed", whole)
    codes = np.arange(9, dtype=np.int32)[:, None].repeat(width, axis=1)
    facts = CandidateFacts(np.arange(9, dtype=np.int32), (codes,), codes, pins=pins, before=(before,))
    rules = Arrangement((Cap(attribute="b", max=2),), Diversity(attribute="b", method=method))
    rules.select(TopK(), asked(size), frame_of(9), np.arange(9, dtype=np.float32), facts)
    assert bool(made) is is_whole


def test_the_kernel_stays_within_its_arrays(monkeypatch) -> None:
    """As plain functions, in which a wrong index is an error, its functions choose the same."""
    whole = 0
    for seed in range(60):
        rules, facts, score = case_of(seed)
        if not is_plain(facts, rules.diversity):
            continue
        whole += 1
        found = rules.select(TopK(), asked(20), frame_of(len(score)), score, facts)
        with monkeypatch.context() as plain:
            for name in ("is_like_above", "close_full", "place_all"):
                plain.setattr(place_kernel, name, getattr(place_kernel, name).py_func)
            plain.setattr(place_whole, "place_all", place_kernel.place_all)
            other = rules.select(TopK(), asked(20), frame_of(len(score)), score, facts)
        assert found.chosen.tolist() == other.chosen.tolist()
        assert found.traces == other.traces
    assert whole > 5
