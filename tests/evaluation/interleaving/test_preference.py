"""Delta and its intervals: published samples, exact small cases, and what is open or nobody's."""

import numpy as np
import pytest

from midstream.evaluation.interleaving.credit import DraftedPlaces
from midstream.evaluation.interleaving.preference import paired, preference, wins_between
from midstream.evaluation.metrics.statistics import Resampling


def votes(wins, ties, losses):
    """A column of votes."""
    return np.repeat(np.array([1, 0, -1], dtype=np.int8), (wins, ties, losses))


@pytest.mark.parametrize(
    "outcomes, expected",
    [((1, 0, 0), 0.5), ((0, 0, 1), -0.5), ((1, 0, 1), 0.0), ((1, 1, 1), 0.0), ((4, 1, 1), 0.25), ((1, 1, 4), -0.25)],
)
def test_delta_is_that_of_published_examples(outcomes, expected):
    """bearloga/interleaved-python, tests/test_utils.py."""
    assert preference(votes(*outcomes)).delta.mean == expected


def test_the_sample_in_which_the_first_is_preferred():
    """906 searches with clicks of the sample set "a": printed as 74.3 % (70.0 % to 77.9 %), twice Delta."""
    found = preference(votes(754, 71, 81), resampling=Resampling(resamples=20_000))
    assert f"{2 * found.delta.mean:.1%}" == "74.3%"
    # The printed interval is of 1,000 resamples: its own error is 0.4 points.
    assert 2 * found.delta.low == pytest.approx(0.700, abs=0.006)
    assert 2 * found.delta.high == pytest.approx(0.779, abs=0.006)
    low, high = found.anytime_delta
    assert low < found.delta.low < found.delta.high < high


@pytest.mark.parametrize("outcomes, delta, claims", [((83, 103, 720), -0.3515, True), ((395, 138, 342), 0.0303, False)])
def test_the_samples_in_which_the_second_and_neither_is_preferred(outcomes, delta, claims):
    """Sample sets "b" and "none": wins, ties and losses of their searches with clicks; only "b" shows a preference."""
    found = preference(votes(*outcomes))
    assert found.delta.mean == pytest.approx(delta, abs=5e-5)
    assert (not found.delta.low <= 0 <= found.delta.high) == claims
    assert (not found.anytime_delta[0] <= 0 <= found.anytime_delta[1]) == claims
    assert (found.anytime_share.p_value < 0.05) == claims


def test_open_votes_count_at_one_look_and_not_at_every_look():
    """A vote that may change is in Delta, and in no any-time figure."""
    vote = votes(60, 10, 20)
    settled = np.ones(90, dtype=np.bool_)
    settled[:50] = False
    found, later = preference(vote, settled), preference(vote[50:])
    assert (found.wins, found.ties, found.losses, found.open) == (60, 10, 20, 50)
    assert found.delta == preference(vote).delta
    assert (found.anytime_share, found.anytime_delta) == (later.anytime_share, later.anytime_delta)


def test_nobody_has_voted():
    """Nothing is claimed."""
    found = preference(votes(0, 0, 0))
    assert np.isnan(found.delta.mean)
    assert (found.p_value, found.anytime_delta, found.anytime_share.p_value) == (1.0, (-0.5, 0.5), 1.0)


def test_the_exact_test_is_over_wins_and_losses():
    """Of 9 wins and 1 loss: 22 of 1,024, whatever ties there are."""
    assert preference(votes(9, 30, 1)).p_value == pytest.approx(22 / 1024)


@pytest.mark.parametrize(
    "teams, clicked, expected",
    [
        ([0, 1], [0, 1], []),
        ([0, 1], [0], [(0, 1)]),
        ([0, 1], [1], [(1, 0)]),
        ([0, 1], [], []),
        ([0, 1, 1], [0, 1, 2], [(1, 0)]),
        ([0, 1, 1], [0, 1], []),
        ([0, 1, 1], [1, 2], [(1, 0)]),
        ([0, 1, 1], [2], [(1, 0)]),
        ([0, -1, 2], [0, 1], [(0, 1), (0, 2)]),
    ],
)
def test_one_slate_is_won_as_published(teams, clicked, expected):
    """mpkato/interleaving, tests/test_team_draft.py; the last of them has a place of nobody."""
    credit = np.zeros(len(teams))
    credit[clicked] = 1
    wins = wins_between(np.zeros(len(teams), np.int64), np.array(teams, np.int8), credit, max(teams) + 1)
    assert [tuple(each) for each in np.argwhere(wins).tolist()] == expected
    assert wins.max() <= 1


def test_shared_places_and_broken_rounds_give_no_credit():
    """Two users, three slates: clicks on nobody's item and on a lone place are named, and change nothing."""
    slate = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    team = np.array([-1, 0, 1, 0, -1, 1, 0, 1, -1, 0, 1, 1], dtype=np.int8)
    pair = np.array([-1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1], dtype=np.int32)
    credit = np.array([5, 1, 0, 7, 0, 0, 1, 0, 9, 1, 1, 0], dtype=np.float64)
    found = paired(DraftedPlaces(np.array([8, 8, 8, 8, 8, 8, 8, 8, 9, 9, 9, 9]), slate, team, pair, credit))
    assert (found.slates, found.pairs, found.users) == (3, 3, 2)
    assert found.difference.mean == pytest.approx(2 / 3)
    assert found.credit == pytest.approx((1.0, 1 / 3))
    assert found.uncredited == 21
    assert (found.preference.wins, found.preference.ties, found.preference.losses) == (1, 1, 0)


def test_no_pair_is_no_difference():
    """Only shared places: NaN, and nothing is claimed."""
    found = paired(
        DraftedPlaces(np.array([1]), np.array([1]), np.array([-1], np.int8), np.array([-1], np.int32), np.array([1.0]))
    )
    assert np.isnan(found.difference.mean)
    assert (found.pairs, found.uncredited, found.preference.p_value) == (0, 1.0, 1.0)
