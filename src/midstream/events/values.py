"""Values of contexts and of attributes of items and users: the allowed types, and their one form as bytes.

The form is compact JSON with sorted keys, so that the same content always gives the same bytes, whoever wrote it.
"""

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TypeAlias, cast

import msgspec

from midstream.core.kinds import Operation
from midstream.events.wire import (
    CONTENT_NESTING_MAX,
    FLOAT32_MAX,
    Accept,
    AttributeKind,
    Refused,
    right_of,
    vector_length,
)

NOT_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
Path: TypeAlias = tuple[str | int, ...]
AVAILABLE = "available"
"""The one attribute of an item that the engine itself reads; always a boolean."""
MERGED = "from"
"""The one attribute of a merge: the other user's id."""
_ENCODER = msgspec.json.Encoder(order="deterministic")
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_NUMBER = "A finite number; a whole number within 64 bits."
_CHAR_BYTES_MAX = 4


class _Merge(msgspec.Struct, frozen=True):
    """Body of a merge."""

    other: str = msgspec.field(name=MERGED)


def compact(value: object, path: Path) -> str:
    """Return compact JSON with sorted keys, or raise ``Refused`` at ``path`` for what has no such form."""
    try:
        return _ENCODER.encode(value).decode()
    except UnicodeEncodeError:
        raise Refused(path, "Valid Unicode.", "Text with half of a surrogate pair.") from None
    except (TypeError, ValueError, OverflowError, RecursionError):
        # Only Python callers get here: names that are no text, whole numbers of thousands of digits, endless nesting.
        raise Refused(path, "What JSON can say, with names that are text.") from None


def context_body(context: Mapping[str, object], accept: Accept) -> str:
    """Return the canonical text of a context, empty for an empty one; or raise ``Refused``."""
    if not context:
        return ""
    for name, value in context.items():
        path = ("context", name)
        _check_name(name, path, accept)
        if not isinstance(value, str | int | float):
            raise Refused(path, right_of("context", accept))
        _check_number(value, path)
    body = compact(context, ("context",))
    _check_bytes(body, "context", accept)
    return body


def attributes_body(attributes: Mapping[str, object], operation: int, *, of_item: bool, accept: Accept) -> str:
    """Return the canonical text of attributes; or raise ``Refused``.

    Declared attributes of items must be of their kind; others may be any JSON, together up to ``free_bytes_max``.
    """
    free: dict[str, object] = {}
    for name, value in attributes.items():
        path = ("attributes", name)
        _check_name(name, path, accept)
        kind = _kind_of(name, accept) if of_item else None
        if value is None:
            if operation != Operation.PATCH:
                raise Refused(path, "A value: null removes an attribute, which only a patch does.")
        elif kind is None:
            free[name] = value
        else:
            _check_kind(value, kind, path, accept)
    body = compact(attributes, ("attributes",))
    if free:
        # First the size, so that looking into each value is bounded.
        if len(body) * _CHAR_BYTES_MAX > accept.limits.free_bytes_max:
            _check_bytes(compact(free, ("attributes",)), "attributes", accept)
        for name, value in free.items():
            # The event and its attributes are the first two levels.
            check_json(value, ("attributes", name), accept.limits.nesting_max - 2)
    return body


def merge_body(attributes: Mapping[str, object], accept: Accept) -> str:
    """Return the canonical text of what a merge says; or raise ``Refused``."""
    path = ("attributes", MERGED)
    for name in attributes:
        if name != MERGED:
            raise Refused(("attributes", name), f'A merge has one attribute, "{MERGED}": the other user\'s id.')
    other = attributes.get(MERGED)
    if other is None:
        raise Refused(path, right_of("user_id", accept), "Nothing was sent.")
    if not isinstance(other, str) or not 0 < len(other) <= accept.limits.id_chars_max or NOT_IN_IDS.search(other):
        raise Refused(path, right_of("user_id", accept))
    return compact({MERGED: other}, path)


def merged_id(body: bytes) -> str:
    """Return the other user's id of the body of a merge; empty when the body is none."""
    try:
        return msgspec.json.decode(body, type=_Merge).other
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def content_body(content: Mapping[str, object], accept: Accept) -> str:
    """Return the canonical text of the content of a served, tick, control or erase event; or raise ``Refused``."""
    if not nests_within(content, CONTENT_NESTING_MAX):
        raise Refused(("content",), right_of("content", accept))
    return compact(content, ("content",))


def nests_within(value: object, levels_max: int) -> bool:
    """Say whether a value has at most so many levels of objects and arrays."""
    entries = _entries(value)
    if entries is None:
        return True
    return levels_max > 0 and all(nests_within(each, levels_max - 1) for _, each in entries)


def check_json(value: object, path: Path, levels_max: int) -> None:
    """Raise ``Refused`` where a value is not JSON, holds a number that is too large, or nests too deeply."""
    if value is None or isinstance(value, str):
        return
    if isinstance(value, int | float):
        _check_number(value, path)
        return
    entries = _entries(value)
    if entries is None:
        raise Refused(path, "Text, a number, a boolean, a list or an object.")
    if levels_max < 1:
        raise Refused(path, "Fewer levels of objects and lists in one event.", "One level too many.")
    for key, each in entries:
        if isinstance(value, dict) and not isinstance(key, str):
            raise Refused(path, "Names that are text.")
        check_json(each, (*path, key), levels_max - 1)


def _entries(value: object) -> Iterable[tuple[str | int, object]] | None:
    """Return what an object or a list holds, each with its key or place; None for anything else."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value).items()
    # A tuple comes from Python callers, and is a list in JSON.
    if isinstance(value, list | tuple):
        return enumerate(cast("list[object]", value))
    return None


def _kind_of(name: str, accept: Accept) -> AttributeKind | None:
    return "boolean" if name == AVAILABLE else accept.attributes.get(name)


def _check_kind(value: object, kind: AttributeKind, path: Path, accept: Accept) -> None:
    """Raise ``Refused`` unless the value is of the declared kind."""
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(path, f'A finite number: "{path[-1]}" is declared as a number.')
        _check_number(value, path)
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise Refused(path, "true or false.")
    elif kind == "category":
        _check_label(value, path, accept)
    elif length := vector_length(kind):
        _check_vector(value, length, path)
    else:
        tags = cast("list[object]", value) if isinstance(value, list | tuple) else None
        if tags is None or len(tags) > accept.limits.tags_max:
            raise Refused(path, f"A list of at most {accept.limits.tags_max} texts: it is declared as tags.")
        for key, tag in enumerate(tags):
            _check_label(tag, (*path, key), accept)


def _check_vector(value: object, length: int, path: Path) -> None:
    """Raise ``Refused`` unless the value is a list of so many numbers that float32 can hold."""
    numbers = cast("list[object]", value) if isinstance(value, list | tuple) else None
    if numbers is None:
        raise Refused(path, f"A list of {length} numbers: it is declared as vector:{length}.")
    if len(numbers) != length:
        came = f"A list of {len(numbers)}."
        raise Refused(path, f"A list of {length} numbers: it is declared as vector:{length}.", came)
    for place, number in enumerate(numbers):
        # NaN is not within bounds.
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= FLOAT32_MAX:
            raise Refused((*path, place), "A finite number, at most 3.4e38.")
        _check_number(number, (*path, place))


def _check_label(value: object, path: Path, accept: Accept) -> None:
    if not isinstance(value, str) or len(value) > accept.limits.id_chars_max:
        raise Refused(path, f"Text of at most {accept.limits.id_chars_max} characters.")


def _check_name(name: str, path: Path, accept: Accept) -> None:
    if not 0 < len(name) <= accept.limits.id_chars_max:
        raise Refused(path[:-1], f"Names of 1 to {accept.limits.id_chars_max} characters.", "A name of another length.")


def _check_number(value: object, path: Path) -> None:
    """Raise ``Refused`` for a number that is not finite or does not fit 64 bits; text passes."""
    if isinstance(value, int):
        if not _INT64_MIN <= value <= _INT64_MAX:
            raise Refused(path, _NUMBER)
    elif isinstance(value, float) and not isfinite(value):
        raise Refused(path, _NUMBER)


def _check_bytes(body: str, field: str, accept: Accept) -> None:
    size = len(body.encode())
    if size > accept.limits.free_bytes_max:
        right = right_of(field, accept) if field == "context" else _undeclared(accept)
        raise Refused((field,), right, f"{size} bytes as compact JSON.")


def _undeclared(accept: Accept) -> str:
    return f"Attributes that are not declared: at most {accept.limits.free_bytes_max} bytes together."
