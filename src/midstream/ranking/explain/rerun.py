"""Rerun of a logged request: the same pipeline, on the state of its log position, without failed components."""

import math
from collections.abc import Callable
from dataclasses import replace

from midstream.core.errors import NotFound
from midstream.core.types import Moment, Query, Served
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.ranking.record.continuation import read_on
from midstream.ranking.record.served import ServedRecord


async def rerun(
    plan: Plan, observe: Callable[[Query], Moment], record: ServedRecord, continued: ServedRecord | None = None
) -> Served:
    """Answer a logged request again; equal plan, state and record give an equal slate, with its full trace.

    Outside systems are not called again: their results, or their failure, are in the query.

    Args:
        plan: Of the record's ``config_hash``.
        observe: The state at the record's log position, of its ``fold_version``.
        record: The logged record.
        continued: For a record that continues a slate (``query.continues``): the record of that slate.

    Raises:
        NotFound: The record continues a slate whose record is not given.
        RequestInvalid: The plan's filters cannot use the record's query: it is another plan.
    """
    alone = replace(plan, fetches=())
    if record.query.continues:
        if continued is None:
            message = f"the slate {record.query.continues} that this one continues is not kept any more"
            raise NotFound(message)
        return read_on(plan, observe, record.query, continued, record.failures).served
    return await recommend(alone, observe, record.query, lambda: math.inf, record.failures)
