"""Slates of compiled plans: usual questions whose plan has a program are answered by one kernel, bytes to bytes.

Everything else is answered by the pipeline, which stays the definition: reply and served record are the same bytes on
both ways, and explanations and reruns run the pipeline. What is usual is decided once a plan, in ``program_of``, and
once a question, here. Where either has other parts behind the cut, such as features, models and rules, the kernel makes
the shortlist and the pipeline the rest. The kernel ends before it has changed anything where the question turns out to
be unusual: then the pipeline answers with the same request id, seed and time.

The kernel is one guarded part of an answer: all that it does is bounded by the plan's limits and waits for nothing, so
the deadline is not looked at within it. Where it takes longer than a part may, the pipeline answers for the placement
for a while, whose boundaries say which part it is; and it does so while the circuit breaker watches any part.
"""

from typing import NamedTuple

from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, TimestampMs
from midstream.engine.answer.pending_served import ServedAhead
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.served_buffer import ServedBuffer
from midstream.engine.live import LiveState
from midstream.engine.requests.schema import RecommendationQuestion
from midstream.engine.tokens import parse_position
from midstream.events.schema import Event
from midstream.events.served_head import RECORD_VERSION, ServedHead, joined_body
from midstream.monitoring.facts import Fact, Facts
from midstream.ranking.compiled import room
from midstream.ranking.compiled.compiled_plan import CompiledPlan, compiled_plan
from midstream.ranking.compiled.decision_kernel import ANSWERED
from midstream.ranking.compiled.program import NotCompiled
from midstream.ranking.compiled.rooms import Rooms
from midstream.ranking.pipeline import Shortlister
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.shortlist import Shortlist
from midstream.state.fold import Fold

FULL = "full"
"""Tier of each of these answers: no part of them can fail alone."""


class Stamp(NamedTuple):
    """Request id, seed and time of an answer."""

    request_id: str
    seed: int
    now_ms: TimestampMs


class EncodedSlate(NamedTuple):
    """A slate whose items are JSON already."""

    request_id: str
    placement: str
    """As it was asked for."""
    items: memoryview
    """Inner part of the array of items. Valid until the next question."""
    log_position: str
    """Token of the state's log position."""
    state_age_ms: int
    config_hash: str
    read_your_writes: bool | None
    """None = the question named no log position."""


class _Entry(NamedTuple):
    """A plan and a state, and the compiled form of both."""

    plan: Plan
    fold: Fold
    compiled: CompiledPlan | NotCompiled


class CompiledSlates:
    """Compiled plans of the state in service."""

    def __init__(
        self,
        live: LiveState,
        folding: FoldScheduler,
        outbox: ServedBuffer | None,
        ahead: ServedAhead | None,
        facts: Facts,
    ) -> None:
        """Answer from ``live``; records go to ``outbox`` and are noted in ``ahead``, None = neither; log ``facts``."""
        self._live = live
        self._folding = folding
        self._outbox = outbox
        self._ahead = ahead
        self._facts = facts
        self._worked_s = live.host.worked_s or live.host.monotonic
        self._entries: dict[str, _Entry] = {}
        self._slow_until: dict[str, float] = {}
        self._suspected_until: dict[str, float] = {}
        self._rooms = Rooms()
        self._token: tuple[int, int, str] = (-1, -1, "")

    def forget(self) -> None:
        """Drop compiled plans that are not in service, or not over the state in service: no other state is held."""
        fold, served = self._live.fold, {id(plan) for plan in self._live.plans.values()}
        entries = self._entries.items()
        self._entries = {name: each for name, each in entries if each.fold is fold and id(each.plan) in served}
        for times in (self._slow_until, self._suspected_until):
            for name in times.keys() - self._entries.keys():
                del times[name]
        if not self._entries:
            self._rooms = Rooms()

    def answer(self, question: RecommendationQuestion, placement: str) -> EncodedSlate | Stamp | None:
        """Answer a question, and append its served record without waiting for it.

        Args:
            question: As it came; without events.
            placement: That it is for.

        Returns:
            The slate; or the stamp with which the pipeline has to answer from the start; or None = the pipeline has to
            answer, and nothing was begun.
        """
        live = self._live
        try:
            plan = live.plan(placement)
        except NotFound:
            return None  # the other way says so
        compiled = self._compiled(plan)
        size = plan.slate_size if question.n is None else question.n
        if (
            isinstance(compiled, NotCompiled)
            or compiled.obstacle
            or not is_usual(question)
            or not 1 <= size <= plan.slate_size_max
        ):
            return None
        if question.min_log_position is not None and not self._has(question.min_log_position):
            return None
        if not self._may_run(plan):
            return None
        stamp = Stamp(*live.host.request_ids.make(), live.clock())
        if compiled.scarcity.skips(size) or self._asked(compiled, question, size, stamp) != ANSWERED:
            return stamp
        self._folding.note_answer()
        self._hand_over(compiled, question, size, stamp)
        live.metrics.observe_answer(plan.name, FULL, compiled.counts[room.CHOSEN])
        live.metrics.compiled_answers.of(plan.name).inc()
        fold = live.fold
        return EncodedSlate(
            request_id=stamp.request_id,
            placement=placement,
            items=compiled.text[: compiled.counts[room.TEXT_END]],
            log_position=self._token_of(fold.log_position),
            state_age_ms=max(0, stamp.now_ms - fold.log_time_ms) if fold.log_time_ms else 0,
            config_hash=plan.config_hash,
            read_your_writes=None if question.min_log_position is None else True,
        )

    def _asked(self, compiled: CompiledPlan, question: RecommendationQuestion, size: int, stamp: Stamp) -> int:
        """Ask the kernel, and judge its time; return what ``CompiledPlan.ask`` does."""
        ids = (question.user_id or "", question.session_id or "", stamp.request_id)
        began, worked_s = self._begun(compiled.plan)
        code = compiled.ask(ids, question.items, question.exclude, size, stamp.now_ms)
        self._judge(compiled.plan, began, worked_s)
        return code

    def shortlister(self, plan: Plan) -> Shortlister | None:
        """Return what makes the shortlists of a plan: the kernel, where it cannot answer plan and question as a whole.

        None = the pipeline does: the plan has no program, or the kernel was slow, or the pipeline answers in its place.
        """
        compiled = self._compiled(plan)
        if isinstance(compiled, NotCompiled) or not self._may_run(plan):
            return None

        def made(run: PlanRun) -> Shortlist | None:
            began, worked_s = self._begun(plan)
            found = compiled.shortlist(run)
            self._judge(plan, began, worked_s)
            return found

        return made

    def _may_run(self, plan: Plan) -> bool:
        """Return whether no part of a plan is watched, and the kernel was not slow lately."""
        now, live = self._live.host.monotonic(), self._live
        return live.guards.is_quiet(plan) and now >= self._slow_until.get(plan.name, now)

    def _begun(self, plan: Plan) -> tuple[float, float | None]:
        """Return the clock at the begin of a call, and what the processor had worked, None = it is not measured."""
        now = self._live.host.monotonic()
        return now, self._worked_s() if now < self._suspected_until.get(plan.name, now) else None

    def _has(self, token: str) -> bool:
        """Return whether the state has the log position of a token; a wait, or a refusal, is the other way's."""
        live = self._live
        try:
            position = parse_position(token, live.token_generation, live.token_end)
        except RequestInvalid:
            return False
        return position is not None and position <= live.fold.log_position

    def _judge(self, plan: Plan, began: float, worked_s: float | None) -> None:
        """Leave a plan to the pipeline for a while whose kernel overran.

        As any built-in part it overran only if the processor worked for that long. That is measured at the calls of the
        time of a bench after one that took long by the clock: reading it costs more than the clock. The metric counts
        those that took long by the clock.

        Args:
            plan: Of the call.
            began: When, of the monotonic clock.
            worked_s: What the processor had worked then; None = it was not measured.
        """
        host, budget_s = self._live.host, self._live.guards.budget_s(plan)
        if (now := host.monotonic()) - began <= budget_s:
            return
        self._live.metrics.compiled_overruns.of(plan.name).inc()
        self._suspected_until[plan.name] = now + self._live.guards.bench_s
        if worked_s is not None and self._worked_s() - worked_s > budget_s:
            self._slow_until[plan.name] = now + self._live.guards.bench_s

    def _compiled(self, plan: Plan) -> CompiledPlan | NotCompiled:
        """Return the compiled form of a plan over the state in service."""
        entry = self._entries.get(plan.name)
        if entry is None or entry.plan is not plan or entry.fold is not self._live.fold:
            fold = self._live.fold
            entry = self._entries[plan.name] = _Entry(plan, fold, compiled_plan(plan, fold, self._rooms))
            compiled = entry.compiled
            if reason := obstacle(compiled):
                fields = {"placement": plan.name, "reason": reason}
                self._facts.note(Fact("plan_not_compiled", "debug", fields, key=plan.name))
        return entry.compiled

    def _hand_over(self, compiled: CompiledPlan, question: RecommendationQuestion, size: int, stamp: Stamp) -> None:
        """Append the served record, without waiting for it."""
        if self._outbox is None or self._ahead is None:
            return
        plan, counts = compiled.plan, compiled.counts.tolist()
        retrieved, removed = compiled.told(counts)
        head = ServedHead(
            RECORD_VERSION, self._live.fold.log_position, stamp.request_id, plan.name, question.user_id,
            question.session_id, size, stamp.now_ms, stamp.seed, question.items, question.exclude, None, {}, {},
            plan.config_hash, plan.fold_version, compiled.scorer_name, FULL, counts[room.FOUND], counts[room.PASSED],
            compiled.source_names, retrieved, removed, (),
        )  # fmt: skip
        event = Event(
            Kind.SERVED,
            user_id=question.user_id or "",
            session_id=question.session_id or "",
            request_id=stamp.request_id,
            body=joined_body(head, compiled.record[: counts[room.RECORD_END]]),
            event_time_ms=stamp.now_ms,
        )
        self._outbox.add(event)
        user_hash, session_hash, request_hash, _ = compiled.room.hashes.tolist()
        self._ahead.add_hashes(user_hash, session_hash, request_hash)

    def _token_of(self, position: LogPosition) -> str:
        """Return the token of a log position; the last one is kept."""
        generation = self._live.token_generation
        if self._token[:2] != (generation, position):
            self._token = generation, position, self._live.token(position)
        return self._token[2]


def obstacle(compiled: CompiledPlan | NotCompiled) -> str:
    """Return why the pipeline answers for a plan, at least behind the cut; empty = the kernel answers."""
    return compiled.reason if isinstance(compiled, NotCompiled) else compiled.obstacle


def is_usual(question: RecommendationQuestion) -> bool:
    """Return whether a question has nothing that programs know nothing of."""
    return not (
        question.context
        or question.item_fields
        or question.fields
        or question.explain
        or question.cursor
        or question.filter is not None
        or question.reasons is not None
    )
