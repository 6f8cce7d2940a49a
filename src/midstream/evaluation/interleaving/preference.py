"""Preference between two rankings that drafted the same slates: paired by impression, or one vote a user.

Delta = (wins + ties / 2) / all - 1/2 lies between -1/2 and 1/2; above 0 the first is preferred. The interval by
bootstrap draws users, and is for one look at a chosen time; the any-time one holds at every look (``sign_sequence``).

Reference: O. Chapelle, T. Joachims, F. Radlinski and Y. Yue, "Large-Scale Validation and Analysis of Interleaved Search
    Evaluation", ACM TOIS 30(1), 2012, section 3.3 (Delta, bootstrap); Q. Zhang and others, "Harnessing the Power of
    Interleaving and Counterfactual Evaluation for Airbnb Search Ranking", KDD 2025 (competitive pairs, attribution of
    later outcomes).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from midstream.evaluation.interleaving.credit import (
    DraftedPlaces,
    Numbers,
    Real,
    Sign,
    pair_differences,
    sign_of,
    votes_of,
)
from midstream.evaluation.interleaving.sign_sequence import HALF, AnytimeShare, sign_sequence
from midstream.evaluation.metrics.statistics import Estimate, Resampling, estimate

DEFAULT = Resampling()


@dataclass(frozen=True, slots=True)
class Preference:
    """Votes between two rankings, one a user."""

    wins: int
    """Users that prefer the first."""
    ties: int
    losses: int
    delta: Estimate
    """(wins + ties / 2) / all - 1/2, with the interval for one look."""
    p_value: float
    """Of one look: the exact sign test over wins and losses."""
    anytime_delta: tuple[float, float]
    """The interval of Delta that holds at every look, of the settled votes."""
    anytime_share: AnytimeShare
    """Share of wins among the settled votes that are no ties."""
    open: int
    """Users whose vote may still change; they do not count in the any-time figures."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Difference in credit at competitive pairs of slates."""

    slates: int
    """Those with a pair."""
    pairs: int
    users: int
    difference: Estimate
    """Credit of the first less that of the second, a pair; users are drawn."""
    credit: tuple[float, float]
    """Credit of both at their places in pairs, a pair."""
    uncredited: float
    """Credit at other places: of nobody, of other teams, of rounds that a slate shows in part."""
    preference: Preference
    """The vote of each user by its pairs alone."""


def preference(vote: Sign, settled: NDArray[np.bool_] | None = None, resampling: Resampling = DEFAULT) -> Preference:
    """Return the preference of users from their votes.

    Args:
        vote: +1 for the first, -1 for the second, 0 = a tie, a row a user, (users,).
        settled: Whether no later outcome can change the vote; None = none can.
        resampling: Number of resamples, level and seed; the level is that of the any-time intervals too.
    """
    from scipy.stats import binomtest

    is_settled = np.ones(len(vote), dtype=np.bool_) if settled is None else settled
    wins, ties, losses = _counts(vote)
    won, tied, lost = _counts(vote[is_settled])
    alpha = 1 - resampling.level
    whole = sign_sequence(won + HALF * tied, lost + HALF * tied, alpha)
    return Preference(
        wins=wins,
        ties=ties,
        losses=losses,
        delta=_delta((wins, ties, losses), resampling),
        p_value=float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
        anytime_delta=(whole.low - HALF, whole.high - HALF),
        anytime_share=sign_sequence(won, lost, alpha),
        open=int(np.count_nonzero(~is_settled)),
    )


def paired(
    places: DraftedPlaces,
    settled_users: Numbers | None = None,
    teams: tuple[int, int] = (0, 1),
    resampling: Resampling = DEFAULT,
) -> Paired:
    """Return the difference of two teams at their competitive pairs.

    Args:
        places: Of slates that two or more teams drafted, (n,).
        settled_users: Users that count in the any-time figures; None = all.
        teams: The first and the second.
        resampling: Number of resamples, level and seed.
    """
    difference, whose = pair_differences(places, *teams)
    sign, counts = sign_of(places.team, *teams), places.pair >= 0
    users, vote = votes_of(places.user[counts], sign[counts] * places.credit[counts])
    pairs = len(difference)
    sums = [float(places.credit[counts & (sign == each)].sum()) for each in (1, -1)]
    settled = None if settled_users is None else np.isin(users, settled_users)
    return Paired(
        slates=len(np.unique(places.slate[counts])),
        pairs=pairs,
        users=len(np.unique(whose)),
        difference=estimate(difference, whose, resampling),
        credit=(sums[0] / pairs, sums[1] / pairs) if pairs else (float("nan"), float("nan")),
        uncredited=float(places.credit.sum()) - sum(sums),
        preference=preference(vote, settled, resampling),
    )


def wins_between(slate: Numbers, team: Sign, credit: Real, team_count: int) -> Numbers:
    """Return in how many slates each team has more credit than each other one, (teams, teams): row beats column.

    Args:
        slate: Of each place, (n,).
        team: Of each place, -1 = nobody's.
        credit: Of each place.
        team_count: Number of teams.
    """
    slates, at = np.unique(slate, return_inverse=True)
    counts = team >= 0
    sums = np.zeros((len(slates), team_count))
    np.add.at(sums, (at[counts], team[counts]), credit[counts])
    found: Numbers = np.count_nonzero(sums[:, :, None] > sums[:, None, :], axis=0)
    return found


def _delta(counts: tuple[int, int, int], resampling: Resampling) -> Estimate:
    """Return Delta from wins, ties and losses; users drawn with replacement are a multinomial draw of the counts."""
    if not (users := sum(counts)):
        return Estimate(float("nan"), float("nan"), float("nan"))
    worth = np.array((HALF, 0.0, -HALF))
    drawn = np.random.default_rng(resampling.seed).multinomial(users, np.array(counts) / users, resampling.resamples)
    tail = (1 - resampling.level) / 2
    low, high = np.quantile(drawn @ worth / users, (tail, 1 - tail))
    return Estimate(float(worth @ np.array(counts)) / users, float(low), float(high))


def _counts(vote: Sign) -> tuple[int, int, int]:
    won, tied, lost = (int(np.count_nonzero(vote == each)) for each in (1, 0, -1))
    return won, tied, lost
