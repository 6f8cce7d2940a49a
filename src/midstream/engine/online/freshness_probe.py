"""Freshness probe of one process: records an event and measures the time until an answer of the process has it.

The event is a profile of a reserved user. It names no item and no session and is no interaction, so no trend, session,
outcome or training example has it; the state has one user more. It takes the whole way of an event: decoding,
deduplication, queue, log, sync, fold, and of a follower also the way from its leader. The answer is made by a plan in
service from one read of the state, and is not served: it has no record and no count, no outside system is called for
it, and parts that the circuit breaker leaves out are left out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.problems import Problem
from midstream.core.errors import MidstreamError
from midstream.core.reserved_users import PROBE_USER
from midstream.core.types import Failure, Moment, Query
from midstream.engine.answer.query_mapping import query_of
from midstream.engine.engine import Engine
from midstream.engine.listeners import Concern, Listener
from midstream.engine.types import Ask
from midstream.monitoring.options import ProbeOptions
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.state.users.users import Users

USER: Final = PROBE_USER
ATTRIBUTE: Final = "probe"
CONCERN: Final = "freshness"
WAIT_S_MAX: Final = 10.0
"""From sending the event; an event that no answer has by then is ``unseen``."""
PAUSE_S: Final = 0.002
"""Between two looks at the state: resolution of the measurement."""
FIRST_S: Final = 1.0
"""Before the first probe."""
DEFAULT: Final = "default"
Record: TypeAlias = Callable[[bytes], Awaitable[EventsAnswer | Problem]]
"""Records the events of a body; returns when they are durable, or why they are not."""
Outcome = Literal["fresh", "late", "unseen", "refused"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("fresh", "late", "unseen", "refused")


@dataclass(frozen=True, slots=True)
class FreshnessResult:
    """Result of one probe."""

    outcome: Outcome
    seconds: float | None
    """From sending the event until an answer had it; None = no answer had it."""
    reason: str = ""
    """Why it is not ``fresh``."""


class FreshnessProbe:
    """An ``EngineService``: one probe at a time, at an interval."""

    def __init__(self, engine: Engine, record: Record, options: ProbeOptions, name: str = "") -> None:
        """Prepare it.

        Args:
            engine: Answers.
            record: Records the event, in this process or at its leader.
            options: Interval, bound and placement.
            name: Of a process beside others of the same log: each has a reserved user of its own.
        """
        self._engine, self._record, self._options = engine, record, options
        self._user = f"{USER}-{name}" if name else USER
        self._mark = 0
        self._result = FreshnessResult("fresh", None)
        self._service = engine.supervise("freshness_probe", self._round, options.every.ms / 1_000, first_s=FIRST_S)
        engine.metrics.freshness.begin(OUTCOMES)
        engine.listeners.add(Listener(name=CONCERN, concern=self.concern))

    def start(self) -> None:
        """Begin on the running event loop."""
        self._service.start()

    async def stop(self) -> None:
        """End it."""
        await self._service.stop()

    def concern(self) -> Concern:
        """Return why the last probe was not fresh; it ends with the first one that is."""
        return Concern(CONCERN, f"freshness probe: {self._result.reason}" if self._result.reason else "")

    async def probe(self) -> FreshnessResult:
        """Make a probe; return its result, which metrics and health have as well."""
        monotonic = self._engine.host.monotonic
        began_s = monotonic()
        try:
            async with asyncio.timeout(WAIT_S_MAX):
                refusal = await self._recorded()
                if not refusal:
                    await self._answered(began_s)
            found = FreshnessResult("refused", None, refusal) if refusal else self._judged(monotonic() - began_s)
        except TimeoutError:
            found = FreshnessResult("unseen", None, f"no answer had the event within {WAIT_S_MAX:g} s")
        except MidstreamError as error:
            found = FreshnessResult("refused", None, str(error))
        self._result = found
        self._engine.metrics.freshness.observe(found.outcome, found.seconds)
        return found

    async def _round(self) -> None:
        await self.probe()

    def _judged(self, seconds: float) -> FreshnessResult:
        within = self._options.within
        if seconds * 1_000 <= within.ms:
            return FreshnessResult("fresh", seconds)
        reason = f"an answer had the event after {seconds:.3f} s, [probe] within is {within}"
        return FreshnessResult("late", seconds, reason)

    async def _recorded(self) -> str:
        """Record the event; return why it was refused, empty = it was not."""
        self._mark = max(self._mark + 1, self._engine.clock())
        event = {"type": "user", "user_id": self._user, "attributes": {ATTRIBUTE: self._mark}}
        told = await self._record(msgspec.json.encode(event))
        if isinstance(told, Problem):
            return f"the event was refused: {told.detail}"
        if not told.recorded:
            came = told.rejected[0].came if told.rejected else "it was not recorded"
            return f"the event was refused: {came}"
        return ""

    async def _answered(self, began_s: float) -> None:
        """Return when an answer has the event.

        Raises:
            NotFound: The placement is not configured.
        """
        engine = self._engine
        while True:
            plan = self._plan()
            query = self._query(plan)
            if self._has(engine.fold.moment(query, plan.models)) and await self._is_in_answer(plan, query):
                return
            await asyncio.sleep(PAUSE_S)

    async def _is_in_answer(self, plan: Plan, query: Query) -> bool:
        """Make an answer; return whether the state that it read has the event."""
        fold, monotonic = self._engine.fold, self._engine.host.monotonic
        until_s = monotonic() + plan.deadline_ms / 1_000
        read: list[bool] = []

        def observe(asked: Query) -> Moment:
            moment = fold.moment(asked, plan.models)
            read.append(self._has(moment))
            return moment

        await recommend(plan, observe, query, lambda: until_s - monotonic(), self._benched(plan))
        return all(read)

    def _has(self, moment: Moment) -> bool:
        """Return whether a state has the profile that was sent last."""
        return moment.user_index >= 0 and moment.table(Users).value(moment.user_index, ATTRIBUTE) == self._mark

    def _plan(self) -> Plan:
        plans = self._engine.plans
        return self._engine.plan(self._options.placement or (DEFAULT if DEFAULT in plans else next(iter(plans))))

    def _query(self, plan: Plan) -> Query:
        engine = self._engine
        request_id, seed = engine.host.request_ids.make()
        return query_of(Ask(plan.name, user_id=self._user, n=1), plan, request_id, seed, engine.clock())

    def _benched(self, plan: Plan) -> tuple[Failure, ...]:
        """Return the parts of a plan that the circuit breaker leaves out now."""
        views = self._engine.guards.views()
        benched = (each for each in views if each.placement == plan.name and each.state in {"benched", "trying"})
        return tuple(Failure(each.part, "benched") for each in benched)
