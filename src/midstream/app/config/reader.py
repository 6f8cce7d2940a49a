"""Reader of a configuration file: reports every fault, not the first one.

The file is walked along the types: each table is a struct, each value is decoded on its own. If everything can be
decoded, except for numbers out of bounds and durations, ``app.config.constraints`` checks relations of values.
"""

import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, reduce
from math import isfinite
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeGuard, TypeVar, Union, get_args

import msgspec

from midstream.app.config.constraints import relation_faults
from midstream.app.config.schema import Config, Placement
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.field_bounds import FieldBound, without_bounds
from midstream.core.nearest import nearest
from midstream.core.paths import step, steps
from midstream.core.type_descriptions import TypeForm, origin_of, wanted
from midstream.events.wire import VECTOR_LENGTH_MAX, AttributeKind
from midstream.state.settings import read_duration

T = TypeVar("T")
Told: TypeAlias = Any
"""A value as TOML gives it."""
FILE_NAME = "midstream.toml"
FILE_BYTES_MAX = 1_048_576
"""1 MiB: 1,000 placements of 1 kB."""
_DURATION_OR_NUMBER = 'A duration such as "30d", or a whole number.'
_ATTRIBUTE_KINDS = ("number", "category", "tags", "boolean", "vector:8")
_PAGES = {
    "pairs": "sources",
    "trending": "sources",
    "feedback": "feedback",
    "history": "data",
    "registry": "models",
    "models": "models",
    "tables": "features",
    "sources": "sources",
    "components": "sources",
    "candidates_max": "models",
    "weights": "sources",
    "rank_offset": "sources",
    "editorial": "sources",
    "filter": "filters",
    "filters": "filters",
    "exclude": "filters",
    "repeats": "filters",
    "features": "features",
    "log_features": "features",
    "scorers": "models",
    "selector": "selectors",
    "caps": "rules",
    "diversity": "rules",
    "rules": "rules",
}
"""Pages of the settings of a placement and of other parts of the file."""
_SHOWN_CHARACTERS = 60
_DURATIONS = ("6h", "7d")
"""Replacements of an invalid duration: every state keeps a list of both, so that neither is a half-life too many."""
_NUMBER_BITS_MAX = 1_023
"""Of a whole number: no setting is beyond what a float can be, and Python does not write much longer ones."""
_HOMES_MAX = 2
"""Tables that are named as those where a setting belongs: one that many have says nothing."""
_FAR = 1_000
"""From the bound of a number that has one bound."""
_NOUNS = {
    "features": "feature",
    "sources": "source",
    "filters": "filter",
    "scorers": "scorer",
    "selector": "selector",
    "rules": "rule",
}


@dataclass(frozen=True, slots=True)
class Kept(Fault):
    """A value beyond a bound of its field: it can be decoded, so further faults are searched with it."""


@dataclass(frozen=True, slots=True)
class Replaced(Kept):
    """A number out of range, or an invalid duration: further faults are searched with replacements."""

    one: float | str
    """In its place: of a number the nearest that is right."""
    other: float | str
    """Another, far from it."""


def read_config(path: Path) -> Config:
    """Return the configuration of a file. The caller decides the meaning of a missing one.

    Raises:
        ConfigInvalid: All faults that were found; or the file does not exist, or is a broken link.
    """
    if not path.exists():
        came = "It is a link, and what it leads to is not there." if path.is_symlink() else "It is not there."
        right = "A file with the configuration; an empty one means every default."
        raise ConfigInvalid((Fault(path.name, came, right, "/docs/configuration.md"),))
    if path.stat().st_size > FILE_BYTES_MAX:
        came = f"The file has {path.stat().st_size} bytes."
        raise ConfigInvalid((Fault(path.name, came, f"At most {FILE_BYTES_MAX}.", "/docs/configuration.md"),))
    return parse_config(path.read_bytes(), path.name)


def parse_config(content: bytes | str, name: str = FILE_NAME) -> Config:
    """Return the configuration of a file's content.

    Args:
        content: TOML.
        name: Of the file, which begins each pointer: ``midstream.toml: $.placements[0].filter``.

    Raises:
        ConfigInvalid: All faults that were found.
    """
    try:
        told = tomllib.loads(content.decode() if isinstance(content, bytes) else content)
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or a number of thousands of digits
        fault = Fault(name, f"It is not TOML: {error}", "See https://toml.io.", "/docs/configuration.md")
        raise ConfigInvalid((fault,)) from error
    return told_config(told, name)


def told_config(told: Told, name: str = FILE_NAME) -> Config:
    """Return the configuration of tables, as TOML or JSON gives them.

    Raises:
        ConfigInvalid: All faults that were found, each pointer with the ``name`` of the file before it.
    """
    faults, found = _read(told, Config, "$")
    if found:
        faults = with_relations(faults, [tuple(relation_faults(each)) for each in found])
    if faults:
        raise named(ConfigInvalid(faults), name)
    return found[0]


def parse_placement(told: Told, where: str) -> Placement:
    """Return the placement of a table; the rest of a configuration is not checked.

    Args:
        told: As JSON or TOML gives it.
        where: Pointer to it, such as ``$.placements[0]``: it decides which pages faults name.

    Raises:
        ConfigInvalid: All faults that were found.
    """
    faults, found = placement_readings(told, where)
    if faults:
        raise ConfigInvalid(faults)
    return found[0]


def placement_readings(told: Told, where: str) -> tuple[tuple[Fault, ...], tuple[Placement, ...]]:
    """Return the faults of a placement's single values, and placements for the search of further ones.

    Args:
        told: As JSON or TOML gives it.
        where: Pointer to it, as in ``parse_placement``.

    Returns:
        Numbers out of bounds and invalid durations; and the placement. With such a value it is there twice, each time
        with another replacement: ``with_relations`` returns the faults that both have.

    Raises:
        ConfigInvalid: All faults that were found, where something else is invalid.
    """
    faults, found = _read(told, Placement, where)
    if not found:
        raise ConfigInvalid(faults)
    return faults, found


def with_relations(faults: Sequence[Fault], relations: Sequence[Sequence[Fault]]) -> tuple[Fault, ...]:
    """Return the faults of single values, then those of relations.

    Args:
        faults: Of single values.
        relations: Of each reading: a fault in one of them alone is caused by a replacement.
    """
    known = {each.where for each in faults}
    first, *others = relations
    lasting = (each for each in first if each.where not in known and all(each in other for other in others))
    return (*faults, *lasting)


def _read(told: Told, kind: type[T], where: str) -> tuple[tuple[Fault, ...], tuple[T, ...]]:
    """Return the faults of single values and what is told: twice if these can be replaced, not at all if not."""
    faults = tuple(_walk(told, kind, where))
    out = [each for each in faults if isinstance(each, Replaced)]
    if not all(isinstance(each, Kept) for each in faults):
        return faults, ()
    wholes = [told]
    if out:
        places = [steps(each.where.removeprefix(where)) for each in out]
        wholes = [
            _replaced(told, places, [each.one for each in out]),
            _replaced(told, places, [each.other for each in out]),
        ]
    return faults, tuple(msgspec.convert(each, kind, dec_hook=read_duration) for each in wholes)


def _replaced(told: Told, places: Sequence[Sequence[str | int]], values: Sequence[float | str]) -> Told:
    """Return what is told with other values at some places."""
    whole = deepcopy(told)
    for (*path, last), value in zip(places, values, strict=True):
        reduce(getitem, path, whole)[last] = value
    return whole


def named(error: ConfigInvalid, name: str) -> ConfigInvalid:
    """Return the error with the name of the file before each pointer into it."""
    return ConfigInvalid(
        tuple(replace(each, where=f"{name}: {each.where}") if each.where[:1] == "$" else each for each in error.faults)
    )


def is_table(value: Told) -> TypeGuard[dict[str, Told]]:
    """Return whether a value is a table."""
    return isinstance(value, dict)


def is_list(value: Told) -> TypeGuard[list[Told]]:
    """Return whether a value is a list."""
    return isinstance(value, list)


def _walk(value: Told, kind: TypeForm, where: str) -> Iterator[Fault]:
    """Yield the faults of a value and of its content."""
    plain, bounds = without_bounds(kind)
    if bounds:
        found = tuple(_walk(value, plain, where))
        yield from found
        if not any(each.where == where for each in found):
            yield from _beyond(value, bounds, where)
        return
    structs = _structs(kind)
    origin = origin_of(kind)
    if value is None and types.NoneType in get_args(kind):  # TOML has no null, JSON says nothing with it
        return
    if any(each.__struct_config__.tag_field for each in structs):
        yield from _tagged(value, structs, where)
    elif len(structs) == 1:
        yield from _table(value, structs[0], where)
    elif origin is tuple and is_list(value):
        for number, each in enumerate(value):
            yield from _walk(each, get_args(kind)[0], f"{where}[{number}]")
    elif origin is dict and is_table(value):
        of_key, of_value = get_args(kind)
        for key, each in value.items():
            yield from _walk(key, of_key, f"{where}{step(key)}")
            yield from _walk(each, of_value, f"{where}{step(key)}")
    else:
        yield from _leaf(value, kind, where)


def _beyond(value: Told, bounds: Sequence[FieldBound], where: str) -> Iterator[Fault]:
    """Yield a fault for each bound that a value of the right type is beyond."""
    for each in bounds:
        if came := each.excess(value):
            yield Kept(where, came, each.right, _page(where))


def _structs(kind: TypeForm) -> tuple[type[msgspec.Struct], ...]:
    """Return the struct types that a type is, or is a choice of, beside nothing; empty when it is something else."""
    choice = get_args(kind) if origin_of(kind) in (types.UnionType, Union) else (kind,)
    choice = tuple(each for each in choice if each is not types.NoneType)
    if all(isinstance(each, type) and issubclass(each, msgspec.Struct) for each in choice):
        return choice
    return ()


def _tagged(value: Told, structs: tuple[type[msgspec.Struct], ...], where: str) -> Iterator[Fault]:
    """Yield the faults of a component, whose ``kind`` says which struct it is."""
    by_kind = {str(each.__struct_config__.tag): each for each in structs}
    field = where.rpartition(".")[2].partition("[")[0]
    noun = _NOUNS.get(field, field)
    right = f"{noun.capitalize()}s: {', '.join(sorted(by_kind))}"
    if not is_table(value) or "kind" not in value:
        example = f'{{ kind = "{min(by_kind)}" }}'
        yield Fault(where, f"{_show(value)} is no {noun}.", f"A table such as {example}. {right}", _page(where))
    elif not isinstance(value["kind"], str) or value["kind"] not in by_kind:
        near = nearest(value["kind"], by_kind) if isinstance(value["kind"], str) else ""
        came = f"{_show(value['kind'])} is not a {noun}.{near}"
        yield Fault(f"{where}.kind", came, right, _page(where))
    else:
        told = {key: each for key, each in value.items() if key != "kind"}
        yield from _table(told, by_kind[value["kind"]], where)


def _table(value: Told, struct: type[msgspec.Struct], where: str) -> Iterator[Fault]:
    """Yield the faults of a table: keys that it has not, keys that it lacks, and those of each value."""
    fields = msgspec.structs.fields(struct)
    hints = {each.encode_name: each.type for each in fields}
    if not is_table(value):
        yield Fault(where, f"{_show(value)} came.", f"A table with {', '.join(hints)}.", _page(where))
        return
    for key, each in value.items():
        if key in hints:
            yield from _walk(each, hints[key], f"{where}{step(key)}")
        else:
            came = f'"{key}" is not a setting.{nearest(key, hints) or _home(key)}'
            yield Fault(f"{where}{step(key)}", came, f"Settings: {', '.join(hints)}", _page(where))
    for field in fields:
        if field.required and field.encode_name not in value:
            yield Fault(f"{where}.{field.encode_name}", "It is missing.", _words(field.type), _page(where))


def _home(key: str) -> str:
    """Return `` It belongs to [[placements]].`` for a setting of other tables; nothing for one of none or of many."""
    homes = _homes().get(key, ())
    if not homes or len(homes) > _HOMES_MAX:
        return ""
    return f" It belongs to {' or '.join(homes)}."


@cache
def _homes() -> Mapping[str, Sequence[str]]:
    """Return the tables that have a setting, as their headers stand in the file, by its name."""
    found: dict[str, list[str]] = {}
    seen: set[type] = set()
    waiting: list[tuple[type[msgspec.Struct], str, bool]] = [(Config, "", False)]
    while waiting:
        struct, path, is_list_of = waiting.pop(0)
        if struct in seen:
            continue
        seen.add(struct)
        header = f"[[{path}]]" if is_list_of else f"[{path}]"
        for field in msgspec.structs.fields(struct):
            key, kind = field.encode_name, field.type
            homes = found.setdefault(key, [])
            if path and header not in homes:
                homes.append(header)
            plain, _ = without_bounds(kind)
            inner = get_args(plain)[0] if origin_of(plain) is tuple else plain
            below = f"{path}.{key}" if path else key
            waiting.extend((each, below, origin_of(plain) is tuple) for each in _structs(inner))
    return found


def _leaf(value: Told, kind: TypeForm, where: str) -> Iterator[Fault]:
    """Yield the fault of a single value, if it has one."""
    if isinstance(value, int) and value.bit_length() > _NUMBER_BITS_MAX:
        yield Fault(where, f"{_show(value)} came.", "A number below 10^308.", _page(where))
        return
    try:
        msgspec.convert(value, kind, dec_hook=read_duration)
    except msgspec.ValidationError:
        if (others := _DURATIONS if _is_duration(kind) else _inside(value, kind)) is not None:
            yield Replaced(where, f"{_show(value)} came.", _words(kind), _page(where), *others)
            return
        near = nearest(value, _choices(kind)) if isinstance(value, str) else ""
        right = f"A list: [{_show(value)}]." if isinstance(value, str) and origin_of(kind) is tuple else _words(kind)
        yield Fault(where, f"{_show(value)} came.{near}", right, _page(where))


def _is_duration(kind: TypeForm) -> bool:
    """Return whether a value is to be a duration, if any."""
    return kind is Duration or (Duration in get_args(kind) and set(get_args(kind)) <= {Duration, types.NoneType})


def _inside(value: Told, kind: TypeForm) -> tuple[float, float] | None:
    """Return two numbers within the bounds that a number is beyond, far from each other where they can be.

    None = something else is wrong with it, or no bound is one of the numbers.
    """
    if origin_of(kind) is not Annotated or not isinstance(value, int | float) or isinstance(value, bool):
        return None
    plain, bounds = get_args(kind)
    low, high = bounds.ge, bounds.le
    if low is None and bounds.gt is not None and high is not None:
        low = bounds.gt + 1 if plain is int else (bounds.gt + high) / 2
    if low is not None and (not value >= low or (bounds.gt is not None and value <= bounds.gt)):  # NaN is not
        found = low, low + _FAR if high is None else high
    elif high is not None and value > high:
        found = high, high - _FAR if low is None else low
    else:
        return None
    return (float(found[0]), float(found[1])) if isinstance(value, float) and plain is not int else found


def _choices(kind: TypeForm) -> tuple[str, ...]:
    """Return the texts that a value may be; empty when they are no list."""
    if kind == AttributeKind:
        return _ATTRIBUTE_KINDS
    return get_args(kind) if origin_of(kind) is Literal else ()


def _words(kind: TypeForm) -> str:
    """Return in words what a value should be."""
    kind, _ = without_bounds(kind)
    if kind == AttributeKind:
        return f"One of: {', '.join(_ATTRIBUTE_KINDS)}; a vector has 1 to {VECTOR_LENGTH_MAX} numbers."
    return _DURATION_OR_NUMBER if kind == str | int else wanted(kind)


def _show(value: Told) -> str:
    """Return a value as the file has it, shortened."""
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    try:
        text = msgspec.json.encode(value, enc_hook=str).decode()
    except ValueError:  # Python writes no whole number that is longer
        return "A number of more than 4,300 digits"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _page(where: str) -> str:
    """Return the page that explains a setting: of a placement's its third part, such as ``sources``, names it."""
    first, *others = (*steps(where), "")
    part = others[1] if first == "placements" and len(others) > 1 else first
    return f"/docs/{_PAGES.get(str(part), 'configuration')}.md"
