"""Full-ranking evaluation of item models: every item of the vocabulary is ranked for every history, none is sampled.

A ``Task`` has train data, queries and relevant items; protocols (``item_data``) make them. ``judge`` fits and ranks,
``report_of`` computes the metrics of the lists, for all questions, for new users and for tail items, and ``compare``
tests the difference of two models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from midstream.core.types import Index
from midstream.evaluation.comparability import stated
from midstream.evaluation.metrics.list_metrics import (
    ACCURACY,
    Hits,
    RelevantItems,
    attribute_diversity,
    average_popularity,
    hits_of,
    novelty,
)
from midstream.evaluation.metrics.metrics import Values, coverage
from midstream.evaluation.metrics.statistics import Estimate, PairedDifference, Resampling, difference, estimate, holm
from midstream.models.histories import Histories, Interactions
from midstream.models.kernels.top_n import top_n
from midstream.models.model import ItemModel, best_of

Removed = Literal["seen", "last", "nothing"]
"""Items that may not be recommended: every item of the history, its last one, or none."""
Fit = Callable[[Interactions], ItemModel]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Train data, queries and relevant items. Items are rows of the vocabulary of the train data."""

    learned: Interactions
    asked: Histories
    wanted: RelevantItems
    """Relevant items, row for row with the queries."""
    owner: NDArray[np.intp]
    """User or session of each question, (n,): those of one user are not independent."""


@dataclass(frozen=True, slots=True)
class ItemData:
    """A data set under one protocol. Nothing is read before it is called for."""

    name: str
    protocol: str
    choosing: Callable[[], Sequence[Task]]
    """Tasks for choosing settings; of several each is a window of time."""
    reporting: Callable[[], Sequence[Task]]
    """Read once, after the settings are written down."""
    removed: Removed
    validation_learned: bool
    """The validation part is learned before the test."""
    attributes: Callable[[], csr_matrix] | None = None
    """Which item has which attribute, (items, attributes), for the diversity of lists."""


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """How lists are judged."""

    k: int = 20
    cuts: tuple[int, ...] = (1, 5, 10, 20)
    """Of the curves; those above k are left out."""
    new_acts_max: int = 5
    """A user with at most so many acts is new."""
    tail_share: float = 0.2
    """The tail is the least popular items that together have this share of the acts learned."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=500))


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Lists of one model for all questions of a data set, one task after another, and the inputs of metrics."""

    data: ItemData
    model: str
    tasks: Sequence[Task]
    lists: Index
    """(questions, k)."""
    options: RankingOptions

    @property
    def window(self) -> NDArray[np.intp]:
        """The task of each question."""
        return np.repeat(np.arange(len(self.tasks)), [len(each.asked) for each in self.tasks])

    @property
    def owner(self) -> NDArray[np.intp]:
        """User or session of each question."""
        return np.concatenate([each.owner for each in self.tasks])


@dataclass(frozen=True, slots=True)
class Segment:
    """Accuracy over a part of the questions, or over a part of the relevant items."""

    name: str
    questions: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class RankingReport:
    """The figures of one model on one data set."""

    data: str
    protocol: str
    model: str
    k: int
    removed: Removed
    last_item_allowed: bool
    validation_learned: bool
    learned: int
    """Acts learned before the last window."""
    items: int
    questions: int
    without_history: int
    """Questions with an empty history: every model's list is that of the most popular items."""
    unknown: int
    """Relevant items that are not in the vocabulary; each counts as missed."""
    metrics: dict[str, Estimate]
    """``recall@20`` and the like."""
    coverage: float
    """Share of all items that is in one list at least."""
    curves: dict[str, dict[int, float]]
    """Metric → k → mean."""
    windows: tuple[dict[str, float], ...]
    """The means of each window of time, where there are several."""
    segments: tuple[Segment, ...]

    @property
    def switches(self) -> str:
        """Return the choices of protocol that decide comparability, in words."""
        said = stated(last_item_allowed=self.last_item_allowed, validation_learned=self.validation_learned)
        return f"removed: {self.removed}; {said}"


def judge(name: str, fit: Fit, data: ItemData, tasks: Sequence[Task], options: RankingOptions | None = None) -> Judged:
    """Fit a model on the train data of each task, and rank all items for each of its questions.

    An item model has no answer for an empty history, and the engine answers with popular items: so does every model
    here, and the order of rows decides nothing.

    Args:
        name: Of the model, for the report.
        fit: Called once a task.
        data: Has the items that may not be recommended.
        tasks: ``data.choosing()`` or ``data.reporting()``.
        options: Length of the lists.

    Cost: a fit and a full ranking a task.
    """
    used = options or RankingOptions()
    lists = [_lists(fit(task.learned), task, data.removed, used.k) for task in tasks]
    return Judged(data, name, tasks, np.concatenate(lists), used)


def _lists(model: ItemModel, task: Task, removed: Removed, k: int) -> Index:
    """Return a model's list for each question, and popular items for an empty history, (questions, k)."""
    found = top_n(model, task.asked, k, removed_of(task.asked, removed))
    popular = best_of(acted(task).astype(np.float32), k)
    found[np.diff(task.asked.start) == 0] = np.pad(popular, (0, k - len(popular)), constant_values=-1)
    return found


def removed_of(asked: Histories, removed: Removed) -> Histories | None:
    """Return the items that may not be recommended to each history, None = all may be."""
    if removed == "nothing":
        return None
    if removed == "seen":
        return asked
    ends = asked.start[1:]
    is_any = ends > asked.start[:-1]
    rows = asked.row[ends[is_any] - 1]
    start = np.concatenate([[0], np.cumsum(is_any)]).astype(np.int64)
    return Histories(rows, np.ones(len(rows), dtype=np.float32), start)


def worth_of(judged: Judged, metric: str, k: int | None = None) -> Values:
    """Return each list's value of one metric of ``ACCURACY``, (questions,); NaN without relevant items."""
    cut = judged.options.k if k is None else k
    hits, right = _hits(judged, [each.wanted for each in judged.tasks])
    return ACCURACY[metric](hits, right, cut)


def report_of(judged: Judged) -> RankingReport:
    """Return the metrics of the lists.

    Cost: a bootstrap a metric and segment.
    """
    data, options, tasks = judged.data, judged.options, judged.tasks
    hits, right = _hits(judged, [each.wanted for each in tasks])
    values = {f"{name}@{options.k}": metric(hits, right, options.k) for name, metric in ACCURACY.items()}
    cuts = [cut for cut in options.cuts if cut <= options.k]
    shown = {**values, **_variety(judged)}
    return RankingReport(
        data=data.name,
        protocol=data.protocol,
        model=judged.model,
        k=options.k,
        removed=data.removed,
        last_item_allowed=data.removed == "nothing",
        validation_learned=data.validation_learned,
        learned=len(tasks[-1].learned.histories.row),
        items=len(tasks[-1].learned.vocabulary),
        questions=len(judged.lists),
        without_history=sum(int((np.diff(each.asked.start) == 0).sum()) for each in tasks),
        unknown=sum(int((each.wanted.item < 0).sum()) for each in tasks),
        metrics={name: estimate(each, judged.owner, options.resampling) for name, each in shown.items()},
        coverage=float(np.mean([coverage(lists, len(task.learned.vocabulary)) for task, lists in _by_task(judged)])),
        curves={name: {cut: _mean(metric(hits, right, cut)) for cut in cuts} for name, metric in ACCURACY.items()},
        windows=tuple(
            {name: _mean(each[judged.window == number]) for name, each in values.items()}
            for number in range(len(tasks))
        )
        if len(tasks) > 1
        else (),
        segments=_segments(judged),
    )


def compare(first: Judged, second: Judged) -> dict[str, PairedDifference]:
    """Return first less second for each metric of accuracy, over the same questions, with the paired tests.

    Questions without relevant items are left out. The tests of all metrics are corrected together.
    """
    found: dict[str, PairedDifference] = {}
    for name in ACCURACY:
        ours, theirs = worth_of(first, name), worth_of(second, name)
        known = ~np.isnan(ours)
        found[f"{name}@{first.options.k}"] = difference(
            ours[known], theirs[known], first.owner[known], first.options.resampling
        )
    return dict(zip(found, holm(list(found.values())), strict=True))


def acted(task: Task) -> NDArray[np.int64]:
    """Return the number of histories with each item in the train data, (items,)."""
    return np.bincount(
        task.learned.histories.matrix(len(task.learned.vocabulary)).indices, minlength=len(task.learned.vocabulary)
    )


def is_tail(task: Task, share: float) -> NDArray[np.bool_]:
    """Return which items are of the tail: the least popular that together have at most ``share`` of the acts."""
    counts = acted(task)
    order = np.argsort(counts, kind="stable")
    tail = np.zeros(len(counts), dtype=np.bool_)
    tail[order[np.cumsum(counts[order]) <= share * counts.sum()]] = True
    return tail


def _hits(judged: Judged, wanted: Sequence[RelevantItems]) -> tuple[Hits, NDArray[np.int64]]:
    """Return the hits of all questions and the number of relevant items of each."""
    parts = zip(_by_task(judged), wanted, strict=True)
    hits = np.concatenate([hits_of(lists, right) for (_, lists), right in parts])
    return hits, np.concatenate([each.counts for each in wanted])


def _by_task(judged: Judged) -> list[tuple[Task, Index]]:
    """Return each task with its lists."""
    edges = np.cumsum([len(each.asked) for each in judged.tasks])[:-1]
    return list(zip(judged.tasks, np.split(judged.lists, edges), strict=True))


def _variety(judged: Judged) -> dict[str, Values]:
    """Return novelty, popularity and diversity of each list."""
    k, each = judged.options.k, [(task, lists, acted(task)) for task, lists in _by_task(judged)]
    found = {
        f"novelty@{k}": np.concatenate([novelty(lists, n, len(task.learned.histories)) for task, lists, n in each]),
        f"popularity@{k}": np.concatenate([average_popularity(lists, n) for _, lists, n in each]),
    }
    if judged.data.attributes is not None:
        found[f"diversity@{k}"] = attribute_diversity(judged.lists, judged.data.attributes())
    return found


def _segments(judged: Judged) -> tuple[Segment, ...]:
    """Return accuracy for new users and others, and over tail, other known and unknown items alone."""
    options, tasks = judged.options, judged.tasks
    acts = np.concatenate([np.diff(each.asked.start) for each in tasks])
    everything = [each.wanted for each in tasks]
    known = [each.wanted.item >= 0 for each in tasks]
    tails = [is_tail(each, options.tail_share)[each.wanted.item] for each in tasks]
    tails = [each & there for each, there in zip(tails, known, strict=True)]
    heads = [there & ~each for each, there in zip(tails, known, strict=True)]
    new = acts <= options.new_acts_max
    all_of = np.ones(len(acts), dtype=np.bool_)
    return (
        _segment(judged, f"new users (at most {options.new_acts_max} acts)", everything, new),
        _segment(judged, "other users", everything, ~new),
        _segment(judged, f"tail items (the last {options.tail_share:.0%} of acts)", _only(everything, tails), all_of),
        _segment(judged, "other items", _only(everything, heads), all_of),
        _segment(judged, "unknown items (in nothing learned)", _only(everything, [~each for each in known]), all_of),
    )


def _only(wanted: Sequence[RelevantItems], kept: Sequence[NDArray[np.bool_]]) -> list[RelevantItems]:
    return [each.only(which) for each, which in zip(wanted, kept, strict=True)]


def _segment(judged: Judged, name: str, wanted: Sequence[RelevantItems], of: NDArray[np.bool_]) -> Segment:
    """Return accuracy over the questions marked True."""
    k = judged.options.k
    hits, right = _hits(judged, wanted)
    asked = of & (right > 0)
    metrics = {
        f"{each}@{k}": estimate(
            ACCURACY[each](hits[asked], right[asked], k), judged.owner[asked], judged.options.resampling
        )
        for each in ("recall", "NDCG")
    }
    return Segment(name, int(asked.sum()), metrics)


def _mean(values: Values) -> float:
    """Return the mean without NaN, NaN when all are."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
