"""Team draft of several rankings into one: interleaving of two, multileaving of more.

Teams pick in rounds. In a round each team that has an item left picks once, in an order drawn by fair coins, and takes
the best item of its ranking that nobody has. Where a round begins and the next item of all teams is the same, that item
is nobody's: it says nothing about the teams, so its outcomes are no credit, and the round begins anew behind it.

The propensity of a place is the probability that its item stands there given the items above it, over all coins and all
rankings. The teams of the items above are not given, as no visitor sees them: their probabilities are carried along
place by place (a forward recursion over the set of teams that have picked in this round, 2^teams states).

A draft is decided from the first place on, so its first n places are the draft of length n. Pages are cut from one
draft: a cursor continues it, and no item comes twice.

Reference: F. Radlinski, M. Kurup and T. Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008,
    algorithm 2; A. Schuth and others, "Multileaved Comparisons for Fast Online Evaluation", CIKM 2014, algorithm 1
    (several teams); O. Chapelle and others, "Large-Scale Validation and Analysis of Interleaved Search Evaluation",
    ACM TOIS 30(1), 2012, section 3 (no credit for a shared prefix).
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

TEAMS_MAX: Final = 8
"""Rankings of one draft: 256 states a place."""
NOBODY: Final = -1
"""Team of an item that all teams would have picked."""
CHANCES: Final = 3
"""Random numbers that decide a place: the team, its item, and whether the item is everybody's."""

Next: TypeAlias = Callable[[AbstractSet[int]], Mapping[int, float]]
"""Returns the probability of each row to be a team's next one, from the rows that are taken, none of which it has. It
is called with growing sets. Empty = the team has no row left; else the probabilities sum to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class TeamDraft:
    """A drafted ranking, place by place. All columns (n,)."""

    chosen: NDArray[np.intp]
    """Distinct rows."""
    team: NDArray[np.int8]
    """Team that picked the row, ``NOBODY`` = it is everybody's."""
    begins: NDArray[np.bool_]
    """True where a round of picks begins, and at each item of nobody."""
    propensity: NDArray[np.float64]
    """Probability of the row at its place given the rows above."""

    def __len__(self) -> int:
        """Return the number of places."""
        return len(self.chosen)


class _Place(NamedTuple):
    """One row of a draft, as its columns have it."""

    row: int
    team: int
    begins: bool
    propensity: float


def listed(rows: Sequence[int]) -> Next:
    """Return the team of a fixed ranking; the function holds its place in it, so it is for one draft."""
    at = 0

    def best(taken: AbstractSet[int]) -> Mapping[int, float]:
        nonlocal at
        while at < len(rows) and rows[at] in taken:
            at += 1
        return {rows[at]: 1.0} if at < len(rows) else {}

    return best


def team_draft(teams: Sequence[Next], chance: NDArray[np.float64]) -> TeamDraft:
    """Return the draft of some teams.

    Args:
        teams: At least one, at most ``TEAMS_MAX``.
        chance: Uniform numbers of (0, 1), (places, ``CHANCES``). A longer array that begins alike gives a longer draft
            that begins alike.

    Returns:
        At most as many places; fewer where the teams have no more items.

    Raises:
        ValueError: The number of teams, or the shape of the random numbers.

    Cost: 8 µs a place for two fixed rankings.
    """
    if not 1 <= len(teams) <= TEAMS_MAX or chance.shape[1:] != (CHANCES,):
        message = f"{len(teams)} teams and chances {chance.shape}: 1 to {TEAMS_MAX}, and (places, {CHANCES})"
        raise ValueError(message)
    taken: set[int] = set()
    belief, picked = {0: 1.0}, 0
    places: list[_Place] = []
    for whose, which, whether in chance.tolist():
        following = [team(taken) for team in teams]
        active = sum(1 << team for team, rows in enumerate(following) if rows)
        if not active:
            break
        picked = _round(picked, active)
        turn = _members(active & ~picked)
        team = turn[int(whose * len(turn))]
        row = _drawn(following[team], which)
        is_shared = whether < _shared(row, team, following, active, picked)
        begins = picked == 0
        belief, propensity = _given(row, belief, following, active)
        places.append(_Place(row, NOBODY if is_shared else team, begins, propensity))
        picked |= 0 if is_shared else 1 << team
        taken.add(row)
    return TeamDraft(
        np.array([each.row for each in places], dtype=np.intp),
        np.array([each.team for each in places], dtype=np.int8),
        np.array([each.begins for each in places], dtype=np.bool_),
        np.array([each.propensity for each in places], dtype=np.float64),
    )


def draft_of(rankings: Sequence[Sequence[int]], chance: NDArray[np.float64]) -> TeamDraft:
    """Return the draft of fixed rankings of distinct rows, best first."""
    return team_draft([listed(each) for each in rankings], chance)


def pairs_of(team: NDArray[np.int8], begins: NDArray[np.bool_], team_count: int) -> NDArray[np.int32]:
    """Return the number of the complete round that each place of a slate belongs to, (n,), -1 = none.

    A round is complete where each team has a place in it: of two teams it is a competitive pair. Items of nobody, and
    rounds that a slate shows in part, or in which a team had no item left, belong to none.

    Args:
        team: Of each place of the slate, which may be any page of a draft.
        begins: Of each place, as in ``TeamDraft``.
        team_count: Number of teams.
    """
    number = np.cumsum(begins, dtype=np.int64)  # 0 = of a round that began on the page before: never whole
    size = np.bincount(number[team != NOBODY], minlength=int(number[-1]) + 1 if len(number) else 1)
    whole = (team != NOBODY) & (size[number] == team_count)
    found = np.full(len(team), -1, dtype=np.int32)
    found[whole] = np.unique(number[whole], return_inverse=True)[1]
    return found


def _round(picked: int, active: int) -> int:
    """Return the teams that have picked in this round, 0 where each that has an item left is among them."""
    return picked if active & ~picked else 0


@cache
def _members(teams: int) -> tuple[int, ...]:
    """Return the teams of a set of bits: one of 2^``TEAMS_MAX``."""
    return tuple(team for team in range(teams.bit_length()) if teams >> team & 1)


def _drawn(rows: Mapping[int, float], chance: float) -> int:
    """Return the row that a number of (0, 1) draws."""
    below, last = 0.0, -1
    for row, probability in rows.items():
        below += probability
        last = row if probability > 0 else last
        if chance < below:
            return row
    return last  # the sum of the probabilities came out below 1


def _shared(row: int, team: int, following: Sequence[Mapping[int, float]], active: int, picked: int) -> float:
    """Return the probability that a row is the next one of all other teams as well, where a round begins."""
    others = active & ~(1 << team)
    if picked or not others:
        return 0.0
    found = 1.0
    for each in _members(others):
        found *= following[each].get(row, 0.0)
    return found


def _given(
    row: int, belief: Mapping[int, float], following: Sequence[Mapping[int, float]], active: int
) -> tuple[dict[int, float], float]:
    """Return the probabilities of the states after a row, given it and those above; and the row's own probability.

    Args:
        row: Of this place.
        belief: Probability of each set of teams that have picked in this round, given the rows above.
        following: Next rows of each team.
        active: Teams that have any.
    """
    after: dict[int, float] = {}
    for state, weight in belief.items():
        picked = _round(state, active)
        turn = _members(active & ~picked)
        for team in turn:
            own = weight / len(turn) * following[team].get(row, 0.0)
            if own <= 0.0:
                continue
            shared = _shared(row, team, following, active, picked)
            if shared < 1.0:
                after[picked | 1 << team] = after.get(picked | 1 << team, 0.0) + own * (1.0 - shared)
            if shared > 0.0:
                after[picked] = after.get(picked, 0.0) + own * shared
    whole = sum(after.values())
    return {state: weight / whole for state, weight in after.items()}, min(1.0, whole)
