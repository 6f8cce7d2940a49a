"""A record of somebody else's to an event of ours: columns, constants, types and times by what was asked.

Nothing here decides what an event may hold, that is ``events.decode``; a cell's text becomes the number, time or truth
value that its field needs, or is refused with the field's name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any, TypeAlias, cast

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import RESERVED_TYPES
from midstream.core.nearest import nearest
from midstream.events.wire import EVENT_FIELDS, vector_length

PAGE = "docs/data.md"
_PLACE = re.compile(r"\{([^{}]+)\}")
_JSON_FIELDS = ("items", "context", "attributes", "content")
_WHOLE = re.compile(r"[+-]?\d{1,18}(?:\.0*)?")
_UNITS_PER_MS = {"s": 1, "ms": 1, "us": 1_000, "ns": 1_000_000}
"""Seconds are multiplied instead."""
Record: TypeAlias = Mapping[str, object]
Getter: TypeAlias = Callable[[Record], object]


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """How a file's columns become the fields of events."""

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """Field → column: ``user_id`` → ``visitor``; ``attributes.price`` and ``context.page`` too. A column with braces is
    a text made of several: ``{year}-{month}-{day}``. Of NDJSON also a path into objects: ``product.id``."""
    constants: Mapping[str, str] = field(default_factory=dict[str, str])
    """Field → the value that all events get."""
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    """Value in the type column → type of the event. Others stay as they are."""
    time_format: str = "auto"
    """``s``, ``ms``, ``us``, ``ns`` since 1970, ``iso``, or a pattern of ``strptime``; without a zone UTC. ``auto``
    takes what ``POST /v1/events`` takes."""

    named_only: bool = False
    """A column goes only where ``columns`` says, and not by its own name."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing was asked for: the file has the fields of events already."""
        return not (self.columns or self.constants or self.types) and self.time_format == "auto"


class CellRefused(ValueError):
    """A record cannot be an event: field, what came, what would be right."""

    def __init__(self, name: str, came: str, right: str) -> None:
        super().__init__(name, came, right)
        self.name = name
        self.came = came
        self.right = right


def unused_columns(header: Sequence[str], options: ColumnOptions) -> tuple[str, ...]:
    """Return the columns of a file with a header that go nowhere."""
    used = {name for column in options.columns.values() for name in place_names(column)}
    own = () if options.named_only else EVENT_FIELDS
    return tuple(name for name in header if name not in used and name not in own)


def converter(
    options: ColumnOptions, header: tuple[str, ...] | None, attribute_kinds: Mapping[str, str]
) -> Callable[[Record], dict[str, object]]:
    """Return the function from a record to an event, which raises ``CellRefused``.

    Args:
        options: How columns become fields.
        header: The file's columns; None = each record has its own.
        attribute_kinds: Declared item attributes, which decide what the text of a cell means.

    Raises:
        Invalid: The options name a column that is not there, or a field that no event has.
    """
    if header is None and options.is_plain:
        return dict[str, object]
    _require_sense(options, header)
    getters = _getters(options, header)
    casts = {name: _cast_of(name, options, attribute_kinds) for name in (*getters, *options.constants, *EVENT_FIELDS)}
    fixed = {name: casts[name](value) for name, value in options.constants.items()}

    def convert(record: Record) -> dict[str, object]:
        event: dict[str, Any] = {}
        for name, value in fixed.items():
            _put(event, name, value)
        for name, get in getters.items():
            value = get(record)
            if value is not None and value != "":
                _put(event, name, casts[name](value))
        return event

    return convert


def _require_sense(options: ColumnOptions, header: tuple[str, ...] | None) -> None:
    """Raise ``Invalid`` for fields and columns that are not there, all of them at once."""
    faults: list[Fault] = []
    for name in (*options.columns, *options.constants):
        top, dot, rest = name.partition(".")
        if (top not in EVENT_FIELDS) if not dot else (top not in ("attributes", "context") or not rest):
            came = f'"{name}" is no field of an event.{nearest(name, EVENT_FIELDS)}'
            right = f"Fields: {', '.join(EVENT_FIELDS)}, attributes.NAME, context.NAME"
            faults.append(Fault(f"--map {name}", came, right, PAGE))
    if header is not None:
        for name, column in options.columns.items():
            for each in place_names(column):
                if each not in header:
                    came = f'The file has no column "{each}".{nearest(each, header)}'
                    faults.append(Fault(f"--map {name}={column}", came, f"Columns: {', '.join(header)}", PAGE))
        if "type" not in {*options.columns, *options.constants, *header}:
            came = 'The file has no column "type", so nobody knows what its rows are.'
            right = "--type view for all of them, or --map type=COLUMN."
            faults.append(Fault("--type", came, right, PAGE))
    if faults:
        raise Invalid(tuple(faults))


def _getters(options: ColumnOptions, header: tuple[str, ...] | None) -> dict[str, Getter]:
    """Return for each field how its value is found in a record."""
    return {
        name: _getter(column, has_header=header is not None) for name, column in columns_of(options, header).items()
    }


def columns_of(options: ColumnOptions, header: tuple[str, ...] | None) -> dict[str, str]:
    """Return for each field its column, or the text made of several: as was asked, else the one of its own name."""
    found = dict(options.columns)
    if options.named_only:
        return found
    for name in EVENT_FIELDS if header is None else header:
        if name in EVENT_FIELDS and name not in found and name not in options.constants:
            found[name] = name
    return found


def place_names(column: str) -> tuple[str, ...]:
    """Return the columns that stand in a text made of several; of a plain name that name."""
    return tuple(_PLACE.findall(column)) or (column,)


def _getter(column: str, *, has_header: bool) -> Getter:
    if _PLACE.search(column):
        return _template(column)
    return _column(column) if has_header or "." not in column else _path(column)


def _column(name: str) -> Getter:
    return lambda record: record.get(name)


def _template(text: str) -> Getter:
    names = _PLACE.findall(text)

    def get(record: Record) -> object:
        values = {name: record.get(name) for name in names}
        if any(value is None or value == "" for value in values.values()):
            return None
        return _PLACE.sub(lambda match: str(values[match[1]]), text)

    return get


def _path(column: str) -> Getter:
    parts = column.split(".")

    def get(record: Record) -> object:
        if column in record:
            return record[column]
        value: object = record
        for part in parts:
            value = _member(value, part)
        return value

    return get


def _member(value: object, name: str) -> object:
    return cast("dict[str, object]", value).get(name) if isinstance(value, dict) else None


def _put(event: dict[str, Any], name: str, value: object) -> None:
    top, dot, rest = name.partition(".")
    if dot:
        event.setdefault(top, {})[rest] = value
    else:
        event[name] = value


def _cast_of(name: str, options: ColumnOptions, attribute_kinds: Mapping[str, str]) -> Callable[[Any], object]:
    """Return what makes a field's value of a cell. What is no text stays what it is, but times and types."""
    top, dot, rest = name.partition(".")
    if dot:
        kind = attribute_kinds.get(rest) if top == "attributes" else None
        return lambda value: attribute_of(name, value, kind)
    if name in _JSON_FIELDS:
        return lambda value: _json(name, value)
    plain: Mapping[str, Callable[[Any], object]] = {
        "time": time_reader(options.time_format),
        "type": lambda value: type_of(value, options.types),
        "value": lambda value: _number("value", value),
        "quantity": lambda value: _number("quantity", value),
        "position": lambda value: _whole("position", value),
        "log_time": lambda value: _whole("log_time", value),
    }
    return plain.get(name, _id_text)


def type_of(value: object, types: Mapping[str, str]) -> str:
    """Return an event's type: as it was mapped, a reserved one whatever its case, any other as it stands."""
    text = str(value)
    return types.get(text, text.lower() if text.lower() in RESERVED_TYPES else text)


def _id_text(value: object) -> object:
    """Return an id as text: a number in a Parquet column or in JSON is its digits."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str | bool) else str(value)


def _number(name: str, value: object) -> object:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        raise CellRefused(name, f"{value!r:.60}.", "A number, with a point before the decimals.") from None


def _whole(name: str, value: object) -> object:
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            raise CellRefused(name, f"{value!r:.60}.", "A whole number.")
        return int(value.partition(".")[0])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise CellRefused(name, f"{value!r:.60}.", "JSON, as an export writes it.") from None


def attribute_of(name: str, value: object, kind: str | None) -> object:
    """Return a cell's text as what its attribute is declared as; undeclared: a number or truth value if it is one."""
    if not isinstance(value, str):
        return value.isoformat() if isinstance(value, date) else value
    if kind == "number":
        return _number(name, value)
    if kind == "boolean" or (kind is None and value.lower() in ("true", "false")):
        if value.lower() not in ("true", "false", "1", "0"):
            raise CellRefused(name, f"{value!r:.60}.", "true, false, 1 or 0.")
        return value.lower() in ("true", "1")
    if kind == "tags":
        return [each.strip() for each in value.split("|") if each.strip()]
    if kind is not None and vector_length(kind):
        return _vector(name, value)
    return value if kind == "category" else _number_or_text(value)


def _vector(name: str, value: str) -> object:
    """Return the numbers of a text: a list in JSON, or with ``|`` between them."""
    if value.lstrip().startswith("["):
        return _json(name, value)
    return [_number(name, each) for each in value.split("|")]


def _number_or_text(value: str) -> object:
    try:
        number = float(value)
    except ValueError:
        return value
    return number if isfinite(number) else value


def time_reader(time_format: str) -> Callable[[Any], object]:
    """Return what makes milliseconds, or ISO 8601 text, of a cell."""
    unit = _UNITS_PER_MS.get(time_format)
    if unit is not None:
        return lambda value: _since_1970(value, time_format, unit)
    if time_format == "iso":
        return lambda value: _parsed(value, datetime.fromisoformat, "ISO 8601 text")
    if time_format == "auto":
        return _auto_time
    if "%" not in time_format:
        right = "auto, s, ms, us, ns, iso, or a pattern such as %Y-%m-%d %H:%M:%S"
        raise Invalid((Fault("--time-format", f"{time_format!r}", right, PAGE),))
    return lambda value: _parsed(value, lambda text: datetime.strptime(text, time_format), f"like {time_format}")  # noqa: DTZ007  _ms_of says UTC


def _since_1970(value: object, name: str, unit: int) -> object:
    if isinstance(value, datetime):
        return _ms_of(value)
    number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else _number("time", value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not isfinite(number):
        raise CellRefused("time", f"{value!r:.60}.", f"A number: {name} since 1970.")
    return int(number * 1_000) if name == "s" else int(number // unit)


def _parsed(value: object, parse: Callable[[str], datetime], right: str) -> object:
    if isinstance(value, datetime):
        return _ms_of(value)
    try:
        return _ms_of(parse(str(value)))
    except ValueError:
        raise CellRefused("time", f"{value!r:.60}.", f"A time: {right}.") from None


def _auto_time(value: object) -> object:
    if isinstance(value, datetime):
        return _ms_of(value)
    return int(value.partition(".")[0]) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def _ms_of(moment: datetime) -> int:
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1_000)


def parse_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return ``NAME=VALUE`` texts as a mapping; several may stand in one, with commas between.

    Raises:
        Invalid: A text has no ``=`` or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        for pair in re.split(r",(?=[^,{}=]+=)", text):
            name, equals, value = pair.partition("=")
            if not equals or not name.strip() or not value or name.strip() in found:
                right = f"{option} NAME=VALUE, each name once."
                raise Invalid((Fault(option, f"{pair!r}.", right, PAGE),))
            found[name.strip()] = value
    return found
