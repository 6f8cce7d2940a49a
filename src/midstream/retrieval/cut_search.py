"""Searches that end early: a condition that is asked of a bounded number of items, within the time of the request.

A source whose work has no small bound is asked by ``retrieve_within`` and looks at the time between two parts of it.
What it found until then is its proposal, which says why it ended there: answers name the reason, and served records
have the proposal, so a rerun, which has another clock, gives the same slate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from midstream.core.protocols import Source
from midstream.core.types import Index, Mask, Moment, Proposal
from midstream.features.language import Condition
from midstream.retrieval.approximate import ApproximateProposal

ASKED_AT_ONCE = 4_096
"""Items of which a condition's columns are in memory at once, and between two looks at the time: 0.8 ms of the dearest
condition that ``nearest`` reads."""
NOT_ALL = "not asked of all items"
"""Begin of each reason, in logs the whole of it: with its numbers each would be another one."""
_FAILS, _PASSES = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class CutProposal(ApproximateProposal):
    """Items of a search that ended before it had as many as are wanted, though there may be more."""

    part: str
    """What ended early, behind the name of the source and a dot."""
    reason: str


class KeepsTime(Protocol):
    """Protocol of sources that look at the time while they work."""

    def retrieve_within(self, moment: Moment, remaining_s: Callable[[], float]) -> Proposal:
        """Return what was found until the time was over: ``retrieve`` is the same without an end."""
        ...


def endless() -> float:
    """Return the remaining seconds where no caller waits."""
    return math.inf


def retrieved(source: Source, moment: Moment, remaining_s: Callable[[], float]) -> Proposal:
    """Return the proposal of a source, which gets the remaining seconds if it can use them."""
    if hasattr(source, "retrieve_within"):
        return cast("KeepsTime", source).retrieve_within(moment, remaining_s)
    return source.retrieve(moment)


class AskedItems:
    """A condition for one request, asked of so many items at most, of each once, and until the time is over."""

    def __init__(
        self, condition: Condition, moment: Moment, asked_max: int, remaining_s: Callable[[], float], item_count: int
    ) -> None:
        """Begin with no item of the first ``item_count`` asked about."""
        self._condition = condition
        self._moment = moment
        self._remaining_s = remaining_s
        self._told = np.zeros(item_count, dtype=np.int8)
        """What is known of each item: 0 nothing, or one of those below."""
        self.asked_max = asked_max
        self.count = 0
        """Items that were asked about."""

    @property
    def left(self) -> int:
        """Items that may still be asked about."""
        return self.asked_max - self.count

    @property
    def is_over(self) -> bool:
        """Whether no item is asked about any more."""
        return self.left <= 0 or self._remaining_s() <= 0.0

    def is_known(self, items: Index) -> Mask:
        """Return which items were asked about."""
        return np.asarray(self._told[items] != 0)

    def passes(self, items: Index, wanted: float = math.inf) -> tuple[Mask, bool]:
        """Return which items are known to pass, and whether all were asked about, or as many as are needed.

        Args:
            items: To be asked about in this order, a part at a time, until it is over; each without a repetition.
            wanted: None is asked about behind the part in which so many have passed.
        """
        new = np.flatnonzero(~self.is_known(items))
        begin = reached = passed = 0
        while True:
            end = int(new[begin]) if begin < len(new) else len(items)
            passed += int(np.count_nonzero(self._told[items[reached:end]] == _PASSES))
            reached = end
            if reached == len(items) or passed >= wanted or self.is_over:
                break
            places = new[begin : begin + min(ASKED_AT_ONCE, self.left)]
            part = items[places]
            self._told[part] = np.where(self._condition.passes(self._moment, part), _PASSES, _FAILS)
            self.count += len(part)
            begin += len(part)
        return self._told[items] == _PASSES, reached == len(items) or passed >= wanted

    def reason(self, item_count: int) -> str:
        """Return why no more were asked about, of so many items."""
        why = "asked_max" if self.left <= 0 else "the time was over"
        return f"{NOT_ALL}: {why}, {self.count:,} of {item_count:,}"
