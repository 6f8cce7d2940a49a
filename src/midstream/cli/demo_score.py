"""What the demo counts: hits of the engine, of popularity and of the frozen engine, and how long everything took."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

TOP = 10
_KEPT_MAX = 400
"""Items of the list of the most clicked: ten and as many as one session may leave out, with ample room."""


@dataclass(slots=True)
class Rate:
    """Hits of so many clicks."""

    hits: int = 0
    clicks: int = 0

    def add(self, *, hit: bool) -> None:
        """Count one click."""
        self.hits += hit
        self.clicks += 1

    def __str__(self) -> str:
        """Return the share, or a dash before the first click."""
        return f"{self.hits / self.clicks:.3f}" if self.clicks else "–"


class Popularity:
    """What most clicks went to so far: the list that everybody gets. Test, then learn, as the engine does."""

    def __init__(self) -> None:
        """Begin without clicks."""
        self._counts: Counter[str] = Counter()
        self._best: list[str] = []

    def top(self, leave_out: Collection[str]) -> list[str]:
        """Return the most clicked items but some, the most clicked first."""
        found: list[str] = []
        for item in self._best:
            if item not in leave_out:
                found.append(item)
            if len(found) == TOP:
                break
        return found

    def learn(self, item: str) -> None:
        """Count a click, and keep the list of the best in order."""
        self._counts[item] += 1
        if item not in self._best:
            # Counts only grow, so an item outside the list passes its last one at most here: the list stays exact.
            if len(self._best) == _KEPT_MAX:
                if self._counts[item] <= self._counts[self._best[-1]]:
                    return
                self._best.pop()
            self._best.append(item)
        place = self._best.index(item)
        while place and self._counts[self._best[place - 1]] < self._counts[item]:
            self._best[place - 1], self._best[place] = self._best[place], self._best[place - 1]
            place -= 1


@dataclass(slots=True)
class Shown:
    """One session as it went, to be shown: each click beside what was recommended before it."""

    session_id: str
    clicks: list[str] = field(default_factory=list[str])
    recommended: list[list[str]] = field(default_factory=list[list[str]])


@dataclass(slots=True)
class Score:
    """All that is counted. Rates are over the second and later clicks of each session."""

    events: int = 0
    sessions: int = 0
    engine: Rate = field(default_factory=Rate)
    popularity: Rate = field(default_factory=Rate)
    engine_since_half: Rate = field(default_factory=Rate)
    popularity_since_half: Rate = field(default_factory=Rate)
    frozen_since_half: Rate = field(default_factory=Rate)
    ask_ms: list[float] = field(default_factory=list[float])
    tell_ms: list[float] = field(default_factory=list[float])
    fresh_ms: list[float] = field(default_factory=list[float])
    """From an acknowledgement to an answer that has seen it."""
    unseen: int = 0
    """Answers that had not seen the click before."""
    is_second_half: bool = False

    def count(
        self, click: str, engine: Collection[str], popular: Collection[str], frozen: Collection[str] | None
    ) -> None:
        """Count one click beside what each had recommended before it."""
        self.engine.add(hit=click in engine)
        self.popularity.add(hit=click in popular)
        if frozen is not None:
            self.engine_since_half.add(hit=click in engine)
            self.popularity_since_half.add(hit=click in popular)
            self.frozen_since_half.add(hit=click in frozen)


def quantiles_text(values_ms: Sequence[float]) -> str:
    """Return p50 and p99 as text, of the last 20,000 values."""
    if not values_ms:
        return "–"
    p50, p99 = np.quantile(values_ms[-20_000:], (0.5, 0.99)).tolist()
    return f"{p50:.1f} / {p99:.1f} ms"
