"""Fit of a blend's weights and rank offset on a validation part, by coordinate search.

Every weight is multiplied and divided by factors, one source after another, together with the rank offset, each at the
best of the others found so far, until a round changes nothing. The sum of all weights is 1, and none is above 0.9: a
blend of nearly one source would fail with it without notice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midstream.core.errors import Fault, Invalid
from midstream.evaluation.metrics.metrics import Ranks, hit, reciprocal_rank
from midstream.evaluation.protocols import LIST_LENGTH
from midstream.evaluation.settings_file import PAGE
from midstream.evaluation.source_proposals import Ballots
from midstream.ranking.scorers.blend import Blend

WEIGHT_MAX = 0.9
WEIGHT_MIN = 0.001
"""Minimum weight of a source: its own proposals rank before items that only fill up."""
FACTORS = (0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
OFFSETS = (1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
TRIALS_MAX = 400
"""At 3 million rows and 4 sources a trial takes 0.1 s."""


@dataclass(frozen=True, slots=True)
class BlendTrial:
    """One blend and its figures on the validation part."""

    weights: dict[str, float]
    """By source; they sum to 1."""
    rank_offset: float
    hit_rate: float
    mrr: float

    @property
    def worth(self) -> float:
        """Product of both figures: a percent more of either is worth the same."""
        return self.hit_rate * self.mrr

    @property
    def blend(self) -> Blend:
        """Its scorer."""
        return Blend(weights=self.weights, rank_offset=self.rank_offset)


@dataclass(frozen=True, slots=True)
class FittedBlend:
    """Chosen blend with its data and baselines: the content of a settings file."""

    data: str
    fitted_on: str
    questions: int
    k: int
    sources: Mapping[str, object]
    """Options of each source, by its name: with other options the weights mean nothing."""
    best: BlendTrial
    before: BlendTrial
    """Figures of the placement's blend before."""
    alone: Mapping[str, tuple[float, float]]
    """HR@k and MRR@k of each source by itself, on the same questions."""
    trials: int


def fit_blend(
    ballots: Ballots, before: Blend, advance: Callable[[BlendTrial], None] | None = None
) -> tuple[BlendTrial, BlendTrial, int]:
    """Return the best blend found, the figures of ``before``, and the number of trials.

    Args:
        ballots: Of the validation part.
        before: Start of the search.
        advance: Called with each trial.

    Raises:
        Invalid: No question, or no source.
    """
    if len(ballots) == 0 or not ballots.names:
        came = f"{len(ballots)} questions and {len(ballots.names)} sources."
        raise Invalid((Fault("--fit-blend", came, "One question and one source at least.", PAGE),))
    seen: dict[tuple[float, ...], BlendTrial] = {}

    def tried(weights: Sequence[float], offset: float) -> BlendTrial:
        fair = bounded(weights)
        key = (*fair, offset)
        if key not in seen:
            seen[key] = _trial(ballots, dict(zip(ballots.names, fair, strict=True)), offset)
            if advance is not None:
                advance(seen[key])
        return seen[key]

    first = [before.weight(name) for name in ballots.names]
    best = max((tried(first, before.rank_offset), tried([1.0] * len(first), before.rank_offset)), key=_worth)
    start: BlendTrial | None = None
    while best is not start and len(seen) < TRIALS_MAX:
        start = best
        for offset in OFFSETS:
            best = max(best, tried(list(best.weights.values()), offset), key=_worth)
        for number in range(len(ballots.names)):
            for factor in FACTORS:
                weights = list(best.weights.values())
                weights[number] *= factor
                best = max(best, tried(weights, best.rank_offset), key=_worth)
    original = _trial(ballots, dict(zip(ballots.names, first, strict=True)), before.rank_offset)
    return best, original, len(seen)


def bounded(weights: Sequence[float]) -> list[float]:
    """Return weights in the same proportions that sum to 1, each from ``WEIGHT_MIN`` to ``WEIGHT_MAX``.

    One source alone has 1: there is nothing to blend.
    """
    if len(weights) == 1:
        return [1.0]
    fair = np.maximum(np.array(weights, dtype=np.float64) / sum(weights), WEIGHT_MIN)
    fair /= fair.sum()
    heaviest = int(np.argmax(fair))
    if fair[heaviest] > WEIGHT_MAX:
        others = fair.sum() - fair[heaviest]
        fair *= (1.0 - WEIGHT_MAX) / others
        fair[heaviest] = WEIGHT_MAX
    return [float(weight) for weight in fair.round(4)]


def figures(rank: Ranks) -> tuple[float, float]:
    """Return HR and MRR at 20 of places, (n,)."""
    return float(hit(rank, LIST_LENGTH).mean()), float(reciprocal_rank(rank, LIST_LENGTH).mean())


def alone(ballots: Ballots) -> dict[str, tuple[float, float]]:
    """Return HR and MRR at 20 of each source by itself."""
    return {name: figures(ballots.places_in(name)) for name in ballots.names}


def _trial(ballots: Ballots, weights: dict[str, float], offset: float) -> BlendTrial:
    hit_rate, mrr = figures(ballots.places(Blend(weights=weights, rank_offset=offset)))
    return BlendTrial(weights, offset, hit_rate, mrr)


def _worth(trial: BlendTrial) -> float:
    return trial.worth
