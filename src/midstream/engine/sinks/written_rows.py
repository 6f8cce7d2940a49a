"""Memory of the versions that were written: a row that is new enough is not read again.

By slot of the users or index of the items, as the state has them, so it is as bounded as they are. It is no truth: it
begins empty at each start, and what it forgot is written once more.
"""

import numpy as np

_NEVER = -1


class WrittenRows:
    """The newest version of each row that this process has written."""

    def __init__(self, places_max: int) -> None:
        """Reserve a place for each slot: 16 bytes, paid when they are touched."""
        self._hash = np.zeros(places_max, dtype=np.uint64)
        self._version = np.zeros(places_max, dtype=np.int64)
        """Plus one, so that untouched memory means never."""

    def note(self, place: int, row_hash: int, version: int) -> None:
        """Remember that a row was written; a newer one stays."""
        if int(self._hash[place]) != row_hash:
            self._hash[place] = row_hash
            self._version[place] = version + 1
        else:
            self._version[place] = max(int(self._version[place]), version + 1)

    def version(self, place: int, row_hash: int) -> int:
        """Return the version in which a row was written last, -1 = it is not known."""
        return int(self._version[place]) - 1 if int(self._hash[place]) == row_hash else _NEVER

    def clear(self) -> None:
        """Forget everything."""
        self._hash[:] = 0
        self._version[:] = 0
