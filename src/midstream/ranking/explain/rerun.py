"""Rerun of a logged request: the same pipeline, on the state of its log position, without failed components."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.types import Index, Moment, Query, Served
from midstream.ranking.boundary import Account
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.pipeline import PlanRequest
from midstream.ranking.plan import Plan
from midstream.ranking.record.continuation import read_on
from midstream.ranking.record.outside_scores import RecordedScores, scores_in
from midstream.ranking.record.served import ServedRecord
from midstream.ranking.team_answers import drafted_again, teams_of
from midstream.state.ids.vocabulary import Vocabulary


async def rerun(
    plan: Plan,
    observe: Callable[[Query], Moment],
    record: ServedRecord,
    continued: ServedRecord | None = None,
    teams: Sequence[Plan] = (),
) -> Served:
    """Answer a logged request again; equal plan, state and record give an equal slate, with its full trace.

    Outside systems are not called again: their results, or their failure, are in the query. Neither is an index of
    vectors, which another process has built in another order: what it proposed is in the record.

    Args:
        plan: Of the record's ``config_hash``.
        observe: The state at the record's log position, of its ``fold_version``.
        record: The logged record.
        continued: For a record that continues a slate (``query.continues``): the record of that slate.
        teams: For a drafted slate (``teams_of``): the plans that drafted it.

    Raises:
        NotFound: The record continues a slate whose record is not given, or it lacks a part of the fetched columns,
            or the scores that a server gave its candidates; or no plan that drafted it has an answer now.
        RequestInvalid: The plan's filters cannot use the record's query: it is another plan.
    """
    if not record.rerunnable:
        message = "what was asked from outside took more bytes than a record has, so a rerun would give another answer"
        raise NotFound(message)
    if record.query.continues:
        if continued is None:
            message = f"the slate {record.query.continues} that this one continues is not kept any more"
            raise NotFound(message)
        return read_on(plan, observe, record.query, continued, record.failures).served
    if faults := request_faults(plan.filters, record.query, plan.context_readers):
        raise RequestInvalid(faults)
    if teams_of(record.source_names, record.scorer):
        return await _drafted_again(teams, observe, record)
    request = PlanRequest.of(plan.recorded(record.approximate), record.query, Account(record.failures))
    kept = request.plan.without(frozenset(plan.remote) - {record.scorer})  # nobody else may come to ask
    gathered = replace(request, plan=kept, fetched=record.fetched).gathered(observe)
    if record.scorer in plan.remote:
        vocabulary = observe(record.query).table(Vocabulary)

        def recorded(item_index: Index) -> RecordedScores:
            return RecordedScores(record.scorer, scores_in(record.outside_scores, vocabulary.item_ids(item_index)))

        gathered = replace(gathered, recorded=recorded)
    return await gathered.decided()


async def _drafted_again(teams: Sequence[Plan], observe: Callable[[Query], Moment], record: ServedRecord) -> Served:
    """Return a draft, made again.

    Raises:
        NotFound: No plan has an answer to draft.
    """
    served = await drafted_again(record, {each.name: each for each in teams}, lambda _, query: observe(query))
    if served is None:
        message = "none of the placements that drafted it has an answer that can be drafted now"
        raise NotFound(message)
    return served
