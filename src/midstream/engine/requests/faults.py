"""Faults of a request: where, what came and what would be right, found by the walk of ``core.type_faults``."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, cast

import msgspec

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.nearest import nearest
from midstream.core.paths import step, steps
from midstream.core.type_faults import TypeFault, TypeReading, shown_value, type_faults
from midstream.engine.requests.schema import PAGE
from midstream.events.faults import shown

SHOWN_MAX = 60
"""Characters of a wrong name that are shown back."""
FAULTS_MAX = 20
"""Told of one request."""
Hook: TypeAlias = Callable[[type, Any], Any]
OUT_OF_RANGE = "A number came that is out of range."
_FIELD = "field of this request"


class NameUnknown(RequestInvalid):
    """A name that is not allowed."""

    def __init__(self, where: str, what: str, name: str, allowed: Iterable[str]) -> None:
        """Say which name at ``where``, that it is no ``what``, and which would be right."""
        self.allowed = tuple(sorted(allowed))
        came = f'"{name[:64]}" is not a {what}.{nearest(name, self.allowed)}'
        right = f"One of: {', '.join(self.allowed)}." if self.allowed else "Nothing: there is none."
        super().__init__((Fault(where, came, right, PAGE),))


class Unwritable:
    """Placeholder for a value of a Python caller that JSON cannot have: no type accepts it."""

    __slots__ = ("right", "value")

    def __init__(self, value: object, right: str = "") -> None:
        """Keep the value and what would be right; empty = what its field says."""
        self.value = value
        self.right = right

    def __str__(self) -> str:
        """Return what can be printed of it, as a key of an object."""
        return ascii(self.value)[:SHOWN_MAX]


def reading(hook: Hook | None = None, *, strict: bool = True) -> TypeReading:
    """Return how requests are read: by a hook for what msgspec does not know, with numbers as text unless strict."""
    return TypeReading(partial(msgspec.convert, dec_hook=hook, strict=strict), f"a {_FIELD}")


def refusal_of(
    error: msgspec.ValidationError, document: object, kind: object, read: TypeReading, faults_max: int = FAULTS_MAX
) -> RequestInvalid:
    """Return the refusal of a document with its faults in their order, each at its JSON Pointer.

    Args:
        error: What msgspec found first, which is told where nothing is found.
        document: What came, as plain values; ``...`` = it cannot be read as a whole.
        kind: The type that it should have.
        read: Of ``reading``.
        faults_max: So many are told at most.
    """
    found = () if document is ... else tuple(islice(type_faults(document, kind, read), faults_max))
    faults = tuple(map(_fault, found)) or (_unread(error, kind, read),)
    if not found or found[0].problem != "unknown":
        return RequestInvalid(faults)
    refusal = _name_unknown(found[0])
    refusal.tell(faults)
    return refusal


def _name_unknown(found: TypeFault) -> NameUnknown:
    return NameUnknown(_pointer(found.path), _FIELD, str(found.path[-1]), found.names)


def field_refusal(
    error: msgspec.ValidationError, fields: Mapping[str, object], kind: object, read: TypeReading
) -> RequestInvalid:
    """Return the refusal of fields of a query string or of a command for the first that has a fault, shown whole."""
    first = refusal_of(error, fields, kind, read, 1).faults[0]
    name = first.where.removeprefix("/").partition("/")[0]
    return RequestInvalid((replace(first, where=name, came=f"{shown_value(fields.get(name))} came."),))


def _fault(found: TypeFault) -> Fault:
    """Return the fault of a part of a request, which has objects where a file has tables."""
    if found.problem == "unknown":
        return _name_unknown(found).faults[0]
    right = found.right.replace("A table", "An object").replace("a table", "an object")
    if isinstance(found.value, Unwritable):
        return Fault(_pointer(found.path), f"{shown(found.value.value)} came.", found.value.right or right, PAGE)
    return Fault(_pointer(found.path), found.came, right, PAGE)


def _unread(error: msgspec.ValidationError, kind: object, read: TypeReading) -> Fault:
    """Return the fault of a document that cannot be read to its end, of which msgspec says where the first one is."""
    text, _, path = str(error).partition(" - at `")
    path = path.rstrip("`")
    where = json_pointer(path.partition("[...]")[0])
    if text == "Number out of range":
        return Fault(where, OUT_OF_RANGE, "Numbers up to 1.8e308.", PAGE)
    if text.startswith("Object "):  # a field that there is not, or one that is missing
        return Fault(where, f"{text}.", "What the page says of it.", PAGE)
    document: object = (wrong := Unwritable(None))
    for each in reversed(steps(path.replace("[...]", ".entry"))):
        document = [document] if isinstance(each, int) else {each: document}
    right = next((_fault(each).right for each in type_faults(document, kind, read) if each.value is wrong), f"{text}.")
    return Fault(where, "A wrong value came.", right, PAGE)


def json_pointer(path: str) -> str:
    """Return the JSON Pointer of a path such as ``$.rules[0].name``.

    Example:
        >>> json_pointer("$.rules[0].name"), json_pointer('$.weights["a.b/c"]'), json_pointer("$")
        ('/rules/0/name', '/weights/a.b~1c', '')
    """
    return "".join(f"/{_step(str(each))}" for each in steps(path))


def path_of(pointer: str, document: object) -> str:
    """Return the path that a JSON Pointer is of; what it points into says whether a number is a place or a key.

    Example:
        >>> path_of("/rules/0/name", {"rules": [{}]}), path_of("/weights/a.b~1c", {}), path_of("", {})
        ('$.rules[0].name', '$.weights["a.b/c"]', '$')
        >>> path_of("/weights/7", {"weights": {"7": -1.0}})
        '$.weights.7'
    """
    path, value = "$", document
    for each in pointer.split("/")[1:]:
        key = each.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isascii() and key.isdigit():
            found, at = cast("list[object]", value), int(key)
            path, value = f"{path}[{key}]", found[at] if at < len(found) else None
        else:
            path += step(key)
            value = cast("dict[str, object]", value).get(key) if isinstance(value, dict) else None
    return path


def _pointer(path: Iterable[str | int]) -> str:
    return "".join(f"/{escaped(str(each))}" for each in path)


def escaped(key: str) -> str:
    """Return the step of a JSON Pointer to a key, which stands there shortened. Reference: RFC 6901, section 3."""
    return _step(key[:SHOWN_MAX])


def _step(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
