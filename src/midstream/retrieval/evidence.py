"""Evidence of a proposal: the user's own items that led to it, or the counts of the source.

Evidence is an optional second method of a source. It is called for an explanation and never for an answer. It reads the
same moment as the proposal, and returns for each item at most three others with their shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Moment, Score

LED_MAX = 3
"""Maximum of items that led to one: more would not be read."""
Real: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Led:
    """An item of the asker's that led to a proposed one."""

    item_index: int
    share: float
    """Share of this item in the proposed item's score, above 0 and at most 1."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence of one proposed item."""

    led: tuple[Led, ...] = ()
    """The strongest first; none = the source does not use the user's history."""
    facts: Mapping[str, str | float] = field(default_factory=dict[str, str | float])
    """Counts of the source instead, by name: a heat and its half-life, a time, a number of acts."""


NOTHING = Evidence()


@runtime_checkable
class SaysWhy(Protocol):
    """Protocol of sources with evidence."""

    def why(self, moment: Moment, item_index: Index) -> Sequence[Evidence]:
        """Return the evidence of each of some items at this moment, in their order."""
        ...


def strongest(items: Index, said: Real) -> tuple[Evidence, ...]:
    """Return for each proposed item those that led to it.

    Args:
        items: The user's, (m,); a repeated item counts once.
        said: Part of each of them in the score of each proposed item, (m, n); values of 0 and below do not count.
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
    """Return the score of each of some items in a proposal, 0 where it is missing, (n,)."""
    by_item = dict(zip(proposed[0].tolist(), proposed[1].tolist(), strict=True))
    return np.array([by_item.get(item, 0.0) for item in item_index.tolist()], dtype=np.float64)


def distinct_latest_first(recent: Index) -> list[int]:
    """Return known items, each once, the latest first."""
    return [item for item in dict.fromkeys(recent[::-1].tolist()) if item >= 0]
