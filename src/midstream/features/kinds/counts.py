"""Feature kinds that aggregate events: cells of users, items, sessions, values and pairs of them.

The formulas below are over the events of ``actions`` with one key: of an item, a user, a session, a value of the
candidate's attribute, or a pair. A count without events is 0, and a quotient or minimum without events is NaN. An
unknown key (no user, an item that no event named) is NaN. An item's events count for each of its tags, and a candidate
reads the keys of all of its tags: sums are added up, and a minimum is over all.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

import msgspec

from midstream.core.durations import Duration
from midstream.core.kinds import IMPRESSION
from midstream.state.expressions.program import (
    NOW,
    Cell,
    Expression,
    Op,
    OutcomeScope,
    ScopeName,
    TakeName,
    column,
)

Actions: TypeAlias = tuple[str, ...]
Smoothing = Annotated[float, msgspec.Meta(ge=0.0, le=1_000_000.0)]
Columns: TypeAlias = Mapping[str, Expression]
SECOND_MS = 1_000.0


class EventFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """Common options of kinds that aggregate events."""

    name: str
    scope: ScopeName = "item"
    actions: Actions
    """Configured interactions, and ``impression``."""
    attribute: str = ""
    """Category or tags attribute whose values are the keys, in the scopes ``attribute`` and ``user_attribute``."""
    ttl: Duration | None = None
    """NaN from so long after the newest of the events that it is made of, and where there never was one."""

    def cell(self, take: TakeName = "one", *, half_life_ms: int = 0, window_ms: int = 0) -> Cell:
        """Return the sum of something over these actions."""
        return Cell(
            self.scope,
            tuple(sorted(self.actions)),
            take,
            half_life_ms=half_life_ms,
            window_ms=window_ms,
            attribute=self.attribute,
        )

    def counted(self) -> Actions:
        """Return the actions that it is made of."""
        return self.actions

    def numbers(self) -> Columns:
        """Return the columns without regard to ``ttl``."""
        return {}

    def expressions(self) -> Columns:
        """Return value / (now - time of the newest event < ttl): NaN where that is 0 or NaN."""
        if self.ttl is None:
            return self.numbers()
        counted = tuple(sorted({*self.counted()}))
        newest = msgspec.structs.replace(self.cell("time"), actions=counted, fold="max")
        is_fresh = Expression(Op.LESS, (NOW - column(newest), column(float(self.ttl.ms))))
        return {name: value / is_fresh for name, value in self.numbers().items()}


class Count(EventFeature, frozen=True, tag="count"):
    """Number of events: in each of several windows, and fading by half in each of several half-lives.

    Without either, of all time. Each has a column, named ``views_24h`` or ``views_fading_7d``; a single column has the
    feature's name. A window is exact to a twelfth of its length.
    """

    windows: tuple[Duration, ...] = ()
    half_life: tuple[Duration, ...] = ()
    weighted: bool = False
    """Each act counts with the weight of its type, each impression 0."""

    def numbers(self) -> Columns:
        """Return sum(1) or sum(weight), each times 2^(-age / half-life) where it fades."""
        take: TakeName = "weight" if self.weighted else "one"
        found = {f"{self.name}_{each}": self.cell(take, window_ms=each.ms) for each in self.windows}
        found |= {f"{self.name}_fading_{each}": self.cell(take, half_life_ms=each.ms) for each in self.half_life}
        if len(found) < 2:  # noqa: PLR2004  # nothing to tell apart
            found = {self.name: next(iter(found.values()), self.cell(take))}
        return {name: column(cell) for name, cell in found.items()}


class Rate(EventFeature, frozen=True, tag="rate"):
    """Smoothed rate of ``actions`` per ``per``: both counts fade, and the prior is the global rate.

    The global rate is over all events; NaN while there was no ``per`` at all.
    """

    per: Actions
    half_life: Duration = Duration("7d")
    smoothing: Smoothing = 10.0
    """So many of ``per`` weigh what everybody's rate does."""

    def counted(self) -> Actions:
        """Return both."""
        return (*self.actions, *self.per)

    def numbers(self) -> Columns:
        """Return (a + k * A / P) / (p + k) of fading counts, capitals over all events."""
        action = self.cell(half_life_ms=self.half_life.ms)
        per = msgspec.structs.replace(action, actions=tuple(sorted(self.per)))
        everybody = [column(msgspec.structs.replace(each, scope="global", attribute="")) for each in (action, per)]
        prior = everybody[0] / everybody[1] * self.smoothing
        return {self.name: (column(action) + prior) / (column(per) + self.smoothing)}


class OutcomeFeature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """Common options of kinds that count positions of slates by what followed them.

    A position belongs to its item. It counts once it was seen, and once for the acts that came at it, whichever of
    ``actions`` came and however often. All of it has the age of the slate, so an act weighs what its impression does.
    """

    name: str
    actions: Actions
    """Configured interactions, and ``impression``."""
    placement: str = ""
    """The placement whose slates count, those of its variants too; empty = each."""

    def cell(self, scope: OutcomeScope, actions: Actions, half_life_ms: int) -> Cell:
        """Return the number of positions at which any of these actions came."""
        return Cell(scope, tuple(sorted(actions)), half_life_ms=half_life_ms, placement=self.placement)


class OutcomeCount(OutcomeFeature, frozen=True, tag="outcome_count"):
    """Number of positions that were seen and acted on, fading by half in each of several half-lives.

    Without one, of all time. Several have a column each, named ``clicked_fading_7d``.
    """

    half_life: tuple[Duration, ...] = ()

    def expressions(self) -> Columns:
        """Return sum(1), each times 2^(-age of the slate / half-life) where it fades."""
        found = {f"{self.name}_fading_{each}": each.ms for each in self.half_life}
        if len(found) < 2:  # noqa: PLR2004  # nothing to tell apart
            found = {self.name: next(iter(found.values()), 0)}
        return {name: column(self.cell("item_outcomes", self.actions, each)) for name, each in found.items()}


class OutcomeRate(OutcomeFeature, frozen=True, tag="outcome_rate"):
    """Smoothed share of the positions that were acted on, of those that were seen; the prior is that of all items.

    NaN while no position was seen.
    """

    half_life: Duration = Duration("7d")
    smoothing: Smoothing = 10.0
    """So many positions weigh what the share of all items does."""

    def expressions(self) -> Columns:
        """Return (a + k * A / P) / (p + k) of fading counts, capitals over all items."""
        of, ms = (self.actions, (IMPRESSION,)), self.half_life.ms
        acted, seen = (column(self.cell("item_outcomes", each, ms)) for each in of)
        every_acted, every_seen = (column(self.cell("outcomes", each, ms)) for each in of)
        prior = every_acted / every_seen * self.smoothing
        return {self.name: (acted + prior) / (seen + self.smoothing)}


class UniqueCount(EventFeature, frozen=True, tag="unique_count"):
    """Estimated number of different users, items or sessions: standard error 13 %, less for small numbers."""

    of: Literal["user", "item", "session"]

    def numbers(self) -> Columns:
        """Return a HyperLogLog count of 64 registers."""
        return {self.name: column(msgspec.structs.replace(self.cell(), fold="distinct", of=self.of))}


class Statistic(EventFeature, frozen=True, tag="statistic"):
    """Mean, least, most, last or deviation of the values that events carry, in their unit; NaN without any."""

    statistic: Literal["mean", "min", "max", "last", "deviation"]

    def numbers(self) -> Columns:
        """Return the number; the deviation is that of the population, sqrt(mean of squares - square of the mean)."""
        if self.statistic in {"min", "max", "last"}:
            return {self.name: column(msgspec.structs.replace(self.cell("value"), fold=self.statistic))}
        count = column(self.cell("has_value"))
        mean = column(self.cell("value")) / count
        if self.statistic == "mean":
            return {self.name: mean}
        squares = column(self.cell("value_squared")) / count
        spread = Expression(Op.MAX, (squares - mean * mean, column(0.0)))
        return {self.name: Expression(Op.SQRT, (spread,))}


class Since(EventFeature, frozen=True, tag="since"):
    """Seconds since the newest of these events, by event time; NaN = there was none."""

    def numbers(self) -> Columns:
        """Return (now - max(event time)) / 1,000: of milliseconds float32 would keep no more than four hours exact."""
        newest = column(msgspec.structs.replace(self.cell("time"), fold="max"))
        return {self.name: (NOW - newest) / SECOND_MS}


class Affinity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="affinity", kw_only=True):
    """Smoothed share of the user's acts on items with the candidate's value of an attribute, 0 to 1; acts fade.

    The prior is the share over all users. The shares of several tags are added up, so they may exceed 1. An item
    without a value has NaN.
    """

    name: str
    actions: Actions
    attribute: str
    """Category or tags."""
    half_life: Duration = Duration("30d")
    smoothing: Smoothing = 5.0
    """So much of what the user did weighs what everybody's share does."""
    weighted: bool = True
    """Each act counts with the weight of its type, which must be above 0, instead of 1."""
    ttl: Duration | None = None
    """NaN from so long after the user's newest act with the value, and where there was none."""

    def expressions(self) -> Columns:
        """Return (u + k * g / G) / (U + k) of fading sums, small ones with the value, capitals with any."""
        pair = Cell(
            "user_attribute",
            tuple(sorted(self.actions)),
            "weight" if self.weighted else "one",
            half_life_ms=self.half_life.ms,
            attribute=self.attribute,
        )
        value = column(msgspec.structs.replace(pair, scope="attribute"))
        user, everybody = (
            column(msgspec.structs.replace(pair, scope=each, attribute="")) for each in ("user", "global")
        )
        found = (column(pair) + value / everybody * self.smoothing) / (user + self.smoothing)
        if self.ttl is None:
            return {self.name: found}
        newest = column(msgspec.structs.replace(pair, take="time", fold="max", half_life_ms=0))
        return {self.name: found / Expression(Op.LESS, (NOW - newest, column(float(self.ttl.ms))))}
