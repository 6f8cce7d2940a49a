"""Credit by pairs, votes and later outcomes, against dictionaries."""

from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.interleaving.credit import (
    DraftedPlaces,
    Later,
    Shown,
    attributed,
    pair_differences,
    sign_of,
    votes_of,
)
from midstream.experiments.interleaving import CHANCES, draft_of, pairs_of

SMALL = st.integers(0, 3)


def numbers(values):
    """A column of whole numbers."""
    return np.array(values, dtype=np.int64)


def drafted_places(seed, slates, rankings):
    """Places of drafted slates of some users, with clicks by dice, in any order."""
    rng = np.random.default_rng(seed)
    rows = []
    for slate in range(slates):
        draft = draft_of(rankings, rng.random((7, CHANCES)))
        pair = pairs_of(draft.team, draft.begins, len(rankings))
        rows += [
            (slate % 5, slate, team, number, rng.integers(0, 3)) for team, number in zip(draft.team, pair, strict=True)
        ]
    rng.shuffle(rows)
    user, slate, team, pair, credit = zip(*rows, strict=True)  # type: ignore[assignment]  # the columns
    return DraftedPlaces(
        numbers(user), numbers(slate), np.array(team, np.int8), np.array(pair, np.int32), np.array(credit, np.float64)
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_pair_is_worth_the_difference_of_its_two_places(seed, slates):
    """Places of nobody and of broken rounds do not count."""
    places = drafted_places(seed, slates, [[0, 1, 2, 3, 4], [0, 5, 2, 1, 6]])
    expected: defaultdict[Any, float] = defaultdict(float)
    for user, slate, team, pair, credit in zip(
        places.user, places.slate, places.team, places.pair, places.credit, strict=True
    ):
        if pair >= 0:
            expected[slate, pair, user] += credit * (1 if team == 0 else -1)
    difference, whose = pair_differences(places)
    assert sorted(zip(difference, whose, strict=True)) == sorted((worth, key[2]) for key, worth in expected.items())
    mirrored, _ = pair_differences(places, 1, 0)
    np.testing.assert_array_equal(mirrored, -difference)


@given(st.lists(st.tuples(SMALL, st.sampled_from([-2.0, -1.0, 0.0, 1.0, 0.5]))))
def test_a_vote_is_the_sign_of_all_credit_of_a_user(rows):
    """Users without credit have none, ties are votes."""
    expected = defaultdict(list)
    for user, worth in rows:
        if worth:
            expected[user].append(worth)
    users, vote = votes_of(numbers([user for user, _ in rows]), np.array([worth for _, worth in rows]))
    assert dict(zip(users, vote, strict=True)) == {user: np.sign(sum(each)) for user, each in expected.items()}


@given(
    st.lists(st.tuples(SMALL, SMALL, st.integers(0, 20), st.sampled_from([1, 0, -1]))),
    st.lists(st.tuples(SMALL, SMALL, st.integers(0, 30))),
    st.integers(0, 15),
)
def test_a_later_outcome_goes_to_the_team_that_showed_its_item_more_often(shown, later, window_ms):
    """To the same user, before it, within the window, ends included."""
    columns = [numbers([row[column] for row in shown]) for column in range(3)]
    sign, was_shown = attributed(
        Shown(columns[0], columns[1], columns[2], np.array([row[3] for row in shown], np.int8)),
        Later(*(numbers([row[column] for row in later]) for column in range(3))),
        window_ms,
    )
    for row, (user, item, time_ms) in enumerate(later):
        counted = [
            each for whose, what, when, each in shown
            if (whose, what) == (user, item) and time_ms - window_ms <= when <= time_ms
        ]  # fmt: skip
        assert (sign[row], was_shown[row]) == (np.sign(sum(counted)), bool(counted))


def test_signs_are_of_two_teams_of_several():
    """The others are nobody."""
    team = np.array([0, 1, 2, -1], dtype=np.int8)
    assert sign_of(team).tolist() == [1, -1, 0, 0]
    assert sign_of(team, 2, 0).tolist() == [-1, 0, 1, 0]
