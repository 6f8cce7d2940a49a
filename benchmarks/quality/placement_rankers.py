"""Rankers judged over the candidates of a placement, and what diversity costs there, on sets with a catalogue."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.quality.diversity_curve import DiversityReport, Lists, diversity_curve
from benchmarks.quality.known_sets import shop_set
from benchmarks.quality.reranking import (
    Fit,
    RerankingData,
    RerankingOptions,
    RerankingPart,
    RerankingReport,
    gather,
    judge_reranking,
)
from benchmarks.quality.shops import ShopData
from midstream.app.config.schema import Config
from midstream.app.opening import config_of
from midstream.app.wiring import plans
from midstream.core.errors import Fault, Invalid, NotFound
from midstream.core.nearest import nearest
from midstream.core.types import Score
from midstream.evaluation.data.importing import DATA_SETTINGS
from midstream.evaluation.protocols import LIST_LENGTH
from midstream.models.kinds import ROW_KINDS, RowKind
from midstream.models.model import QUIET
from midstream.ranking.plan import Plan
from midstream.state.settings import FoldSettings

PAGE = "/docs/evaluation.md"
TRIED: Mapping[str, tuple[dict[str, object], ...]] = {
    "trees": tuple(
        {"leaves_max": leaves, "leaf_rows_min": rows} for leaves, rows in ((15, 50), (31, 50), (63, 100), (31, 200))
    ),
    "keras": (
        {"epochs": 5},
        {"epochs": 20},
        {"epochs": 10, "batch_rows": 1_024, "learning_rate": 0.003},
        {"epochs": 10, "hidden": [128, 64], "dropout": 0.3},
    ),
}
"""Options of a kind that are tried where options are chosen; those that are not named stay as they are."""
QUESTIONS = (20_000, 5_000, 20_000)
CURVE_MAX = 2_000
"""Questions whose lists are made for a curve: 5 s."""


@dataclass(frozen=True, slots=True)
class ShopBenchmark:
    """Whose candidates, how many questions, which ranker."""

    folder: Path
    """Holds ``midstream.toml``: attributes, features and placements."""
    placement: str = "default"
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the ranker, as text; none = those of ``TRIED`` are tried."""
    share: float = 1.0
    """Of ``QUESTIONS``."""
    k: int = LIST_LENGTH

    def asking(self, config: Config, advance: Callable[[int], None] | None = None) -> RerankingOptions:
        """Return how much is asked."""
        learned, chosen, asked = (max(1, int(self.share * most)) for most in QUESTIONS)
        return RerankingOptions(self.k, _fold(config), learned, chosen, asked, advance=advance)


def evaluate_reranking(
    name: str, kind_name: str, options: ShopBenchmark, tell: Callable[[str], None]
) -> RerankingReport:
    """Order the candidates of a placement by a ranker that learned from earlier acts, and by the blend.

    Args:
        name: Of a set with a catalogue.
        kind_name: Of ``ROW_KINDS``.
        options: Of the evaluation.
        tell: Told what is being done.

    Raises:
        NotFound: There is no such data, or no such placement.
        Invalid: There is no such kind or option, or the placement reads what these data have not.
        ExtraMissing: A library that the ranker is fitted with is not installed.
    """
    shop, plan, config = _asked(name, options)
    return judge_reranking(shop, plan, kind_name, fits_of(kind_name, options), options.asking(config), tell)[0]


def evaluate_diversity(
    name: str, ranker: str, attribute: str, options: ShopBenchmark, tell: Callable[[str], None]
) -> DiversityReport:
    """Return what lists are worth and how unlike their items are, by weights of likeness from 0 to 1.

    Args:
        name: Of a set with a catalogue.
        ranker: ``blend``, or one of ``ROW_KINDS``, whose scores are taken.
        attribute: By whose values items are alike.
        options: Of the evaluation.
        tell: Told what is being done.

    Raises:
        NotFound: There is no such data, or no such placement.
        Invalid: The attribute is no category and no tags, or as ``evaluate_reranking``.
        ExtraMissing: A library that the ranker is fitted with is not installed.
    """
    shop, plan, config = _asked(name, options)
    kinds = config.items.attributes
    right = [each for each, kind in kinds.items() if kind in ("category", "tags")]
    if attribute not in right:
        came = f'"{attribute}" came.{nearest(attribute, right)}'
        raise Invalid((Fault("--attribute", came, f"A category or tags of the shop: {', '.join(right)}", PAGE),))
    asking = options.asking(config)
    if ranker == "blend":
        tell("asking for candidates")
        parts = gather(shop, plan, replace(asking, learned_max=1, chosen_max=1))
        score = parts.asked.blend
    else:
        _, parts, model = judge_reranking(shop, plan, ranker, fits_of(ranker, options), asking, tell)
        score = parts.asked.scores(model)
    tell("making lists")
    lists = lists_of(parts.asked, score, CURVE_MAX)
    points = diversity_curve(lists, codes_of(parts, attribute), options.k, asking.resampling)
    return DiversityReport(shop.name, ranker, attribute, options.k, len(lists.wanted), points)


def lists_of(part: RerankingPart, score: Score, most: int) -> Lists:
    """Return the first questions of a part, at most so many, with some scores of their candidates."""
    count = min(most, len(part))
    stop = int(part.start[count])
    wanted = np.full(count, -1, dtype=np.int32)
    is_there = part.wanted[:count] >= 0
    wanted[is_there] = part.item_index[part.wanted[:count][is_there]]
    return Lists(score[:stop], part.item_index[:stop], part.start[: count + 1], wanted, part.session[:count])


def codes_of(parts: RerankingData, attribute: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.int32]]":
    """Return the values of an attribute of every item at the end, (items, w), -1 = none."""
    codes = parts.fold.items.codes(attribute)
    return codes if codes.ndim > 1 else codes[:, None]


def fits_of(kind_name: str, options: ShopBenchmark) -> tuple[tuple[dict[str, object], Fit], ...]:
    """Return the options that are tried, each with its fit.

    Raises:
        Invalid: There is no such kind or option.
    """
    if kind_name not in ROW_KINDS:
        came = f"{kind_name!r} is no kind of ranker.{nearest(kind_name, ROW_KINDS)}"
        raise Invalid((Fault("kind", came, "one of " + ", ".join(ROW_KINDS), PAGE),))
    kind = ROW_KINDS[kind_name]
    tried: tuple[Mapping[str, object], ...] = (options.options,) if options.options else TRIED.get(kind_name, ({},))
    return tuple((dict(each), _fit(kind, kind.decoded(each))) for each in tried)


def _fit(kind: RowKind[Any], settings: msgspec.Struct) -> Fit:
    return lambda examples: kind.fit(examples, settings, QUIET)


def _asked(name: str, options: ShopBenchmark) -> tuple[ShopData, Plan, Config]:
    """Return the data, and what answers the placement.

    Raises:
        NotFound: There are no such data, or no such placement.
    """
    config = config_of(options.folder)
    found = plans(config, options.folder)
    if options.placement not in found:
        message = f"placement {options.placement!r} is not configured; there are {', '.join(sorted(found))}"
        raise NotFound(message)
    return shop_set(name), found[options.placement], config


def _fold(config: Config) -> FoldSettings:
    """Return how a data set is folded: as configured, but for sessions, which it has."""
    configured = config.fold_settings()
    limits = msgspec.structs.replace(configured.limits, index_items_max=DATA_SETTINGS.limits.index_items_max)
    types = {**DATA_SETTINGS.types, **configured.types}
    return msgspec.structs.replace(configured, types=types, session_gap=DATA_SETTINGS.session_gap, limits=limits)
