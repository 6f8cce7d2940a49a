"""Evidence of a proposal: the asker's own items that led to it, or how much others act on it.

Evidence is an optional second method of a source, asked when somebody wants an explanation and never to answer. It is
read from the same moment as the proposal, and says of each item at most three others, with the share of what was said
that each is good for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Moment, Score

LED_MAX = 3
"""Items named as leading to one: more are no reason that anybody reads."""
Real: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Led:
    """An item of the asker's that led to a proposed one."""

    item_index: int
    share: float
    """Of all that speaks for the proposed item here, above 0 and at most 1."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a source goes by in one proposal."""

    led: tuple[Led, ...] = ()
    """The strongest first; none = the source does not go by what the asker did."""
    facts: Mapping[str, str | float] = field(default_factory=dict[str, str | float])
    """What it counts instead, by name: a heat and its half-life, a time, a number of acts."""


NOTHING = Evidence()


@runtime_checkable
class SaysWhy(Protocol):
    """What a source is that can say it."""

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return why each of some items is proposed at this moment, in their order."""
        ...


def strongest(items: Index, said: Real) -> tuple[Evidence, ...]:
    """Return for each proposed item those that led to it.

    Args:
        items: The asker's, (m,); one that is there twice counts as one.
        said: What each of them said of each proposed item, (m, n); what is not above 0 did not speak for it.
    """
    distinct, place = np.unique(items, return_inverse=True)
    sums = np.zeros((len(distinct), said.shape[1]))
    np.add.at(sums, place, np.maximum(said, 0.0))
    total = sums.sum(axis=0)
    found: list[Evidence] = []
    for column in range(said.shape[1]):
        order = np.argsort(-sums[:, column], kind="stable")[:LED_MAX]
        told = [(int(distinct[row]), float(sums[row, column])) for row in order]
        found.append(Evidence(tuple(Led(item, worth / float(total[column])) for item, worth in told if worth > 0.0)))
    return tuple(found)


def scores_in(proposed: tuple[Index, Score], item_index: Index) -> Real:
    """Return the score that each of some items has in an answer, 0 where it is not in it, (n,)."""
    by_item = dict(zip(proposed[0].tolist(), proposed[1].tolist(), strict=True))
    return np.array([by_item.get(item, 0.0) for item in item_index.tolist()], dtype=np.float64)


def distinct_latest_first(recent: Index) -> list[int]:
    """Return known items, each once, the latest first."""
    return [item for item in dict.fromkeys(recent[::-1].tolist()) if item >= 0]
