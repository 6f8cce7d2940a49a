"""Mapping from requests to complete queries, and from served slates to answers."""

from collections.abc import Mapping, Sequence
from itertools import repeat

import numpy as np

from midstream.core.errors import Fault, ItemUnknown, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import Query, Served, TimestampMs
from midstream.engine.requests.schema import RANK_ITEMS_MAX
from midstream.engine.types import Answer, AnswerItem, Ask, Removal
from midstream.events.faults import shown
from midstream.events.schema import Event
from midstream.experiments.names import arm_of
from midstream.monitoring.feature_values import WATCHED_SHARE, FeatureValues
from midstream.monitoring.metrics import Metrics
from midstream.ranking.plan import Plan
from midstream.ranking.record.order import ORDER_MAX
from midstream.ranking.record.outside_scores import NO_SCORES, PackedScores
from midstream.ranking.record.served import encode_served
from midstream.ranking.rules.traces import PackedTraces
from midstream.ranking.selectors.sampling import WATCHED, is_sampled
from midstream.state.fold import Fold
from midstream.state.items.items import Items


def query_of(ask: Ask, plan: Plan, request_id: str, seed: int, now_ms: TimestampMs) -> Query:
    """Return the query of an ask, complete with id, seed and time.

    Raises:
        RequestInvalid: The size is out of bounds.
    """
    size, size_max = plan.slate_size if ask.n is None else ask.n, plan.slate_size_max
    if ask.given is not None:
        require_rankable(ask.given)
        size, size_max = ask.n or len(ask.given), RANK_ITEMS_MAX
    if not 1 <= size <= size_max:
        right = f"A whole number from 1 to {size_max}."
        raise RequestInvalid((Fault("/n", f"{size} came.", right, "/docs/http.md"),))
    about = () if ask.about is None else (ask.about,)
    return Query(
        request_id=request_id,
        placement=plan.name,  # not the name that was asked for: a plan may answer any, and callers make up no groups
        user_id=ask.user_id,
        session_id=ask.session_id,
        slate_size=size,
        now_ms=now_ms,
        seed=seed,
        items=(*ask.items, *about),
        exclude=(*ask.exclude, *about),
        filter=ask.filter,
        context=ask.context,
        item_fields=ask.item_fields,
        given=ask.given or (),
        order_max=ORDER_MAX if ask.cursor is True else 0,
    )


def require_rankable(items: Sequence[str]) -> None:
    """Refuse a list of the caller's own items that has none, too many, or one of them twice.

    Raises:
        RequestInvalid: Each repetition is named.
    """
    if not 1 <= len(items) <= RANK_ITEMS_MAX:
        right = f"1 to {RANK_ITEMS_MAX} ids of items."
        raise RequestInvalid((Fault("/items", f"{len(items)} came.", right, "/docs/http.md"),))
    if len(set(items)) == len(items):
        return
    first: dict[str, int] = {}
    faults: list[Fault] = []
    for number, item_id in enumerate(items):
        if first.setdefault(item_id, number) != number:
            came = f"{shown(item_id)} came before, at /items/{first[item_id]}."
            faults.append(Fault(f"/items/{number}", came, "Each item once.", "/docs/http.md"))
    raise RequestInvalid(tuple(faults))


def require_known(ask: Ask, fold: Fold) -> None:
    """Refuse a question about an item that is not known.

    Raises:
        ItemUnknown: Nothing named it by now, or it was deleted.
    """
    if ask.about is None:
        return
    index = fold.vocabulary.item_index(ask.about)
    if index < 0 or not fold.items.exists(index):
        came = f"Nothing is known of item {shown(ask.about)} at log position {fold.log_position}."
        right = "An item that an item event or an interaction named, and that is not deleted."
        raise ItemUnknown((Fault("item_id", came, right, "/docs/http.md"),))


def answer_of(served: Served, ask: Ask, fold: Fold, position: str, *, read_your_writes: bool | None) -> Answer:
    """Return the answer of a served slate.

    Args:
        served: The slate with its trace.
        ask: Names the item fields to return.
        fold: The state of the answer; the fields are read from it.
        position: Token of the log position of that state.
        read_your_writes: Whether the caller's own writes were seen; None when it named none.
    """
    chosen = served.selection.chosen
    indices = served.candidates.item_index[chosen]
    ids = fold.vocabulary.item_ids(indices)
    scores: list[float] = served.score[chosen].tolist()
    fields = fields_of(fold.items, indices.tolist(), ask.fields) if ask.fields else repeat(None, len(ids))
    first = served.query.first_position
    age_ms = served.query.now_ms - fold.log_time_ms if fold.log_time_ms else 0
    arm = arm_of(served.query.placement)
    return Answer(
        served.query.request_id,
        ask.placement or arm.placement,
        tuple(map(AnswerItem, ids, scores, range(first, first + len(ids)), fields)),
        served.tier,
        position,
        read_your_writes,
        max(0, age_ms),
        served.config_hash,
        served.failures,
        served.models,
        removed=_removed(served),
        not_selected=len(served.candidates) - len(chosen) if served.query.given else 0,
        experiment=arm.experiment,
        variant=arm.variant,
        because=ask.about or "" if ask.because is not None else "",
    )


def _removed(served: Served) -> tuple[Removal, ...]:
    """Return the removed ones of the caller's own items, each with the name of its filter."""
    if served.verdict is None:
        return ()
    names = tuple(served.removed)
    gone: list[int] = np.flatnonzero(served.verdict >= 0).tolist()
    verdict: list[int] = served.verdict.tolist()
    given = served.query.given
    return tuple(Removal(given[number], names[verdict[number]]) for number in gone)


def ids_of(served: Served, fold: Fold) -> list[str]:
    """Return the ids of a slate, in its order, and of its continuation order."""
    rows = served.selection.chosen
    if served.order is not None:
        rows = np.concatenate((rows, served.order.chosen))
    return fold.vocabulary.item_ids(served.candidates.item_index[rows])


def served_event(
    served: Served, item_ids: Sequence[str], traces: PackedTraces, scores: PackedScores = NO_SCORES
) -> Event:
    """Return the served event of an answer."""
    query = served.query
    return Event(
        Kind.SERVED,
        event_id="",
        user_id=query.user_id or "",
        session_id=query.session_id or "",
        request_id=query.request_id,
        body=encode_served(served, item_ids, traces, scores),
        event_time_ms=query.now_ms,
    )


def note(served: Served, placement: str, metrics: Metrics, values: FeatureValues) -> None:
    """Count an answer and its failures, and keep the feature values of some answers' items."""
    chosen = served.selection.chosen
    metrics.observe_answer(placement, served.tier, len(chosen))
    for failure in served.failures:
        metrics.failures.of(failure.component).inc()
    counts: dict[str, int] = {}
    for each in served.traces:  # a Counter takes 5 µs to look at what it is given
        counts[each.rule] = counts.get(each.rule, 0) + 1
    for rule, count in counts.items():
        metrics.rules.of(placement, rule).count += count
    if served.features is not None:
        metrics.feature_reads.of(placement).observe(served.feature_read_s)
    if served.features is not None and is_sampled(served.query.seed, WATCHED_SHARE, WATCHED):
        values.add(served.features.names, served.features.values[chosen])


def fields_of(items: Items, indices: Sequence[int], names: Sequence[str]) -> list[Mapping[str, object]]:
    """Return the requested attributes of each item; what it lacks is left out."""
    found: list[Mapping[str, object]] = []
    for index in indices:
        document = items.document(index)
        found.append({name: document[name] for name in names if name in document})
    return found
