"""Drafted slates of real answers: teams in the record and on every page, propensities over coins and rankings."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import FeatureFrame, Fetched
from midstream.experiments.interleaving import NOBODY, pairs_of
from midstream.ranking.drafted_slate import ROUND, Side, drafted, drawn, teams_in
from midstream.ranking.pipeline import recommend
from midstream.ranking.record.continuation import query_on, read_on
from midstream.ranking.record.served import decode_served, encode_served
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK
from tests.ranking.test_pipeline import Fixed, plan_of, shop_of

NAMES = ("home@a", "home@b")
SHOP = shop_of(30)
NO_FEATURES = FeatureFrame((), np.empty((30, 0), dtype=np.float32))


def plans(first, second, selectors=()):
    """Two placements that rank some items each."""
    return [
        replace(plan_of((Fixed("own", tuple(items)),), floor=(), selectors=selectors), name=name)
        for name, items in zip(NAMES, (first, second), strict=True)
    ]


def answered(plan, query):
    """One placement's answer."""
    return asyncio.run(recommend(plan, SHOP.moment, replace(query, placement=plan.name), lambda: math.inf))


def query_of(**changes):
    """A question for a draft."""
    return replace(SHOP.query(), placement="home", user_id="ann", **changes)


def draft_of(first, second, **changes):
    """The draft of two fixed rankings."""
    query = query_of(**changes)
    return drafted(query, "c0ffee", [Side(plan.name, answered(plan, query)) for plan in plans(first, second)])


def ids_of(served):
    """Ids of a slate and of the order behind it."""
    rows = served.selection.chosen.tolist() + ([] if served.order is None else served.order.chosen.tolist())
    return SHOP.ids(served.candidates.item_index[rows].tolist())


def logged(served):
    """The record as it is read from the log."""
    return decode_served(encode_served(served, ids_of(served)))


def test_teams_are_in_the_record():
    """What both would pick is nobody's, each other item its team's; scores are those of the team."""
    served = draft_of([5, 1, 2, 3], [5, 6, 7, 8], slate_size=5, seed=3)
    record = logged(served)
    team, begins = teams_in(record.items, NAMES)
    assert record.items[0].id == "i5"
    assert team[0] == NOBODY
    own = {"i1": 0, "i2": 0, "i3": 0, "i6": 1, "i7": 1, "i8": 1}
    assert [own[item.id] for item in record.items[1:]] == team[1:].tolist()
    assert pairs_of(team, begins, 2).tolist() == [-1, 0, 0, 1, 1]
    assert record.retrieved.keys() == set(NAMES)
    assert (record.retrieved_count, record.removed) == (record.candidate_count, {})
    assert [item.propensity for item in record.items] == [1.0, 0.5, 1.0, 0.5, 1.0]
    assert record.source_names == (*NAMES, ROUND)
    assert record.items[0].sources == (*NAMES, ROUND)
    assert {len(item.sources) for item in record.items[1:]} == {1, 2}


def test_an_item_has_the_score_of_its_team():
    """Where both rank an item, that of the one that drafted it; of nobody's item that of the first."""
    served = draft_of([5, 1, 2, 3, 6], [5, 3, 6, 1, 7, 8], slate_size=5, seed=3)
    record = logged(served)
    team, _ = teams_in(record.items, NAMES)
    assert {-1, 0, 1} == set(team.tolist())
    sides = [answered(plan, served.query) for plan in plans([5, 1, 2, 3, 6], [5, 3, 6, 1, 7, 8])]
    for item, number in zip(record.items, team.tolist(), strict=True):
        side = sides[max(0, number)]
        row = np.flatnonzero(side.candidates.item_index == SHOP.fold.vocabulary.item_index(item.id))[0]
        assert item.score == side.score[row]


def test_one_seed_is_one_draft_and_all_seeds_are_all():
    """A rerun gives the same; another seed tosses other coins, evenly."""
    slates = Counter(tuple(ids_of(draft_of([1, 2], [3, 4], slate_size=3, seed=seed))) for seed in range(200))
    assert tuple(ids_of(draft_of([1, 2], [3, 4], slate_size=3, seed=9))) in slates
    assert ids_of(draft_of([1, 2], [3, 4], slate_size=3, seed=9)) == ids_of(
        draft_of([1, 2], [3, 4], slate_size=3, seed=9)
    )
    expected = {("i1", "i3", "i2"), ("i1", "i3", "i4"), ("i3", "i1", "i2"), ("i3", "i1", "i4")}
    assert slates.keys() == expected
    assert all(30 < count < 70 for count in slates.values())


rankings = st.lists(st.integers(0, 29), unique=True, min_size=1, max_size=12)


@given(rankings, rankings, st.integers(1, 6), st.integers(0, 99))
def test_pages_continue_the_draft(first, second, size, seed):
    """Pages that are read from the logged order give each drafted item once, with the teams of the whole draft."""
    served = draft_of(first, second, slate_size=size, seed=seed, order_max=20)
    whole = logged(served)
    parts = [whole.items, *whole.order]
    teams = [teams_in(part, NAMES) for part in parts]
    items, turn = list(whole.items), 1
    plan = plans(first, second)[0]
    while turn <= len(whole.order):
        asked = replace(whole.query, request_id=f"page{turn}")
        found = read_on(plan, SHOP.moment, query_on(whole, asked, turn, len(items)), whole)
        page = logged(found.served)
        for got, expected in zip(teams_in(page.items, NAMES), teams[turn], strict=True):
            np.testing.assert_array_equal(got, expected)
        items += page.items
        turn = found.turn
    assert [item.id for item in items] == ids_of(served)
    assert len({item.id for item in items}) == len(items) == min(20, max(size, 20), 30)
    team, begins = teams_in(items, NAMES)
    counts = np.bincount(team[team >= 0], minlength=2)
    assert abs(int(counts[0]) - int(counts[1])) <= 1
    assert begins[0]


def test_selectors_that_draw_are_part_of_the_propensity():
    """Plackett-Luce of both placements: frequencies of slates are products of propensities, over rankings and coins."""
    selector = PlackettLuce(temperature=1.0, pool=5)
    query = query_of(slate_size=2)
    sides = []
    for plan in plans([1, 2, 3], [3, 4, 5]):
        served = answered(plan, query)
        frame = FeatureFrame((), np.empty((len(served.candidates), 0), dtype=np.float32))
        sides.append(Side(plan.name, served, drawn(selector, frame, served.score)))
    often, chance = Counter[Any](), dict[Any, Any]()
    for seed in range(1_000):
        served = drafted(replace(query, seed=seed), "c0ffee", sides)
        slate = tuple(ids_of(served))
        often[slate] += 1
        chance[slate] = float(np.prod(served.selection.propensity))
    assert len(often) > 12
    for slate, count in often.items():
        assert abs(count / 1_000 - chance[slate]) < 5 * math.sqrt(chance[slate] / 1_000)


@pytest.mark.parametrize("selector", [TopK(), PlackettLuce(keep=2), EpsilonGreedy(keep=2, epsilon=1.0)])
def test_kept_places_are_the_best_of_a_team(selector):
    """Of a selector that keeps two places, the first two items are those of the fixed rankings."""
    query = query_of(slate_size=2)
    fixed = [Side(plan.name, answered(plan, query)) for plan in plans([1, 2, 3], [4, 5, 6])]
    for seed in range(20):
        asked = replace(query, seed=seed)
        frames = [FeatureFrame((), np.empty((len(each.served.candidates), 0), np.float32)) for each in fixed]
        kept = [
            replace(each, ranker=drawn(selector, frame, each.served.score))
            for each, frame in zip(fixed, frames, strict=True)
        ]
        assert ids_of(drafted(asked, "c0ffee", kept)) == ids_of(drafted(asked, "c0ffee", fixed))


def test_what_a_draft_cannot_record_is_refused():
    """By the name of the placement and of what it has."""
    query = query_of(slate_size=3)
    one, other = (Side(plan.name, answered(plan, query)) for plan in plans([1, 2], [3, 4]))

    def refused(**changes):
        with pytest.raises(ValueError, match="home@b has") as caught:
            drafted(query, "c0ffee", [one, replace(other, served=replace(other.served, **changes))])
        return str(caught.value)

    assert "another log position" in refused(log_position=7)
    assert "another fold version" in refused(fold_version="else")
    assert "fetched columns" in refused(fetched=Fetched(context={"age": 3.0}))
    assert "items of the caller" in refused(query=replace(other.served.query, given=("i1",)))
    half = replace(other.served.selection, propensity=np.full(3, 0.5, dtype=np.float32))
    assert "a drawn ranking" in refused(selection=half)


def test_failures_are_named_by_their_placement():
    """So that a rerun leaves each out where it failed; the slate is as reduced as the worse one."""
    query = query_of(slate_size=3)
    plan, broken = plans([1, 2], [3, 4])
    broken = replace(broken, sources=(*broken.sources, Fixed("gone", error=OSError("no"))))
    served = drafted(query, "c0ffee", [Side(each.name, answered(each, query)) for each in (plan, broken)])
    assert [each.component for each in served.failures] == ["home@b.gone"]
    assert served.tier == "reduced"
    assert logged(served).tier == "reduced"
