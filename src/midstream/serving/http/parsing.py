"""Turns bytes and query strings into typed values, and what is wrong with them into faults with a pointer."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect

from midstream.core.errors import Fault, RequestInvalid, TooLarge
from midstream.core.paths import step, steps
from midstream.serving.http.body_faults import all_faults
from midstream.serving.http.problems import FAULTS_MAX, PAGE, NameUnknown
from midstream.serving.http.responses import Scope

QUERY_BYTES_MAX = 8_192
"""What proxies let through."""
QUERY_FIELDS_MAX = 1_000
"""A field takes at least eight bytes of the 8,192, its name and value included."""
SHOWN_MAX = 60
"""Characters of a wrong value that are shown back."""
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises on bytes that are no JSON, on other JSON than was asked for, on nesting too deep."""

T = TypeVar("T")
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
"""What msgspec calls a value that came, in words of JSON."""
_OUT_OF_RANGE = "A number came that is out of range."
_KINDS: tuple[tuple[type[inspect.Type] | tuple[type[inspect.Type], ...], str], ...] = (
    (inspect.StrType, "Text."),
    (inspect.IntType, "A whole number."),
    (inspect.FloatType, "A number."),
    (inspect.BoolType, "True or false."),
    ((inspect.ListType, inspect.VarTupleType, inspect.TupleType), "A list."),
    ((inspect.DictType, inspect.StructType), "An object."),
)


def decode_json(decoder: msgspec.json.Decoder[T], body: bytes, fields: tuple[str, ...]) -> T:
    """Return the typed value of a JSON body.

    Args:
        decoder: Of the type that the body must have.
        body: What came.
        fields: Names that the top level may have, for the error's text.

    Raises:
        RequestInvalid: The body is not JSON or not of that type; each fault points to its place.
    """
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        refusal = _fault(error, body, fields, decoder.type)
        if isinstance(error, msgspec.ValidationError):
            refusal.tell(all_faults(body, refusal.faults[0], partial(_first_fault, decoder, fields), FAULTS_MAX))
        raise refusal from error


def _first_fault(decoder: msgspec.json.Decoder[T], fields: tuple[str, ...], body: bytes) -> Fault | None:
    """Return the first fault of a body, None = there is none."""
    try:
        decoder.decode(body)
    except msgspec.ValidationError as error:
        return _fault(error, body, fields, decoder.type).faults[0]
    except UNREADABLE:
        return None
    return None


def decode_any(raw: msgspec.Raw, pointer: str) -> Any:  # noqa: ANN401  any JSON
    """Return what a part of a body says, which was passed over when the body was decoded.

    Raises:
        RequestInvalid: It is no JSON that can be read: texts and numbers are looked at only here.
    """
    try:
        return msgspec.json.decode(raw)
    except UNREADABLE as error:
        came = (
            _OUT_OF_RANGE if isinstance(error, msgspec.ValidationError) else f"It cannot be read: {_why(error, raw)}."
        )
        raise _invalid(pointer, came, "JSON in UTF-8, numbers up to 1.8e308.") from error


def _why(error: Exception, body: bytes | msgspec.Raw) -> str:
    """Return why some bytes are no JSON."""
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if not isinstance(error, UnicodeDecodeError):
        return str(error)
    try:
        bytes(body).decode()
    except UnicodeDecodeError as found:
        return f"it is not UTF-8 (byte {found.start})"
    return "it is not UTF-8"


def _fault(error: Exception, body: bytes, fields: tuple[str, ...], wanted: object) -> RequestInvalid:
    if not isinstance(error, msgspec.ValidationError):
        came = f"The body is not JSON that can be read: {_why(error, body)}."
        return _invalid("", came, "One JSON object in UTF-8.")
    text, pointer = _message_and_pointer(str(error))
    if text == "Number out of range":
        return _invalid(pointer, _OUT_OF_RANGE, "Numbers up to 1.8e308.")
    unknown = _UNKNOWN.fullmatch(text)
    if unknown is not None:
        nested = _names_at(inspect.type_info(wanted), pointer.split("/")[1:]) if pointer else ()
        return NameUnknown(f"{pointer}/{_escape(unknown[1])}", "field of this request", unknown[1], nested or fields)
    missing = _MISSING.fullmatch(text)
    if missing is not None:
        pointer = f"{pointer}/{_escape(missing[1])}"
        return _invalid(pointer, "It is missing.", _needed(inspect.type_info(wanted), pointer.split("/")[1:]))
    expected = _EXPECTED.fullmatch(text)
    right = _in_words(expected[1]) if expected else text
    return _invalid(pointer, _what_came(body, pointer, expected[2] if expected else None), right)


def invalid_value(error: msgspec.ValidationError, came: Mapping[str, object]) -> RequestInvalid:
    """Return the fault of a query field whose value does not have the right type or range."""
    text, pointer = _message_and_pointer(str(error))
    expected = _EXPECTED.fullmatch(text)
    right = _in_words(expected[1]) if expected else text
    name = pointer.removeprefix("/").partition("/")[0]
    return _invalid(name, f"{_shown(came.get(name))} came.", right)


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
    return "".join(f"/{_escaped(str(each))}" for each in steps(path))


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


def _what_came(body: bytes, pointer: str, kind: str | None) -> str:
    """Show the value at a pointer, or its kind alone where what follows it in the body cannot be read."""
    named = f" ({_KINDS_SAID.get(kind.replace('`', ''), kind)})" if kind else ""
    try:
        value: object = msgspec.json.decode(body)
    except UNREADABLE:
        return f"A wrong value{named} came."
    for each in pointer.split("/")[1:]:
        if isinstance(value, dict):
            value = cast("dict[str, object]", value).get(each.replace("~1", "/").replace("~0", "~"))
        elif isinstance(value, list):
            value = cast("list[object]", value)[int(each)]
    return f"{_shown(value)}{named} came."


def _shown(value: object) -> str:
    try:
        text = msgspec.json.encode(value).decode()
    except UNREADABLE:
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


def _escape(key: str) -> str:
    """Return the step of a JSON Pointer to a key, which stands there shortened."""
    return _escaped(key[:SHOWN_MAX])


def _escaped(key: str) -> str:
    """Return the step of a JSON Pointer to a key. Reference: RFC 6901, section 3."""
    return key.replace("~", "~0").replace("/", "~1")


def _invalid(where: str, came: str, right: str) -> RequestInvalid:
    return RequestInvalid((Fault(where, came, right, PAGE),))


def query_fields(scope: Scope, allowed: tuple[str, ...], open_prefix: str | None = None) -> dict[str, list[str]]:
    """Return the fields of the query string, each with its values in order.

    Args:
        scope: Of the request.
        allowed: Names that may come.
        open_prefix: Names that begin with it may come as well.

    Raises:
        NameUnknown: Another name came.
        RequestInvalid: Not UTF-8 once its percent signs are decoded.
        TooLarge: Longer than ``QUERY_BYTES_MAX``.
    """
    raw: bytes = scope["query_string"]
    if not raw:
        return {}
    if len(raw) > QUERY_BYTES_MAX:
        right = f"At most {QUERY_BYTES_MAX} bytes; POST takes more."
        raise TooLarge((Fault("query string", f"{len(raw)} bytes came.", right, PAGE),))
    found: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        came = f"The query string cannot be read: {error}."
        raise _invalid("query string", came, "Percent-encoded UTF-8, at most 1,000 fields.") from error
    for name, value in pairs:
        if name not in allowed and not (open_prefix and name.startswith(open_prefix)):
            raise NameUnknown(name[:SHOWN_MAX], "query field of this route", name, allowed)
        found.setdefault(name, []).append(value)
    return found


def single(fields: dict[str, list[str]], name: str) -> str | None:
    """Return the one value of a field, None when it did not come.

    Raises:
        RequestInvalid: It came more than once.
    """
    values = fields.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise _invalid(name, f"It came {len(values)} times.", "Once.")
    return values[0]


def flag(fields: dict[str, list[str]], name: str) -> bool:
    """Return whether a field says ``true``; False when it did not come.

    Raises:
        RequestInvalid: It says anything but ``true`` or ``false``.
    """
    value = single(fields, name)
    if value not in {None, "true", "false"}:
        raise _invalid(name, f"{_shown(value)} came.", "true or false.")
    return value == "true"
