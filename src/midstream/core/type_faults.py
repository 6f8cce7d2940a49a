"""Validation of a document by its types: every wrong part is found, where ``msgspec`` ends at the first one.

A value is walked beside its annotation: fields of a struct, elements of a list, entries of a table. A part is wrong by
itself, by a bound of ``core.field_bounds``, because its table has no such field, or because it is missing. A whole is
wrong where none of its parts is. Configurations, options of models and requests are read by this walk alone.
"""

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, TypeGuard, Union, get_args

import msgspec

from midstream.core.field_bounds import Told, without_bounds
from midstream.core.nearest import nearest
from midstream.core.type_descriptions import TABLES, UNDESCRIBED, TypeForm, origin_of, wanted

Steps: TypeAlias = tuple[str | int, ...]
"""Keys and places that lead to a part of a document."""
_CONTAINERS = (tuple, list, *TABLES)
_SHOWN_CHARACTERS = 60
_NUMBER_BITS_MAX = 1_023
"""Of a whole number: no setting is beyond what a float can be, and Python does not write much longer ones."""


def shown_value(value: Told) -> str:
    """Return a value as JSON has it, shortened: what an error repeats of what came."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except (ValueError, RecursionError):  # Python writes no whole number that is longer
        return "A number of more than 4,300 digits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


@dataclass(frozen=True, slots=True)
class TypeReading:
    """How values are read, and the words in which faults are told."""

    convert: Callable[[Told, TypeForm], object]
    """``msgspec.convert`` with the hook and the strictness of what is read."""
    noun: str
    """Of a field: ``a setting``."""
    is_bounded: bool = False
    """Types have bounds that ``msgspec`` passes over, or fields that it would: what it takes is looked into too."""
    kinds: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Nouns of tables whose ``kind`` says which struct they are, by the field in which they stand."""


@dataclass(frozen=True, slots=True)
class TypeFault:
    """A part of a document that is wrong."""

    path: Steps
    problem: Literal["value", "bound", "unknown", "missing", "kind"]
    came: str
    right: str
    value: Told = None
    """What came there."""
    kind: TypeForm = None
    """What it should have been."""
    names: tuple[str, ...] = ()
    """Fields that there are, of one that is unknown."""


def type_faults(value: Told, kind: TypeForm, reading: TypeReading, path: Steps = ()) -> Iterator[TypeFault]:
    """Yield the faults of a value in its order; missing fields come behind those that came.

    Args:
        value: What came, as plain values.
        kind: The type that it should have.
        reading: How it is read.
        path: To the value.

    Cost: where ``is_bounded`` is false, what is right is converted as a whole.
    """
    plain, bounds = without_bounds(kind)
    if value is None and types.NoneType in get_args(plain):  # TOML has no null, JSON says nothing with it
        return
    if plain is msgspec.Raw:  # any
        return
    if not reading.is_bounded and not _error(value, kind, reading):
        return
    found = False
    for fault in _part_faults(value, plain, reading, path):
        found = True
        yield fault
    if not found and (error := _error(value, plain, reading)):
        yield _whole_fault(value, plain, error, path)
        return
    # A value that is wrong has no bounds to keep; a list or a table with wrong parts still has its length.
    for each in bounds if not found or (reading.is_bounded and (is_table(value) or is_list(value))) else ():
        if came := each.excess(value):
            yield TypeFault(path, "bound", came, each.right, value, kind)


def _error(value: Told, kind: TypeForm, reading: TypeReading) -> str:
    """Return the message of ``msgspec`` for a value; empty = it is right."""
    if _is_too_large(value):
        return "It is too large."
    try:
        reading.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error).partition(" - at `")[0]
    return ""


def _is_too_large(value: Told) -> bool:
    return isinstance(value, int) and value.bit_length() > _NUMBER_BITS_MAX


def _whole_fault(value: Told, kind: TypeForm, error: str, path: Steps) -> TypeFault:
    """Return the fault of a value of which no part is wrong."""
    came, right = f"{shown_value(value)} came.", wanted(kind)
    has_parts = any(is_struct(each) or origin_of(each) in _CONTAINERS for each in choice_of(kind))
    if _is_too_large(value) and not has_parts:
        return TypeFault(path, "value", came, "A number below 10^308.", value)
    if is_table(value) and any(map(is_struct, choice_of(kind))):
        came, right = f"{error}.", "Values that go together."
    elif right == UNDESCRIBED:
        right = error
    return TypeFault(path, "value", came, right, value, kind)


def _part_faults(value: Told, kind: TypeForm, reading: TypeReading, path: Steps) -> Iterator[TypeFault]:
    """Yield the faults of the parts of a value; a list beyond its length is not looked into."""
    choice = choice_of(kind)
    structs = [each for each in choice if is_struct(each)]
    if any(each.__struct_config__.tag_field for each in structs):
        yield from _tagged_faults(value, structs, reading, path)
    elif is_table(value) and structs:
        yield from _field_faults(value, structs[0], reading, path)
    elif is_list(value) and not _is_too_long(value, kind):
        of = next((get_args(each)[0] for each in choice if origin_of(each) in (tuple, list)), None)
        for number, each in enumerate(value if of else ()):
            yield from type_faults(each, of, reading, (*path, number))
    elif is_table(value) and not _is_too_long(value, kind):
        of_key, of_value = next((get_args(each) for each in choice if origin_of(each) in TABLES), (None, None))
        for key, each in value.items() if of_key else ():
            yield from type_faults(key, of_key, reading, (*path, str(key)))
            yield from type_faults(each, of_value, reading, (*path, str(key)))


def _tagged_faults(
    value: Told, structs: Sequence[type[msgspec.Struct]], reading: TypeReading, path: Steps
) -> Iterator[TypeFault]:
    """Yield the faults of a table whose ``kind`` says which struct it is."""
    by_kind = {str(each.__struct_config__.tag): each for each in structs}
    name = next((each for each in reversed(path) if isinstance(each, str)), "")
    noun = reading.kinds.get(name, name)
    right = f"{noun.capitalize()}s: {', '.join(sorted(by_kind))}"
    if not is_table(value) or "kind" not in value:
        example = f'{{ kind = "{min(by_kind)}" }}'
        yield TypeFault(
            path, "kind", f"{shown_value(value)} is no {noun}.", f"A table such as {example}. {right}", value
        )
    elif not isinstance(value["kind"], str) or value["kind"] not in by_kind:
        near = nearest(value["kind"], by_kind) if isinstance(value["kind"], str) else ""
        came = f"{shown_value(value['kind'])} is not a {noun}.{near}"
        yield TypeFault((*path, "kind"), "kind", came, right, value["kind"])
    else:
        told = {key: each for key, each in value.items() if key != "kind"}
        yield from _field_faults(told, by_kind[value["kind"]], reading, path)


def _field_faults(
    value: Mapping[str, Told], struct: type[msgspec.Struct], reading: TypeReading, path: Steps
) -> Iterator[TypeFault]:
    """Yield the faults of a table: fields that it has not, those of each value, and fields that it lacks."""
    fields = msgspec.structs.fields(struct)
    hints = {each.encode_name: each.type for each in fields}
    names = tuple(hints)
    for key, each in value.items():
        if key in hints:
            yield from type_faults(each, hints[key], reading, (*path, key))
        else:
            came = f'"{str(key)[:64]}" is not {reading.noun}.{nearest(str(key), names)}'
            yield TypeFault((*path, str(key)), "unknown", came, f"One of: {', '.join(names)}.", names=names)
    for each in fields:
        if each.required and each.encode_name not in value:
            kind, _ = without_bounds(each.type)
            yield TypeFault((*path, each.encode_name), "missing", "It is missing.", wanted(kind), kind=kind)


def _is_too_long(value: Sequence[Told] | Mapping[str, Told], kind: TypeForm) -> bool:
    """Return whether a list or a table has more than ``msgspec`` lets it have."""
    metas = [each for each in get_args(kind) if isinstance(each, msgspec.Meta)]
    return any(each.max_length is not None and len(value) > each.max_length for each in metas)


def choice_of(kind: TypeForm) -> tuple[TypeForm, ...]:
    """Return the types that a type is a choice of, beside nothing, without bounds; of another type itself."""
    plain = _plain(kind)
    choice = get_args(plain) if origin_of(plain) in (types.UnionType, Union) else (plain,)
    return tuple(_plain(each) for each in choice if each is not types.NoneType)


def _plain(kind: TypeForm) -> TypeForm:
    return get_args(kind)[0] if origin_of(kind) is Annotated else kind


def is_struct(kind: TypeForm) -> TypeGuard[type[msgspec.Struct]]:
    """Return whether a type is a struct."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def is_table(value: Told) -> TypeGuard[dict[str, Told]]:
    """Return whether a value is a table."""
    return isinstance(value, dict)


def is_list(value: Told) -> TypeGuard[list[Told]]:
    """Return whether a value is a list."""
    return isinstance(value, list | tuple)
