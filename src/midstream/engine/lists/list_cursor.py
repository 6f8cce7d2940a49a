"""Signed cursors of lists: a place, and a digest of the question to which it belongs."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final, Literal, TypeAlias

import msgspec

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.tokens import RequestIds
from midstream.events.faults import shown

PAGE: Final = "/docs/http.md"
ListName: TypeAlias = Literal["items", "users", "events", "requests", "audit"]
_NUMBERS: Mapping[ListName, int] = {"items": 1, "users": 2, "events": 3, "requests": 4, "audit": 5}
_PLACE = Struct(">BIQQQ")
"""29 bytes; the cursor of a slate has 28, so neither is taken for the other."""
_RIGHT = "The next_cursor of the page before, unchanged, with the same filters; or no cursor, to begin anew."


@dataclass(frozen=True, slots=True)
class ListCursor:
    """A place in a list."""

    position: int
    """Index of the next item, or log position before which the list goes on."""
    generation: int = 0
    """Of the log that the position is of."""
    anchor: int = 0
    """Hash of the id of the item before: another item there means that items were numbered anew."""


def write_cursor(cursor: ListCursor, name: ListName, question: object, ids: RequestIds) -> str:
    """Return the text of a place in a list."""
    place = _PLACE.pack(_NUMBERS[name], cursor.generation, cursor.position, cursor.anchor, _digest(question))
    return ids.sealed(place)


def read_cursor(token: str, name: ListName, question: object, ids: RequestIds) -> ListCursor:
    """Return the place that a text names.

    Raises:
        RequestInvalid: This shop did not make it, or it is of another list, or of other filters.
    """
    content = ids.unsealed(token)
    if content is None or len(content) != _PLACE.size:
        raise refused(f"{shown(token)} is no cursor of a list of this shop.")
    number, generation, position, anchor, digest = _PLACE.unpack(content)
    if number != _NUMBERS[name]:
        raise refused(f"{shown(token)} is the cursor of another list.")
    if digest != _digest(question):
        raise refused(f"{shown(token)} came with other filters than the page before.")
    return ListCursor(position, generation, anchor)


def refused(came: str) -> RequestInvalid:
    """Return the refusal of a cursor."""
    return RequestInvalid((Fault("cursor", came, _RIGHT, PAGE),))


def _digest(question: object) -> int:
    return int.from_bytes(blake2b(msgspec.json.encode(question), digest_size=8).digest(), "big")
