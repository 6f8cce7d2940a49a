"""Requests of the Python API by the types and bounds of HTTP bodies: nothing is guessed at.

Tuples and arrays are lists, sets too where order does not count; NumPy's numbers and texts are taken for what they
mean. What JSON could not have, such as NaN or half of a surrogate pair, is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import Annotated, Final, TypeVar, cast

import msgspec
import numpy as np

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.requests.faults import NameUnknown, Unwritable, escaped, reading, refusal_of
from midstream.engine.requests.schema import PAGE, read_deadline_ms

T = TypeVar("T", bound=msgspec.Struct)
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_UNORDERED = ("exclude", "fields", "features")
"""Lists in which order does not count."""
_DEADLINE: Final = "/deadline"
_NUMBER = "A finite number; a whole number within 64 bits."
Id = Annotated[str, msgspec.Meta(min_length=1)]


def read_request(kind: type[T], required: Mapping[str, object], request: Mapping[str, object]) -> T:
    """Return the request of a Python caller.

    Args:
        kind: Its type.
        required: Fields that must be there.
        request: Further fields, of any type; ``None`` is the same as a field that was not sent. ``deadline_ms`` is
            what bodies have as ``deadline``.

    Raises:
        RequestInvalid: A value has the wrong type or cannot be written; every fault is named.
    """
    sent = {**{name: each for name, each in request.items() if each is not None}, **required}
    names = tuple("deadline_ms" if name == "deadline" else name for name in kind.__struct_fields__)
    for name in sent:
        if name not in names:
            raise NameUnknown(f"/{escaped(name)}", "field of this request", name, names)
    document = {"deadline" if name == "deadline_ms" else name: _field(each, name) for name, each in sent.items()}
    try:
        return msgspec.convert(document, kind, dec_hook=read_deadline_ms)
    except msgspec.ValidationError as error:
        refusal = refusal_of(error, document, kind, reading(read_deadline_ms))
        faults = refusal.faults
        refusal.tell(tuple(replace(each, where="/deadline_ms") if each.where == _DEADLINE else each for each in faults))
        raise refusal from None


def id_of(name: str, sent: object) -> str:
    """Return an id that a Python caller names.

    Raises:
        RequestInvalid: It is no text, or none that can be written.
    """
    document = {name: _field(sent, name)}
    try:
        return msgspec.convert(document, dict[str, Id])[name]
    except msgspec.ValidationError as error:
        raise refusal_of(error, document, dict[str, Id], reading()) from None


def slots_of(placements: object) -> object:
    """Return the placements of a page, where a name alone is a slate that has nothing for itself."""
    if isinstance(placements, str | bytes) or not isinstance(placements, Sequence):
        return placements
    slots = cast("Sequence[object]", placements)
    return [cast("object", each) if isinstance(each, Mapping) else {"placement": each} for each in slots]


def _field(value: object, name: str) -> object:
    """Return the value of a field as JSON could have it.

    Raises:
        RequestInvalid: It is nested deeper than Python follows, or is part of itself.
    """
    try:
        return plain(value, name)
    except RecursionError:
        raise RequestInvalid((Fault(f"/{name}", "It is nested too deep.", "What its field says.", PAGE),)) from None


def plain(value: object, name: str = "") -> object:
    """Return a value as JSON could have it, or what stands for one that it could not."""
    value = _listed(value, name)
    found: object
    match value:
        case str():
            found = _text(value)
        case bool() | None:
            found = value
        case int():
            found = int(value) if _INT64_MIN <= value <= _INT64_MAX else Unwritable(value, _NUMBER)
        case float():
            found = float(value) if isfinite(value) else Unwritable(value, _NUMBER)
        case list() | tuple():
            found = [plain(each) for each in cast("Sequence[object]", value)]
        case Mapping():
            found = {_name(key): plain(each, str(key)) for key, each in cast("Mapping[object, object]", value).items()}
        case _:
            found = Unwritable(value)
    return found


def _listed(value: object, name: str) -> object:
    """Return what NumPy means as Python has it, and a set as a list where order does not count."""
    if isinstance(value, np.ndarray | np.generic):
        return cast("object", value.tolist())
    return sorted(cast("set[object]", value), key=str) if _is_set(value) and name in _UNORDERED else value


def _is_set(value: object) -> bool:
    return isinstance(value, set | frozenset)


def _name(key: object) -> "str | Unwritable":
    return _text(key) if isinstance(key, str) else Unwritable(key, "Names as text.")


def _text(value: str) -> "str | Unwritable":
    try:
        value.encode()
    except UnicodeEncodeError:
        return Unwritable(value, "Text without halves of surrogate pairs.")
    return str(value)
