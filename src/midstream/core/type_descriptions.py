"""Descriptions of a type's allowed values, for error messages."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from midstream.core.durations import Duration

TypeForm: TypeAlias = Any
"""What an annotation may be: a class, a choice, a parametrised type. Python 3.11 has no type for that."""
_WORDS = {
    str: "A text.",
    int: "A whole number.",
    float: "A number.",
    bool: "true or false.",
    Duration: 'A duration such as "30m": a whole number and one of ms, s, m, h, d.',
}
TABLES = (dict, Mapping)
"""What types of tables without named fields are made of."""
UNDESCRIBED = "See the page."
"""Of a type that has no words here, such as one that a hook reads."""
_NUMBER_MAX = 1e9
"""From here on a number is easier to read as a power of ten."""


def wanted(kind: TypeForm) -> str:
    """Return in words what a value of a type may be, bounds included.

    Example:
        >>> wanted(Literal["none", "propensity"])
        'One of: none, propensity.'
        >>> wanted(float | None)
        'A number.'
        >>> wanted(Mapping[str, object] | None)
        'A table: { … }.'
    """
    origin = origin_of(kind)
    if origin is Annotated:
        plain, bounds = get_args(kind)[:2]
        return f"{wanted(plain).partition(':')[0].rstrip('.')}{bounds_text(bounds)}."
    if origin is Literal:
        return f"One of: {', '.join(map(str, get_args(kind)))}."
    if origin in (types.UnionType, Union):
        first, *others = (wanted(each) for each in get_args(kind) if each is not types.NoneType)
        return " ".join([first, *(f"Or {each[0].lower()}{each[1:]}" for each in others)])
    if origin in (tuple, list, *TABLES):
        return "A table: { … }." if origin in TABLES else "A list: [ … ]."
    if names := getattr(kind, "__struct_encode_fields__", ()):
        return f"A table with {', '.join(names)}."
    return _WORDS.get(kind, UNDESCRIBED)


def origin_of(kind: TypeForm) -> TypeForm:
    """Return what a parametrised type is made of: ``tuple`` of ``tuple[int, ...]``; None = it is not parametrised."""
    return get_origin(kind)


def bounds_text(bounds: object) -> str:
    """Return the bounds of a number, or of a length, in words; empty without any.

    Args:
        bounds: A ``msgspec.Meta``, of which ``ge``, ``gt``, ``le``, ``lt``, ``min_length`` and ``max_length`` are read.
    """
    said: list[str] = []
    names = {
        "ge": "from {}",
        "gt": "above {}",
        "le": "to {}",
        "lt": "below {}",
        "min_length": "of length {}",
        "max_length": "to {}",
    }
    for name, words in names.items():
        end: float | None = getattr(bounds, name, None)
        if end is None:
            continue
        text = f" {words}"
        if name == "le" and said and said[-1].startswith(" above"):
            text = ", at most {}"  # "above 0 to 1" leaves open what the second number is
        elif name == "max_length" and not said:
            text = " of length up to {}"
        said.append(text.format(number_text(end)))
    return "".join(said)


def number_text(number: float) -> str:
    """Return a number as people write it.

    Example:
        >>> number_text(1_024), number_text(0.5), number_text(1e-6), number_text(1_000.0), number_text(1e12)
        ('1,024', '0.5', '1e-06', '1,000', '1e+12')
    """
    if isinstance(number, int) or (number.is_integer() and abs(number) < _NUMBER_MAX):
        return f"{int(number):,}"
    return f"{number:g}"
