"""Score of the demo: hit rates with and without a trained model, of popularity and of a frozen engine; latencies."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from midstream.evaluation.metrics.statistics import PairedDifference, Resampling, difference

TOP = 10
DEFAULT, TRAINED = "default", "trained"
"""The placements that are asked: without the trained model, and with it."""
_KEPT_MAX = 400
"""Items of the list of the most clicked: ten and as many as one session may leave out, with ample room."""


@dataclass(slots=True)
class HitRate:
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
    """Most clicked items so far: the same list for all visitors. Test, then learn, as the engine does."""

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
class ShownSession:
    """One session to be shown: each click with the recommendations before it."""

    session_id: str
    clicks: list[str] = field(default_factory=list[str])
    recommended: list[list[str]] = field(default_factory=list[list[str]])


@dataclass(frozen=True, slots=True)
class ClickAnswers:
    """Recommendations before one click."""

    engine: Collection[str]
    """Without the trained model."""
    trained: Collection[str] | None
    """With it; None = there is none yet."""
    popular: Collection[str]
    frozen: Collection[str] | None
    """None = there is no frozen engine yet."""


@dataclass(slots=True)
class Lift:
    """Hits with the trained model and without, of the same questions."""

    trained: list[bool] = field(default_factory=list[bool])
    engine: list[bool] = field(default_factory=list[bool])
    session: list[int] = field(default_factory=list[int])
    """Session of each question: clicks of one session are alike, so the test is over sessions."""

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.session)

    def difference(self) -> PairedDifference:
        """Return the share of hits with the model less that without, and how sure that is.

        There is a question at least.
        """
        trained, engine = np.array(self.trained, dtype=np.float64), np.array(self.engine, dtype=np.float64)
        return difference(trained, engine, np.array(self.session, dtype=np.int64), Resampling())

    def __str__(self) -> str:
        """Return the lift of the trained model in a sentence, also if there is none."""
        if not self.session:
            return "No question was asked with the trained model, so nothing can be said of a lift."
        found = self.difference()
        if found.low > 0:
            verdict = "a lift"
        elif found.high < 0:
            verdict = "no lift: it is worse"
        else:
            verdict = "no lift that can be told from chance"
        with_model, without = HitRate(sum(self.trained), len(self)), HitRate(sum(self.engine), len(self))
        return (
            f"hit rate@{TOP} {with_model} with the trained model, {without} without, same {len(self):,} questions: "
            f"{found.mean:+.3f} (95 %: {found.low:+.3f} to {found.high:+.3f}), {verdict}"
        )


@dataclass(slots=True)
class Score:
    """All counts. Rates are over the second and later clicks of each session."""

    events: int = 0
    sessions: int = 0
    engine: HitRate = field(default_factory=HitRate)
    popularity: HitRate = field(default_factory=HitRate)
    engine_since_half: HitRate = field(default_factory=HitRate)
    popularity_since_half: HitRate = field(default_factory=HitRate)
    frozen_since_half: HitRate = field(default_factory=HitRate)
    trained_since_half: HitRate = field(default_factory=HitRate)
    lift: Lift = field(default_factory=Lift)
    ask_ms: list[float] = field(default_factory=list[float])
    tell_ms: list[float] = field(default_factory=list[float])
    fresh_ms: list[float] = field(default_factory=list[float])
    """From an acknowledgement to an answer that has seen it."""
    unseen: int = 0
    """Answers that had not seen the click before."""
    is_second_half: bool = False

    def count(self, click: str, answers: ClickAnswers, session: int) -> None:
        """Count one click of a session, which has a number, with the recommendations before it."""
        self.engine.add(hit=click in answers.engine)
        self.popularity.add(hit=click in answers.popular)
        if answers.frozen is not None:
            self.engine_since_half.add(hit=click in answers.engine)
            self.popularity_since_half.add(hit=click in answers.popular)
            self.frozen_since_half.add(hit=click in answers.frozen)
        if answers.trained is not None:
            self.trained_since_half.add(hit=click in answers.trained)
            self.lift.trained.append(click in answers.trained)
            self.lift.engine.append(click in answers.engine)
            self.lift.session.append(session)


def quantiles_text(values_ms: Sequence[float]) -> str:
    """Return p50 and p99 as text, of the last 20,000 values."""
    if not values_ms:
        return "–"
    p50, p99 = np.quantile(values_ms[-20_000:], (0.5, 0.99)).tolist()
    return f"{p50:.1f} / {p99:.1f} ms"
