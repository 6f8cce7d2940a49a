"""Answering service of the engine: slates and feature reads, each from one state and its plans.

An answer waits for the log position that its request names, takes state and plan once, and hands its served record over
without waiting for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from msgspec import structs

from midstream.core.errors import MidstreamError, RequestInvalid
from midstream.core.types import Query, Served
from midstream.engine.answer.answer_spans import add_answer_spans
from midstream.engine.answer.compiled_slates import CompiledSlates, EncodedSlate, Stamp
from midstream.engine.answer.cursors import Cursor, gone, parse_cursor, require_same
from midstream.engine.answer.feature_reads import WAIT_S_MAX, read_of
from midstream.engine.answer.inline_explanation import require_why, with_score_parts, with_what_is_read, with_why
from midstream.engine.answer.lookups import served_record
from midstream.engine.answer.page_queries import require_count, slots_of
from midstream.engine.answer.pending_served import ServedAhead, askers_of
from midstream.engine.answer.query_mapping import answer_of, ids_of, note, query_of, require_known, served_event
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.served_buffer import ServedBuffer
from midstream.engine.live import LiveState
from midstream.engine.requests.schema import PAGE_PLACEMENTS_MAX, USERS_MAX, BatchBody, FeatureAsk
from midstream.engine.tokens import parse_position
from midstream.engine.types import Answer, Ask, FeatureRead, PageAnswer, SlateRefused
from midstream.events.served_body import microseconds
from midstream.monitoring.facts import Facts
from midstream.monitoring.tracing import current
from midstream.ranking.boundary import Account
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.page import recommend_page
from midstream.ranking.pipeline import PlanRequest, answered
from midstream.ranking.plan import Plan
from midstream.ranking.record.continuation import query_on, read_on
from midstream.ranking.record.outside_scores import outside_scores
from midstream.ranking.record.served import ServedRecord
from midstream.ranking.rules.traces import pack_traces
from midstream.ranking.team_answers import team_answers
from midstream.state.fold import Fold

READ_ON_MS = 1_000
"""Default wait of a request that continues a slate for that slate's record: a record is some milliseconds behind its
answer, in another process some tens."""


class Answering:
    """Answers requests from the state and plans in service."""

    def __init__(self, live: LiveState, folding: FoldScheduler, outbox: ServedBuffer | None, facts: Facts) -> None:
        """Read ``live``; served records go to ``outbox``, None = they are not logged; ``facts`` go into the log."""
        self._live = live
        self._folding = folding
        self._outbox = outbox
        self._worked_s = live.host.worked_s or live.host.monotonic
        self._ahead = None if outbox is None else ServedAhead(folding, outbox, live.host.monotonic)
        self.compiled = CompiledSlates(live, folding, outbox, self._ahead, facts)
        """What answers usual questions in one kernel."""

    async def recommend(self, ask: Ask, stamp: Stamp | None = None) -> Answer:
        """Answer with a slate, and append its served record without waiting for it.

        Args:
            ask: The question.
            stamp: Of an answer that was begun; None = a new one.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used.
            ItemUnknown: No event has named its item yet.
            Overloaded: Too many requests wait for a log position.
        """
        if isinstance(ask.cursor, str):
            return await self._read_on(ask, ask.cursor)
        live, monotonic = self._live, self._live.host.monotonic
        began_s = stamp.began_s if stamp else monotonic()
        until = stamp.until if stamp else began_s + self._deadline_s((ask,))
        read_your_writes = await self._caught_up(ask.min_log_position, until)
        if not await self._knows_what_was_served((ask,), until):
            read_your_writes = False
        # From here on one state and its plan: another pair may be swapped in while parts of the answer are awaited.
        fold, plan = live.fold, self._plan_of(ask)
        require_known(ask, fold)
        require_why(ask, plan)
        request_id, seed, now_ms = stamp[:3] if stamp else (*live.host.request_ids.make(), live.clock())
        query = query_of(ask, plan, request_id, seed, now_ms)
        teams = live.teams(plan)
        for each in (plan, *teams):
            if faults := request_faults(each.filters, query, each.context_readers):
                raise RequestInvalid(faults)  # before a part on the bench has its one try in it
        self._folding.note_answer()
        if teams:
            served = await self._drafted(plan, teams, query, fold, lambda: until - monotonic())
        else:
            account = Account(live.guards.left_out(plan), lambda: until - monotonic())
            trace = current()
            if trace is not None:
                account.timeline = []
            shortlister = None if stamp else self.compiled.shortlister(plan)
            served = await self._answered(PlanRequest.of(plan, query, account, shortlister), fold)
            if trace is not None:
                add_answer_spans(trace, plan, account, until, served)
        answer = self._told(self._timed(served, began_s), ask, fold, plan, read_your_writes=read_your_writes)
        return await with_why(answer, ask, served, plan, fold)

    async def _answered(self, request: PlanRequest, fold: Fold) -> Served:
        """Return the answer of one plan; note how its parts did."""
        live, worked_s = self._live, self._worked_s()
        served = await answered(request, partial(fold.moment, models=request.whole.models), live.fetched)
        live.guards.note(request.whole, served, self._worked_s() - worked_s)
        return served

    async def _drafted(
        self, plan: Plan, teams: Sequence[Plan], query: Query, fold: Fold, remaining_s: Callable[[], float]
    ) -> Served:
        """Return the draft of some plans' answers; note how the parts of each did.

        What reads served slates reads those of the draft's own name, that of the query. Where no answer can be drafted,
        the plan under whose name drafts are served answers.
        """
        live, worked_s = self._live, self._worked_s()
        requests = [
            PlanRequest.of(
                each,
                query,
                Account(live.guards.left_out(each), remaining_s),
                self.compiled.shortlister(each),
            )
            for each in teams
        ]
        found = await team_answers(query, requests, lambda each, asked: fold.moment(asked, each.models))
        worked_s = self._worked_s() - worked_s  # of all plans together: asking costs more than noting
        for each, served in found.by_plan:
            live.guards.note(each, served, worked_s)
        if found.served is not None:
            return found.served
        account = Account((*live.guards.left_out(plan), *found.left_out), remaining_s)
        return await self._answered(PlanRequest.of(plan, query, account), fold)

    async def recommend_many(self, asks: Sequence[Ask]) -> tuple[Answer | MidstreamError, ...]:
        """Answer the same request for several users, one after another.

        Between two of them other requests and the fold have their turn. So each answer has a deadline of its own, and
        may see a later log position than the one before.

        Args:
            asks: They differ in the user alone.

        Returns:
            An answer for each, or its error, in the order of the requests.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used; or they are too many.
            Overloaded: Too many requests wait for a log position.
        """
        read_your_writes = await self._admitted(asks)
        found: list[Answer | MidstreamError] = []
        for ask in asks:
            found.append(await self._of_one(ask, read_your_writes=read_your_writes))
            await asyncio.sleep(0)
        return tuple(found)

    async def encoded_slates(
        self, body: BatchBody, placement: str
    ) -> AsyncIterator[EncodedSlate | Answer | MidstreamError]:
        """Answer as ``recommend_many`` does, each usual question by its compiled plan.

        Args:
            body: The question, and its users.
            placement: That it is for.

        Yields:
            What each user gets, in their order. Items of an encoded slate are valid until the next one is asked for.

        Raises:
            MidstreamError: As ``recommend_many``, before anything is yielded.
        """
        asks = body.asks(placement)
        read_your_writes = await self._admitted(asks)
        for ask, question in zip(asks, body.questions(), strict=True):
            found = self.compiled.answer(question, placement)
            if isinstance(found, EncodedSlate):
                yield found._replace(read_your_writes=read_your_writes)
            else:
                yield await self._of_one(ask, found, read_your_writes=read_your_writes)
            await asyncio.sleep(0)

    async def _admitted(self, asks: Sequence[Ask]) -> bool | None:
        """Refuse many users' question that cannot be answered; wait for its log position, as ``_caught_up``.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used; or the users are too many.
            Overloaded: Too many requests wait for a log position.
        """
        require_count("users", len(asks), USERS_MAX)
        self.check(asks[0])
        until = self._live.host.monotonic() + self._deadline_s(asks[:1])
        return await self._caught_up(asks[0].min_log_position, until)

    async def _of_one(
        self, ask: Ask, stamp: Stamp | None = None, *, read_your_writes: bool | None
    ) -> Answer | MidstreamError:
        """Return the pipeline's answer to one user of many, or its error; the log position has been waited for."""
        try:
            answer = await self.recommend(structs.replace(ask, min_log_position=None), stamp)
        except MidstreamError as error:
            return error
        known = read_your_writes if answer.read_your_writes is None else answer.read_your_writes
        return structs.replace(answer, read_your_writes=known)

    async def page(self, asks: Sequence[Ask]) -> PageAnswer:
        """Answer with several slates, no item in two of them, all of one log position, within one deadline.

        Args:
            asks: By falling priority, of the same user, session, items, context and token; the deadline is that of the
                first, and where it has none the longest of the placements'.

        Raises:
            MidstreamError: No slate can be made: the error of the first.
            RequestInvalid: The token cannot be used, or they are too many.
            Overloaded: Too many requests wait for a log position.
        """
        require_count("placements", len(asks), PAGE_PLACEMENTS_MAX)
        began_s = self._live.host.monotonic()
        until = began_s + self._deadline_s(asks)
        read_your_writes = await self._caught_up(asks[0].min_log_position, until)
        if not await self._knows_what_was_served(asks, until):
            read_your_writes = False
        fold, slots = self._live.fold, slots_of(self._live, asks)
        self._folding.note_answer()
        worked_s = self._worked_s()
        served = await recommend_page(
            tuple(slots.made.values()),
            lambda plan, query: fold.moment(query, plan.models),
            fold.vocabulary.item_ids,
            lambda: until - self._live.host.monotonic(),
            self._live.guards.left_out,
            self._live.fetched,
        )
        worked_s = self._worked_s() - worked_s
        slates: dict[int, Answer | SlateRefused] = dict(slots.refused)
        told: list[Answer] = []
        for (place, (plan, _)), each in zip(slots.made.items(), served, strict=True):
            self._live.guards.note(plan, each, worked_s)
            ask = slots.asks[place]
            answer = self._told(self._timed(each, began_s), ask, fold, plan, read_your_writes=read_your_writes)
            told.append(with_what_is_read(answer, ask, each, plan, fold))
        # All that the state says was read: from here on it may move.
        for (place, (plan, _)), each, answer in zip(slots.made.items(), served, told, strict=True):
            slates[place] = await with_score_parts(answer, each, plan)
        return PageAnswer(slots.page_id, tuple(slates[place] for place in range(len(asks))))

    def check_page(self, asks: Sequence[Ask]) -> None:
        """Refuse a page that ``page`` would refuse as a whole; call it before its events are recorded.

        Raises:
            MidstreamError: No slate can be made: the error of the first.
            RequestInvalid: The token cannot be used, or they are too many.
        """
        require_count("placements", len(asks), PAGE_PLACEMENTS_MAX)
        self._require_position(asks[0].min_log_position)
        slots_of(self._live, asks, chooses=False)

    def _told(self, served: Served, ask: Ask, fold: Fold, plan: Plan, *, read_your_writes: bool | None) -> Answer:
        """Return the answer; hand its served record over without waiting for it; count it."""
        live = self._live
        position = live.token(served.log_position)
        answer = answer_of(served, ask, fold, position, read_your_writes=read_your_writes)
        if self._outbox is not None and self._ahead is not None:
            item_ids = [each.id for each in answer.items] if served.order is None else ids_of(served, fold)
            scores = outside_scores(served, plan.remote, fold.vocabulary)
            self._outbox.add(served_event(served, item_ids, pack_traces(served, fold.vocabulary), scores))
            self._ahead.add(served.query)
        note(served, served.query.placement, live.metrics, live.feature_values)
        if served.order is None or not served.order.lengths:
            return answer
        after = Cursor(served.query.request_id, 1, len(answer.items))
        return structs.replace(answer, cursor=after.token(live.host.request_ids))

    async def _read_on(self, ask: Ask, token: str) -> Answer:
        """Answer with the next items of the order of an earlier slate that may be served now.

        Raises:
            RequestInvalid: The cursor is not of this shop, its slate or its placement is gone, or it is another's.
            NotFound: The question names a placement that is not configured.
            Overloaded: Too many requests wait for a log position.
        """
        live, monotonic = self._live, self._live.host.monotonic
        cursor = parse_cursor(token, live.host.request_ids)
        began_s = monotonic()
        until = began_s + (ask.deadline_ms or READ_ON_MS) / 1_000
        read_your_writes = await self._caught_up(ask.min_log_position, until)
        if self._ahead is not None:
            await self._ahead.has(cursor.request_id, until)
        record = self._continued(cursor, token)
        require_same(ask, live.plan(ask.placement) if ask.placement else None, record)
        then = record.query
        asker = structs.replace(ask, placement=then.placement, user_id=then.user_id, session_id=then.session_id)
        if not await self._knows_what_was_served((asker,), until):
            read_your_writes = False
        record = self._continued(cursor, token)  # its user may have been erased meanwhile
        fold, plan = live.fold, live.plan(record.query.placement)
        request_id, seed = live.host.request_ids.make()
        asked = replace(record.query, request_id=request_id, seed=seed, now_ms=live.clock())
        query = query_on(record, asked, cursor.turn, cursor.first_position)
        self._folding.note_answer()
        found = read_on(plan, partial(fold.moment, models=plan.models), query, record)
        timed = self._timed(found.served, began_s)
        answer = self._told(timed, ask, fold, plan, read_your_writes=read_your_writes)
        if found.turn > len(record.order):
            return answer
        after = Cursor(cursor.request_id, found.turn, cursor.first_position + len(answer.items))
        return structs.replace(answer, cursor=after.token(live.host.request_ids))

    def _continued(self, cursor: Cursor, token: str) -> ServedRecord:
        """Return the record of the slate that is continued.

        Raises:
            RequestInvalid: It is gone, or its placement is.
        """
        record = served_record(self._live.fold, self._live.log, cursor.request_id)
        if record is None or record.query.placement not in self._live.plans:
            raise gone(token)
        return record

    def check(self, ask: Ask) -> None:
        """Refuse a request that ``recommend`` would refuse; call it before its events are recorded.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used.
        """
        live = self._live
        self._require_position(ask.min_log_position)
        if isinstance(ask.cursor, str):
            parse_cursor(ask.cursor, live.host.request_ids)
            return
        plan = self._plan_of(ask)
        require_why(ask, plan)
        query = query_of(ask, plan, "", 0, live.clock())
        for each in (plan, *live.teams(plan)):
            if faults := request_faults(each.filters, query, each.context_readers):
                raise RequestInvalid(faults)

    async def read_features(self, ask: FeatureAsk) -> FeatureRead:
        """Return feature values of items for a user and a session, all of one log position.

        Raises:
            RequestInvalid: A feature is not declared, there are too many items, or the token cannot be used.
            Overloaded: Too many requests wait for a log position.
            FeatureFailed: One of the features cannot be read; counted as a failed component.
        """
        live = self._live
        until = live.host.monotonic() + WAIT_S_MAX
        read_your_writes = await self._caught_up(ask.min_log_position, until)
        self._folding.note_answer()
        seed = live.host.request_ids.make()[1]
        found = read_of(live.fold, live.plans, ask, live.clock(), seed, live.metrics)
        token = live.token(live.fold.log_position)
        return replace(found, log_position=token, read_your_writes=read_your_writes)

    def _timed(self, served: Served, began_s: float) -> Served:
        """Return an answer with the time since its request was admitted; slates of a page have that of the page."""
        return replace(served, took_us=microseconds(self._live.host.monotonic() - began_s))

    def _deadline_s(self, asks: Sequence[Ask]) -> float:
        """Return how long questions that are answered together may take.

        Raises:
            NotFound: None of their placements is configured.
        """
        deadline_ms = asks[0].deadline_ms or max(plan.deadline_ms for plan in self._plans_of(asks))
        return deadline_ms / 1_000

    def _plans_of(self, asks: Sequence[Ask]) -> list[Plan]:
        """Return the plans of the requests whose placement is configured.

        Raises:
            NotFound: None is.
        """
        if len(asks) == 1:
            return [self._plan_of(asks[0])]
        plans = self._live.plans
        return [self._plan_of(ask) for ask in asks if ask.placement in plans] or [self._plan_of(asks[0])]

    def _plan_of(self, ask: Ask) -> Plan:
        """Return the plan of a request. Items of the caller are ranked by one plan alone.

        Raises:
            NotFound: The placement is not configured.
        """
        return self._live.plan_for(ask.placement, ask.user_id, ask.session_id, may_draft=ask.given is None)

    def _reads_served(self, ask: Ask) -> bool:
        """Return whether a plan of a request, or of the slate that it continues, reads served slates."""
        live = self._live
        plan = live.plan(ask.placement) if ask.placement in live.routing.variants else self._plan_of(ask)
        return any(each.reads_served for each in (plan, *live.teams(plan)))

    def _require_position(self, token: str | None) -> None:
        if token is not None:
            parse_position(token, self._live.token_generation, self._live.token_end)

    async def _caught_up(self, token: str | None, until: float) -> bool | None:
        """Wait for the caller's own writes; None when it named none.

        False when the deadline came first, and at once when it cannot be known whether the state has them.
        """
        if token is None:
            return None
        live = self._live
        position = parse_position(token, live.token_generation, live.token_end)
        if position is None:
            return False
        return await self._folding.reached(position, until - live.host.monotonic())

    async def _knows_what_was_served(self, asks: Sequence[Ask], until: float) -> bool:
        """Wait for this process's earlier served records of the user, where a placement reads them."""
        live = self._live
        known = [each for each in asks if len(asks) == 1 or each.placement in live.plans] or asks[:1]
        if self._ahead is None or not any(map(self._reads_served, known)):
            return True
        return await self._ahead.seen(askers_of(self._live.fold, asks[0].user_id, asks[0].session_id), until)
