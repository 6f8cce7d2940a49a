"""The known name that one which is not known was meant to be: within few slips of the hand, and of the same sense.

A suggestion is followed without a second look. So it is one slip in three characters at most, and never a name that
says the opposite, such as ``subscribe`` for ``unsubscribe``.

Reference: Damerau, A technique for computer detection and correction of spelling errors, Communications of the ACM
7(3), 1964: one letter too many, too few, another, or two that changed places.
"""

from collections.abc import Iterable
from functools import lru_cache

CHARACTERS_MAX = 64
"""Words longer than any name of ours are not compared: the cost is the product of the lengths."""
CHARACTERS_A_SLIP = 3
_OPPOSITES = frozenset(("un", "dis", "de", "in", "im", "no", "non", "not", "un_", "no_", "not_", "remove_", "stop_"))
"""Before a word they turn its sense round."""
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
        if abs(len(name) - len(each)) <= most and not _is_opposite(name, each):
            slips = _slips(name, each)
            if slips <= most:
                found, fewest = each, slips
    return found


def _is_opposite(one: str, other: str) -> bool:
    """Return whether the longer of two words is the shorter one, turned round."""
    short, long = sorted((one, other), key=len)
    return len(short) < len(long) and long.endswith(short) and long.removesuffix(short) in _OPPOSITES


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
