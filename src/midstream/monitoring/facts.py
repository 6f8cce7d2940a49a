"""Rate-limited facts of a running engine for its log: bounded, with a count of suppressed ones.

Facts of one event and one key are one line a period, however often they occur: the first of them at the next look, and
one more line with the number of the others at the end of the period. So a flood of one fault costs a few lines, and
nothing disappears. Noting a fact costs some 5 µs and waits for nothing; another thread writes the log.

A fact has fields with numbers and configured names, and ``detail``, which may have data of a caller, the text of a
component or a user's id, and is written at the level ``debug`` alone.

Reference: the Linux kernel's ``printk_ratelimit`` (a burst an interval, then how many were suppressed).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from midstream.core.tracebacks import Raised

Level = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]
FieldValue: TypeAlias = str | int | float | bool
MINUTE_S = 60.0
HOUR_S = 3_600.0
"""Maximum of a period: a fault that lasts a day costs 30 lines."""
KINDS_MAX = 500
"""Events and keys held at once: 100 parts that fail in five ways; what is beyond them is counted together."""
REASONS_MAX = 20
"""Reasons counted apart in one line; a reason is a fixed word, so this is far."""
OTHER = "other"
_BEYOND = "facts_beyond_maximum"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that an operator wants to find in the log."""

    event: str
    """Stable name, ``snake_case``."""
    level: Level = "info"
    fields: Mapping[str, FieldValue] = field(default_factory=dict[str, FieldValue])
    key: str = ""
    """Facts of one event and one key share a line, such as those of one part and one type of error."""
    every_s: float = MINUTE_S
    """At most one line in this time, which doubles with each further line, up to an hour. It is as it was at first when
    nothing came during it and for an hour after it."""
    reasons: Mapping[str, int] = field(default_factory=dict[str, int])
    """Numbers that are added up from line to line, such as rejected events by field."""
    raised: Raised | None = None
    detail: str = ""
    """May hold texts of callers, components and users: written at ``debug`` alone."""
    count: int = 1
    """Number of facts in the line."""


@dataclass(slots=True)
class _Held:
    """Pending facts of one event and key."""

    quiet_until: float
    fact: Fact | None = None
    """The newest; None = nothing since the last line."""
    count: int = 0
    raised: Raised | None = None
    """Of the oldest since the last line that has one."""
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    quiet_s: float = 0.0
    """The last period; 0 = there was none."""

    def add(self, fact: Fact) -> None:
        """Keep one fact more."""
        self.fact = fact
        self.count += fact.count
        self.raised = self.raised or fact.raised
        if fact.reasons:
            self.reasons = added(self.reasons, fact.reasons.items())

    def take(self, fact: Fact) -> Fact:
        """Return one fact for all that were kept, of which ``fact`` is the newest, and keep nothing."""
        whole = replace(fact, count=self.count, raised=self.raised, reasons=self.reasons)
        self.fact, self.count, self.raised, self.reasons = None, 0, None, {}
        return whole


class Facts:
    """The facts that are not written yet. On one thread."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Hold nothing; ``monotonic`` gives seconds that never go back."""
        self._monotonic = monotonic
        self._held: dict[tuple[str, str], _Held] = {}

    def note(self, fact: Fact) -> None:
        """Keep a fact for the next look, together with those of its event and key."""
        kind = fact.event, fact.key
        if kind not in self._held and len(self._held) >= KINDS_MAX:
            fact, kind = Fact(_BEYOND, "warning", reasons={fact.event: fact.count}), (_BEYOND, "")
        held = self._held.get(kind)
        if held is None:
            held = self._held[kind] = _Held(self._monotonic())
        elif held.fact is None:
            self._held[kind] = self._held.pop(kind)  # behind those that came before it
        held.add(fact)

    def due(self, *, all_of_them: bool = False) -> list[Fact]:
        """Return the facts to write now, in the order of their occurrence, and begin their periods."""
        now = self._monotonic()
        self._forget(HOUR_S if len(self._held) < KINDS_MAX else 0.0)  # here, as looking through them costs 50 µs
        found: list[Fact] = []
        for held in self._held.values():
            if held.fact is None or (now < held.quiet_until and not all_of_them):
                continue
            held.quiet_s = min(2 * held.quiet_s, HOUR_S) if held.quiet_s else held.fact.every_s
            held.quiet_until = now + held.quiet_s
            found.append(held.take(held.fact))
        return found

    def _forget(self, quiet_s: float) -> None:
        """Forget kinds whose period is over for so long and of which nothing came: their next fact is a first one."""
        now = self._monotonic()
        for kind, held in list(self._held.items()):
            if held.fact is None and now - held.quiet_until >= quiet_s:
                del self._held[kind]


def added(reasons: Mapping[str, int], more: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return sums by reason; those beyond ``REASONS_MAX`` are one."""
    sums = Counter(reasons)
    for reason, count in more:
        sums[reason if reason in sums or len(sums) < REASONS_MAX else OTHER] += count
    return dict(sums)
