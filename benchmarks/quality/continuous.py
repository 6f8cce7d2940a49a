"""Continuous training on public data in time order: a model trained again each few days against the same model frozen.

The questions are next items: each act but the first of its session, from a day on, with the session so far as the
history. *Frozen* is fitted once, on the days before the first question. *Renewed* is fitted again each so many days on
a window of days before, and always promoted. *Gated* is the same candidate, promoted where the offline gate lets it:
a fit that lacks the newest days answers them beside the champion, which lacks them as well, and what is surely worse
stays out. *Live* methods are sources of the engine, whose state learns each act after its question.

A model ranks the items of its window, so a new product is found from the first training after it on. A history of
which a model knows nothing is answered with the most popular items of the window. The item of the last act is left out
of every list. Settings are chosen on the second quarter of the acts and read here; the second half is asked once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.app.config.schema import Config
from midstream.app.wiring import plans
from midstream.core.errors import Fault, Invalid
from midstream.core.types import Index
from midstream.evaluation.data.importing import DATA_SETTINGS, fitted, room_for
from midstream.evaluation.data.interactions import InteractionData, InteractionTable, Rows
from midstream.evaluation.metrics.metrics import Ranks, Values, discounted_gain, hit, rank_of
from midstream.evaluation.metrics.statistics import (
    Estimate,
    PairedDifference,
    Resampling,
    difference,
    estimate,
    holm_fields,
)
from midstream.evaluation.replay import Method, ReplayOptions, asking_plan, asking_source, replay_ranks, rows_asked
from midstream.models.histories import Histories, Interactions
from midstream.models.kernels.top_n import top_n
from midstream.models.kinds import item_kind
from midstream.models.model import QUIET, ItemModel, best_of
from midstream.models.vocabulary import ItemVocabulary
from midstream.retrieval.covisitation import Covisitation
from midstream.retrieval.session_knn import SessionKnn
from midstream.state.fold import Fold

DAY_MS = 86_400_000
PAGE = "/docs/quality.md"
FROZEN, RENEWED, GATED, LIVE_DEFAULT = "frozen", "renewed", "gated", "default placement"
_DAY_QUESTIONS_MIN = 100
"""Of a day's figure on a page: below, one answer is worth more than a hundredth."""


@dataclass(frozen=True, slots=True)
class ContinuousOptions:
    """The model, how often it is trained, what is asked."""

    kind: str = "ease"
    model: Mapping[str, str] = field(default_factory=dict[str, str])
    """Options of the kind, as text."""
    every_days: int = 7
    window_days: int = 150
    """Acts of so many days before are learned."""
    judged_days: int = 2
    """Newest days of a window that the gate asks about; fewer than ``every_days``."""
    part: tuple[float, float] = (0.5, 1.0)
    """Shares of the acts between which questions are asked, each from the day on in which it lies."""
    share: float = 1.0
    """Of the sessions that figures are of, drawn by the seed; all are learned, and gates ask about all."""
    margin: float = 0.02
    """The gate lets in what is not worse by more than this share of the champion's NDCG, at the level of 95 %."""
    history_acts_max: int = 50
    """Newest acts of a session that are asked with: the mean is 7 and 21."""
    k: int = 20
    with_live: bool = True
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Answers of candidate and champion to the same questions, which neither has learned: NDCG of each."""

    candidate: Values
    champion: Values
    owner: NDArray[np.intp]


Gate = Callable[[Judged], bool]
"""Whether the candidate is promoted."""


@dataclass(frozen=True, slots=True)
class Way:
    """Figures of one way of learning."""

    name: str
    trained: int
    """Times that a model of it went into service; 0 = it learns with each act."""
    ndcg: Estimate
    hit_rate: Estimate
    ndcg_by_period: tuple[float, ...]
    ndcg_by_day: tuple[float, ...]
    """NaN = hardly a question on that day."""
    ndcg_gain: PairedDifference
    """Less the frozen model."""
    hit_rate_gain: PairedDifference


@dataclass(frozen=True, slots=True)
class ContinuousReport:
    """The figures of one data set."""

    data: str
    kind: str
    k: int
    every_days: int
    window_days: int
    questions: int
    groups: int
    """Users, or sessions where none is known, that intervals are drawn by."""
    unknown: tuple[float, ...]
    """Share of the right items that the frozen model has never seen, by period."""
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Acts by time as numbers, and the questions. Columns of acts (n,), of questions (questions,)."""

    rows: InteractionTable
    item: Index
    """Of each act, in the order of the ids."""
    session: NDArray[np.intp]
    day: NDArray[np.int64]
    asked: Rows
    """Acts that are guessed, rising."""
    counted: NDArray[np.intp]
    """Questions that figures are of, rising."""
    history: Histories
    """Of each question: the session's acts before, the newest so many."""
    owner: NDArray[np.intp]
    """User, else session, of each question."""
    edges: tuple[int, ...]
    """First day of each period, and the day after the last."""

    @property
    def asked_day(self) -> NDArray[np.int64]:
        """The day of each question."""
        return self.day[self.asked]

    def between(self, first_day: int, end_day: int) -> NDArray[np.intp]:
        """Return the questions of some days."""
        return np.flatnonzero((self.asked_day >= first_day) & (self.asked_day < end_day))


def timeline_of(rows: InteractionTable, options: ContinuousOptions) -> Timeline:
    """Return acts and questions of a data set.

    Raises:
        Invalid: The part holds no question, or the gate has no days of its own.
    """
    if not 0 < options.judged_days < options.every_days <= options.window_days:
        came = f"{options.judged_days} judged, {options.every_days} between trainings, {options.window_days} learned."
        right = "Fewer days that are judged than between two trainings, and no more of these than are learned."
        raise Invalid((Fault("--every", came, right, PAGE),))
    day = rows.time_ms // DAY_MS
    first, last = (int(day[min(len(rows) - 1, int(share * len(rows)))]) for share in options.part)
    end = last + 1 if options.part[1] >= 1.0 else last
    session = np.unique(rows.session_id, return_inverse=True)[1]
    asked = rows_asked(rows, 0)
    asked = asked[(day[asked] >= first) & (day[asked] < end)]
    drawn = np.random.default_rng(options.resampling.seed).random(int(session.max()) + 1) < options.share
    counted = np.flatnonzero(drawn[session[asked]])
    if not len(counted):
        raise Invalid((Fault("part", "No question lies in it.", "A part with acts after the first.", PAGE),))
    owner = np.where(rows.user_id != "", rows.user_id, np.char.add("\0", rows.session_id))
    item = np.unique(rows.item_id, return_inverse=True)[1].astype(np.int32)
    edges = (*range(first, end, options.every_days), end)
    who = np.unique(owner, return_inverse=True)[1][asked]
    history = _histories(item, session, asked, options)
    return Timeline(rows, item, session, day, asked, counted, history, who, edges)


def _histories(item: Index, session: NDArray[np.intp], asked: Rows, options: ContinuousOptions) -> Histories:
    """Return the acts of the session before each of some acts, oldest first, the newest so many."""
    order = np.argsort(session, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    begin = np.searchsorted(session[order], session[asked], side="left")
    count = np.minimum(place[asked] - begin, options.history_acts_max)
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    flat: Rows = np.arange(int(start[-1])) - np.repeat(start[:-1], count) + np.repeat(place[asked] - count, count)
    return Histories(item[order[flat]], np.ones(len(flat), dtype=np.float32), start)


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A model and what translates the acts of a data set into its rows."""

    model: ItemModel
    row_of: Index
    """Row of each item of the data set, -1 = it was not there."""
    popular: Index
    """Best first, of the window."""

    def ranks(self, timeline: Timeline, questions: NDArray[np.intp], k: int) -> Ranks:
        """Return the place of the right item of some questions, -1 = beyond k."""
        asked = timeline.history.take(questions)
        row = self.row_of[asked.row] if len(asked.row) else asked.row
        told = replace(asked, row=row).where(row >= 0)
        last = row[asked.start[1:] - 1]
        barred = Histories.of([[each] if each >= 0 else [] for each in last.tolist()])
        lists = top_n(self.model, told, k, barred)
        lists[np.diff(told.start) == 0] = self.popular[:k]
        return rank_of(lists, self.row_of[timeline.item[timeline.asked[questions]]])


def fit_between(timeline: Timeline, first_day: int, end_day: int, options: ContinuousOptions) -> Fitted:
    """Return the model of the sessions' acts of some days.

    Raises:
        Invalid: There are none, or the options are none of the kind.
    """
    kind = item_kind(options.kind)
    acts = np.flatnonzero((timeline.day >= first_day) & (timeline.day < end_day))
    if not len(acts):
        raise Invalid((Fault("part", "Nothing lies before it.", "A part with acts before the first.", PAGE),))
    acts = acts[np.argsort(timeline.session[acts], kind="stable")]
    known, row = np.unique(timeline.item[acts], return_inverse=True)
    counts = np.unique(timeline.session[acts], return_counts=True)[1]
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    histories = Histories(row.astype(np.int32), np.ones(len(row), dtype=np.float32), start)
    ids = np.unique(timeline.rows.item_id)[known].tolist()
    model = kind.fit(Interactions(ItemVocabulary.of(ids), histories), kind.decoded(options.model), QUIET)
    row_of = np.full(int(timeline.item.max()) + 1, -1, dtype=np.int32)
    row_of[known] = np.arange(len(known))
    popular = best_of(np.bincount(row).astype(np.float32), options.k)
    return Fitted(model, row_of, np.pad(popular, (0, options.k - len(popular)), constant_values=-1))


def not_worse(options: ContinuousOptions) -> Gate:
    """Return the gate that refuses what may be worse by more than the margin."""

    def gate(judged: Judged) -> bool:
        found = difference(judged.candidate, judged.champion, judged.owner, options.resampling)
        return found.low >= -options.margin * float(judged.champion.mean())

    return gate


def trained_ranks(timeline: Timeline, options: ContinuousOptions, gate: Gate) -> tuple[dict[str, Ranks], Counter[str]]:
    """Return the places of the right items by the frozen, renewed and gated model, and how often each was trained.

    Cost: two fits a period.
    """
    ranks = {name: np.full(len(timeline.asked), -1, dtype=np.int32) for name in (FROZEN, RENEWED, GATED)}
    trained = Counter(dict.fromkeys(ranks, 1))
    frozen = champion = fit_between(timeline, timeline.edges[0] - options.window_days, timeline.edges[0], options)
    for number, (first, end) in enumerate(pairwise(timeline.edges)):
        candidate = frozen
        if number:
            candidate = fit_between(timeline, first - options.window_days, first, options)
            trained[RENEWED] += 1
            if _passes(timeline, first, champion, options, gate):
                champion = candidate
                trained[GATED] += 1
        questions = timeline.between(first, end)
        for name, each in ((FROZEN, frozen), (RENEWED, candidate), (GATED, champion)):
            ranks[name][questions] = each.ranks(timeline, questions, options.k)
    return ranks, trained


def _passes(timeline: Timeline, day: int, champion: Fitted, options: ContinuousOptions, gate: Gate) -> bool:
    """Return whether the gate lets in what is trained before a day; without a question it does not."""
    since = day - options.judged_days
    questions = timeline.between(since, day)
    if not len(questions):
        return False
    judged = fit_between(timeline, day - options.window_days, since, options)
    candidate, served = (
        discounted_gain(each.ranks(timeline, questions, options.k), options.k) for each in (judged, champion)
    )
    return gate(Judged(candidate, served, timeline.owner[questions]))


def live_ranks(timeline: Timeline, options: ContinuousOptions) -> dict[str, Ranks]:
    """Return the places of the right items by sources of the engine, whose state learns with each act.

    Cost: 1 ms a question that is counted.
    """
    failures: Counter[str] = Counter()
    methods: dict[str, Method] = {
        "session_knn": asking_source(SessionKnn()),
        "covisitation": asking_source(Covisitation()),
        LIVE_DEFAULT: asking_plan(plans(Config())["default"], failures),
    }
    fold = Fold(fitted(DATA_SETTINGS, room_for(timeline.rows)))
    found = asyncio.run(
        replay_ranks(timeline.rows, timeline.asked[timeline.counted], methods, fold, ReplayOptions(k=options.k))
    )
    if failures:
        message = f"components of the placement failed: {dict(failures)}"
        raise RuntimeError(message)
    return found


def evaluate_continuous(
    data: InteractionData, options: ContinuousOptions, tell: Callable[[str], None], gate: Gate | None = None
) -> ContinuousReport:
    """Ask about a part of a data set in time order, with a model that is trained again and with one that is not.

    Args:
        data: By time, with sessions.
        options: Of model, training and questions.
        tell: Told what is being done.
        gate: Decides on promotion; None = ``not_worse``.

    Raises:
        Invalid: The options do not fit each other or the data.
    """
    timeline = timeline_of(data.read(), options)
    tell(f"training each {options.every_days} days")
    ranks, trained = trained_ranks(timeline, options, gate or not_worse(options))
    ranks = {name: rank[timeline.counted] for name, rank in ranks.items()}
    if options.with_live:
        tell("asking the engine")
        ranks |= live_ranks(timeline, options)
    first, *others = _ways(timeline, ranks, trained, options)
    known = np.unique(timeline.item[timeline.day < timeline.edges[0]])
    right = timeline.item[timeline.asked[timeline.counted]]
    return ContinuousReport(
        data.name,
        options.kind,
        options.k,
        options.every_days,
        options.window_days,
        len(timeline.counted),
        len(np.unique(timeline.owner[timeline.counted])),
        tuple(float((~np.isin(right[each], known)).mean()) for each in _periods(timeline)),
        (first, *holm_fields(others, "ndcg_gain", "hit_rate_gain")),
    )


def _ways(
    timeline: Timeline, ranks: Mapping[str, Ranks], trained: Mapping[str, int], options: ContinuousOptions
) -> Iterator[Way]:
    """Yield the figures of each way, the frozen one first."""
    k, owner, drawn = options.k, timeline.owner[timeline.counted], options.resampling
    base_gain, base_hit = discounted_gain(ranks[FROZEN], k), hit(ranks[FROZEN], k)
    days = timeline.asked_day[timeline.counted]
    by_day = [np.flatnonzero(days == day) for day in range(timeline.edges[0], timeline.edges[-1])]
    for name, rank in ranks.items():
        gain, hits = discounted_gain(rank, k), hit(rank, k)
        yield Way(
            name,
            trained.get(name, 0),
            estimate(gain, owner, drawn),
            estimate(hits, owner, drawn),
            _means(gain, _periods(timeline), 1),
            _means(gain, by_day, _DAY_QUESTIONS_MIN),
            difference(gain, base_gain, owner, drawn),
            difference(hits, base_hit, owner, drawn),
        )


def _periods(timeline: Timeline) -> list[NDArray[np.intp]]:
    """Return the places of each period's questions among those that are counted, where there are any."""
    days = timeline.asked_day[timeline.counted]
    found = [np.flatnonzero((days >= first) & (days < end)) for first, end in pairwise(timeline.edges)]
    return [each for each in found if len(each)]


def _means(values: Values, parts: Sequence[NDArray[np.intp]], least: int) -> tuple[float, ...]:
    return tuple(float(values[each].mean()) if len(each) >= least else float("nan") for each in parts)
