"""Request pipeline, top to bottom: fetch, gather, decide."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import RequestInvalid
from midstream.core.types import (
    NOTHING_FETCHED,
    Candidates,
    Failure,
    FeatureFrame,
    Fetched,
    Index,
    LogPosition,
    Models,
    Moment,
    Proposal,
    Query,
    Selection,
    Served,
)
from midstream.ranking.boundary import Account, PartTime, boundary
from midstream.ranking.caller_items import PAGE
from midstream.ranking.candidate_generation import NO_CANDIDATES
from midstream.ranking.decision import Decision
from midstream.ranking.fetch_cache import FetchCache
from midstream.ranking.fetching import FetchRequest, Observe, fetched_for, shortage
from midstream.ranking.filters.among import among
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.frame import FeatureReader, declared_of, take
from midstream.ranking.plan import Plan, tier_of
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.record.fetched_fields import only_read
from midstream.ranking.record.outside_scores import RecordedScores
from midstream.ranking.rules.arrangement import ARRANGEMENT
from midstream.ranking.rules.pin import Pinned
from midstream.ranking.rules.rules import CandidateFacts
from midstream.ranking.scorers.online_models import bins_read, models_at, named
from midstream.ranking.selectors.sampling import LOGGED, is_sampled
from midstream.ranking.shortlist import Shortlist, shortlist
from midstream.ranking.source_cache import SourceCache
from midstream.retrieval.approximate import with_approximate
from midstream.state.ids.vocabulary import Vocabulary

UNASKED = "no outside system is asked here"
"""Failure reason of a scorer that would ask a server, where none may be asked: evaluation, training, warming up."""
SELECTION = "selection"
"""Name of the choice by selector and rules in the times of an answer."""


Shortlister: TypeAlias = Callable[[PlanRun], Shortlist | None]
"""Makes the same shortlist in another way; None = it cannot, and changed nothing."""


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
    fetched: Fetched = NOTHING_FETCHED
    """Fetched part of the query."""
    is_bounded: bool = False
    """Outside systems were asked about ``IDS_MAX`` items, and there are more."""
    shortlister: Shortlister | None = None
    """What may make the shortlist instead; None = nothing."""

    @classmethod
    def of(cls, plan: Plan, query: Query, account: Account, shortlister: Shortlister | None = None) -> Self:
        """Return a request to a plan without the components with which the account begins."""
        return cls(plan, plan.less(account.failures), query, account, shortlister=shortlister)

    def gathered(self, observe: Callable[[Query], Moment], asked: SourceCache | None = None) -> "Gathered":
        """Read everything that the query needs, without waiting, so that all state is of one log position.

        Args:
            observe: Returns the state at rest.
            asked: Cache of the sources' proposals to equal queries at the same moment; None = no cache.
        """
        plan, query, account = self.plan, self.query, self.account
        moment = observe(query)
        models = models_at(moment, plan.models)
        run = PlanRun(plan, moment, account)
        found = None if self.shortlister is None else self.shortlister(run)
        found = found or shortlist(run, asked)
        candidates = found.candidates
        until_read_s = account.remaining_s()
        features = FeatureReader(moment, account, plan.declared).frame(plan.features, candidates)
        read_s = until_read_s - account.remaining_s()  # of two infinities: NaN
        request = self
        if self.fetched.item_fields and not query.given and not plan.own:  # a custom part may read any row of its query
            query, fetched = only_read(query, self.fetched, found.examined, moment.table(Vocabulary))
            request = replace(self, query=query, fetched=fetched)
        return Gathered(
            request=request,
            log_position=moment.log_position,
            candidates=candidates,
            features=features,
            facts=facts_of(run, candidates, found.pinned),
            taken=moment.table(Vocabulary).item_indices(query.taken) if query.taken else NO_CANDIDATES.item_index,
            retrieved=found.retrieved,
            retrieved_count=found.retrieved_count,
            removed=found.removed,
            verdict=found.verdict,
            read_s=read_s,
            approximate=found.approximate,
            learned=None if models is plan.models else models,
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
    approximate: Mapping[str, Proposal]
    learned: Models | None = None
    """Models of the plan with what they have learned; None = none of them goes on learning."""
    recorded: Callable[[Index], RecordedScores] | None = None
    """Of a rerun: returns what a server said of some candidates then."""

    def with_taken(self, item_ids: Sequence[str], item_index: Index) -> "Gathered":
        """Return it for a page that has items already, at most ``query.spare``."""
        query = replace(self.request.query, taken=tuple(item_ids))
        return replace(self, request=replace(self.request, query=query), taken=item_index)

    async def decided(self) -> Served:
        """Choose the slate; may wait, reads no state."""
        plan, query, account = self.request.plan, self.request.query, self.request.account
        if self.learned is not None:
            plan = replace(plan, models=self.learned)
        candidates, features, facts, removed = self.candidates, self.features, self.facts, self.removed
        if query.spare:
            kept = ~among(candidates.item_index, self.taken)
            candidates, facts = take(candidates, kept), None if facts is None else facts.where(kept)
            features = FeatureFrame(features.names, features.values.T[:, kept].T)
            removed = {**removed, PAGE: len(kept) - len(candidates)}
        recorded = None if self.recorded is None else self.recorded(candidates.item_index)
        decision = Decision(plan, query, features, facts, account, recorded)
        scorer, score = await decision.scored()
        until_selected_s = 0.0 if account.timeline is None else account.remaining_s()
        selection, order = decision.slates(score)
        if account.timeline is not None:
            account.timeline.append(PartTime(SELECTION, until_selected_s, account.remaining_s()))
        if self.request.is_bounded and len(candidates) < query.slate_size:
            account.failures.extend(shortage(plan, len(candidates), removed, account.failures))
        tier = tier_of(self.request.whole, self.retrieved, account.failures)
        own = declared_of(features, len(candidates.source_names)) if plan.features else None
        logs = own is not None and is_sampled(query.seed, plan.log_features, LOGGED)
        served = Served(
            query=query, log_position=self.log_position, candidates=candidates, scorer=scorer, score=score,
            selection=selection, retrieved=self.retrieved, retrieved_count=self.retrieved_count, removed=removed,
            failures=tuple(account.failures), config_hash=plan.config_hash, tier=tier, fold_version=plan.fold_version,
            features=own, logs_features=logs, feature_read_s=self.read_s, models=plan.models.versions,
            verdict=self.verdict, took_s=account.took_s, traces=selection.traces, order=order,
            fetched=self.request.fetched, learned=self.learned,
            bins=bins_of(plan, scorer, features, query, selection) if self.learned is not None else (),
        )  # fmt: skip
        return with_approximate(served, self.approximate)


def bins_of(plan: Plan, scorer: str, features: FeatureFrame, query: Query, selection: Selection) -> tuple[bytes, ...]:
    """Return what the record of a slate keeps for models that go on learning."""
    return bins_read(named(plan.scorers, scorer), plan.models, features, selection.chosen, query.first_position)


async def recommend(
    plan: Plan,
    observe: Callable[[Query], Moment],
    query: Query,
    remaining_s: Callable[[], float],
    failed: tuple[Failure, ...] = (),
    cache: FetchCache | None = None,
) -> Served:
    """Answer one query.

    Args:
        plan: Plan of this placement.
        observe: Returns the state at rest: the current one, or one rebuilt at the logged position.
        query: Complete with time and seed.
        remaining_s: Seconds to the deadline on the monotonic clock.
        failed: Components left out from the start: those that the circuit breaker skips.
        cache: Cache of fetched columns; None = no outside system is called, as for a moment of the past: scorers that
            would ask a server are left out and named.

    Returns:
        The slate with its trace: retrieved = removed + not selected + served. Unless there is no eligible item, or a
        filter failed, the slate is not empty.

    Raises:
        RequestInvalid: The request's filter or context cannot be used.
    """
    account = Account((*failed, *unasked(plan, failed, cache)), remaining_s)
    return await answered(PlanRequest.of(plan, query, account), observe, cache)


async def answered(request: PlanRequest, observe: Callable[[Query], Moment], cache: FetchCache | None = None) -> Served:
    """Answer a request, as ``recommend`` does.

    Raises:
        RequestInvalid: The request's filter or context cannot be used.
    """
    plan = request.whole
    if faults := request_faults(plan.filters, request.query, plan.context_readers):
        raise RequestInvalid(faults)
    if cache is not None and plan.fetches:
        (request,) = await with_fetched((request,), lambda _, asked: observe(asked), cache)
    return await request.gathered(observe).decided()


def unasked(plan: Plan, failed: Sequence[Failure], cache: FetchCache | None) -> Iterator[Failure]:
    """Yield a failure for each scorer that would ask a server, where no outside system is called."""
    if cache is None and plan.remote:
        known = {each.component for each in failed}
        yield from (Failure(name, UNASKED) for name in plan.remote if name not in known)


async def with_fetched(requests: Sequence[PlanRequest], observe: Observe, cache: FetchCache) -> list[PlanRequest]:
    """Return requests of one user and time with fetched columns."""
    wanted = [FetchRequest(each.plan, each.query, each.account) for each in requests]
    found = await fetched_for(wanted, observe, cache)
    return [
        replace(each, query=got.query, fetched=got.fetched, is_bounded=got.is_bounded)
        for each, got in zip(requests, found, strict=True)
    ]


def facts_of(run: PlanRun, candidates: Candidates, pinned: Pinned) -> CandidateFacts | None:
    """Return the columns for the slate rules; None = there are no rules, or they cannot be read."""
    rules = run.plan.arrangement
    if rules is not None:
        with boundary(ARRANGEMENT, run.account):
            return rules.read(run.moment, candidates, pinned)
    return None
