"""All faults of a request: msgspec stops at the first one, so that value is cut out and the rest is decoded again.

Each turn removes something. HTTP collects the faults of short bodies alone, since each turn decodes the rest again.
"""

from typing import cast

from midstream.core.errors import Fault
from midstream.engine.requests.faults import FAULTS_MAX, Find, named

TURNS_MAX = 40
"""Twice as many as faults are told: each may leave a place behind that lacks what was cut."""
NAMED_MAX = 4
"""Faults of which the entry of an object is looked for; others point at the object. Of a body of 15 kB each costs .8 ms
on the thread that answers."""


def all_faults(document: object, first: Fault, find: Find) -> tuple[Fault, ...]:
    """Return the faults of a document, in the order of decoding, at most ``FAULTS_MAX``.

    Args:
        document: The request as plain values; it is modified.
        first: Its first fault; ``where`` is a JSON Pointer.
        find: Returns the first fault of another document.
    """
    found: list[Fault] = []
    rest = _Rest(document)
    fault: Fault | None = first
    for _ in range(TURNS_MAX):
        if fault is None or len(found) >= FAULTS_MAX:
            break
        if len(found) < NAMED_MAX:
            fault = named(rest.document, fault, find)
        if not rest.is_cut(place := rest.original(fault.where)):
            found.append(Fault(place, fault.came, fault.right, fault.page))
        if not rest.cut(fault.where):
            break
        fault = find(rest.document)
    return tuple(found)


class _Rest:
    """A document without what was wrong with it, which knows where each element of a list stood."""

    def __init__(self, document: object) -> None:
        """Begin with all of it."""
        self.document = document
        self._gone: list[str] = []
        """Pointers to what was cut, as they were in the whole document."""
        self._cut: dict[str, list[int]] = {}

    def is_cut(self, place: str) -> bool:
        """Return whether something was cut there or below: what is wrong with it now may be our doing."""
        return any(each == place or each.startswith(f"{place}/") for each in self._gone)

    def original(self, pointer: str) -> str:
        """Return the pointer in the whole document to a place of the rest."""
        found = ""
        for each in pointer.split("/")[1:]:
            place = each
            if found in self._cut:
                number = int(each)
                for gone in self._cut[found]:
                    number += gone <= number
                place = str(number)
            found = f"{found}/{place}"
        return found

    def cut(self, pointer: str) -> bool:
        """Remove what a pointer to the rest leads to, or where that is missing what lacks it; say whether it could."""
        parts = pointer.split("/")[1:]
        held = self._held(parts)
        while held is None and parts:
            parts = parts[:-1]
            held = self._held(parts)
        if held is None:
            return False
        within, key = held
        place = self.original("".join(f"/{each}" for each in parts))
        self._gone.append(place)
        if isinstance(within, list):
            cast("list[object]", within).pop(int(key))
            above, _, last = place.rpartition("/")
            self._cut[above] = sorted((*self._cut.get(above, ()), int(last)))
        else:
            del cast("dict[str, object]", within)[key]
        return True

    def _held(self, parts: list[str]) -> "tuple[object, str] | None":
        """Return what holds the last step of a pointer, and under which key; None = it is not there."""
        if not parts:
            return None
        held = self.document
        *above, last = (each.replace("~1", "/").replace("~0", "~") for each in parts)
        for each in above:
            held = _inside(held, each)
        return (held, last) if _has(held, last) else None


def _has(held: object, key: str) -> bool:
    """Return whether an object has a key, or a list a place."""
    if isinstance(held, dict):
        return key in cast("dict[str, object]", held)
    return isinstance(held, list) and key.isdigit() and int(key) < len(cast("list[object]", held))


def _inside(value: object, key: str) -> object:
    """Return what a key of an object or a place in a list leads to; None = nothing is there."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value).get(key)
    if isinstance(value, list) and key.isdigit() and int(key) < len(found := cast("list[object]", value)):
        return found[int(key)]
    return None
