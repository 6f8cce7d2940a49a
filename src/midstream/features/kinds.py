"""Declared features: a frozen type a kind, with the options that a declaration has, and the columns they mean.

A kind is a method that returns expressions over cells (``state.program``), so it needs no state, kernel or snapshot of
its own, and is the same live, after a restart and in training. What is not known is NaN: a rate of nothing, the time
since what never was.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from midstream.core.durations import Duration
from midstream.state.program import NOW, Cell, Expression, Op, Program, ScopeName, TakeName, column, compile_columns

Actions: TypeAlias = tuple[str, ...]
_DAY_MS = 86_400_000


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", kw_only=True):
    """What all kinds of one number a key have."""

    name: str
    scope: ScopeName = "item"
    actions: Actions
    """Configured interactions, and ``impression``."""
    attribute: str = ""
    """Whose values are the keys, in the scopes ``attribute`` and ``user_attribute``."""

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


class Count(Kind, frozen=True, tag="count"):
    """How often: in each of several windows, and with each event fading by half in each of several half-lives.

    Without either, of all time. A column each, named ``views_24h`` or ``views_fading_7d``; one alone has the name.
    """

    windows: tuple[Duration, ...] = ()
    half_lives: tuple[Duration, ...] = ()
    weighted: bool = False
    """Each act counts with the weight of its type, each impression 0."""

    def expressions(self) -> Mapping[str, Expression]:
        """Return sum(1) or sum(weight), each times 2^(-age / half-life) where it fades."""
        take: TakeName = "weight" if self.weighted else "one"
        found = {f"{self.name}_{each}": self.cell(take, window_ms=each.ms) for each in self.windows}
        found |= {f"{self.name}_fading_{each}": self.cell(take, half_life_ms=each.ms) for each in self.half_lives}
        if len(found) < 2:  # noqa: PLR2004  # nothing to tell apart
            found = {self.name: next(iter(found.values()), self.cell(take))}
        return {name: column(cell) for name, cell in found.items()}


class Rate(Kind, frozen=True, tag="rate"):
    """``actions`` per ``per``, pulled to everybody's rate while there is little to go by."""

    per: Actions
    half_life: Duration = Duration("7d")
    smoothing: float = 10.0
    """So many of ``per`` weigh what everybody's rate does."""

    def expressions(self) -> Mapping[str, Expression]:
        """Return (a + k * A / P) / (p + k) of fading counts, capitals of everybody."""
        action = self.cell(half_life_ms=self.half_life.ms)
        per = msgspec.structs.replace(action, actions=tuple(sorted(self.per)))
        everybody = [column(msgspec.structs.replace(each, scope="global", attribute="")) for each in (action, per)]
        prior = everybody[0] / everybody[1] * self.smoothing
        return {self.name: (column(action) + prior) / (column(per) + self.smoothing)}


class UniqueCount(Kind, frozen=True, tag="unique_count"):
    """About how many different users, items or sessions: standard error 13 %, less while there are few."""

    of: Literal["user", "item", "session"]

    def expressions(self) -> Mapping[str, Expression]:
        """Return a HyperLogLog count of 64 registers."""
        return {self.name: column(msgspec.structs.replace(self.cell(), fold="distinct", of=self.of))}


class Statistic(Kind, frozen=True, tag="statistic"):
    """Mean, least, most, last or deviation of the values that events carry."""

    statistic: Literal["mean", "min", "max", "last", "deviation"]

    def expressions(self) -> Mapping[str, Expression]:
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


class Since(Kind, frozen=True, tag="since"):
    """Milliseconds since the last of these actions; NaN = there was none."""

    def expressions(self) -> Mapping[str, Expression]:
        """Return now - max(event time)."""
        return {self.name: NOW - column(msgspec.structs.replace(self.cell("time"), fold="max"))}


Declared: TypeAlias = Count | Rate | UniqueCount | Statistic | Since


def program_of(features: Sequence[Declared]) -> Program:
    """Return what computes the columns of all features, equal parts once."""
    return compile_columns({name: each for feature in features for name, each in feature.expressions().items()})


def cells_of(features: Sequence[Declared]) -> tuple[Cell, ...]:
    """Return what has to be kept for them: ``FoldSettings.cells``."""
    return tuple(sorted(program_of(features).cells, key=msgspec.json.encode))
