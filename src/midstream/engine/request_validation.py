"""Validation of requests of the Python API, by the rules of HTTP bodies: nothing is guessed at.

Tuples and arrays are lists, sets too where order does not count; NumPy's numbers and texts are taken for what they
mean. A text is no list: its letters would pass for ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, cast

import numpy as np

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.types import Ask, FeatureAsk, Value
from midstream.events.faults import shown

PAGE = "/docs/http.md"
ID_CHARS_MAX = 128
"""As over HTTP, and as events may have it."""
ENTRIES_MAX = 10_000
"""Items, excluded items, fields or context values of one question; 1.3 MB of ids that its served record repeats."""
ITEM_FIELDS_MAX = 1_000
"""Items of which a question may say something: as many as features are read of at once."""
FIELDS_OF_ITEM_MAX = 16
RANK_ITEMS_MAX = 1_000
"""Of a caller's own items: as many as the join of outcomes reads of one slate; about 3 ms of work."""
EXPLAIN_ITEMS_MAX = 100
"""Of a caller's own items that are explained with the answer: as many as any other slate has. About 0.1 ms of the loop
each, and 5 ms on a thread for a score of 300 trees."""
PAGE_PLACEMENTS_MAX = 16
"""Slates of one page. Each reads candidates and features of its own, all in one turn, as they see one log position:
about what it would cost alone, less the sources that are asked once for all."""
PAGE_ITEMS_MAX = 200
"""Of all slates of a page together: two slates of the largest size. A slate is read with room for all items of the
slates above, so what they hold is work for each that follows."""
USERS_MAX = 100
"""Users of one call, each a turn of its own: 50 ms of work."""
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_IDS = ("placement", "user_id", "session_id", "min_log_position", "reasons", "cursor")
_WHOLE = ("n", "deadline_ms")
_LISTS = ("items", "basket", "users", "exclude", "fields", "features")
_OF_A_SLATE = frozenset(("placement", "n", "filter", "exclude", "fields"))
_PLACEMENTS = 'A list such as ["hero", {"placement": "row", "n": 10}], with n, filter, exclude and fields.'
_ID = f"Text of 1 to {ID_CHARS_MAX} characters, without halves of surrogate pairs."
_NUMBER = "A finite number; a whole number within 64 bits."


class _Wrong(Exception):
    """A value that is not right, until it is known where it stands."""


def ask_of(placement: object, request: Mapping[str, object]) -> Ask:
    """Return the question of a Python caller.

    Args:
        placement: Its name.
        request: Fields of ``Ask``, of any type; ``None`` is the same as a field that was not sent.

    Raises:
        RequestInvalid: A value has the wrong type or cannot be written; every fault is named.
    """
    found = _checked({"placement": placement, **request}, required="placement")
    return Ask(**found)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  _read has looked at each


def rank_ask_of(items: object, placement: object, request: Mapping[str, object]) -> Ask:
    """Return the question in which order items of a Python caller should be.

    Args:
        items: Their ids.
        placement: Its name.
        request: Fields of ``Ask``, but for ``items``, which are ``basket`` here.

    Raises:
        RequestInvalid: A value has the wrong type or cannot be written; every fault is named.
    """
    found = _checked({"placement": placement, **request, "items": items}, required="items")
    given, basket = found.pop("items"), found.pop("basket", ())
    return Ask(**found, given=given, items=basket)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def page_asks_of(placements: object, request: Mapping[str, object]) -> tuple[Ask, ...]:
    """Return the questions of a page of a Python caller, one a placement.

    Args:
        placements: Names, or mappings of ``placement`` and of what a slate has for itself.
        request: Fields of ``Ask`` that all slates share.

    Raises:
        RequestInvalid: A value has the wrong type or cannot be written; what is wrong with the first is named.
    """
    if isinstance(placements, str | bytes) or not isinstance(placements, Sequence):
        raise RequestInvalid((_fault("/placements", placements, _PLACEMENTS),))
    shared = _checked(dict(request), required="")
    asks: list[Ask] = []
    for place, each in enumerate(cast("Sequence[object]", placements)):
        told: Mapping[str, object] = {"placement": each}
        if isinstance(each, Mapping):
            told = cast("Mapping[str, object]", each)
        if unknown := [name for name in told if name not in _OF_A_SLATE]:
            raise RequestInvalid((_fault(f"/placements/{place}/{_step(unknown[0])}", told, _PLACEMENTS),))
        try:
            own = _checked({"placement": None, **told}, required="placement")
        except RequestInvalid as error:
            under = (replace(fault, where=f"/placements/{place}{fault.where}") for fault in error.faults)
            raise RequestInvalid(tuple(under)) from None
        asks.append(joined(Ask(**shared), own))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return tuple(asks)


def many_asks_of(users: object, placement: object, request: Mapping[str, object]) -> tuple[Ask, ...]:
    """Return the same question of a Python caller for several users.

    Raises:
        RequestInvalid: A value has the wrong type or cannot be written; every fault is named.
    """
    found = _checked({"placement": placement, **request, "users": users}, required="users")
    ids = cast("tuple[str, ...]", found.pop("users"))
    ask = Ask(**found)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return tuple(replace(ask, user_id=each) for each in ids)


def joined(shared: Ask, own: Mapping[str, Any]) -> Ask:
    """Return the question of one slate of a page: what it has for itself, and all that the page excludes."""
    return replace(shared, **{**own, "exclude": (*shared.exclude, *own.get("exclude", ()))})


def feature_ask_of(request: Mapping[str, object]) -> FeatureAsk:
    """Return what a Python caller wants to know of features.

    Args:
        request: Fields of ``FeatureAsk``, of any type; ``None`` is the same as a field that was not sent.

    Raises:
        RequestInvalid: A value has the wrong type, or ``items`` is missing; every fault is named.
    """
    found = _checked({"items": None, **request}, required="items")
    return FeatureAsk(**found)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def _checked(request: Mapping[str, object], required: str) -> dict[str, object]:
    """Return each field that came, as it is right.

    Raises:
        RequestInvalid: One is not right, or the required one is None.
    """
    found: dict[str, object] = {}
    faults: list[Fault] = []
    for name, sent in request.items():
        if sent is None and name != required:
            continue
        try:
            found[name] = _read(name, sent, faults)
        except _Wrong as wrong:
            faults.append(_fault(f"/{name}", sent, str(wrong)))
    if faults:
        raise RequestInvalid(tuple(faults))
    return found


def id_of(name: str, sent: object) -> str:
    """Return an id that a Python caller names.

    Raises:
        RequestInvalid: It is no text, or none that can be written.
    """
    try:
        return _text(sent, _ID)
    except _Wrong as wrong:
        raise RequestInvalid((_fault(f"/{name}", sent, str(wrong)),)) from None


def _read(name: str, sent: object, faults: list[Fault]) -> object:
    """Return the value of one field; what is wrong within it is added to ``faults``."""
    if name in _IDS and not (name == "cursor" and isinstance(sent, bool)):
        return _text(sent, _ID, ID_CHARS_MAX)
    if name == "filter":
        return _text(sent, "A condition as text.")
    if name in _LISTS:
        return _texts(name, sent, faults)
    if name in {"context", "item_fields"}:
        return (_context if name == "context" else _item_fields)(sent, faults)
    if name in _WHOLE:
        return _whole(sent)
    return _truth(sent) if name == "explain" else sent


def _text(sent: object, right: str, chars_max: int | None = None) -> str:
    if not isinstance(sent, str) or not sent or (chars_max is not None and len(sent) > chars_max):
        raise _Wrong(right)
    try:
        sent.encode()
    except UnicodeEncodeError:
        raise _Wrong(right) from None
    return str(sent)


def _texts(name: str, sent: object, faults: list[Fault]) -> tuple[str, ...]:
    right = f'A list of at most {ENTRIES_MAX} texts, such as ["lamp-7"].'
    values: object = sent.tolist() if isinstance(sent, np.ndarray) else sent
    if isinstance(values, set | frozenset) and name != "items":  # whose order counts
        values = sorted(cast("set[object]", values), key=str)
    if not isinstance(values, list | tuple):
        raise _Wrong(right)
    entries = tuple(cast("list[object]", values))
    if len(entries) > ENTRIES_MAX:
        raise _Wrong(right)
    found: list[str] = []
    for number, each in enumerate(entries):
        try:
            found.append(_text(each, _ID, ID_CHARS_MAX))
        except _Wrong as wrong:
            faults.append(_fault(f"/{name}/{number}", each, str(wrong)))
    return tuple(found)


def _context(sent: object, faults: list[Fault]) -> dict[str, Value]:
    if not isinstance(sent, Mapping) or len(cast("Mapping[object, object]", sent)) > ENTRIES_MAX:
        raise _Wrong("A dict of names and texts, numbers or booleans.")
    found: dict[str, Value] = {}
    for name, each in cast("Mapping[object, object]", sent).items():
        try:
            found[_text(name, f"Names as {_ID[:1].lower()}{_ID[1:]}", ID_CHARS_MAX)] = _value(each)
        except _Wrong as wrong:
            faults.append(_fault(f"/context/{_step(name)}", each, str(wrong)))
    return found


def _item_fields(sent: object, faults: list[Fault]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for item_id, fields in _entries(sent, ITEM_FIELDS_MAX).items():
        try:
            told = _entries(fields, FIELDS_OF_ITEM_MAX).items()
            numbers = {_text(name, _ID, ID_CHARS_MAX): _number(each) for name, each in told}
            found[_text(item_id, _ID, ID_CHARS_MAX)] = numbers
        except _Wrong as wrong:
            faults.append(_fault(f"/item_fields/{_step(item_id)}", fields, str(wrong)))
    return found


def _entries(sent: object, entries_max: int) -> Mapping[object, object]:
    if not isinstance(sent, Mapping) or len(cast("Mapping[object, object]", sent)) > entries_max:
        example = '{"lamp-7": {"score": 0.7}}'
        message = f"Such as {example}: at most {ITEM_FIELDS_MAX} items with {FIELDS_OF_ITEM_MAX} numbers each."
        raise _Wrong(message)
    return cast("Mapping[object, object]", sent)


def _number(sent: object) -> float:
    value = _plain(sent)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise _Wrong(_NUMBER)
    return float(value)


def _value(sent: object) -> Value:
    """Return one value of a context."""
    value = _plain(sent)
    if isinstance(value, str):
        return _text(value, "Text without halves of surrogate pairs.") if value else ""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        is_right = _INT64_MIN <= value <= _INT64_MAX
    else:
        is_right = isinstance(value, float) and isfinite(value)
    if not is_right:
        raise _Wrong(_NUMBER if isinstance(value, int | float) else "Text, a finite number, True or False.")
    return cast("float", value)


def _whole(sent: object) -> int:
    value = _plain(sent)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong("A whole number.")
    return value


def _truth(sent: object) -> bool:
    value = _plain(sent)
    if not isinstance(value, bool):
        raise _Wrong("True or False.")
    return value


def _plain(sent: object) -> object:
    """Return what a NumPy number or text is in Python."""
    return cast("object", sent.item()) if isinstance(sent, np.generic) else sent


def _step(name: object) -> str:
    """Return a name as a step of a pointer, in what can be printed."""
    return ascii(name)[:ID_CHARS_MAX] if not isinstance(name, str) else name.encode(errors="replace").decode()


def _fault(where: str, sent: object, right: str) -> Fault:
    return Fault(where, f"{shown(sent)} came.", right, PAGE)
