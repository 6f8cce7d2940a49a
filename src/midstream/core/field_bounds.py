"""Bounds of one field, in its annotation: what ``msgspec.Meta`` is for numbers, for durations, lengths and names.

``msgspec`` passes over these marks, so a value beyond them decodes; whoever reads a configuration asks them
(``app.config.reader``), and looks for what else is wrong with the value as it is.
"""

from dataclasses import dataclass
from json import dumps
from typing import Annotated, Any, TypeAlias, get_args

from midstream.core.durations import Duration, parse_duration_ms
from midstream.core.type_descriptions import TypeForm, origin_of

Told: TypeAlias = Any
"""A value as TOML, JSON or Python gives it."""
NAME_BYTES_MAX = 64
"""Of UTF-8. Every row repeats its interaction's name, and has one byte for the length, so 255 would be the end."""


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a duration: ``Annotated[Duration, Between("1m", "365d")]``."""

    low: str
    high: str = ""
    """Empty = none."""

    @property
    def right(self) -> str:
        """The shortest and the longest."""
        return f"A duration from {self.low} to {self.high}." if self.high else f"A duration from {self.low} on."

    def excess(self, told: Told) -> str:
        """Return a duration that is shorter or longer."""
        low, ms, high = (parse_duration_ms(each) for each in (self.low, told, self.high or told))
        return "" if low <= ms <= high else f"{told} came."


@dataclass(frozen=True, slots=True)
class Length:
    """Bounds of the length of a list, a table or a text: ``Annotated[tuple[str, ...], Length(0, 8)]``."""

    low: int
    high: int
    unit: str = ""

    @property
    def right(self) -> str:
        """The fewest, where some are needed, and the most."""
        bounds = f"From {self.low:,} to {self.high:,}" if self.low else f"At most {self.high:,}"
        return f"{bounds} {self.unit}".rstrip() + "."

    def excess(self, told: Told) -> str:
        """Return a length that is less or more."""
        return "" if self.low <= len(told) <= self.high else f"{f'{len(told):,} {self.unit}'.rstrip()} came."


@dataclass(frozen=True, slots=True)
class TextBytes:
    """Bounds of the bytes of a text in UTF-8; of what is a name, it can be read as it stands."""

    high: int
    is_name: bool = False
    """It comes back in every table, so it has no space at its ends, no line breaks and the like."""

    @property
    def right(self) -> str:
        """The most bytes, and what a name may not have."""
        plain = ", without a space at its ends, line breaks and the like" if self.is_name else ""
        return f"A text of 1 to {self.high:,} bytes{plain}."

    def excess(self, told: Told) -> str:
        """Return the length of a text that is empty or too long, or a name that cannot be read as it stands."""
        length = len(told.encode())
        if not 1 <= length <= self.high:
            return f"It has {length:,} bytes."
        is_right = not self.is_name or (told.isprintable() and told == told.strip())
        return "" if is_right else f"{dumps(told)} came."


FieldBound: TypeAlias = Between | Length | TextBytes
"""``right`` has in words what a value of the right type may be; ``excess`` what came where one is beyond, else ""."""
NAME = TextBytes(NAME_BYTES_MAX, is_name=True)
Name: TypeAlias = Annotated[str, NAME]
HalfLife: TypeAlias = Annotated[Duration, Between("1m", "365d")]


def without_bounds(kind: TypeForm) -> tuple[TypeForm, tuple[FieldBound, ...]]:
    """Return a type without the bounds of this module, and these."""
    if origin_of(kind) is not Annotated:
        return kind, ()
    plain, *marks = get_args(kind)
    bounds = tuple(each for each in marks if isinstance(each, FieldBound))
    return (plain, bounds) if bounds else (kind, ())
