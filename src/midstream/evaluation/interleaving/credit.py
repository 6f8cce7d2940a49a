"""Credit of outcomes to the teams of drafted slates: by place, by competitive pair, and by later outcomes of a user.

All inputs are columns, row for row, and users, slates and items any whole numbers. ``sign`` is +1 where the first of
two teams is meant, -1 for the second, 0 for nobody and for other teams.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Real = NDArray[np.float64]
Sign = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class DraftedPlaces:
    """Places of drafted slates that were seen, in any order."""

    user: Numbers
    """Who saw the slate, (n,)."""
    slate: Numbers
    """(n,)."""
    team: NDArray[np.int8]
    """-1 = nobody's, (n,)."""
    pair: NDArray[np.int32]
    """Complete round of the slate (``experiments.interleaving.pairs_of``), -1 = none, (n,)."""
    credit: Real
    """What followed at the place: clicks, orders, their value; 0 = nothing, (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Items that users were shown."""

    user: Numbers
    item: Numbers
    time_ms: Numbers
    sign: Sign
    """Of the team that drafted the item."""


@dataclass(frozen=True, slots=True, eq=False)
class Later:
    """Outcomes that name a user and an item, and no slate: orders, bookings, returns."""

    user: Numbers
    item: Numbers
    time_ms: Numbers


def sign_of(team: NDArray[np.int8], first: int = 0, second: int = 1) -> Sign:
    """Return which of two teams each is, (n,)."""
    found: Sign = np.subtract(team == first, team == second, dtype=np.int8)
    return found


def pair_differences(places: DraftedPlaces, first: int = 0, second: int = 1) -> tuple[Real, Numbers]:
    """Return the credit of the first less that of the second in each competitive pair, and whose pair it is, (pairs,).

    Items of nobody, and rounds of which a slate shows a part, give none. Both teams have one place in a pair, and a
    coin decided which is higher, so the mean is 0 where nobody prefers either.
    """
    at = np.flatnonzero(places.pair >= 0)
    pairs, found = _unique((places.slate[at], places.pair[at].astype(np.int64)))
    worth = sign_of(places.team[at], first, second) * places.credit[at]
    return np.bincount(found, worth, minlength=len(pairs)).astype(np.float64), places.user[at[pairs]]


def votes_of(user: Numbers, worth: Real) -> tuple[Numbers, Sign]:
    """Return the users with any credit, and the vote of each: the sign of the sum of what its credit is worth.

    Args:
        user: (n,).
        worth: ``sign`` x credit, (n,). Credit of 0, or of nobody, is no vote.

    Returns:
        Distinct users, rising, and +1, -1 or 0 (a tie), (users,).
    """
    counts = worth != 0
    users, whose = np.unique(user[counts], return_inverse=True)
    return users, np.sign(np.bincount(whose, worth[counts], minlength=len(users))).astype(np.int8)


def attributed(shown: Shown, later: Later, window_ms: int) -> tuple[Sign, NDArray[np.bool_]]:
    """Return the team of each later outcome: the one that showed its item to its user more often before it.

    Args:
        shown: (n,).
        later: (m,).
        window_ms: How long before an outcome a showing counts; one at the same millisecond does.

    Returns:
        The sign of the team, 0 = both as often; and whether the item was shown at all, (m,).

    Cost: a sort of n + m rows.
    """
    _, key = _unique(_joined((shown.user, later.user), (shown.item, later.item)))
    own, asked = key[: len(shown.user)], key[len(shown.user) :]
    order = np.lexsort((shown.time_ms, own))
    own, time_ms = own[order], shown.time_ms[order]
    sums = np.concatenate(([0], np.cumsum(shown.sign[order], dtype=np.int64)))
    stop = _places(own, time_ms, asked, later.time_ms)
    start = _places(own, time_ms, asked, later.time_ms - window_ms - 1)
    return np.sign(sums[stop] - sums[start]).astype(np.int8), stop > start


def _places(key: Numbers, time_ms: Numbers, asked: Numbers, until_ms: Numbers) -> Numbers:
    """Return behind which row each question comes, in rows that are sorted by key and time, (m,)."""
    if not len(key):
        return np.zeros(len(asked), dtype=np.int64)
    begin, end = np.searchsorted(key, asked, "left"), np.searchsorted(key, asked, "right")
    whole = np.lexsort((np.repeat((0, 1), (len(key), len(asked))), *_joined((time_ms, until_ms), (key, asked))))
    is_row = whole < len(key)
    before = np.cumsum(is_row)[~is_row]
    found = np.empty(len(asked), dtype=np.int64)
    found[whole[~is_row] - len(key)] = before
    return np.clip(found, begin, end)


def _unique(columns: Sequence[Numbers]) -> tuple[Numbers, Numbers]:
    """Return a row of each distinct pair of values of two columns, and the number of the pair of each row."""
    (_, one), (names, other) = (np.unique(each, return_inverse=True) for each in columns)
    _, rows, found = np.unique(one * max(1, len(names)) + other, return_index=True, return_inverse=True)
    return rows.astype(np.int64), found.astype(np.int64)


def _joined(*columns: tuple[Numbers, Numbers]) -> list[Numbers]:
    return [np.concatenate(each) for each in columns]
