"""A ranker over the blend's candidates against the blend itself: test, then learn, with one pass over a data set.

At each question the placement's sources, filters and cut are asked on the state of that moment, and all that scorers
read is kept of each candidate. What is kept of the first part is learned, options are chosen on the next part, and the
last part is asked once. The blend and the model order the same candidates, so what parts them is the order alone; a
right item that is no candidate is missed by both. Parts follow one another in time, and the state learns on throughout,
as it does in service. Questions of a session are all asked or none, and sessions are drawn where there are too many.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import msgspec
import numpy as np

from benchmarks.quality.shops import ShopData
from midstream.core.errors import Fault, Invalid
from midstream.core.types import Index, LogPosition, Moment, Score
from midstream.evaluation.blend_fit import fit_blend
from midstream.evaluation.data.importing import DATA_SETTINGS, fitted, room_for
from midstream.evaluation.data.interactions import Rows
from midstream.evaluation.metrics.metrics import Ranks, discounted_gain, hit, reciprocal_rank
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, Resampling, difference, estimate, holm
from midstream.evaluation.protocols import LIST_LENGTH
from midstream.evaluation.replay import ReplayOptions, replay_ranks, rows_asked
from midstream.evaluation.source_proposals import Ballots, Offsets, places_of
from midstream.models.model import RowModel
from midstream.models.rows.examples import Examples
from midstream.ranking.boundary import Account
from midstream.ranking.candidate_generation import scored_candidates
from midstream.ranking.frame import FeatureReader, ranks_of
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.scorers.blend import Blend
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

PAGE = "/docs/evaluation.md"
PARTS = (1 / 9, 5 / 9, 6 / 9)
"""Shares of the rows at which learning, choosing and the test begin; what comes first fills the state alone."""
DOCUMENT_BYTES = 512
"""Of an item's attributes, at most."""
Fit = Callable[[Examples], RowModel]


@dataclass(frozen=True, slots=True)
class RerankingOptions:
    """How much is asked, and how lists are judged."""

    k: int = LIST_LENGTH
    fold: FoldSettings = DATA_SETTINGS
    learned_max: int = 20_000
    """Questions of the first part: with 100 candidates of 40 columns 320 MB."""
    chosen_max: int = 5_000
    """Of the part that options are chosen on."""
    asked_max: int = 20_000
    """Of the test part."""
    seed: int = 0
    """Decides which sessions are drawn."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))
    advance: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RerankingPart:
    """The questions of a part and the candidates of each, end to end."""

    names: tuple[str, ...]
    """Of the columns: what sources say, and the placement's features."""
    values: Score
    """(rows, columns), NaN = unknown."""
    item_index: Index
    """Of each row, (rows,)."""
    blend: Score
    """What the blend gives each row, (rows,)."""
    start: Offsets
    """First row of each question, and behind them the number of rows, (n + 1,)."""
    wanted: Offsets
    """Row of the right item, -1 = it is no candidate, (n,)."""
    session: Rows
    """Of each question, (n,)."""
    time_ms: Offsets
    """Of each question, (n,)."""

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.wanted)

    def places(self, score: Score) -> Ranks:
        """Return where the right item of each question stands in the order of some scores; -1 = nowhere."""
        return places_of(score, self.start, self.wanted)

    def scores(self, model: RowModel) -> Score:
        """Return what a model gives each row, (rows,), some questions at a time."""
        order = [self.names.index(name) for name in model.inputs]
        size = 100_000
        parts = [model.score(self.values[at : at + size, order]) for at in range(0, len(self.values), size)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    def ballots(self, sources: Sequence[str]) -> Ballots:
        """Return the places that the sources gave each row, for a blend to be fitted on."""
        columns = [self.names.index(f"rank.{name}") for name in sources]
        return Ballots(tuple(sources), self.values[:, columns], self.start, self.wanted)

    def examples(self) -> Examples:
        """Return the questions whose right item is a candidate, its label 1 and all others 0."""
        label = np.zeros(len(self.values), dtype=np.float32)
        label[self.wanted[self.wanted >= 0]] = 1.0
        sizes = np.diff(self.start)
        place = np.concatenate([np.empty(0, np.intp), *map(_places, np.split(self.blend, self.start[1:-1]))])
        every = Examples(
            self.names,
            self.values,
            np.append(self.start[:-1][sizes > 0], self.start[-1]),
            label,
            time_ms=self.time_ms[sizes > 0],
            weight=np.ones(len(label), dtype=np.float32),
            position=place.astype(np.int32),
            propensity=np.full(len(label), np.nan, dtype=np.float32),
        )
        return every.take(np.flatnonzero(self.wanted[sizes > 0] >= 0))


def _places(score: Score) -> Rows:
    """Return the place of each row in the order of its scores."""
    place = np.empty(len(score), dtype=np.intp)
    place[np.argsort(-score, kind="stable")] = np.arange(len(score))
    return place


@dataclass(slots=True, eq=False)
class _Gathering:
    """Takes the candidates of each question as it is put."""

    plan: Plan
    names: tuple[str, ...] = ()
    values: list[Score] = field(default_factory=list[Score])
    blend: list[Score] = field(default_factory=list[Score])
    item_index: list[Index] = field(default_factory=list[Index])
    wanted: list[int] = field(default_factory=list[int])
    row: list[int] = field(default_factory=list[int])

    def add(self, moment: Moment, row: int, wanted: int, _last: int) -> None:
        """Put one question to the plan, up to its scorers."""
        plan, run = self.plan, PlanRun(self.plan, moment, Account())
        candidates = scored_candidates(run)
        frame = FeatureReader(moment, run.account, plan.declared).frame(plan.features, candidates)
        for failure in run.account.failures:
            came = f"{failure.component} failed at row {row}: {failure.reason}"
            raise Invalid((Fault("placement", came, "Parts that answer on these data.", PAGE),))
        self.names = frame.names
        blend = plan.scorers[-1]
        scores = (blend if isinstance(blend, Blend) else Blend()).sum_of(candidates.source_names, ranks_of(candidates))
        self.values.append(np.ascontiguousarray(frame.values))
        self.blend.append(scores)
        self.item_index.append(candidates.item_index)
        at = np.flatnonzero(candidates.item_index == wanted) if wanted >= 0 else np.empty(0, np.intp)
        self.wanted.append(int(at[0]) if len(at) else -1)
        self.row.append(row)

    def part(self, shop: ShopData, first: int, stop: int) -> RerankingPart:
        """Return the questions of the rows from one on and before another; what is kept of them is let go."""
        low, high = np.searchsorted(np.array(self.row), (first, stop)).tolist()
        chosen = slice(low, high)
        start = np.cumsum([0, *map(len, self.blend[chosen])], dtype=np.int64)
        wanted = np.array(self.wanted[chosen], dtype=np.int64)
        rows = np.array(self.row[chosen], dtype=np.intp)
        session = np.unique(shop.rows.session_id, return_inverse=True)[1]
        found = RerankingPart(
            self.names,
            np.concatenate([np.empty((0, len(self.names)), np.float32), *self.values[chosen]]),
            np.concatenate([np.empty(0, np.int32), *self.item_index[chosen]]),
            np.concatenate([np.empty(0, np.float32), *self.blend[chosen]]),
            start,
            np.where(wanted >= 0, wanted + start[:-1], -1),
            session[rows],
            shop.rows.time_ms[rows],
        )
        self.values[chosen] = [np.empty((0, 0), np.float32)] * (high - low)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class RerankingData:
    """The three parts of a data set, and the state at the end."""

    learned: RerankingPart
    chosen: RerankingPart
    asked: RerankingPart
    fold: Fold


def gather(shop: ShopData, plan: Plan, options: RerankingOptions) -> RerankingData:
    """Put the questions of all three parts to a plan, in one pass.

    Cost: a fold of one row and one answer without a scorer for each question, about 1 ms.

    Raises:
        Invalid: A part of the plan does not answer, such as a feature of an attribute that these data have not.
    """
    settings = fitted(options.fold, room_for(shop.rows))
    room = max(settings.limits.document_bytes_max, DOCUMENT_BYTES * max(1, len(shop.catalogue)))
    limits = msgspec.structs.replace(settings.limits, document_bytes_max=room)
    fold = Fold(msgspec.structs.replace(settings, limits=limits))
    opening = shop.opening()
    if len(opening):
        fold.apply(LogPosition(0), opening)
    bounds = [*(int(share * len(shop.rows)) for share in PARTS), len(shop.rows)]
    asked = rows_asked(shop.rows, bounds[0])
    drawn = [
        drawn_questions(shop, asked[(asked >= low) & (asked < high)], most, options.seed)
        for low, high, most in zip(
            bounds, bounds[1:], (options.learned_max, options.chosen_max, options.asked_max), strict=False
        )
    ]
    gathering = _Gathering(plan)
    told = ReplayOptions(k=options.k, first=len(opening), advance=options.advance, observe=gathering.add)
    asyncio.run(replay_ranks(shop.rows, np.concatenate(drawn), {}, fold, told))
    learned, chosen, last = (gathering.part(shop, low, high) for low, high in pairwise(bounds))
    return RerankingData(learned, chosen, last, fold)


def drawn_questions(shop: ShopData, asked: Rows, most: int, seed: int) -> Rows:
    """Return the questions of sessions drawn until they are so many, in order; all where they are not more."""
    if len(asked) <= most:
        return asked
    session = np.unique(shop.rows.session_id[asked], return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(int(session.max()) + 1)
    counts = np.cumsum(np.bincount(session)[order])
    return asked[np.isin(session, order[: max(1, int(np.searchsorted(counts, most, side="right")))])]


@dataclass(frozen=True, slots=True)
class RerankingTrial:
    """One set of options and what it reached where options are chosen."""

    options: dict[str, object]
    ndcg: float


@dataclass(frozen=True, slots=True)
class RankedBy:
    """What one order of the candidates reached on the test part."""

    name: str
    ndcg: Estimate
    hit_rate: Estimate
    mrr: Estimate
    less_blend: dict[str, PairedDifference]
    """By metric: this one less the blend, question by question; of the blend itself 0."""


@dataclass(frozen=True, slots=True)
class RerankingReport:
    """A ranker against the blend on one data set."""

    data: str
    kind: str
    k: int
    candidates_max: int
    learned: int
    """Questions whose right item is a candidate."""
    chosen: int
    asked: int
    sessions: int
    """Of the questions asked."""
    reach: float
    """Share of the questions asked whose right item is a candidate: what no order can exceed in HR."""
    features: tuple[str, ...]
    trials: tuple[RerankingTrial, ...]
    """On the part that options are chosen on, best first."""
    blend_chosen: float
    """NDCG of the blend there."""
    methods: tuple[RankedBy, ...]
    """The blend of the placement, one fitted on the part that is learned, and the ranker."""


def judge_reranking(
    shop: ShopData,
    plan: Plan,
    kind: str,
    fits: Sequence[tuple[dict[str, object], Fit]],
    options: RerankingOptions,
    tell: Callable[[str], None] = lambda _text: None,
) -> tuple[RerankingReport, RerankingData, RowModel]:
    """Learn, choose, and ask the test part once.

    Args:
        shop: Acts and catalogue.
        plan: Whose candidates are ordered; its own scorers but the blend are not asked.
        kind: Name of the ranker in the report.
        fits: Options and the fit of each; what is best by NDCG on the second part answers on the third.
        options: How much.
        tell: Told what is being done.

    Raises:
        Invalid: A part of the plan does not answer, or a part of the data has no question with a right candidate.
    """
    tell("asking for candidates")
    parts = gather(shop, replace(plan, scorers=plan.scorers[-1:]), options)
    if not all((part.wanted >= 0).any() for part in (parts.learned, parts.chosen, parts.asked)):
        came = f"{[int((each.wanted >= 0).sum()) for each in (parts.learned, parts.chosen, parts.asked)]} came."
        right = "Questions with a right candidate to learn from, to choose by and to ask."
        raise Invalid((Fault(shop.name, came, right, PAGE),))
    examples = parts.learned.examples()
    found: list[tuple[float, dict[str, object], RowModel]] = []
    for named, fit in fits:
        tell(f"fitting {kind} {named or ''}")
        model = fit(examples)
        found.append((_ndcg(parts.chosen, parts.chosen.scores(model), options.k), named, model))
    found.sort(key=lambda each: -each[0])
    best = found[0][2]
    tell("fitting the blend")
    sources = [name.removeprefix("rank.") for name in parts.learned.names if name.startswith("rank.")]
    blend = plan.scorers[-1]
    trial, _, _ = fit_blend(parts.learned.ballots(sources), blend if isinstance(blend, Blend) else Blend())
    asked = parts.asked
    ranks = {
        "blend": asked.places(asked.blend),
        "blend, fitted": asked.ballots(sources).places(trial.blend),
        kind: asked.places(asked.scores(best)),
    }
    report = RerankingReport(
        data=shop.name,
        kind=kind,
        k=options.k,
        candidates_max=plan.candidates_max,
        learned=len(examples.time_ms),
        chosen=len(parts.chosen),
        asked=len(asked),
        sessions=len(np.unique(asked.session)),
        reach=float((asked.wanted >= 0).mean()),
        features=asked.names,
        trials=tuple(RerankingTrial(named, worth) for worth, named, _ in found),
        blend_chosen=_ndcg(parts.chosen, parts.chosen.blend, options.k),
        methods=_corrected(
            tuple(_ranked(name, rank, ranks["blend"], asked.session, options) for name, rank in ranks.items())
        ),
    )
    return report, parts, best


METRICS: Mapping[str, Callable[[Ranks, int], np.ndarray[tuple[int], np.dtype[np.float64]]]] = {
    "NDCG": discounted_gain,
    "HR": hit,
    "MRR": reciprocal_rank,
}


def _corrected(methods: tuple[RankedBy, ...]) -> tuple[RankedBy, ...]:
    """Return methods whose tests against the blend, three of each, are corrected together."""
    others = [each for each in methods if each.name != "blend"]
    tests = iter(holm([test for each in others for test in each.less_blend.values()]))
    tested = {
        each.name: replace(each, less_blend={metric: next(tests) for metric in each.less_blend}) for each in others
    }
    return tuple(tested.get(each.name, each) for each in methods)


def _ndcg(part: RerankingPart, score: Score, k: int) -> float:
    return float(discounted_gain(part.places(score), k).mean())


def _ranked(name: str, rank: Ranks, blend: Ranks, session: Rows, options: RerankingOptions) -> RankedBy:
    k, drawn = options.k, options.resampling
    return RankedBy(
        name,
        estimate(discounted_gain(rank, k), session, drawn),
        estimate(hit(rank, k), session, drawn),
        estimate(reciprocal_rank(rank, k), session, drawn),
        {metric: difference(of(rank, k), of(blend, k), session, drawn) for metric, of in METRICS.items()},
    )
