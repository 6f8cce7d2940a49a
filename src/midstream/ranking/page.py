"""Page of several placements: no item twice, all state read at one log position, equal source queries run once.

All slates are gathered first, without waiting; then they are chosen, in order of priority. The items that earlier
slates will take are unknown while a slate gathers, so it gathers as many additional candidates as they have at most:
its ``spare``. The taken items are in its query, so each slate can be rerun by itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate

import numpy as np

from midstream.core.types import Failure, Index, Moment, Query, Served
from midstream.ranking.boundary import Account
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.pipeline import PlanRequest, unasked, with_fetched
from midstream.ranking.plan import Plan
from midstream.ranking.source_cache import SourceCache


async def recommend_page(
    slots: Sequence[tuple[Plan, Query]],
    observe: Callable[[Plan, Query], Moment],
    ids_of: Callable[[Index], Sequence[str]],
    remaining_s: Callable[[], float],
    left_out: Callable[[Plan], tuple[Failure, ...]] = lambda _: (),
    cache: FetchCache | None = None,
) -> list[Served]:
    """Answer queries of one user, session, context and moment.

    Args:
        slots: Plan and query of each slate, by falling priority; filters and context of each were checked. They may
            differ in their items.
        observe: Returns the state at rest for a plan and a query; the same state each time, as it is read without a
            wait.
        ids_of: Returns the ids of items.
        remaining_s: Seconds to the deadline of them all.
        left_out: Returns the components of a plan that the circuit breaker skips.
        cache: Cache of fetched columns; None = no outside system is called, as in ``recommend``.

    Returns:
        The slates in the order of the slots.
    """
    before = accumulate((query.slate_size for _, query in slots), initial=0)
    requests: list[PlanRequest] = []
    for (plan, query), spare in zip(slots, before, strict=False):
        failed = left_out(plan)
        account = Account((*failed, *unasked(plan, failed, cache)), remaining_s)
        requests.append(PlanRequest.of(plan, replace(query, spare=spare), account))
    if cache is not None and any(each.plan.fetches for each in requests):
        requests = await with_fetched(requests, observe, cache)
    asked: dict[tuple[str, ...], SourceCache] = {}  # rows may go by items of their own
    gathered = [
        each.gathered(partial(observe, each.whole), asked.setdefault(each.query.items, SourceCache()))
        for each in requests
    ]
    slates: list[Served] = []
    taken_ids = list[str]()
    taken: Index = np.empty(0, dtype=np.int32)
    for found in gathered:
        slates.append(await found.with_taken(taken_ids, taken).decided())
        chosen = slates[-1].candidates.item_index[slates[-1].selection.chosen]
        taken_ids.extend(ids_of(chosen))
        taken = np.concatenate((taken, chosen))
    return slates
