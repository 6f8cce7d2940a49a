"""Users that it takes to order two simulated placements: a draft of both in every slate against half of the users each.

The world: a user sees five slates, each about 40 items with a relevance of their own, and has an appetite, log-normal,
that differs far more between users than the placements do. A place is looked at with a probability that falls with its
position. Both placements rank by relevance and noise; the first has less noise, and a tenth more clicks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from midstream.evaluation.interleaving.credit import DraftedPlaces, sign_of
from midstream.evaluation.interleaving.preference import paired
from midstream.experiments.interleaving import CHANCES, draft_of, pairs_of

USERS, SLATES, ITEMS, PLACES = 2_000, 5, 40, 10
LOOKED_AT = 1 / (1 + 0.3 * np.arange(PLACES))
TRIALS = 400
NEEDED = 50
"""Users with whom a drafted comparison is right in nine of ten trials."""


@dataclass(frozen=True)
class World:
    """What users do, a row a user where nothing else is said."""

    drafted: DraftedPlaces
    score: Any
    """Clicks at the first's places in pairs less those at the second's."""
    score_mean: float
    clicks: tuple[Any, Any]
    """On slates of the first alone and of the second alone."""
    lift: float
    """Difference of the probabilities that decide these clicks, a user."""


@pytest.fixture(scope="module")
def world():
    """Clicks of one seed."""
    rng = np.random.default_rng(44)
    relevance = rng.normal(size=(USERS * SLATES, ITEMS))
    first, second = (
        np.argsort(relevance + noise * rng.normal(size=relevance.shape), axis=1)[:, ::-1][:, :PLACES]
        for noise in (0.9, 1.2)
    )
    user = np.repeat(np.arange(USERS), SLATES)
    appetite = np.exp(rng.normal(-3.5, 1.2, size=USERS))[user, None]

    def chance_of(slates):
        return np.minimum(1.0, appetite * np.exp(np.take_along_axis(relevance, slates, axis=1))) * LOOKED_AT

    def clicked(chance):
        return (rng.random(chance.shape) < chance).astype(np.float64)

    uniform = rng.random((USERS * SLATES, PLACES, CHANCES))
    drafts = [draft_of(each, dice) for *each, dice in zip(first.tolist(), second.tolist(), uniform, strict=True)]
    team = np.stack([each.team for each in drafts])
    pair = np.stack([pairs_of(each.team, each.begins, 2) for each in drafts])
    sign = sign_of(team) * (pair >= 0)
    chance = chance_of(np.stack([each.chosen for each in drafts]))
    credit = clicked(chance)
    alone = chance_of(first), chance_of(second)
    slate = np.repeat(np.arange(USERS * SLATES), PLACES)
    return World(
        drafted=DraftedPlaces(np.repeat(user, PLACES), slate, team.ravel(), pair.ravel(), credit.ravel()),
        score=np.bincount(user, (sign * credit).sum(axis=1)),
        score_mean=(sign * chance).sum() / USERS,
        clicks=(np.bincount(user, clicked(alone[0]).sum(axis=1)), np.bincount(user, clicked(alone[1]).sum(axis=1))),
        lift=(alone[0].sum() - alone[1].sum()) / USERS,
    )


def test_users_are_a_tenth_of_those_of_a_test_of_the_same_power(world):
    """By effect and variance: n = (z / effect)^2 variance, of halves twice the sum of both variances; ten times."""
    by_draft = world.score.var() / world.score_mean**2
    by_halves = 2 * sum(each.var() for each in world.clicks) / world.lift**2
    print(f"\nusers, in units of z^2: draft {by_draft:.0f}, halves {by_halves:.0f}: {by_halves / by_draft:.0f} times")
    assert by_halves >= 10 * by_draft


def test_few_users_order_the_placements(world):
    """Right in 9 of 10 trials of 50 users; halves of ten times as many are right less often."""
    rng = np.random.default_rng(45)
    first, second = world.clicks

    def right(size, order):
        return np.mean([order(rng.integers(0, USERS, size)) for _ in range(TRIALS)])

    by_draft = right(NEEDED, lambda users: world.score[users].sum() > 0)
    by_halves = right(
        10 * NEEDED,
        lambda users: first[users[: len(users) // 2]].sum() > second[users[len(users) // 2 :]].sum(),
    )
    assert by_draft >= 0.9
    assert by_halves < by_draft


def test_the_analysis_finds_the_better_one(world):
    """The paired difference with its interval, and the votes at any time."""
    found = paired(world.drafted)
    assert found.difference.mean == pytest.approx(world.score_mean * USERS / found.pairs, rel=0.2)
    assert 0 < found.difference.low < found.difference.high
    assert found.preference.anytime_delta[0] > 0
    assert found.preference.anytime_share.p_value < 1e-6
