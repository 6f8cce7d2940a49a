"""Reader of a configuration file: reports every fault, not the first one.

The file is walked along the types: each table is a struct, each value is decoded on its own. If everything can be
decoded, except for numbers out of bounds and durations, ``app.config.constraints`` checks relations of values.
"""

import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial, reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import msgspec

from midstream.app.config.constraints import relation_faults
from midstream.app.config.schema import Config, Placement
from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.field_bounds import Told, without_bounds
from midstream.core.nearest import nearest
from midstream.core.paths import path_text, steps
from midstream.core.type_descriptions import TypeForm, origin_of
from midstream.core.type_faults import Steps, TypeFault, TypeReading, choice_of, is_struct, shown_value, type_faults
from midstream.events.wire import VECTOR_LENGTH_MAX, AttributeKind
from midstream.state.settings import read_duration

T = TypeVar("T")
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
    "inputs": "inputs",
    "registry": "models",
    "sinks": "sinks",
    "models": "models",
    "trainings": "continuous-training",
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
_DURATIONS = ("6h", "7d")
"""Replacements of an invalid duration: every state keeps a list of both, so that neither is a half-life too many."""
_HOMES_MAX = 2
"""Tables that are named as those where a setting belongs: one that many have says nothing."""
_FAR = 1_000
"""From the bound of a number that has one bound."""
_NOUNS = {
    "features": "feature",
    "inputs": "broker",
    "sources": "source",
    "filters": "filter",
    "scorers": "scorer",
    "selector": "selector",
    "store": "store",
    "rules": "rule",
}
"""Of the components of a placement, whose ``kind`` says which struct they are."""
_READING = TypeReading(partial(msgspec.convert, dec_hook=read_duration), "a setting", is_bounded=True, kinds=_NOUNS)


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
    located = tuple(_faults(told, kind, where))
    faults = tuple(each for _, each in located)
    out = [(path, each) for path, each in located if isinstance(each, Replaced)]
    if not all(isinstance(each, Kept) for each in faults):
        return faults, ()
    wholes = [told]
    if out:
        wholes = [
            _replaced(told, ((path, each.one) for path, each in out)),
            _replaced(told, ((path, each.other) for path, each in out)),
        ]
    return faults, tuple(msgspec.convert(each, kind, dec_hook=read_duration) for each in wholes)


def _replaced(told: Told, values: Iterable[tuple[Steps, float | str]]) -> Told:
    """Return what is told with other values at some places."""
    whole = deepcopy(told)
    for (*path, last), value in values:
        reduce(getitem, path, whole)[last] = value
    return whole


def named(error: ConfigInvalid, name: str) -> ConfigInvalid:
    """Return the error with the name of the file before each pointer into it."""
    return ConfigInvalid(
        tuple(replace(each, where=f"{name}: {each.where}") if each.where[:1] == "$" else each for each in error.faults)
    )


def _faults(told: Told, kind: TypeForm, where: str) -> Iterator[tuple[Steps, Fault]]:
    """Yield the faults of single values, each with its path."""
    for found in type_faults(told, kind, _READING):
        yield found.path, _fault(found, path_text(found.path, where))


def _fault(found: TypeFault, where: str) -> Fault:
    """Return the fault of a single value, as one of a configuration."""
    came, right, page = found.came, found.right, _page(where)
    match found.problem:
        case "bound":
            return Kept(where, came, right, page)
        case "unknown":
            key = str(found.path[-1])
            near = nearest(key, found.names) or _home(key)
            return Fault(where, f'"{key}" is not a setting.{near}', f"Settings: {', '.join(found.names)}", page)
        case "value":
            return _value_fault(found, where, page)
        case "missing" | "kind":
            return Fault(where, came, right if found.kind is None else _words(found.kind, right), page)


def _value_fault(found: TypeFault, where: str, page: str) -> Fault:
    """Return the fault of a value of another type, or beyond the bounds of ``msgspec``."""
    value, kind = found.value, found.kind
    others = _DURATIONS if _is_duration(kind) else _inside(value, kind)
    right = _words(kind, found.right)
    if others is not None:
        return Replaced(where, found.came, right, page, *others)
    if isinstance(value, str):
        if origin_of(kind) is tuple:
            right = f"A list: [{shown_value(value)}]."
        return Fault(where, f"{found.came}{nearest(value, _choices(kind))}", right, page)
    return Fault(where, found.came, right, page)


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
            waiting.extend((each, below, origin_of(plain) is tuple) for each in choice_of(inner) if is_struct(each))
    return found


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


def _words(kind: TypeForm, right: str) -> str:
    """Return in words what a value should be: a type of the settings may have words of its own."""
    if kind == AttributeKind:
        return f"One of: {', '.join(_ATTRIBUTE_KINDS)}; a vector has 1 to {VECTOR_LENGTH_MAX} numbers."
    return _DURATION_OR_NUMBER if kind == str | int else right


def _page(where: str) -> str:
    """Return the page that explains a setting: of a placement's its third part, such as ``sources``, names it."""
    first, *others = (*steps(where), "")
    part = others[1] if first == "placements" and len(others) > 1 else first
    return f"/docs/{_PAGES.get(str(part), 'configuration')}.md"
