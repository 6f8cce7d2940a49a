"""Calibrated slates against accuracy: hit rate and distance from the shares of the visitor's own acts, by λ.

The same placement answers every user, with another weight each time: sources, scores and candidates are the same, so
what parts two rows is the weight alone. The distance is the Kullback-Leibler divergence of Steck's paper, between the
shares of genres in all learned acts of the user and those in the slate; an item with several genres counts in parts.

Reference: H. Steck, "Calibrated recommendations", RecSys 2018, equations 2 to 6.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import log, log2
from pathlib import Path

import numpy as np

from benchmarks.quality.movielens import NAME, MovieLens
from midstream.app.inspect.folder_view import LogView, answering_of
from midstream.app.inspect.query_offline import ask_fold
from midstream.app.opening import config_of
from midstream.engine.stores.connector import closing_runner
from midstream.engine.types import Ask
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, Resampling, difference, estimate, holm

WEIGHTS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.99)
SMOOTHING = 0.01
_SOURCES = (
    '[{ kind = "similar_users_items", limit = 200 }, { kind = "covisitation", limit = 200 }, { kind = "popular" }]'
)
Shares = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """How much is asked."""

    k: int = 20
    weights: tuple[float, ...] = WEIGHTS
    asked_max: int = 943
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))


@dataclass(frozen=True, slots=True)
class CalibratedBy:
    """Slates by one weight."""

    weight: float
    divergence: Estimate
    """KL of the user's shares from those of the slate, nats."""
    ndcg: Estimate
    hit_rate: Estimate
    less_plain: PairedDifference
    """NDCG less that of weight 0."""


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """The curve of one data set."""

    data: str
    k: int
    users: int
    points: tuple[CalibratedBy, ...]


def configured(weights: Iterable[float], k: int) -> str:
    """Return the configuration of a shop with a placement for each weight."""
    parts = ['[items.attributes]\ngenres = "tags"\n']
    for weight in weights:
        selector = f'{{ kind = "calibrated", attribute = "genres", weight = {weight} }}'
        parts.append(
            f'[[placements]]\nname = "{placement_of(weight)}"\nslate_size = {k}\nsources = {_SOURCES}\n'
            f"selector = {selector}\n"
        )
    return "\n".join(parts)


def placement_of(weight: float) -> str:
    """Return the name of the placement with a weight."""
    return f"w{round(100 * weight)}"


def judge_calibration(data: MovieLens, folder: Path, options: CalibrationOptions) -> CalibrationReport:
    """Return a point a weight.

    Args:
        data: What is learned and what is held out.
        folder: Shop of what is learned, with the placements of ``configured``.
        options: How much.
    """
    view = answering_of(folder, config_of(folder), LogView(folder))
    users = sorted(data.held_out)[: options.asked_max]
    wanted = {user: shares_of((item for _, item in data.learned[user]), data.genres) for user in users}
    figures: dict[float, list[tuple[float, float, float]]] = {}
    with closing_runner() as runner:
        for weight in options.weights:
            plan, name = view.plans[placement_of(weight)], placement_of(weight)
            slates = [ask_fold(view.fold, plan, Ask(name, user_id=user), runner).item_ids for user in users]
            figures[weight] = [
                (
                    divergence(wanted[user], shares_of(slate, data.genres)),
                    gain(slate, data.held_out[user], options.k),
                    float(any(item in data.held_out[user] for item in slate)),
                )
                for user, slate in zip(users, slates, strict=True)
            ]
    own, drawn = np.arange(len(users)), options.resampling
    columns = {weight: np.array(found) for weight, found in figures.items()}
    plain = columns[options.weights[0]][:, 1]
    tests = [difference(found[:, 1], plain, own, drawn) for found in columns.values()]
    tests[1:] = holm(tests[1:])
    points = tuple(
        CalibratedBy(
            weight,
            estimate(found[:, 0], own, drawn),
            estimate(found[:, 1], own, drawn),
            estimate(found[:, 2], own, drawn),
            test,
        )
        for (weight, found), test in zip(columns.items(), tests, strict=True)
    )
    return CalibrationReport(NAME, options.k, len(users), points)


def shares_of(items: Iterable[str], genres: Mapping[str, tuple[str, ...]]) -> Shares:
    """Return the share of each genre; an item without one counts in none."""
    sums = defaultdict[str, float](float)
    for item in items:
        own = genres.get(item, ())
        for name in own:
            sums[name] += 1 / len(own)
    total = sum(sums.values())
    return {name: value / total for name, value in sums.items()}


def divergence(wanted: Shares, found: Shares) -> float:
    """Return the divergence of the shares of a slate from those that are wanted, in nats."""
    return sum(
        share * log(share / ((1 - SMOOTHING) * found.get(name, 0.0) + SMOOTHING * share))
        for name, share in wanted.items()
        if share > 0
    )


def gain(slate: tuple[str, ...], right: frozenset[str], k: int) -> float:
    """Return the NDCG of a slate."""
    best = sum(1 / log2(place + 2) for place in range(min(k, len(right))))
    return sum(1 / log2(place + 2) for place, item in enumerate(slate[:k]) if item in right) / best
