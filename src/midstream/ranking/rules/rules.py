"""The kinds of slate rules, and the columns of the candidates that they read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from midstream.core.types import Index, Mask, Score, Trace
from midstream.ranking.rules.boost import Boost, Boosted
from midstream.ranking.rules.calibration import Taste
from midstream.ranking.rules.cap import Cap, counted
from midstream.ranking.rules.new_items import Fresh, NewItems
from midstream.ranking.rules.pin import Pin
from midstream.ranking.rules.promote import Promote, Promoted

AnyRule: TypeAlias = Pin | Boost | Promote | NewItems
RULES_MAX = 16
"""Of a placement: each in force adds 10 µs and more to a request."""
WORDS = (
    "pinned",
    "moved",
    "taken",
    "unknown",
    "ineligible",
    "capped",
    "new",
    "none",
    "promoted",
    "held",
    "short",
    "lowered",
    "boosted",
    "buried",
)
"""Actions of rules in traces. Served records have the number of the word, so words are only ever appended."""


@dataclass(frozen=True, slots=True, eq=False)
class CandidateFacts:
    """Columns of the candidates for the rules in force, row for row."""

    item_index: Index
    """The candidates, (n,)."""
    capped: tuple[Index, ...] = ()
    """Value codes of each cap's attribute, (n, w), -1 = none."""
    values: Index | Score | None = None
    """For likeness: value codes (n, w), or vectors of length 1 or 0, (n, d)."""
    boosts: tuple[Boosted, ...] = ()
    promotions: tuple[Promoted, ...] = ()
    fresh: tuple[Fresh, ...] = ()
    pins: dict[int, tuple[int, str]] = field(default_factory=dict[int, tuple[int, str]])
    """By position: row and rule of the pinned item."""
    traces: tuple[Trace, ...] = ()
    """Actions that are known before anything is chosen."""
    taste: Taste | None = None
    """Shares of categories in the acts of the user; None = slates are not calibrated, or there is no act."""
    before: tuple[Mapping[int, int], ...] = ()
    """Number of served items of each value that count beside the slate, by cap; none = no cap is over a time."""

    @property
    def is_idle(self) -> bool:
        """Whether no rule has an effect, so that the selector chooses without rules."""
        return not (self.capped or self.values is not None or self.taste is not None or self.pins) and not (
            self.boosts or self.promotions or self.fresh
        )

    def where(self, keep: Mask) -> "CandidateFacts":
        """Return the facts of the kept candidates, in order; a pin of another one is dropped."""
        at = np.cumsum(keep) - 1
        lost = tuple(
            Trace(rule, int(self.item_index[row]), place, "taken")
            for place, (row, rule) in self.pins.items()
            if not keep[row]
        )
        return CandidateFacts(
            item_index=self.item_index[keep],
            capped=tuple(codes[keep] for codes in self.capped),
            before=self.before,
            values=None if self.values is None else self.values[keep],
            taste=None if self.taste is None else self.taste.where(keep),
            boosts=tuple(replace(each, member=each.member[keep]) for each in self.boosts),
            promotions=tuple(replace(each, member=each.member[keep]) for each in self.promotions),
            fresh=tuple(replace(each, member=each.member[keep]) for each in self.fresh),
            pins={place: (int(at[row]), rule) for place, (row, rule) in self.pins.items() if keep[row]},
            traces=self.traces + lost,
        )

    def less(self, caps: Sequence[Cap], keep: Mask) -> "CandidateFacts":
        """Return the facts without the candidates of earlier slates, which count where a cap is over a time."""
        left = self.where(keep)
        if not self.before:
            return left
        told = zip(caps, self.before, self.capped, strict=True)
        before = tuple(
            before if cap.within is None else Counter(before) + counted(codes[~keep]) for cap, before, codes in told
        )
        return replace(left, before=before)
