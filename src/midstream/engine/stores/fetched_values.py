"""Values of a store as those of declared columns: text of Redis, decimals of PostgreSQL, truths of 1 and 0."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Literal, TypeAlias
from uuid import UUID

from midstream.core.errors import ShapeMismatch

FetchedText: TypeAlias = str | float | bool | None
IdKind: TypeAlias = Literal["text", "integer", "uuid"]
"""Kind of an id in a table of the shop's own."""
_TRUTHS = {"1": True, "0": False, "true": True, "false": False, "t": True, "f": False}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")


def named_fields(columns: Mapping[str, str], fields: Mapping[str, str]) -> tuple[str, ...]:
    """Return the name that each column has in the store."""
    return tuple(fields.get(each, each) for each in columns)


def column_of(name: str, kind: str, values: Sequence[object], ids: Sequence[str]) -> list[FetchedText]:
    """Return the values of a column, None = missing.

    Raises:
        ShapeMismatch: One is no value of the kind; the text has its id.
    """
    return [None if each is None else _value(name, kind, each, own) for each, own in zip(values, ids, strict=True)]


def _value(name: str, kind: str, value: object, own: str) -> FetchedText:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if kind == "category" and isinstance(value, (str, int, UUID)) and not isinstance(value, bool):
        return str(value)
    if kind == "boolean":
        if isinstance(value, (bool, int, float)) and value in {0, 1}:
            return bool(value)
        if isinstance(value, str) and (found := _TRUTHS.get(value.lower())) is not None:
            return found
    if kind == "number" and isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)
    message = f"{name} of {own!r}: {type(value).__name__} {str(value)[:32]!r} came where a {kind} is right"
    raise ShapeMismatch(message)


def keys_of(ids: Sequence[str], kind: IdKind) -> dict[object, int]:
    """Return the ids as the table has them, with the place of each; one that cannot be there is left out.

    Example:
        >>> keys_of(["7", "007", "lamp"], "integer")
        {7: 0}
    """
    found = {_key(each, kind): place for place, each in enumerate(ids)}
    found.pop(None, None)
    return found


def _key(each: str, kind: IdKind) -> object:
    if kind == "integer":
        number = int(each) if _INTEGER.fullmatch(each) else None
        return number if number is not None and -(2**63) <= number < 2**63 else None
    if kind == "uuid":
        try:
            own = UUID(each)
        except ValueError:
            return None
        return own if str(own) == each.lower() else None
    return None if "\0" in each else each
