"""Continuation of a slate: the next items of the logged order, without those that may not be served any more."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from midstream.core.errors import RequestInvalid
from midstream.core.types import Candidates, Failure, Moment, Query, Selection, Served
from midstream.ranking.apply_filters import sift
from midstream.ranking.boundary import Account
from midstream.ranking.caller_items import CURSOR, UNKNOWN
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.frame import take
from midstream.ranking.plan import Closed, Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.record.served import ServedItem, ServedRecord
from midstream.state.ids.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class ReadOn:
    """A slate, and which one of the order comes after it."""

    served: Served
    turn: int
    """Of the slate that comes next; more than there are = the order is used up."""


def query_on(record: ServedRecord, asked: Query, turn: int, first_position: int) -> Query:
    """Return the query of a request that continues a slate: the slate's own, with a new id, seed and time.

    Args:
        record: Of the slate.
        asked: Has the id, the seed and the time of the request.
        turn: Index of the first slate of the order to read.
        first_position: Number of items of the order that were served before.
    """
    return replace(
        record.query,
        request_id=asked.request_id,
        seed=asked.seed,
        now_ms=asked.now_ms,
        order_max=0,
        continues=record.query.request_id,
        turn=turn,
        first_position=first_position,
    )


def read_on(
    plan: Plan,
    observe: Callable[[Query], Moment],
    query: Query,
    record: ServedRecord,
    failed: tuple[Failure, ...] = (),
) -> ReadOn:
    """Return the next slate of an order that has items left; empty where a filter fails, and repeatable then.

    Args:
        plan: Current plan of the placement: its filters decide what may be served.
        observe: Returns the state at rest.
        query: Of ``query_on``.
        record: Of the slate that is continued, with the order.
        failed: Left out from the start, as in ``recommend``.

    Returns:
        Retrieved = removed + served. Scores, sources and propensities are those of the order.

    Raises:
        RequestInvalid: The plan's filters cannot use the query: they have changed.
    """
    if faults := request_faults(plan.filters, query):
        raise RequestInvalid(faults)
    moment = observe(query)
    run = PlanRun(plan.less(failed), moment, Account(failed))
    names = record.source_names
    candidates, turn = _rows(moment, (), names), query.turn
    items: list[ServedItem] = []
    retrieved, removed = 0, {UNKNOWN: 0, **{rule.name: 0 for rule in run.plan.filters}}
    while turn <= len(record.order) and not items:
        slate = record.order[turn - 1]
        rows = _rows(moment, slate, names)
        there = rows.item_index >= 0
        known_rows = take(rows, there)
        verdicts = sift(run, known_rows)
        retrieved += len(slate)
        removed[UNKNOWN] += len(slate) - len(known_rows)
        for name, count in verdicts.removed().items():
            removed[name] += count
        if verdicts.is_closed or any(isinstance(rule, Closed) for rule in run.plan.filters):
            break
        candidates = take(known_rows, verdicts.kept)
        items = [slate[place] for place in np.flatnonzero(there)[verdicts.kept].tolist()]
        turn += 1
    served = Served(
        query=query,
        log_position=moment.log_position,
        candidates=candidates,
        scorer=record.scorer,
        score=np.array([item.score for item in items], dtype=np.float32),
        selection=Selection(np.arange(len(items)), np.array([item.propensity for item in items], dtype=np.float32)),
        retrieved={CURSOR: retrieved},
        retrieved_count=retrieved,
        removed=removed,
        failures=tuple(run.account.failures),
        config_hash=plan.config_hash,
        tier="reduced" if run.account.failures else record.tier,
        fold_version=plan.fold_version,
        models=record.models,
        fetched=record.fetched,
    )
    return ReadOn(served, turn)


def _rows(moment: Moment, items: tuple[ServedItem, ...], names: tuple[str, ...]) -> Candidates:
    """Return items of an order as rows, -1 = not known any more. Of a source only that it proposed one is known."""
    index = moment.table(Vocabulary).item_indices([item.id for item in items])
    said = np.array([[name in item.sources for name in names] for item in items], dtype=np.bool_)
    said = said.reshape(len(items), len(names))
    score = np.where(said, np.float32(0.0), np.float32(np.nan)).astype(np.float32)
    return Candidates(index, names, score, np.where(said, 0, -1).astype(np.int32))
