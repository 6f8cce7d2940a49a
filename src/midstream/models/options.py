"""Options of a kind of model from a file or a command: each fault at its option, with the accepted values."""

import re
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeAlias, TypeGuard, TypeVar, Union, get_args

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.core.nearest import nearest
from midstream.core.type_descriptions import TypeForm, origin_of, wanted

Told: TypeAlias = Any
"""A value as a file or a command gives it."""
PAGE = "/docs/evaluation.md"
Options = TypeVar("Options", bound=msgspec.Struct)
_SHOWN_CHARACTERS = 60
_PATH = re.compile(r" - at `\$(.*)`\Z")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def decoded(kind: type[Options], options: Mapping[str, object]) -> Options:
    """Return options of a type, those that are not named at their defaults; numbers may come as text.

    Raises:
        Invalid: There is no such option, or values are of another type or out of bounds: all of them, each with its
            place (``options.factors``, ``options.parts[1].weight``).
    """
    types_of = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
    if unknown := [name for name in options if name not in types_of]:
        right = "one of " + ", ".join(types_of)
        raise Invalid(
            tuple(
                Fault(f"options.{name}", f"no such option.{nearest(name, types_of)}", right, PAGE) for name in unknown
            )
        )
    try:
        return msgspec.convert(dict(options), kind, strict=False)
    except msgspec.ValidationError as error:
        faults = [fault for name, value in options.items() for fault in _faults(name, value, types_of[name])]
        # What no option says alone is a relation between some.
        together = Fault("options", str(error), "values that go together", PAGE)
        raise Invalid(tuple(faults) or (together,)) from error


def _faults(name: str, value: Told, kind: TypeForm) -> Iterator[Fault]:
    """Yield the fault of one option, at the place inside it that is wrong."""
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        path = found.group(1) if (found := _PATH.search(str(error))) else ""
        where = f"options.{name}"
        for step in _STEP.finditer(path):
            inside = _inside(value, kind, step)
            if inside is None:
                break
            value, kind = inside
            where += step.group(0)
        yield Fault(where, f"{_shown(value)} came.", wanted(kind), PAGE)


def _inside(value: Told, kind: TypeForm, step: re.Match[str]) -> tuple[Told, TypeForm] | None:
    """Return the value and the type that one step of a path leads to; None = it is not told apart."""
    plain = get_args(kind)[0] if origin_of(kind) is Annotated else kind
    field, place = step.groups()
    if place is not None and origin_of(plain) is tuple and _is_list(value) and int(place) < len(value):
        return value[int(place)], get_args(plain)[0]
    choice = get_args(plain) if origin_of(plain) in (types.UnionType, Union) else (plain,)
    for each in choice:
        if field is not None and _is_struct(each) and _is_table(value) and field in value:
            return value[field], {of.encode_name: of.type for of in msgspec.structs.fields(each)}[field]
    return None


def _is_list(value: Told) -> TypeGuard[list[Told]]:
    return isinstance(value, list | tuple)


def _is_table(value: Told) -> TypeGuard[Mapping[str, Told]]:
    return isinstance(value, Mapping)


def _is_struct(kind: TypeForm) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _shown(value: Told) -> str:
    """Return a value, shortened."""
    text = str(value) if isinstance(value, float) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
