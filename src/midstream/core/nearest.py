"""The known name that one which is not known was meant to be: within few slips of the hand, and of the same sense.

A suggestion is followed without a second look. So it is one slip in three characters at most, and never a name that
says the opposite, such as ``subscribe`` for ``unsubscribe`` or ``users_max`` for ``users_min``.

Reference: Damerau, A technique for computer detection and correction of spelling errors, Communications of the ACM
7(3), 1964: one letter too many, too few, another, or two that changed places.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

CHARACTERS_MAX = 64
"""Words longer than any name of ours are not compared: the cost is the product of the lengths."""
CHARACTERS_A_SLIP = 3
_OPPOSITES = frozenset(("un", "dis", "de", "in", "im", "no", "non", "not", "un_", "no_", "not_", "remove_", "stop_"))
"""Before a word they turn its sense round."""
_COUNTERPARTS = (("in", "ex"), ("im", "ex"), ("in", "de"), ("en", "dis"))
"""Before the same stem each says the opposite of the other: ``include`` and ``exclude``."""
_OPPOSITE_WORDS = frozenset(
    frozenset(pair) for pair in (("min", "max"), ("first", "last"), ("asc", "desc"), ("upper", "lower"))
)
_BETWEEN_WORDS = re.compile(r"[^a-z0-9]+")
_CACHED_MAX = 256
"""Thousands of rows may have the same wrong name."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Nearest: "…".`` to put behind an error's text, or nothing when no name is near.

    Example:
        >>> nearest("sesion_knn", ["popular", "session_knn"])
        ' Nearest: "session_knn".'
        >>> nearest("x", ["popular"]), nearest("wishlist", ["dismiss"]), nearest("unlike", ["like"])
        ('', '', '')
    """
    found = nearest_name(name, known)
    return f' Nearest: "{found}".' if found else ""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return the known name that is nearest, the first of several; empty = none is near."""
    return _nearest(name[:CHARACTERS_MAX], tuple(known))


@lru_cache(_CACHED_MAX)
def _nearest(name: str, known: tuple[str, ...]) -> str:
    found, fewest = "", CHARACTERS_MAX
    for each in known:
        most = min(max(len(name), len(each)) // CHARACTERS_A_SLIP, fewest - 1)
        if abs(len(name) - len(each)) <= most:
            slips = _slips(name, each)
            if slips <= most and not _is_opposite(name, each, slips):
                found, fewest = each, slips
    return found


def _is_opposite(one: str, other: str, slips: int) -> bool:
    """Return whether of two words so many slips apart one says the opposite of the other."""
    words = zip(_BETWEEN_WORDS.split(one.lower()), _BETWEEN_WORDS.split(other.lower()), strict=False)
    return (
        any(frozenset(pair) in _OPPOSITE_WORDS for pair in words)
        or _is_turned(one, other, slips)
        or _is_turned(other, one, slips)
    )


def _is_turned(one: str, other: str, slips: int) -> bool:
    """Return whether one word turns the other round: its stem is nearer than it is itself."""
    turns = [(before, "") for before in _OPPOSITES if not other.startswith(before)]
    return any(
        one.startswith(before)
        and other.startswith(instead)
        and _slips(one.removeprefix(before), other.removeprefix(instead)) < slips
        for before, instead in (*turns, *_COUNTERPARTS)
    )


def _slips(one: str, other: str) -> int:
    """Return how many slips lead from one word to another, each letter in one of them at most."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        earlier, before, row = before, row, [at]
        for place, each in enumerate(other, 1):
            slips = min(before[place] + 1, row[-1] + 1, before[place - 1] + (letter != each))
            if at > 1 and place > 1 and letter == other[place - 2] and one[at - 2] == each:
                slips = min(slips, earlier[place - 2] + 1)
            row.append(slips)
    return row[-1]
