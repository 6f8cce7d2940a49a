"""Slates of compiled plans: usual questions whose plan has a program are answered by one kernel, bytes to bytes.

A question for the order of the caller's own items is answered by a second program of the same plan, whose only
candidates these are.

Everything else is answered by the pipeline, which stays the definition: reply and served record are the same bytes on
both ways, and explanations and reruns run the pipeline. What is usual is decided once a plan, in ``program_of``, and
once a question, here. Where either has other parts behind the cut, such as features, models and rules, the kernel makes
the shortlist and the pipeline the rest. The kernel ends before it has changed anything where the question turns out to
be unusual: then the pipeline answers with the same request id, seed and time, in what is left until the same deadline.

The kernel is one guarded part of an answer: all that it does is bounded by the plan's limits and waits for nothing, so
the deadline is not looked at within it. Where it takes longer than a part may, the pipeline answers for the placement
for a while, whose boundaries say which part it is; and it does so while the circuit breaker watches any part.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from midstream.core.errors import NotFound, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, Query, TimestampMs
from midstream.engine.answer.answer_spans import KERNEL, add_part_spans, note_kernel_answer
from midstream.engine.answer.item_texts import with_fields
from midstream.engine.answer.pending_served import ServedAhead, askers_of
from midstream.engine.answer.query_mapping import fields_of
from midstream.engine.ingest.fold_scheduler import FoldScheduler
from midstream.engine.ingest.served_buffer import ServedBuffer
from midstream.engine.live import LiveState
from midstream.engine.requests.schema import Context, RankQuestion, RecommendationQuestion
from midstream.engine.tokens import parse_position
from midstream.engine.types import Removal
from midstream.events.schema import Event
from midstream.events.served_body import microseconds
from midstream.events.served_head import RECORD_VERSION, ServedHead, ServedTail, joined_body
from midstream.experiments.names import NO_ARM, Arm, arm_of
from midstream.monitoring.facts import Fact, Facts
from midstream.monitoring.feature_values import WATCHED_SHARE
from midstream.monitoring.tracing import current
from midstream.ranking.boundary import Account, PartTime
from midstream.ranking.compiled import room
from midstream.ranking.compiled.compiled_plan import CompiledPlan, compiled_plan
from midstream.ranking.compiled.composed_plan import CANDIDATES_KERNEL, ComposedPlan, ScoredSlate, composed_plan
from midstream.ranking.compiled.decision_kernel import ANSWERED
from midstream.ranking.compiled.machine_code import has_code, has_slate_code
from midstream.ranking.compiled.program import NotCompiled
from midstream.ranking.compiled.room import GIVEN_MAX
from midstream.ranking.compiled.rooms import Rooms
from midstream.ranking.filters.expression_filter import request_faults
from midstream.ranking.pipeline import Shortlister
from midstream.ranking.plan import Plan
from midstream.ranking.plan_run import PlanRun
from midstream.ranking.selectors.sampling import LOGGED, WATCHED, is_sampled
from midstream.ranking.shortlist import Shortlist
from midstream.state.fold import Fold

FULL = "full"
"""Tier of each of these answers: no part of them can fail alone."""


class Stamp(NamedTuple):
    """Request id, seed, time, deadline and begin of an answer, whoever makes it."""

    request_id: str
    seed: int
    now_ms: TimestampMs
    until: float
    """Deadline, of the monotonic clock."""
    began_s: float
    """Admission of the request, by the same clock: the record has how long the answer took from there on."""


class SizedStamp(NamedTuple):
    """Size of a slate, and the stamp of its answer."""

    size: int
    stamp: Stamp


class RecordedParts(NamedTuple):
    """What a record has of the parts behind the cut."""

    scorer: str
    tail: ServedTail | None = None
    """None = nothing but defaults."""


class EncodedSlate(NamedTuple):
    """A slate whose items are JSON already."""

    request_id: str
    placement: str
    """As it was asked for."""
    items: memoryview | bytes
    """Inner part of the array of items. Valid until the next question."""
    log_position: str
    """Token of the state's log position."""
    state_age_ms: int
    config_hash: str
    read_your_writes: bool | None
    """None = the question named no log position."""
    models: Mapping[str, str] = {}
    """Version of each model that the placement reads, by name."""
    removed: tuple[Removal, ...] = ()
    """Of a ranking: items of the caller that may not be served."""
    not_selected: int = 0
    """Of a ranking: how many of the others are not in the slate."""
    arm: Arm = NO_ARM
    """Experiment and variant that chose the plan; empty names = none did."""


class _Entry(NamedTuple):
    """A plan and a state, and the compiled form of both."""

    plan: Plan
    fold: Fold
    compiled: CompiledPlan | NotCompiled
    composed: ComposedPlan | None
    """What lies behind the cut, None = the first kernel makes whole slates, or shortlists for the pipeline."""
    has_code: bool = True
    """Whether the second kernel had machine code when it was made."""


class _Asked(NamedTuple):
    """What a question asks, of either kind."""

    user_id: str | None
    session_id: str | None
    items: tuple[str, ...]
    """Of the session or basket."""
    exclude: tuple[str, ...]
    given: tuple[str, ...]
    """The caller's own, which alone are put in an order; none = any item may be chosen."""
    context: Context
    """Of the request: features and conditions read it, and the record has it."""
    filter: str | None
    """A condition of the request's own."""


class _Usable(NamedTuple):
    """A plan that kernels make slates of."""

    plan: Plan
    compiled: CompiledPlan
    composed: ComposedPlan | None


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
        self._ranking: dict[str, _Entry] = {}
        """Forms that rank the caller's own items: made when a placement is asked for it."""
        self._slow_until: dict[str, float] = {}
        self._suspected_until: dict[str, float] = {}
        self._rooms = Rooms()
        self._token: tuple[int, int, str] = (-1, -1, "")

    def forget(self) -> None:
        """Drop compiled plans that are not in service, or not over the state in service: no other state is held."""
        fold, served = self._live.fold, {id(plan) for plan in self._live.plans.values()}
        for entries in (self._entries, self._ranking):
            for name in [
                name for name, each in entries.items() if each.fold is not fold or id(each.plan) not in served
            ]:
                del entries[name]
        for times in (self._slow_until, self._suspected_until):
            for name in times.keys() - self._entries.keys() - self._ranking.keys():
                del times[name]
        if not self._entries and not self._ranking:
            self._rooms = Rooms()

    def answer(self, question: RecommendationQuestion | RankQuestion, placement: str) -> EncodedSlate | Stamp | None:
        """Answer a question, and append its served record without waiting for it.

        Args:
            question: As it came; without events.
            placement: That it is for.

        Returns:
            The slate; or the stamp with which the pipeline has to answer from the start; or None = the pipeline has to
            answer, and nothing was begun.
        """
        live, began_s = self._live, self._live.host.monotonic()
        if (found := self._usable(question, placement)) is None:
            return None
        entry, size = found
        asked, plan, compiled = _asked_of(question), entry.plan, entry.compiled
        until = began_s + (question.deadline or plan.deadline_ms) / 1_000
        sized = SizedStamp(size, stamp := Stamp(*live.host.request_ids.make(), live.clock(), until, began_s))
        if compiled.misses(asked.filter).skips(size) or (told := self._made(entry, asked, sized)) is None:
            return stamp
        self._folding.note_answer()
        self._hand_over(compiled, asked, sized, told)
        if (trace := current()) is not None:
            note_kernel_answer(trace, compiled, stamp.request_id, told.scorer)
        live.metrics.observe_answer(plan.name, FULL, compiled.counts[room.CHOSEN])
        live.metrics.compiled_answers.of(plan.name).count += 1
        fold, given = live.fold, asked.given
        return EncodedSlate(
            request_id=stamp.request_id,
            placement=placement,
            items=self._texts_of(compiled, question.fields),
            log_position=self._token_of(fold.log_position),
            state_age_ms=max(0, stamp.now_ms - fold.log_time_ms) if fold.log_time_ms else 0,
            config_hash=plan.config_hash,
            read_your_writes=None if question.min_log_position is None else True,
            models=plan.models.versions,
            removed=tuple(Removal(given[place], name) for place, name in compiled.gone()) if given else (),
            not_selected=compiled.counts[room.PASSED] - compiled.counts[room.CHOSEN] if given else 0,
            arm=arm_of(plan.name) if self._live.routing.variants else NO_ARM,
        )

    def _texts_of(self, compiled: CompiledPlan, fields: Sequence[str]) -> memoryview | bytes:
        """Return the items of the last slate as the inner part of a JSON array, with attributes of each."""
        text = compiled.text[: compiled.counts[room.TEXT_END]]
        if not fields:
            return text
        return with_fields(text, fields_of(self._live.fold.items, compiled.chosen().tolist(), fields))

    def _usable(self, question: RecommendationQuestion | RankQuestion, placement: str) -> tuple[_Usable, int] | None:
        """Return what makes the slates of a question, and its size; None = the pipeline has to answer."""
        is_ranking = isinstance(question, RankQuestion)
        try:
            plan = self._live.plan_for(placement, question.user_id, question.session_id, may_draft=not is_ranking)
        except NotFound:
            return None  # the other way says so
        if self._live.routing.teams(plan.name):
            return None  # several plans answer it
        if is_ranking:
            size, size_max = question.n or len(question.items), GIVEN_MAX
        else:
            size, size_max = plan.slate_size if question.n is None else question.n, plan.slate_size_max
        entry = self._entry(plan, ranks=is_ranking)
        compiled = entry.compiled
        if is_ranking and entry.composed is not None:
            size_max = entry.composed.size_max
        if (
            isinstance(compiled, NotCompiled)
            or compiled.obstacle
            or not is_usual(question)
            or (question.filter is not None and entry.composed is None)
            or not 1 <= size <= size_max
            or not (question.min_log_position is None or self._has(question.min_log_position))
            or not self._may_run(plan)
            or (plan.reads_served and self._is_awaited(question))
            or compiled.texts.skips(size)  # the last one, as it counts
        ):
            return None
        return _Usable(plan, compiled, entry.composed), size

    def _made(self, usable: _Usable, asked: _Asked, sized: SizedStamp) -> RecordedParts | None:
        """Make a slate; return what there is to tell beside it, None = the pipeline has to answer from the start."""
        plan, compiled, composed = usable
        if composed is None:
            is_made = self._asked(compiled, asked, sized.size, sized.stamp) == ANSWERED
            return RecordedParts(compiled.scorer_name) if is_made else None
        scored = self._scored(composed, plan, asked, sized)
        return None if scored is None else self._told(composed, plan, scored, sized.stamp.seed)

    def _asked(self, compiled: CompiledPlan, asked: _Asked, size: int, stamp: Stamp) -> int:
        """Ask the kernel, and judge its time; return what ``CompiledPlan.ask`` does."""
        ids = (asked.user_id or "", asked.session_id or "", stamp.request_id)
        began, worked_s = self._begun(compiled.plan)
        code = compiled.ask(ids, (asked.items, asked.exclude, asked.given), size, stamp.now_ms)
        ended = self._live.host.monotonic()
        self._judge(compiled.plan, ended - began, worked_s)
        if (trace := current()) is not None:
            trace.add(KERNEL, began, ended, {"midstream.answered": code == ANSWERED})
        return code

    def _scored(self, composed: ComposedPlan, plan: Plan, asked: _Asked, sized: SizedStamp) -> ScoredSlate | None:
        """Ask the kernels and the parts between them, and judge the time of that which took longest."""
        monotonic, (request_id, seed, now_ms, until, _) = self._live.host.monotonic, sized.stamp
        query = Query(
            request_id=request_id,
            placement=plan.name,
            user_id=asked.user_id,
            session_id=asked.session_id,
            slate_size=sized.size,
            now_ms=now_ms,
            seed=seed,
            items=asked.items,
            exclude=asked.exclude,
            context=asked.context,
            filter=asked.filter,
            given=asked.given,
        )
        if request_faults(plan.filters, query, plan.context_readers):
            return None  # the pipeline says which
        _, worked_s = self._begun(plan)
        account = Account((), lambda: until - monotonic())
        if (trace := current()) is not None:
            account.timeline = []
        found = composed.ask(query, account)
        if trace is not None:
            add_part_spans(trace, plan, account, until)
        self._judge(plan, 0.0 if found is None else found.longest_s, worked_s)
        return found

    def _told(self, composed: ComposedPlan, plan: Plan, scored: ScoredSlate, seed: int) -> RecordedParts:
        """Count what the parts behind the cut did; return what the record has of them."""
        live, metrics, features = self._live, self._live.metrics, scored.features
        for rule, count in composed.counts_by_rule():
            metrics.rules.of(plan.name, rule).count += count
        kept: tuple[tuple[str, ...], bytes] = (), b""
        if features is not None:
            metrics.feature_reads.of(plan.name).observe(scored.read_s)
            is_watched = is_sampled(seed, WATCHED_SHARE, WATCHED)
            is_kept = is_sampled(seed, plan.log_features, LOGGED)
            if is_watched or is_kept:
                values = features.values[composed.picked()]
                if is_watched:
                    live.feature_values.add(features.names, values)
                if is_kept:
                    kept = features.names, values.astype("<f4", copy=False).tobytes()
        tail = ServedTail(*kept, plan.models.versions, composed.rules_told(), composed.actions(), bins=scored.bins)
        return RecordedParts(scored.scorer, tail)

    def shortlister(self, plan: Plan) -> Shortlister | None:
        """Return what makes the shortlists of a plan: the kernel, where it cannot answer plan and question as a whole.

        None = the pipeline does: the plan has no program, or the kernel was slow, or the pipeline answers in its place.
        """
        compiled = self._compiled(plan)
        if isinstance(compiled, NotCompiled) or not self._may_run(plan):
            return None

        def made(run: PlanRun) -> Shortlist | None:
            began, worked_s = self._begun(plan)
            until_s = 0.0 if run.account.timeline is None else run.account.remaining_s()
            found = compiled.shortlist(run)
            self._judge(plan, self._live.host.monotonic() - began, worked_s)
            if run.account.timeline is not None:
                run.account.timeline.append(PartTime(CANDIDATES_KERNEL, until_s, run.account.remaining_s()))
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

    def _is_awaited(self, question: RecommendationQuestion | RankQuestion) -> bool:
        """Return whether a record of an earlier answer to the same user or session is not folded yet."""
        if self._ahead is None:
            return False
        return self._ahead.awaits(askers_of(self._live.fold, question.user_id, question.session_id))

    def _has(self, token: str) -> bool:
        """Return whether the state has the log position of a token; a wait, or a refusal, is the other way's."""
        live = self._live
        try:
            position = parse_position(token, live.token_generation, live.token_end)
        except RequestInvalid:
            return False
        return position is not None and position <= live.fold.log_position

    def _judge(self, plan: Plan, took_s: float, worked_s: float | None) -> None:
        """Leave a plan to the pipeline for a while whose kernel, or a part between two of them, overran.

        As any built-in part it overran only if the processor worked for that long. That is measured at the calls of the
        time of a bench after one that took long by the clock: reading it costs more than the clock. The metric counts
        those that took long by the clock.

        Args:
            plan: Of the call.
            took_s: Time of the call, or of the longest of its parts.
            worked_s: What the processor had worked at its begin; None = it was not measured.
        """
        host, budget_s = self._live.host, self._live.guards.budget_s(plan)
        if took_s <= budget_s:
            return
        now = host.monotonic()
        self._live.metrics.compiled_overruns.of(plan.name).count += 1
        self._suspected_until[plan.name] = now + self._live.guards.bench_s
        if worked_s is not None and self._worked_s() - worked_s > budget_s:
            self._slow_until[plan.name] = now + self._live.guards.bench_s

    def _compiled(self, plan: Plan) -> CompiledPlan | NotCompiled:
        """Return the compiled form of a plan, up to the cut at least."""
        return self._entry(plan).compiled

    def _entry(self, plan: Plan, *, ranks: bool = False) -> _Entry:
        """Return the compiled form of a plan over the state in service: that of its slates, or of its rankings."""
        entries = self._ranking if ranks else self._entries
        entry = entries.get(plan.name)
        is_whole = entry is not None and (entry.has_code or not has_slate_code())
        if entry is None or entry.plan is not plan or entry.fold is not self._live.fold or not is_whole:
            fold = self._live.fold
            if not has_code():
                return _Entry(plan, fold, NotCompiled("its kernel is being compiled"), None)
            compiled = compiled_plan(plan, fold, self._rooms, ranks=ranks)
            made = composed_plan(compiled) if has_slate_code() else None
            entry = entries[plan.name] = _Entry(plan, fold, compiled, made, has_slate_code())
            if reason := obstacle(compiled):
                fields = {"placement": plan.name, "reason": reason}
                self._facts.note(Fact("plan_not_compiled", "debug", fields, key=plan.name))
        return entry

    def _hand_over(self, compiled: CompiledPlan, asked: _Asked, sized: SizedStamp, told: RecordedParts) -> None:
        """Append the served record, without waiting for it."""
        if self._outbox is None or self._ahead is None:
            return
        plan, counts, stamp = compiled.plan, compiled.counts.tolist(), sized.stamp
        retrieved, removed = compiled.told(counts)
        head = ServedHead(
            RECORD_VERSION, self._live.fold.log_position, stamp.request_id, plan.name, asked.user_id,
            asked.session_id, sized.size, stamp.now_ms, stamp.seed, asked.items, asked.exclude, asked.filter,
            asked.context, {}, plan.config_hash, plan.fold_version, told.scorer, FULL,
            len(asked.given) or counts[room.FOUND], counts[room.PASSED], compiled.source_names, retrieved, removed, (),
        )  # fmt: skip
        tail = told.tail
        if asked.given:
            tail = (tail or ServedTail())._replace(given=asked.given)
        items = compiled.record[: counts[room.RECORD_END]]
        took_us = microseconds(self._live.host.monotonic() - stamp.began_s)
        if tail is None:
            body = joined_body(head, items, took_us=took_us)
        else:
            body = joined_body(head, items, tail.encoded(), took_us)
        event = Event(
            Kind.SERVED,
            user_id=asked.user_id or "",
            session_id=asked.session_id or "",
            request_id=stamp.request_id,
            body=body,
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


def is_usual(question: RecommendationQuestion | RankQuestion) -> bool:
    """Return whether a question has nothing that programs know nothing of, and of a ranking no item twice."""
    if isinstance(question, RankQuestion):
        is_other = len(set(question.items)) < len(question.items)  # the pipeline says which
    else:
        is_other = bool(question.cursor)
    return not (is_other or question.item_fields or question.explain or question.reasons is not None)


def _asked_of(question: RecommendationQuestion | RankQuestion) -> _Asked:
    """Return what a question asks."""
    basket, given = (question.basket, question.items) if isinstance(question, RankQuestion) else (question.items, ())
    return _Asked(
        question.user_id, question.session_id, basket, question.exclude, given, question.context, question.filter
    )
