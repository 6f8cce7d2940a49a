"""Shares of an experiment that move: at the end of each of its days, by the chance of each variant to be the best.

Each move is kept in the document of the experiment, with what it was decided by, so that units can be held against the
shares that were in force when they came.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec

from midstream.core.errors import Fault
from midstream.experiments.assignment import BUCKETS, even_shares
from midstream.experiments.metrics import ExperimentMetric

Allocation: TypeAlias = Literal["fixed", "thompson"]
"""``fixed``: shares stay as they are; ``thompson``: they move by the posterior of the primary rate."""
DAY_MS = 86_400_000
"""Shares move once a day: a day has all hours, and few units change their variant."""
MOVES_MAX = 60
"""Moves that are kept, the newest: two months, 12 kB."""
SHARE_MIN = 0.02
"""Of each variant that is left in: one with a bad start is not given up."""
_PAGE = "/docs/experiments.md"
Share = Annotated[int, msgspec.Meta(ge=0, le=BUCKETS)]


class Reallocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares from one moment on."""

    from_ms: int
    """Wall clock."""
    shares: tuple[Share, ...]
    """Of each variant, in buckets."""
    best: tuple[float, ...]
    """Probability of each variant to have the best rate."""
    units: tuple[int, ...]
    """Of each variant, by which it was decided."""
    successes: tuple[int, ...]
    rates: tuple[float | None, ...] = ()
    """Of each variant, compared within days; None = it has no unit, none at all = it is the start."""


def first_shares(shares: Sequence[int], now_ms: int) -> Reallocation:
    """Return the shares of the start, of which nothing is known."""
    count = len(shares)
    return Reallocation(now_ms, tuple(shares), (1.0 / count,) * count, (0,) * count, (0,) * count)


def whole_shares(shares: Sequence[float]) -> tuple[int, ...]:
    """Return shares in buckets, 10,000 together.

    Example:
        >>> whole_shares([0.5, 0.25, 0.25])
        (5000, 2500, 2500)
    """
    return tuple(even_shares(shares))


def day_of(began_ms: int, now_ms: int) -> int:
    """Return which day of an experiment it is, 0 = the first."""
    return (now_ms - began_ms) // DAY_MS


def is_due(began_ms: int, moves: Sequence[Reallocation], now_ms: int) -> bool:
    """Return whether shares are to move: a day is over, and they did not move on this one."""
    return bool(moves) and day_of(began_ms, moves[-1].from_ms) < day_of(began_ms, now_ms)


def allocation_faults(allocation: Allocation, design: str, metrics: Sequence[ExperimentMetric]) -> Iterator[Fault]:
    """Yield why shares cannot move by the posterior of a rate."""
    if allocation != "thompson":
        return
    if design != "split":
        came = f'"thompson" came with the design "{design}", in which all variants have the same units.'
        yield Fault("/allocation", came, "fixed, or the design split.", _PAGE)
    for number, each in enumerate(metrics):
        if each.role == "primary" and each.kind != "rate":
            came = f"A {each.kind} came as the primary metric of shares that move."
            yield Fault(
                f"/metrics/{number}/kind", came, "rate: shares move by the share of units that have any.", _PAGE
            )
        if each.role == "guardrail":
            came = "guardrail came, and shares that follow outcomes allow no verdict."
            yield Fault(f"/metrics/{number}/role", came, "primary or secondary.", _PAGE)
