"""Rows of a table that are refused: each is named once as a dead letter, the first thousand of them, others counted."""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from midstream.integrations.postgresql.sweep import key_name

NAMED_MAX = 1_000
"""Rows that are named; a table with more of them has something wrong as a whole."""
COUNTED_MAX = 100_000
"""Rows that are known to be told, by a hash: 8 MB."""
REFUSED = "midstream_refused"
"""Member of a message that holds no row, and says why."""
RIGHT = "midstream_right"
"""Member of it that says what would be right."""


class RefusedRows:
    """Which rows of one table were refused."""

    def __init__(self, column: str) -> None:
        """Begin without any; ``column`` has the keys."""
        self._column = column
        self._told: set[bytes] = set()
        self._next_count = NAMED_MAX + 1
        """Of rows that were refused, at which their number is told."""

    def letters(self, key: str, came: str, right: str) -> Iterator[tuple[str, bytes]]:
        """Yield what is to be told of a row, with its name: nothing where it was told before."""
        mark = blake2b(f"{key}\0{came}".encode(), digest_size=8).digest()
        if mark in self._told or len(self._told) >= COUNTED_MAX:
            return
        self._told.add(mark)
        count = len(self._told)
        if count <= NAMED_MAX:
            told = {REFUSED: came, RIGHT: right}
            told.setdefault(self._column, key)
            yield f"refused@{key_name(key)}", msgspec.json.encode(told)
        elif count == self._next_count:
            self._next_count = 2 * count
            yield notice(f"refused@count-{count}", f"{count:,} rows were refused so far, this one: {came}", right)


def notice(name: str, came: str, right: str) -> tuple[str, bytes]:
    """Return a message that says what is wrong with no row in particular, with its name."""
    return name, msgspec.json.encode({REFUSED: came, RIGHT: right})
