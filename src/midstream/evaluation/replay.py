"""Prequential evaluation (test, then learn): each act of a data set is first predicted, then folded, in time order.

So every method is evaluated on unseen acts, with a state that has all acts before, as in a live engine. All methods
answer the same questions from the same state.

Reference: J. Vinagre, A. M. Jorge, J. Gama, "Evaluation of recommender systems in streaming environments", 2014.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from midstream.core.protocols import Source
from midstream.core.types import Index, LogPosition, Models, Moment, Query, TimestampMs
from midstream.evaluation.data.importing import DATA_SETTINGS, fitted, room_for
from midstream.evaluation.data.interactions import InteractionTable, Rows, events
from midstream.evaluation.metrics.metrics import Ranks, hit, reciprocal_rank
from midstream.evaluation.metrics.statistics import (
    Estimate,
    PairedDifference,
    Resampling,
    difference,
    estimate,
    holm_fields,
)
from midstream.evaluation.protocols import LIST_LENGTH, listed
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

Method = Callable[[Fold, Query], Awaitable[Index]]
"""Returns items for a query, best first; one more than the list, as the last act's item may be removed."""
_NO_MODELS = Models({})
_ADVANCE_ROWS = 1_000
"""Rows between two reports of progress."""


def asking_source(source: Source) -> Method:
    """Return the method of one source alone."""

    async def ask(fold: Fold, query: Query) -> Index:
        return source.retrieve(fold.moment(query, _NO_MODELS)).item_index

    return ask


def asking_plan(plan: Plan, failures: Counter[str]) -> Method:
    """Return the method of a whole plan: sources, filters, scorers, selector.

    Args:
        plan: The plan.
        failures: Counts the answers without a component, by the component's name.
    """

    async def ask(fold: Fold, query: Query) -> Index:
        served = await recommend(plan, lambda asked: fold.moment(asked, plan.models), query, lambda: math.inf)
        failures.update({each.component for each in served.failures})
        return served.candidates.item_index[served.selection.chosen]

    return ask


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How a replay is run."""

    k: int = LIST_LENGTH
    fold: FoldSettings = DATA_SETTINGS
    repeat: bool = False
    """The item of the last act may be recommended again."""
    rows_max: int | None = None
    """Only so many rows, from the beginning."""
    first: int = 0
    """Log position of the first row: events before it, such as a catalogue, are in the state already."""
    asked_from: int = 0
    """Number of the first row that may be guessed, from 0; those before it are only learned, as when settings were
    chosen on them."""
    learned_at: tuple[int, ...] | None = None
    """Numbers of rows, ascending: only there the state learns all rows before, and each question in between has its
    session's later acts as items. None = each act is learned after its prediction. One number = frozen from there."""
    parts: int = 10
    """Number of parts, of equally many questions, of the figures over time."""
    resampling: Resampling = field(default_factory=lambda: Resampling(resamples=1_000))
    advance: Callable[[int], None] | None = None
    """Called with the number of rows replayed since the last call."""
    observe: Callable[[Moment, int, int, int], None] | None = None
    """Called with each question: the state, the row, the right item's index, the last act's; -1 = none."""


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """Figures of one method."""

    name: str
    hit_rate: Estimate
    mrr: Estimate
    hit_rate_over_time: tuple[float, ...]
    """Of each part of the questions, in order."""
    hit_rate_difference: PairedDifference
    """This method less the first one."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The figures of one data set in time order."""

    data: str
    k: int
    repeat: bool
    """The last item may be recommended."""
    validation_learned: bool | None
    """The rows that settings were chosen on, those before the first question, are learned; None = there are none."""
    rows: int
    asked_from: int
    """Number of the first row that may be guessed."""
    questions: int
    sessions: int
    dropped: Mapping[str, int]
    """Rows of the file that were not replayed, by reason."""
    methods: tuple[MethodFigures, ...]
    digest: str
    """Of the state at the end."""


def run_replay(
    name: str, interactions: InteractionTable, methods: Mapping[str, Method], options: ReplayOptions | None = None
) -> ReplayReport:
    """Replay a data set: every method predicts each act but the first of its session, then the act is folded.

    Args:
        name: Of the data set, for the report.
        interactions: By time, with sessions.
        methods: By name; the first is the baseline of the comparisons.
        options: List length, fold settings, number of rows, resampling.

    Cost: a fold of one row and one answer a method for each question.
    """
    used = options or ReplayOptions()
    rows = interactions if used.rows_max is None else interactions.take(slice(0, used.rows_max))
    fold = Fold(fitted(used.fold, room_for(rows)))
    asked = rows_asked(rows, used.asked_from)
    ranks = asyncio.run(replay_ranks(rows, asked, methods, fold, used))
    session = np.unique(rows.session_id, return_inverse=True)[1][asked]
    first = next(iter(ranks.values()), np.empty(0, dtype=np.int32))
    figures = [_figures(method, rank, first, session, used) for method, rank in ranks.items()]
    return ReplayReport(
        data=name,
        k=used.k,
        repeat=used.repeat,
        validation_learned=True if used.asked_from else None,
        rows=len(rows),
        asked_from=used.asked_from,
        questions=len(asked),
        sessions=len(np.unique(rows.session_id)),
        dropped=rows.dropped,
        methods=(*figures[:1], *holm_fields(figures[1:], "hit_rate_difference")),
        digest=fold.digest(),
    )


def rows_asked(rows: InteractionTable, asked_from: int) -> Rows:
    """Return the numbers of the predicted rows: from one row on, all but the first of each session."""
    is_asked = np.ones(len(rows), dtype=np.bool_)
    is_asked[np.unique(rows.session_id, return_index=True)[1]] = False
    is_asked[:asked_from] = False
    return np.flatnonzero(is_asked)


async def replay_ranks(
    rows: InteractionTable, asked: Rows, methods: Mapping[str, Method], fold: Fold, options: ReplayOptions
) -> dict[str, Ranks]:
    """Return the rank of each right item by each method, (questions,); the state has learned all rows in the end."""
    ranks = {name: np.full(len(asked), -1, dtype=np.int32) for name in methods}
    folded = told = 0
    before = _before(rows)
    for number, row in enumerate(asked.tolist()):
        # Rows that nobody is asked about are folded together: however the rows are cut, the state is the same.
        until = row if options.learned_at is None else max((at for at in options.learned_at if at <= row), default=0)
        if until > folded:
            fold.apply(LogPosition(options.first + folded), events(rows.take(slice(folded, until)), folded))
            folded = until
        query = _query(rows, row, _since(before, row, folded, fold.settings.limits.session_items_max), options)
        moment = fold.moment(query, _NO_MODELS)
        wanted = fold.vocabulary.item_index(str(rows.item_id[row]))
        last = fold.vocabulary.item_index(str(rows.item_id[before[row]]))
        if options.observe is not None:
            options.observe(moment, row, wanted, last)
        for name, ask in methods.items():
            found = listed(await ask(fold, query), last, options.k, repeat=options.repeat) == wanted
            if wanted >= 0 and found.any():
                ranks[name][number] = found.argmax()
        if options.advance is not None and row - told >= _ADVANCE_ROWS:
            options.advance(row - told)
            told = row
    fold.apply(LogPosition(options.first + folded), events(rows.take(slice(folded, len(rows))), folded))
    if options.advance is not None:
        options.advance(len(rows) - told)
    return ranks


def _before(rows: InteractionTable) -> list[int]:
    """Return the number of the row before each in its session, -1 = none."""
    session = np.unique(rows.session_id, return_inverse=True)[1]
    order = np.argsort(session, kind="stable")
    before = np.full(len(rows), -1, dtype=np.intp)
    follows = session[order][1:] == session[order][:-1]
    before[order[1:][follows]] = order[:-1][follows]
    found: list[int] = before.tolist()
    return found


def _since(before: Sequence[int], row: int, folded: int, most: int) -> list[int]:
    """Return the rows of a session that the state has not learned, oldest first; the newest so many."""
    found: list[int] = []
    at = before[row]
    while at >= folded and len(found) < most:
        found.append(at)
        at = before[at]
    return found[::-1]


def _query(rows: InteractionTable, row: int, sent: Sequence[int], options: ReplayOptions) -> Query:
    """Return the query for one row, at its time, with some rows' items as the request's items."""
    return Query(
        request_id="",
        placement="",
        user_id=str(rows.user_id[row]) or None,
        session_id=str(rows.session_id[row]) or None,
        slate_size=options.k + 1,
        now_ms=TimestampMs(int(rows.time_ms[row])),
        seed=0,
        items=tuple(str(rows.item_id[at]) for at in sent),
    )


def _figures(name: str, rank: Ranks, first: Ranks, session: Rows, options: ReplayOptions) -> MethodFigures:
    """Return the figures of one method."""
    hits = hit(rank, options.k)
    parts = np.array_split(hits, min(options.parts, max(1, len(hits))))
    return MethodFigures(
        name=name,
        hit_rate=estimate(hits, session, options.resampling),
        mrr=estimate(reciprocal_rank(rank, options.k), session, options.resampling),
        hit_rate_over_time=tuple(float(part.mean()) for part in parts if len(part)),
        hit_rate_difference=difference(hits, hit(first, options.k), session, options.resampling),
    )
