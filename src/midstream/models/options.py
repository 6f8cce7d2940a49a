"""Options of a kind of model from a file or a command: each fault at its option, with the accepted values."""

from collections.abc import Mapping
from functools import partial
from typing import TypeVar

import msgspec

from midstream.core.errors import Fault, Invalid
from midstream.core.paths import path_text
from midstream.core.type_faults import TypeReading, type_faults

Options = TypeVar("Options", bound=msgspec.Struct)
PAGE = "/docs/evaluation.md"
_READING = TypeReading(partial(msgspec.convert, strict=False), "an option", is_bounded=True)


def decoded(kind: type[Options], options: Mapping[str, object]) -> Options:
    """Return options of a type, those that are not named at their defaults; numbers may come as text.

    Raises:
        Invalid: There is no such option, or values are of another type or out of bounds: all of them, each with its
            place (``options.factors``, ``options.parts[1].weight``).
    """
    told = dict(options)
    faults = type_faults(told, kind, _READING)
    if found := tuple(Fault(path_text(each.path, "options"), each.came, each.right, PAGE) for each in faults):
        raise Invalid(found)
    return msgspec.convert(told, kind, strict=False)
