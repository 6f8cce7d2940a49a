"""All that is wrong with a body: a decoder ends at the first fault, so that is cut out and the rest decoded again.

Each turn removes something, and only short bodies have more than one: what is wrong costs no more than what is right.
"""

from collections.abc import Callable
from typing import cast

import msgspec

from midstream.core.errors import Fault

COLLECTED_BYTES_MAX = 16_384
"""16 KiB: decoded again in 50 µs, so all of it takes 2 ms. Of a longer body the first fault is told."""
TURNS_MAX = 40
"""Twice as many as faults are told: each may leave a place behind that lacks what was cut."""
Find = Callable[[bytes], "Fault | None"]


def all_faults(body: bytes, first: Fault, find: Find, count_max: int) -> tuple[Fault, ...]:
    """Return the faults of a body, in the order in which a decoder comes upon them.

    Args:
        body: JSON that can be read.
        first: Its first one; ``where`` is a JSON Pointer.
        find: Returns the first fault of another body; None = it is right, or nothing can be said of it.
        count_max: Of faults.
    """
    found = [first]
    if len(body) > COLLECTED_BYTES_MAX:
        return tuple(found)
    try:
        rest = _Rest(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return tuple(found)
    fault: Fault | None = first
    for _ in range(TURNS_MAX):
        if fault is None or len(found) >= count_max or not rest.cut(fault.where):
            break
        fault = find(msgspec.json.encode(rest.document))
        if fault is not None and not rest.is_cut(place := rest.original(fault.where)):
            found.append(Fault(place, fault.came, fault.right, fault.page))
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
