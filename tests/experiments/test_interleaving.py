"""Drafts of rankings: the published examples, and every propensity against all coins, rankings and hidden teams."""

from collections import Counter, defaultdict
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.experiments.interleaving import (
    CHANCES,
    NOBODY,
    TEAMS_MAX,
    draft_of,
    listed,
    pairs_of,
    team_draft,
)

ONE_BY_ONE = st.lists(st.permutations(range(6)).map(lambda rows: rows[:4]), min_size=1, max_size=3)


def chances(places, seed=0):
    """Uniform numbers for a draft."""
    return np.random.default_rng(seed).random((places, CHANCES))


def outcomes(rankings, places):
    """Probability of each drafted sequence of (row, team, begins) over all coins, by a walk through the tree of picks.

    Written from the rules alone: who has picked in the round is known, nothing is marginalised.
    """
    found = Counter[Any]()

    def walk(made, picked, weight):
        taken = {row for row, _, _ in made}
        best = {team: next((row for row in rows if row not in taken), None) for team, rows in enumerate(rankings)}
        active = {team: row for team, row in best.items() if row is not None}
        if len(made) == places or not active:
            found[tuple(made)] += weight
            return
        turn = [team for team in active if team not in picked]
        begins = not turn or not picked
        turn, picked = (list(active), set()) if begins else (turn, picked)
        if begins and len(active) > 1 and len(set(active.values())) == 1:
            walk([*made, (active[turn[0]], NOBODY, True)], set(), weight)
            return
        for team in turn:
            walk([*made, (active[team], team, begins)], picked | {team}, weight / len(turn))

    walk([], set(), Fraction(1))
    return found


def below(found):
    """Probability of each beginning of the rows, whoever picked them."""
    sums: defaultdict[Any, Fraction] = defaultdict(Fraction)
    for made, weight in found.items():
        rows = tuple(row for row, _, _ in made)
        for stop in range(len(rows) + 1):
            sums[rows[:stop]] += weight
    return sums


def drawn(rankings, places, coins=(0.25, 0.75)):
    """Rows of the drafts over all equal coins."""
    return Counter(
        tuple(draft_of(rankings, np.array([(coin, 0.5, 0.5) for coin in each])).chosen.tolist())
        for each in product(coins, repeat=places)
    )


@pytest.mark.parametrize(
    "rankings, places, expected",
    [
        ([[1, 2], [2, 3]], 2, {(1, 2), (2, 1)}),
        ([[1, 2], [2, 3]], 3, {(1, 2, 3), (2, 1, 3)}),
        ([[1, 2], [2, 3]], 4, {(1, 2, 3), (2, 1, 3)}),
        ([[1, 2], [3, 4]], 2, {(1, 3), (3, 1)}),
        ([[1, 2], [3, 4]], 3, {(1, 3, 2), (1, 3, 4), (3, 1, 2), (3, 1, 4)}),
    ],
)
def test_two_rankings_are_drafted_as_published(rankings, places, expected):
    """Each of the results is as likely as the others (mpkato/interleaving, tests/test_team_draft.py)."""
    found = drawn(rankings, places)
    assert found.keys() == expected
    assert len(set(found.values())) == 1


@pytest.mark.parametrize(
    "rankings, expected",
    [
        ([[1, 2], [2, 3], [3, 4]], {(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)}),
        ([[1, 2], [3, 4], [5, 6]], {(1, 3), (1, 5), (3, 1), (3, 5), (5, 1), (5, 3)}),
    ],
)
def test_several_rankings_are_drafted_as_published(rankings, expected):
    """The first places of three teams (mpkato/interleaving, tests/test_team_draft.py)."""
    assert drawn(rankings, 2, (1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12)).keys() == expected


@given(ONE_BY_ONE, st.integers(0, 2**32 - 1))
@example([[0, 1, 2, 3], [0, 1, 2, 3]], 0)
@example([[0, 1, 2, 3], [0, 2, 1, 4], [0, 1, 4, 5]], 1)
@example([[0], [0, 1, 2, 3]], 2)
def test_a_propensity_is_the_share_of_all_coins(rankings, seed):
    """P(row here given the rows above), with the teams of those unknown, exact to rounding."""
    found = outcomes(rankings, 6)
    sums = below(found)
    draft = draft_of(rankings, chances(6, seed))
    made = tuple(zip(draft.chosen.tolist(), draft.team.tolist(), draft.begins.tolist(), strict=True))
    assert made in found
    rows = tuple(draft.chosen.tolist())
    expected = [float(sums[rows[: place + 1]] / sums[rows[:place]]) for place in range(len(rows))]
    np.testing.assert_allclose(draft.propensity, expected, rtol=1e-12)


def luce(weights):
    """A team whose rankings are drawn by weights (Plackett-Luce): what is left keeps its proportions."""

    def following(taken):
        left = {row: weight for row, weight in weights.items() if row not in taken}
        whole = sum(left.values())
        return {row: weight / whole for row, weight in left.items()}

    return following


def rankings_of(weights):
    """Each ranking that weights draw, with its probability."""
    for rows in permutations(weights):
        probability, left = 1.0, sum(weights.values())
        for row in rows:
            probability *= weights[row] / left
            left -= weights[row]
        yield rows, probability


@pytest.mark.parametrize(
    "teams", [({0: 3.0, 1: 2.0, 2: 1.0}, {0: 1.0, 2: 4.0, 3: 2.0}), ({0: 5.0, 1: 1.0}, {0: 5.0, 1: 2.0, 2: 0.5})]
)
def test_drawn_rankings_are_part_of_the_propensity(teams):
    """As if both rankings were drawn whole and then drafted: over all rankings of both teams and all coins."""
    sums: defaultdict[Any, float] = defaultdict(float)
    for first, second in product(rankings_of(teams[0]), rankings_of(teams[1])):
        for rows, weight in below(outcomes([first[0], second[0]], 4)).items():
            sums[rows] += float(weight) * first[1] * second[1]
    seen = set()
    for seed in range(200):
        draft = team_draft([luce(each) for each in teams], chances(4, seed))
        rows = tuple(draft.chosen.tolist())
        seen.add(rows)
        expected = [sums[rows[: place + 1]] / sums[rows[:place]] for place in range(len(rows))]
        np.testing.assert_allclose(draft.propensity, expected, rtol=1e-9)
    assert len(seen) >= 5


@pytest.mark.parametrize(
    "teams",
    [
        [[0, 1, 2], [2, 0, 3]],
        [[0, 1], [0, 2], [3, 0]],
        [[0, 1, 2], [0, 1, 3]],
        [{0: 3.0, 1: 1.0}, {0: 3.0, 1: 2.0, 2: 1.0}],
        [[0, 1, 2], {0: 1.0, 2: 1.0, 3: 2.0}],
    ],
)
def test_drafts_come_as_often_as_their_propensities_say(teams):
    """10,000 drafts of 4 places: the frequency of each is the product of its propensities."""
    count = 10_000
    uniform = np.random.default_rng(7).random((count, 4, CHANCES))
    often, product_of = Counter[Any](), dict[Any, Any]()
    for each in uniform:
        draft = team_draft([listed(team) if isinstance(team, list) else luce(team) for team in teams], each)
        rows = tuple(draft.chosen.tolist())
        often[rows] += 1
        product_of[rows] = float(np.prod(draft.propensity))
    assert sum(product_of.values()) == pytest.approx(1.0)
    for rows, times in often.items():
        expected = product_of[rows]
        assert abs(times / count - expected) < 5 * np.sqrt(expected / count)


def test_what_both_would_have_picked_is_nobodys():
    """A shared beginning, and a shared item behind a whole round."""
    rankings = [[7, 1, 2, 9, 3], [7, 2, 1, 9, 4]]
    for seed in range(20):
        draft = draft_of(rankings, chances(6, seed))
        assert draft.chosen[[0, 3]].tolist() == [7, 9]
        assert draft.team[[0, 3]].tolist() == [NOBODY, NOBODY]
        assert draft.propensity[[0, 3]].tolist() == [1.0, 1.0]
        assert sorted(draft.team[[1, 2]].tolist()) == sorted(draft.team[[4, 5]].tolist()) == [0, 1]
        assert pairs_of(draft.team, draft.begins, 2).tolist() == [-1, 0, 0, -1, 1, 1]


@given(ONE_BY_ONE, st.integers(0, 2**32 - 1), st.lists(st.integers(1, 3), min_size=6))
def test_pages_are_pieces_of_one_draft(rankings, seed, sizes):
    """A shorter draft is the beginning of a longer one, no row comes twice, and pairs are those of whole rounds."""
    uniform = chances(6, seed)
    whole = draft_of(rankings, uniform)
    assert len(set(whole.chosen.tolist())) == len(whole) == min(6, len({row for rows in rankings for row in rows}))
    short = draft_of(rankings, uniform[:3])
    for name in ("chosen", "team", "begins", "propensity"):
        np.testing.assert_array_equal(getattr(short, name), getattr(whole, name)[:3])
    rounds = np.cumsum(whole.begins)
    start = 0
    for size in sizes:
        page = slice(start, start + size)
        numbers = pairs_of(whole.team[page], whole.begins[page], len(rankings))
        for number in set(numbers.tolist()) - {-1}:
            places = np.flatnonzero(numbers == number) + start
            assert sorted(whole.team[places].tolist()) == list(range(len(rankings)))
            assert len(set(rounds[places].tolist())) == 1
        start += size


def test_a_pair_over_two_pages_is_no_pair_of_either():
    """The second page begins with the answer to a pick of the first."""
    draft = draft_of([[0, 1, 2], [3, 4, 5]], chances(6, 3))
    assert pairs_of(draft.team, draft.begins, 2).tolist() == [0, 0, 1, 1, 2, 2]
    assert pairs_of(draft.team[:3], draft.begins[:3], 2).tolist() == [0, 0, -1]
    assert pairs_of(draft.team[3:], draft.begins[3:], 2).tolist() == [-1, 0, 0]
    assert pairs_of(draft.team[:0], draft.begins[:0], 2).tolist() == []


def test_a_team_without_items_waits_for_nobody():
    """The rest is the other team's, in no pair."""
    draft = draft_of([[0], [1, 2, 3]], chances(4, 5))
    assert sorted(draft.chosen[:2].tolist()) == [0, 1]
    assert draft.chosen[2:].tolist() == [2, 3]
    assert pairs_of(draft.team, draft.begins, 2).tolist() == [0, 0, -1, -1]
    assert draft.propensity.tolist() == [0.5, 1.0, 1.0, 1.0]


def test_bounds_are_refused():
    """No team, too many teams, random numbers of another shape."""
    with pytest.raises(ValueError, match="0 teams"):
        team_draft([], chances(3))
    with pytest.raises(ValueError, match=f"1 to {TEAMS_MAX}"):
        team_draft([listed([0])] * (TEAMS_MAX + 1), chances(3))
    with pytest.raises(ValueError, match="places, 3"):
        draft_of([[0]], np.zeros((3, 2)))
