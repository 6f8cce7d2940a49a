"""Boosts: items whose score counts for more, or for less.

A factor f adds ln f standard deviations of the candidates' scores:

    worth_i = score_i + σ · Σ ln f   over the boosts of item i

So a factor has the same effect on a blend, a click rate and a ranker with negative scores: offset and scale of the
scores have no influence. Boosts of one item multiply; a boost by 2 and one by 1/2 cancel out, and below 1 an item is
buried. Under ``plackett_luce`` with temperature 1 the factor multiplies the odds of an item; with temperature τ f^(1/τ)
does. Where all scores are equal σ is 1, so the boost alone decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Mask, Score, Trace
from midstream.ranking.rules.in_force import Stated

Real: TypeAlias = NDArray[np.float64]


class Boost(Stated, frozen=True, kw_only=True, tag="boost"):
    """A factor on the worth of some items."""

    where: str
    """Condition: which items."""
    factor: Annotated[float, msgspec.Meta(ge=0.001, le=1_000)]
    """Above 1 they come higher, below 1 lower; 2.7 is one standard deviation of the scores, 1,000 are seven."""


@dataclass(frozen=True, slots=True, eq=False)
class Boosted:
    """A boost in force and the candidates that it is about."""

    name: str
    factor: float
    member: Mask
    """(n,)."""


def worth_of(score: Score, boosts: tuple[Boosted, ...]) -> Real:
    """Return the worth of each candidate by its score and all boosts, (n,); NaN where there is no score."""
    worth = score.astype(np.float64)
    if not boosts:
        return worth
    known = worth[np.isfinite(worth)]
    unit = float(known.std()) if len(known) else 0.0
    lift = np.zeros(len(worth))
    for each in boosts:
        lift[each.member] += np.log(each.factor)
    return worth + lift * (unit if unit > 0 else 1.0)


def lifted(
    boosts: Sequence[Boosted], raw: Sequence[int], chosen: Sequence[int], rows: tuple[Sequence[int], NDArray[np.intp]]
) -> Iterator[Trace]:
    """Yield the actions of boosts: items of the slate with another place because of them.

    Args:
        boosts: In force.
        raw: Candidates, best first by their scores alone; the number of a candidate is its place by worth.
        chosen: Candidates of the slate.
        rows: Item and row of each candidate.
    """
    if not boosts:
        return
    items, order = rows
    moved = {at for at, before in enumerate(raw) if before != at}
    for each in boosts:
        for place, at in enumerate(chosen):
            if at in moved and each.member[order[at]]:
                yield Trace(each.name, items[at], place, "boosted" if each.factor > 1 else "buried")
