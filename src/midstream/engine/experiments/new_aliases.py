"""Aliases of users in the order in which they were made, read in slices: merges since the last one that was read.

The state keeps aliases in that order. So what is new takes as long as there is new, however many aliases there are;
where the last one that was read is gone, as of a forgotten user, all are read again. An alias that was forgotten and
made again has another place in the order: the last one counts as gone too where the one before it is another.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.state.ids.aliases import Aliases
from midstream.state.structures.hash_table import find


class NewAliases(NamedTuple):
    """Some aliases."""

    alias: NDArray[np.uint64]
    """(n,)."""
    into: NDArray[np.uint64]
    """Hash that each stands for, (n,)."""


class AliasReader:
    """Reads aliases once each, and again after one that was read last is gone."""

    def __init__(self) -> None:
        """Begin before the oldest."""
        self._last = self._before = np.uint64(0)

    def skip(self, aliases: Aliases) -> None:
        """Take all that there are for read."""
        self._stop_at(aliases, int(aliases.rows.meta["newest"][0]))

    def read(self, aliases: Aliases, count_max: int) -> NewAliases:
        """Return the next aliases, none = all are read; within one turn of the event loop. Cost: 0.5 µs each.

        Args:
            aliases: Of the state as it is now.
            count_max: At most.
        """
        rows, into, table, meta = aliases.rows
        place = int(find(self._last, rows["hash"], table)) if self._last else -1
        if place >= 0 and _hash_before(aliases, place) != self._before:
            place = -1
        follows = int(rows["newer"][place]) if place >= 0 else int(meta["oldest"][0])
        places: list[int] = []
        while follows >= 0 and len(places) < count_max:
            places.append(follows)
            follows = int(rows["newer"][follows])
        if places:
            self._stop_at(aliases, places[-1])
        return NewAliases(rows["hash"][places], into[places])

    def _stop_at(self, aliases: Aliases, place: int) -> None:
        """Take the alias of a place, -1 = none, for the last one that was read."""
        self._last = aliases.rows.rows["hash"][place] if place >= 0 else np.uint64(0)
        self._before = _hash_before(aliases, place) if place >= 0 else np.uint64(0)


def _hash_before(aliases: Aliases, place: int) -> np.uint64:
    """Return the hash of the alias that was made before that of a place; 0 = it is the oldest."""
    rows = aliases.rows.rows
    older = int(rows["older"][place])
    return np.uint64(rows["hash"][older]) if older >= 0 else np.uint64(0)
