"""Mapping of foreign columns to events: columns, constants, types and times by the options of an import.

``events.json.decode`` validates events; here a cell's text becomes the number, time or truth value of its field, or is
refused with the field's name.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias, cast

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.core.kinds import RESERVED_TYPES
from midstream.core.nearest import nearest
from midstream.events.wire import EVENT_FIELDS, vector_length

PAGE = "/docs/data.md"
_PLACE = re.compile(r"\{([^{}]+)\}")
_JSON_FIELDS = ("items", "context", "attributes", "content")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_ZONE_NAME = re.compile(r"(?<!%)(?:%%)*%Z")
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
    rows_are_whole: bool = False
    """A row says all that is known: an attribute whose column has no value is taken away, where it would stay as it
    was."""

    @property
    def is_plain(self) -> bool:
        """Whether nothing was asked for: the file has the fields of events already."""
        return not (self.columns or self.constants or self.types) and self.time_format == "auto"


class CellRefused(ValueError):
    """A record cannot be an event: field, value, accepted values."""

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
    options: ColumnOptions,
    header: tuple[str, ...] | None,
    attribute_kinds: Mapping[str, str],
    *,
    has_types: bool,
) -> Callable[[Record], dict[str, object]]:
    """Return the function from a record to an event, which raises ``CellRefused``.

    Args:
        options: Mapping of columns to fields.
        header: The file's columns; None = each record has its own.
        attribute_kinds: Declared item attributes, which decide how a cell is read.
        has_types: A text of the file is a text; else, as in CSV, it may be a number or a truth value.

    Raises:
        Invalid: The options name a column that does not exist, a field that no event has, or an invalid constant.
    """
    if header is None and options.is_plain:
        return dict[str, object]
    _require_sense(options, header)
    # What is declared of it stands nowhere: it is always there.
    kinds = {**attribute_kinds, "available": "boolean"}
    getters = _getters(options, header)
    casts = {name: _cast_of(name, options, kinds, has_types=has_types) for name in getters}
    if header is not None:
        casts["attributes"] = lambda value: _attributes(_json("attributes", value), kinds)
    fixed = _constants(options, kinds)
    steps = _objects_first([*fixed, *getters])

    def convert(record: Record) -> dict[str, object]:
        event: dict[str, Any] = {}
        missing: list[str] = []
        for name in steps:
            value = fixed.get(name)
            if name in getters:
                found = getters[name](record)
                if found is not None and found != "":
                    _require_finite(name, found)
                    value = casts[name](found)
            if value is not None:
                _put(event, name, value)
            else:
                missing.append(name)
        if options.rows_are_whole:
            _take_away(event, missing)
        return event

    return convert


def _take_away(event: dict[str, Any], missing: Sequence[str]) -> None:
    """Have a patch take the attributes away that have no value, and a delete say nothing but whose it is."""
    operation = event.get("operation", "patch")
    if operation == "delete":
        event.pop("attributes", None)
    elif operation == "patch":
        for name in missing:
            if name.startswith("attributes."):
                _put(event, name, None)


def _constants(options: ColumnOptions, kinds: Mapping[str, str]) -> dict[str, object]:
    """Return the values that all events get, which are given as the text of a cell."""
    found: dict[str, object] = {}
    for name, text in options.constants.items():
        try:
            found[name] = _cast_of(name, options, kinds, has_types=False)(text)
        except CellRefused as error:
            raise Invalid((Fault(f"--set {name}={text}", error.came, error.right, PAGE),)) from error
    return found


def _objects_first(names: Sequence[str]) -> list[str]:
    """Return names of fields once, those of members behind the objects that they go into."""
    return sorted(dict.fromkeys(names), key=lambda name: "." in name)


def _require_finite(name: str, value: object) -> None:
    """Raise ``CellRefused`` where a number is not finite: as JSON it would be null, which takes an attribute away."""
    if isinstance(value, float) and not isfinite(value):
        raise CellRefused(name, f"{value}.", "A finite number.")
    if isinstance(value, dict):
        for each in cast("dict[str, object]", value).values():
            _require_finite(name, each)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            _require_finite(name, each)


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
    """Set a field, or a member of one; an object that other events have too stays as it is."""
    top, dot, rest = name.partition(".")
    known = event.get(top, {})
    if not dot:
        event[name] = value
    elif isinstance(known, dict):  # what is none is refused with its field's name
        event[top] = {**cast("dict[str, object]", known), rest: value}


def _cast_of(
    name: str, options: ColumnOptions, kinds: Mapping[str, str], *, has_types: bool
) -> Callable[[Any], object]:
    """Return what makes a field's value of a cell."""
    top, dot, rest = name.partition(".")
    if dot:
        kind = kinds.get(rest) if top == "attributes" else None
        return lambda value: attribute_of(name, value, kind, has_types=has_types)
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
    found = types.get(text, text)
    return found.lower() if found.lower() in RESERVED_TYPES else found


def _id_text(value: object) -> object:
    """Return an id as text: a number in a Parquet column or in JSON is its digits."""
    if isinstance(value, float | Decimal) and value % 1 == 0:
        return str(int(value))
    return value if isinstance(value, str | bool) else str(value)


def _number(name: str, value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text) or not isfinite(float(text)):
            raise CellRefused(name, f"{value!r:.60}.", "A finite number, with a point before the decimals.")
        return float(text)
    return float(value) if isinstance(value, Decimal) else value


def _whole(name: str, value: object) -> object:
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            raise CellRefused(name, f"{value!r:.60}.", "A whole number.")
        return _whole_of(value)
    number = _number(name, value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _whole_of(text: str) -> int:
    """Return a text that ``_WHOLE`` fits as a number: 7.0 is written where some rows of a column have none."""
    return int(text.partition(".")[0])


def _json(name: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise CellRefused(name, f"{value!r:.60}.", "JSON, as an export writes it.") from None


def attribute_of(name: str, value: object, kind: str | None, *, has_types: bool) -> object:
    """Return a cell as what its attribute is declared as.

    Args:
        name: Of the field, for what is refused.
        value: Of the cell.
        kind: Declared; None = a number, a truth value, a text.
        has_types: A text is one. Else, where nothing is declared, it is the number or truth value that it writes.
    """
    if isinstance(value, str):
        return _of_text(name, value, kind, has_types=has_types)
    if kind == "category":
        return _category(value)
    if kind == "boolean" and isinstance(value, int | float | Decimal) and value in (0, 1):
        return bool(value)
    if isinstance(value, date):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _attributes(value: object, kinds: Mapping[str, str]) -> object:
    """Return the attributes of one column, of a type that knows no categories or truth values, as they are declared."""
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, object]", value)
    return {
        name: each if isinstance(each, str) else attribute_of(name, each, kinds.get(name), has_types=True)
        for name, each in members.items()
    }


def _category(value: object) -> object:
    """Return a category as text: a number is its digits."""
    if isinstance(value, date):
        return value.isoformat()
    return _id_text(value) if isinstance(value, int | float | Decimal) else value


def _of_text(name: str, value: str, kind: str | None, *, has_types: bool) -> object:
    if kind == "number":
        return _number(name, value)
    if kind == "boolean":
        if value.lower() not in ("true", "false", "1", "0"):
            raise CellRefused(name, f"{value!r:.60}.", "true, false, 1 or 0.")
        return value.lower() in ("true", "1")
    if kind == "tags":
        return [each.strip() for each in value.split("|") if each.strip()]
    if kind is not None and vector_length(kind):
        return _vector(name, value)
    return value if kind == "category" or has_types else _guessed(value)


def _vector(name: str, value: str) -> object:
    """Return the numbers of a text: a list in JSON, or with ``|`` between them."""
    if value.lstrip().startswith("["):
        return _json(name, value)
    return [_number(name, each) for each in value.split("|")]


def _guessed(value: str) -> object:
    """Return the number or truth value that a text writes, else the text.

    A number is taken where this is the way to write it: 01067, 1e3 and 2.50 stay as they are.
    """
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not _NUMBER.fullmatch(value):
        return value
    number = float(value)
    written = (repr(number), str(int(number))) if number.is_integer() else (repr(number),)
    return number if value in written else value


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
    if _ZONE_NAME.search(time_format):
        came = f"{time_format!r}: the name of a zone, %Z, says no offset, and would be taken for UTC."
        raise Invalid((Fault("--time-format", came, "%z for an offset such as +0200; without a zone UTC.", PAGE),))
    return lambda value: _parsed(value, lambda text: datetime.strptime(text, time_format), f"like {time_format}")  # noqa: DTZ007  _ms_of says UTC


def _since_1970(value: object, name: str, unit: int) -> object:
    if isinstance(value, datetime):
        return _ms_of(value)
    number = _whole_of(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else _number("time", value)
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
    return _whole_of(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


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
