"""Common fields of slate rules: name, author, reason, and the time in which the rule is in force.

A rule is in force from ``start``, up to before ``end``, while its ``when`` is known to be true. The time is that of the
query, so a rerun has the rules of its time. A rule that is not in force does nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, TypeVar

import msgspec

from midstream.core.field_bounds import Length, Name
from midstream.core.types import Index, Mask, Moment
from midstream.events.wire import Limits
from midstream.features.language import Condition

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EVER_MS = 1 << 62


ShortText = Annotated[str, Length(0, 500, "characters")]
Ids = tuple[Annotated[str, Length(1, Limits().id_chars_max, "characters")], ...]
POSITIONS_MAX = 100
"""Of one rule: as many as a slate has."""
Positions = Annotated[tuple[int, ...], Length(1, POSITIONS_MAX)]


class Stated(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """Fields of all kinds of rules."""

    name: Name
    """Its own in the placement: traces and metrics have it."""
    author: ShortText = ""
    """The responsible person."""
    note: ShortText = ""
    """Why it is there."""
    start: str = ""
    """RFC 3339 time from which it is in force; "" = from ever."""
    end: str = ""
    """RFC 3339 time from which it is not any more; "" = for ever."""
    when: str | None = None
    """Condition about the request: the requests for which it is in force."""


S_co = TypeVar("S_co", bound=Stated, covariant=True)


@dataclass(frozen=True, slots=True)
class Ruling(Generic[S_co]):
    """A rule, read and ready."""

    rule: S_co
    start_ms: int
    end_ms: int
    when: Condition | None
    where: Condition | None = None
    """Items of the rule, in kinds that choose them by a condition."""

    @property
    def name(self) -> str:
        """Name of the rule."""
        return self.rule.name

    def is_in_force(self, moment: Moment) -> bool:
        """Return whether the rule does anything in a request. Cost: 1 µs, with a condition 10."""
        if not self.start_ms <= moment.query.now_ms < self.end_ms:
            return False
        return self.when is None or self.when.holds(moment)


def passing(condition: Condition, moment: Moment, item_index: Index) -> Mask:
    """Return the items for which a condition is known to be true, (n,)."""
    return condition.passes(moment, item_index)


def span_ms(rule: Stated) -> tuple[int, int]:
    """Return from when, and up to before when, a rule is in force, in ms.

    Raises:
        ValueError: One of both is no time with a zone.
    """
    return (
        -_EVER_MS if not rule.start else time_ms(rule.start),
        _EVER_MS if not rule.end else time_ms(rule.end),
    )


def time_ms(text: str) -> int:
    """Return an RFC 3339 time in ms since 1970.

    Raises:
        ValueError: It is none, or has no zone.
    """
    found = datetime.fromisoformat(text)
    if "T" not in text.upper() or found.tzinfo is None:
        message = f"{text!r} has no time of day, or no zone"
        raise ValueError(message)
    return (found - _EPOCH) // timedelta(milliseconds=1)
