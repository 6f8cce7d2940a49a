"""Request pipeline, top to bottom: fetch, gather, decide."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import RequestInvalid
from midstream.core.types import (
    Candidates,
    Failure,
    FeatureFrame,
    Index,
    LogPosition,
    Moment,
    Query,
    Served,
)
from midstream.ranking.apply_filters import sift
from midstream.ranking.boundary import Account, boundary
from midstream.ranking.caller_items import GIVEN, PAGE, UNKNOWN, only_given, said_of, verdict_of
from midstream.ranking.candidate_cutoff import cut
from midstream.ranking.candidate_generation import NO_CANDIDATES, closed, fill, propose
from midstream.ranking.decision import Decision, share_s
from midstream.ranking.filters.among import among
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.frame import FeatureReader, declared_of, merge, take
from midstream.ranking.pinned_candidates import pinned_of, with_pins
from midstream.ranking.plan import Closed, Plan, tier_of
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.rules.arrangement import ARRANGEMENT
from midstream.ranking.rules.pin import Pinned
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.selectors.sampling import LOGGED, is_sampled
from midstream.ranking.source_cache import SourceCache
from midstream.ranking.timeout import awaited
from midstream.state.ids.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class PlanRequest:
    """Query, plan and account of one answer."""

    whole: Plan
    """The placement's plan."""
    plan: Plan
    """The plan without the components that are left out."""
    query: Query
    """Complete with time and seed."""
    account: Account

    @classmethod
    def of(cls, plan: Plan, query: Query, account: Account) -> Self:
        """Return a request to a plan without the components with which the account begins."""
        return cls(plan, plan.less(account.failures), query, account)

    async def fetched(self) -> Self:
        """Return the request with the results of outside systems; a rerun has them and calls no system."""
        query, account, fair_s = self.query, self.account, share_s(self.plan)
        for name, fetch in self.plan.fetches:
            left_s = account.remaining_s()
            if left_s <= 0:
                account.late(name)
                continue
            with boundary(name, account, waits=True):  # half the time is left to answer without it
                found = await awaited(name, partial(fetch, query), left_s / 2, fair_s, account)
                query = replace(query, fetched={**query.fetched, **found})
        return self if query is self.query else replace(self, query=query)

    def gathered(self, observe: Callable[[Query], Moment], asked: SourceCache | None = None) -> "Gathered":
        """Read everything that the query needs, without waiting, so that all state is of one log position.

        Args:
            observe: Returns the state at rest.
            asked: Cache of the sources' proposals to equal queries at the same moment; None = no cache.
        """
        plan, query, account = self.plan, self.query, self.account
        moment = observe(query)
        run = PlanRun(plan, moment, account)
        proposals = propose(run, asked)
        pinned = pinned_of(run)
        if query.given:
            candidates = only_given(moment, proposals)
            retrieved, retrieved_count = said_of(candidates), len(query.given)
        else:
            candidates = merge(proposals, moment.table(Vocabulary).item_count)
            retrieved = said_of(candidates)
            candidates = with_pins(pinned, candidates, retrieved)
            retrieved_count = len(candidates)
        verdicts = sift(run, candidates)
        removed, verdict = dict(verdicts.removed()), None
        if query.given:
            retrieved[GIVEN] = retrieved_count
            removed = {UNKNOWN: retrieved_count - len(candidates), **removed}
            verdict = verdict_of(moment, verdicts)
        proposed, candidates = candidates, take(candidates, verdicts.kept)
        is_closed = verdicts.is_closed or any(isinstance(rule, Closed) for rule in plan.filters)
        if len(candidates) < query.rows_max and not is_closed and not query.given:
            every = np.concatenate([pinned.item_index, *(each.item_index for each in proposals.values())])
            filled = fill(run, candidates, every)
            if filled is None:
                candidates, removed = closed(run, proposed)
            else:
                candidates, more, refused = filled
                retrieved[plan.fill.name] = more
                retrieved_count += more
                removed = {name: count + refused.get(name, 0) for name, count in removed.items()}
        # What the caller gave is scored to the last item.
        candidates, beyond = cut(plan, candidates, pinned.among(candidates.item_index), query.spare + len(query.given))
        until_read_s = account.remaining_s()
        features = FeatureReader(moment, account, plan.declared).frame(plan.features, candidates)
        read_s = until_read_s - account.remaining_s()  # of two infinities: NaN
        return Gathered(
            request=self,
            log_position=moment.log_position,
            candidates=candidates,
            features=features,
            facts=facts_of(run, candidates, pinned),
            taken=moment.table(Vocabulary).item_indices(query.taken) if query.taken else NO_CANDIDATES.item_index,
            retrieved=retrieved,
            retrieved_count=retrieved_count,
            removed=removed | beyond,
            verdict=verdict,
            read_s=read_s,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Inputs of the decision, all of one log position: no state is needed after this step."""

    request: PlanRequest
    log_position: LogPosition
    candidates: Candidates
    """Those that passed the filters."""
    features: FeatureFrame
    facts: CandidateFacts | None
    taken: Index
    """Items that the page has already, -1 = not known."""
    retrieved: Mapping[str, int]
    retrieved_count: int
    removed: Mapping[str, int]
    verdict: NDArray[np.intp] | None
    read_s: float

    def with_taken(self, item_ids: Sequence[str], item_index: Index) -> "Gathered":
        """Return it for a page that has items already, at most ``query.spare``."""
        query = replace(self.request.query, taken=tuple(item_ids))
        return replace(self, request=replace(self.request, query=query), taken=item_index)

    async def decided(self) -> Served:
        """Choose the slate; may wait, reads no state."""
        plan, query, account = self.request.plan, self.request.query, self.request.account
        candidates, features, facts, removed = self.candidates, self.features, self.facts, self.removed
        if query.spare:
            kept = ~among(candidates.item_index, self.taken)
            candidates, facts = take(candidates, kept), None if facts is None else facts.where(kept)
            features = FeatureFrame(features.names, features.values.T[:, kept].T)
            removed = {**removed, PAGE: len(kept) - len(candidates)}
        decision = Decision(plan, query, features, facts, account)
        scorer, score = await decision.scored()
        selection, order = decision.slates(score)
        tier = tier_of(self.request.whole, self.retrieved, account.failures)
        own = declared_of(features, len(candidates.source_names)) if plan.features else None
        logs = own is not None and is_sampled(query.seed, plan.log_features, LOGGED)
        return Served(
            query=query, log_position=self.log_position, candidates=candidates, scorer=scorer, score=score,
            selection=selection, retrieved=self.retrieved, retrieved_count=self.retrieved_count, removed=removed,
            failures=tuple(account.failures), config_hash=plan.config_hash, tier=tier, fold_version=plan.fold_version,
            features=own, logs_features=logs, feature_read_s=self.read_s, models=plan.models.versions,
            verdict=self.verdict, took_s=account.took_s, traces=selection.traces, order=order,
        )  # fmt: skip


async def recommend(
    plan: Plan,
    observe: Callable[[Query], Moment],
    query: Query,
    remaining_s: Callable[[], float],
    failed: tuple[Failure, ...] = (),
) -> Served:
    """Answer one query.

    Args:
        plan: Plan of this placement.
        observe: Returns the state at rest: the current one, or one rebuilt at the logged position.
        query: Complete with time and seed.
        remaining_s: Seconds to the deadline on the monotonic clock; infinite in a rerun.
        failed: Components left out from the start: those that the circuit breaker skips, and in a rerun those that
            failed in the logged answer, so that the answer is the same.

    Returns:
        The slate with its trace: retrieved = removed + not selected + served. Unless there is no eligible item, or a
        filter failed, the slate is not empty.

    Raises:
        RequestInvalid: The request's filter or context cannot be used.
    """
    if faults := request_faults(plan.filters, query, plan.conditions):
        raise RequestInvalid(faults)
    request = await PlanRequest.of(plan, query, Account(failed, remaining_s)).fetched()
    return await request.gathered(observe).decided()


def facts_of(run: PlanRun, candidates: Candidates, pinned: Pinned) -> CandidateFacts | None:
    """Return the columns for the slate rules; None = there are no rules, or they cannot be read."""
    rules = run.plan.arrangement
    if rules is not None:
        with boundary(ARRANGEMENT, run.account):
            return rules.read(run.moment, candidates, pinned)
    return None
