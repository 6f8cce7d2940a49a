"""Sweep over the rows of a table behind a position, by their times and keys, page by page, again and again.

The position passes only rows before the horizon: no row can appear there any more, so it stands for all rows up to it,
exactly. Rows beyond are handed over as well, at once, and remembered: so a transaction that is open for an hour delays
the position, and nothing that is read. They are read again by each sweep until the position has passed them, and are
handed over again where they changed, or where a start has forgotten them; then their ids are those of before.
"""

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

AHEAD_MAX = 100_000
"""Rows beyond the horizon that are remembered: 15 MB. Further ones wait until it has passed some."""
MARK_BYTES = 8
"""Of a row's hash: two versions of one row have the same once in 10^19."""
KEY_BYTES_MAX = 300
"""Of a row's key."""
PLACE_BYTES_MAX = 480
"""Of a position as JSON, in which a character may have six bytes; the state has room for 512."""
KEY_SHOWN = 40
KEY_NAME_SHOWN = 20
_read = msgspec.json.Decoder(tuple[str, ...]).decode


class Place(NamedTuple):
    """A place in the order of rows."""

    updated: str = ""
    """Time as the server writes it; empty = before all rows."""
    key: str | None = None
    """None = before the first row of that time."""

    @property
    def text(self) -> str:
        """The place as a position."""
        parts = [each for each in self if each]
        return msgspec.json.encode(parts).decode()


def place_of(text: str) -> Place | None:
    """Return the place that a position is; None = it is none.

    Example:
        >>> place_of('["2026-01-02 03:04:05+00","7"]')
        Place(updated='2026-01-02 03:04:05+00', key='7')
    """
    try:
        return Place(*_read(text))
    except (msgspec.MsgspecError, TypeError):
        return None


def key_name(key: str) -> str:
    """Return a short name that only this key has: its begin, and a hash of all of it.

    Example:
        >>> key_name("lamp")
        'lamp#2afc15e301f7046b'
    """
    return f"{key[:KEY_NAME_SHOWN]}#{blake2b(key.encode(), digest_size=MARK_BYTES).hexdigest()}"


class TableRow(NamedTuple):
    """A row as the server returns it."""

    updated: str
    key: str
    is_settled: bool
    """It is before the horizon."""
    content: bytes | None
    """None = it was refused, and is passed by."""

    @property
    def is_place(self) -> bool:
        """Whether its key has room in a position."""
        return (
            len(self.key.encode()) <= KEY_BYTES_MAX
            and len(Place(self.updated, self.key).text.encode()) <= PLACE_BYTES_MAX
        )

    @property
    def mark(self) -> bytes:
        """A hash of the row, which another version of it does not have."""
        told = b"\0".join((self.updated.encode(), self.key.encode(), self.content or b""))
        return blake2b(told, digest_size=MARK_BYTES).digest()


class Sweep:
    """What was handed over of one table."""

    def __init__(self, place: Place) -> None:
        """Begin at a place, with a sweep that has come nowhere."""
        self.place = place
        """Up to which all rows were handed over."""
        self.reach = place
        """Up to which this sweep has come."""
        self._ahead: dict[str, bytes] = {}
        self._seen: dict[str, bytes] = {}

    @property
    def is_full(self) -> bool:
        """Whether no further row beyond the horizon can be remembered."""
        return len(self._seen) >= AHEAD_MAX

    @property
    def ahead_count(self) -> int:
        """Number of rows beyond the place that were handed over by the sweep before."""
        return len(self._ahead)

    def resumed(self, place: Place, lost: Collection[str]) -> "Sweep":
        """Return a sweep from a place of before that knows what was handed over, but for rows of the keys ``lost``."""
        found = Sweep(place)
        found._seen = {key: mark for key, mark in {**self._ahead, **self._seen}.items() if key not in lost}
        return found

    def begin(self) -> None:
        """Begin the next sweep at the place."""
        self._ahead, self._seen = self._seen, {}
        self.reach = self.place

    def take(self, rows: Sequence[TableRow]) -> list[tuple[str, TableRow]]:
        """Pass the next rows; return those to hand over, each with the name of this version of it.

        Args:
            rows: Behind ``reach``, in their order.
        """
        found: list[tuple[str, TableRow]] = []
        for row in rows:
            if not row.is_settled and self.is_full:
                break
            self.reach = Place(row.updated, row.key)
            if row.is_settled and row.is_place:
                self.place = self.reach
            if row.content is None or not row.is_place:
                continue
            mark = row.mark
            if not row.is_settled:
                self._seen[row.key] = mark
            if self._ahead.get(row.key) != mark:
                found.append((f"{row.key[:KEY_SHOWN]}@{mark.hex()}", row))
        return found
