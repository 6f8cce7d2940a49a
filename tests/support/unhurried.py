"""Time for questions for which nobody chose a deadline: as long as may be necessary.

In the usual 50 ms a machine that is busy may stand still, and sources are left out, or a part is skipped from then on
that held the thread for 25 ms. What deadlines do is proven with questions and placements that have one, and on clocks
of the tests' own.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import msgspec

from midstream.app.config.schema import Placement
from midstream.core.types import TimestampMs
from midstream.engine.answer.answering import Answering
from midstream.engine.answer.compiled_slates import CompiledSlates, EncodedSlate, Stamp
from midstream.engine.circuit_breaker import CircuitBreaker, GuardOptions
from midstream.engine.placements.placing import Placing
from midstream.engine.requests.schema import RankQuestion, RecommendationQuestion
from midstream.engine.types import Answer, Ask
from midstream.monitoring.facts import Facts
from midstream.monitoring.metrics import Metrics
from midstream.ranking.plan import Plan
from tests.support.patience import PATIENCE_S

USUAL_MS = Placement().deadline.ms
PATIENCE_MS = int(PATIENCE_S * 1_000)


@dataclass(frozen=True, slots=True)
class PatientGuards(GuardOptions):
    """Thresholds by which a part of a plan with the usual deadline may hold the thread as long as is necessary."""

    def budget_s(self, plan: Plan) -> float:
        """Return for how long one part of a plan may hold the thread, in seconds."""
        return GuardOptions.budget_s(self, plan) + (PATIENCE_S if plan.deadline_ms == USUAL_MS else 0.0)


def is_real(monotonic: Callable[[], float]) -> bool:
    """Return whether a clock is the machine's, not one of a test's own."""
    return monotonic is time.monotonic


def give_time() -> None:
    """Have the pipeline, the kernels, the previews and the circuit breaker wait where nobody chose a deadline."""
    _give_pipelines()
    _give_kernels()
    _give_previews()
    _give_parts()


def _give_pipelines() -> None:
    limit = Answering._deadline_s

    def patient(self: Answering, asks: Sequence[Ask]) -> float:
        chosen = limit(self, asks)
        is_chosen = asks[0].deadline_ms or any(plan.deadline_ms != USUAL_MS for plan in self._plans_of(asks))
        return chosen if is_chosen or not is_real(self._live.host.monotonic) else chosen + PATIENCE_S

    Answering._deadline_s = patient  # type: ignore[method-assign]


def _give_kernels() -> None:
    """Give an answer that a kernel begins its time: the pipeline goes on with the same deadline."""
    answer = CompiledSlates.answer

    def patient(
        self: CompiledSlates, question: RecommendationQuestion | RankQuestion, placement: str
    ) -> EncodedSlate | Stamp | None:
        plan = self._live.plans.get(placement)
        is_usual = plan is not None and plan.deadline_ms == USUAL_MS
        if is_usual and not question.deadline and is_real(self._live.host.monotonic):
            question = msgspec.structs.replace(question, deadline=PATIENCE_MS)
        return answer(self, question, placement)

    CompiledSlates.answer = patient  # type: ignore[method-assign]


def _give_previews() -> None:
    answer = Placing._answer

    async def patient(self: Placing, plan: Plan, ask: Ask, seed: int, now_ms: TimestampMs) -> Answer:
        is_chosen = ask.deadline_ms or plan.deadline_ms != USUAL_MS
        if not is_chosen and is_real(self._engine.host.monotonic):
            ask = msgspec.structs.replace(ask, deadline_ms=PATIENCE_MS)
        return await answer(self, plan, ask, seed, now_ms)

    Placing._answer = patient  # type: ignore[method-assign]


def _give_parts() -> None:
    begin = CircuitBreaker.__init__

    def patient(
        self: CircuitBreaker,
        monotonic: Callable[[], float],
        metrics: Metrics,
        options: GuardOptions | None = None,
        facts: Facts | None = None,
    ) -> None:
        usual = options or GuardOptions()
        if is_real(monotonic):
            usual = PatientGuards(**{each.name: getattr(usual, each.name) for each in fields(usual)})
        begin(self, monotonic, metrics, usual, facts)

    CircuitBreaker.__init__ = patient  # type: ignore[method-assign]
