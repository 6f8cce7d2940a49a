"""Faults of a request in four parts, from msgspec's message about the first one.

A place in an object whose keys msgspec does not name is found again by decoding parts of the object.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import msgspec
from msgspec import inspect

from midstream.core.errors import Fault, RequestInvalid
from midstream.core.nearest import nearest
from midstream.core.paths import step, steps
from midstream.engine.requests.schema import PAGE
from midstream.events.faults import shown

SHOWN_MAX = 60
"""Characters of a wrong value that are shown back."""
FAULTS_MAX = 20
"""Reported faults of one request."""
_PARTS = re.compile(r"(.*?)(?: - at `(?:key` in `)?\$([^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected (.*?)(?:, got (.*))?", re.DOTALL)
_TYPE = re.compile(r"[a-z]+")
_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
_KINDS_SAID = {
    "str": "text",
    "int": "a number",
    "float": "a number",
    "bool": "a truth",
    "array": "a list",
    "object": "an object",
}
"""msgspec's names of JSON types, and those of JSON."""
OUT_OF_RANGE = "A number came that is out of range."
_KINDS: tuple[tuple[type[inspect.Type] | tuple[type[inspect.Type], ...], str], ...] = (
    (inspect.StrType, "Text."),
    (inspect.IntType, "A whole number."),
    (inspect.FloatType, "A number."),
    (inspect.BoolType, "True or false."),
    ((inspect.ListType, inspect.VarTupleType, inspect.TupleType), "A list."),
    ((inspect.DictType, inspect.StructType), "An object."),
)
Find = Callable[[object], "Fault | None"]
"""Returns the first fault of a document; None = it is valid, or unknown."""


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


def first_fault(error: msgspec.ValidationError, document: object, kind: object) -> RequestInvalid:
    """Return the refusal of a document by msgspec's first error.

    Args:
        error: msgspec's message.
        document: The request as plain values; ``...`` = it cannot be decoded as a whole.
        kind: Its type.
    """
    text, pointer = _message_and_pointer(str(error))
    if text == "Number out of range":
        return _invalid(pointer, OUT_OF_RANGE, "Numbers up to 1.8e308.")
    unknown = _UNKNOWN.fullmatch(text)
    if unknown is not None:
        names = _names_at(inspect.type_info(kind), pointer.split("/")[1:])
        return NameUnknown(f"{pointer}/{escaped(unknown[1])}", "field of this request", unknown[1], names)
    missing = _MISSING.fullmatch(text)
    if missing is not None:
        pointer = f"{pointer}/{escaped(missing[1])}"
        return _invalid(pointer, "It is missing.", _needed(inspect.type_info(kind), pointer.split("/")[1:]))
    expected = _EXPECTED.fullmatch(text)
    right = _in_words(expected[1]) if expected else text
    if document is ...:
        return _invalid(pointer, f"A wrong value{_kind_in_words(expected)} came.", right)
    value = value_at(document, pointer)
    if isinstance(value, Unwritable):
        return _invalid(pointer, f"{shown(value.value)} came.", value.right or right)
    return _invalid(pointer, f"{json_of(value)}{_kind_in_words(expected)} came.", right)


def named(document: object, fault: Fault, find: Find) -> Fault:
    """Return a fault that points at the one entry of an object that has it, where it is one.

    msgspec does not name keys of an object that may have any: half of the entries after half is tried without the rest.
    Cost: two readings for each doubling of the entries.
    """
    where, came, right = fault.where, fault.came, fault.right
    while (key := _wrong_key(document, where, fault, find)) is not None:
        value = cast("dict[object, object]", value_at(document, where))[key]
        document = _with(document, where.split("/")[1:], {key: value})
        where = f"{where}/{escaped(str(key))}"
        if isinstance(key, Unwritable):
            came, right = f"The name {shown(key.value)} came.", key.right
            break
        if isinstance(value, Unwritable):
            came, right = f"{shown(value.value)} came.", value.right or right
        else:
            came = f"{json_of({key: value})} came."
    return Fault(where, came, right, fault.page)


def _wrong_key(document: object, where: str, fault: Fault, find: Find) -> object:
    """Return the key of an object under which alone a fault stays what it is; None = there is no such key."""
    held = value_at(document, where)
    if not isinstance(held, dict) or not held:
        return None
    entries, path = cast("dict[object, object]", held), where.split("/")[1:]

    def is_wrong(keys: Sequence[object]) -> bool:
        found = find(_with(document, path, {key: entries[key] for key in keys}))
        return found is not None and (found.where, found.right) == (fault.where, fault.right)

    keys: Sequence[object] = list(entries)
    if is_wrong(()):
        return None
    while len(keys) > 1:
        first, rest = keys[: len(keys) // 2], keys[len(keys) // 2 :]
        keys = first if is_wrong(first) else rest
    return keys[0] if is_wrong(keys) else None


def _with(document: object, path: Sequence[str], value: object) -> object:
    """Return a document with another value at a path."""
    if not path:
        return value
    key = unescaped(path[0])
    if isinstance(document, dict):
        held = cast("dict[str, object]", document)
        return {**held, key: _with(held[key], path[1:], value)}
    items = list(cast("list[object]", document))
    items[int(key)] = _with(items[int(key)], path[1:], value)
    return items


def value_at(document: object, pointer: str) -> object:
    """Return the value that a pointer leads to, None = nothing is there."""
    value = document
    for each in pointer.split("/")[1:]:
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(unescaped(each))
        elif isinstance(value, list):
            value = cast("list[object]", value)[int(each)]
    return value


def invalid_value(error: msgspec.ValidationError, came: Mapping[str, object]) -> RequestInvalid:
    """Return the fault of a query field whose value does not have the right type or range."""
    text, pointer = _message_and_pointer(str(error))
    expected = _EXPECTED.fullmatch(text)
    right = _in_words(expected[1]) if expected else text
    name = pointer.removeprefix("/").partition("/")[0]
    return _invalid(name, f"{json_of(came.get(name))} came.", right)


def _message_and_pointer(text: str) -> tuple[str, str]:
    """Split msgspec's text into what is wrong and where, as a JSON Pointer; keys it does not name are left out."""
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return text, ""
    return parts[1], json_pointer((parts[2] or "").partition("[...]")[0])


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


def _kind_in_words(expected: re.Match[str] | None) -> str:
    """Return in brackets of which kind a value is that came, where msgspec says so."""
    kind = expected[2] if expected else None
    return f" ({_KINDS_SAID.get(kind.replace('`', ''), kind)})" if kind else ""


def json_of(value: object) -> str:
    """Return a value as short JSON, or its type where it has none."""
    try:
        text = msgspec.json.encode(value).decode()
    except (msgspec.MsgspecError, TypeError, UnicodeError, RecursionError):
        text = str(type(value).__name__)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _in_words(expected: str) -> str:
    """Return what msgspec expected, such as ``str | null``, in words: ``Text.``."""
    words = _TYPE.sub(lambda found: _WORDS.get(found[0], found[0]), expected.replace(" | null", "").replace("`", ""))
    return f"{words[:1].upper()}{words[1:]}."


def _needed(kind: inspect.Type, path: Sequence[str]) -> str:
    """Return in words what a type has at the end of a path; of a choice, what the first has that has the path."""
    if not path:
        return next((words for known, words in _KINDS if isinstance(kind, known)), "A value.")
    if isinstance(kind, inspect.UnionType):
        found = (_needed(each, path) for each in kind.types)
        return next((words for words in found if words), "")
    if isinstance(kind, inspect.StructType):
        found = (_needed(each.type, path[1:]) for each in kind.fields if each.encode_name == path[0])
        return next(found, "")
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return _needed(kind.item_type, path[1:])
    return _needed(kind.value_type, path[1:]) if isinstance(kind, inspect.DictType) else ""


def _names_at(kind: inspect.Type, path: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the fields that the object at a path may have; none where there is no such object."""
    if isinstance(kind, inspect.UnionType):
        return next((names for names in (_names_at(each, path) for each in kind.types) if names), ())
    if isinstance(kind, inspect.StructType):
        if not path:
            return tuple(each.encode_name for each in kind.fields)
        return next((_names_at(each.type, path[1:]) for each in kind.fields if each.encode_name == path[0]), ())
    if path and isinstance(kind, inspect.ListType | inspect.VarTupleType):
        return _names_at(kind.item_type, path[1:])
    return _names_at(kind.value_type, path[1:]) if path and isinstance(kind, inspect.DictType) else ()


def escaped(key: str) -> str:
    """Return the step of a JSON Pointer to a key, which stands there shortened. Reference: RFC 6901, section 3."""
    return _step(key[:SHOWN_MAX])


def _step(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def unescaped(step_text: str) -> str:
    """Return the key of a step of a JSON Pointer."""
    return step_text.replace("~1", "/").replace("~0", "~")


def _invalid(where: str, came: str, right: str) -> RequestInvalid:
    return RequestInvalid((Fault(where, came, right, PAGE),))
