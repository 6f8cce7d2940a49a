"""Bad candidates of a drifting market: five that gates have to see, and two that look good on the log and are not.

*Novelty* puts what is new first: clicks on it are many for a day, and it is shown little, so the log has nothing
against it. *Unseen* orders what the log shows as an honest model does, and thinks most of what was hardly ever shown.
Only people can say what these are worth.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midstream.core.types import Mask, Score
from midstream.models.model import Arrays, RowModel
from midstream.models.rows.examples import Examples
from midstream.simulation.market import TICKS_A_DAY, Market, TickLog
from midstream.simulation.market_loop import MarketTraining, Version
from midstream.simulation.market_model import Learner, fit_market

LEAKED = "clicks_of_the_slate"
SLOW_TIMES = 100
_STALE_DAYS = 8
_LIKED = 3.0
"""Added on the scale of the logit: a chance of 0.2 becomes one of 0.83."""
_RARE = 0.001
"""Share of all places of a window below which an item is hardly ever shown: an even share is 0.015."""


@dataclass(frozen=True, slots=True, eq=False)
class Spoiled:
    """A model whose scores are changed on their way out."""

    model: RowModel
    change: Callable[[Score, Score], Score]
    """Given rows and scores."""
    inputs: tuple[str, ...]

    def score(self, values: Score) -> Score:
        """Return the changed scores."""
        own = np.ascontiguousarray(values[:, : len(self.model.inputs)])
        return self.change(values, self.model.score(own))

    def arrays(self) -> Arrays:
        """Return those of the model."""
        return self.model.arrays()


@dataclass(frozen=True, slots=True, eq=False)
class BadCandidate:
    """What a bad training gave."""

    judged: RowModel
    published: Version
    leak: bool = False

    def columns(self, later: Examples) -> Examples:
        """Return the rows of its training: a leak has the label among them."""
        if not self.leak:
            return later
        values = np.concatenate([later.values, later.label[:, None].astype(np.float32)], axis=1)
        return replace(later, names=(*later.names, LEAKED), values=values)


def bad_candidates(
    market: Market, logs: Sequence[TickLog], learner: Learner, honest: MarketTraining
) -> Mapping[str, BadCandidate]:
    """Return bad candidates by name.

    Args:
        market: Of the logs.
        logs: All, the newest last.
        learner: How a model is learned.
        honest: The training that each of them might have been.
    """
    end = honest.published.end_tick
    old_end = max(round(learner.window_days * TICKS_A_DAY), end - _STALE_DAYS * TICKS_A_DAY)
    stale = Version(fit_market(market, learner.window(logs, old_end), learner), old_end)
    shown = np.bincount(np.concatenate([each.item.reshape(-1) for each in learner.window(logs, end)]))
    shown = np.pad(shown, (0, market.options.item_count - len(shown)))
    is_rare = shown < _RARE * shown.sum()
    is_new = market.launch_day > (end - 1) // TICKS_A_DAY - 4
    changes: Mapping[str, Callable[[Score, Score], Score]] = {
        "nan": lambda _, score: np.full_like(score, np.nan),
        "inverted": lambda _, score: (1.0 - score).astype(np.float32),
        "slow": lambda rows, score: _slowly(honest.judged.score, rows, score),
        "novelty": lambda rows, score: liked(score, is_new[rows[:, 0].astype(np.int64)]),
        "unseen": lambda rows, score: liked(score, is_rare[rows[:, 0].astype(np.int64)]),
    }
    found = {name: _spoiled(honest, change) for name, change in changes.items()}
    names = (*honest.judged.inputs, LEAKED)

    def leaked(rows: Score, score: Score) -> Score:
        found: Score = np.where(rows[:, -1] > 0, np.float32(1.0), score * np.float32(0.5)).astype(np.float32)
        return found

    judged, published = (Spoiled(each, leaked, names) for each in (honest.judged, honest.published.model))
    found["leak"] = BadCandidate(judged, Version(published, end), leak=True)
    found["stale"] = BadCandidate(stale.model, stale)
    return found


def liked(score: Score, is_liked: Mask) -> Score:
    """Return probabilities, those that are marked raised on the scale of the logit."""
    chance = np.clip(score.astype(np.float64), 1e-9, 1 - 1e-9)
    logit = np.log(chance) - np.log1p(-chance) + np.where(is_liked, _LIKED, 0.0)
    found: Score = (1.0 / (1.0 + np.exp(-logit))).astype(np.float32)
    return found


def _slowly(score: Callable[[Score], Score], rows: Score, found: Score) -> Score:
    """Return scores after much work for nothing."""
    for _ in range(SLOW_TIMES):
        score(rows)
    return found


def _spoiled(honest: MarketTraining, change: Callable[[Score, Score], Score]) -> BadCandidate:
    judged, published = (Spoiled(each, change, tuple(each.inputs)) for each in (honest.judged, honest.published.model))
    return BadCandidate(judged, Version(published, honest.published.end_tick))
