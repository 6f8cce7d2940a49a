"""Journal of trainings: decisions in the log, and what they say of each model now."""

import asyncio
from collections.abc import Sequence

from midstream.core.errors import Overloaded
from midstream.core.kinds import Kind
from midstream.engine.engine import Engine
from midstream.events.schema import Event, build
from midstream.monitoring.facts import Fact, FieldValue
from midstream.state.control.placements import PlacementVersion, encode_placement, placement_body
from midstream.training.decisions import PREFIX, TrainingDecision, decision_of, decisions_in, encode_decision

AUTHOR = "midstream"
_ALARMS = ("failed", "rolled_back")
"""Actions that an operator should look at until the next one."""
_LEVELS = {"failed": "error", "rolled_back": "error", "refused": "warning", "stopped": "warning"}


class TrainingJournal:
    """Decisions of the models of one engine. Nothing is kept beside the state, so a restart reads the same."""

    def __init__(self, engine: Engine) -> None:
        """Write into the log of ``engine``."""
        self._engine = engine
        self._turn = asyncio.Lock()
        """Of writers: each follows from what stands there."""

    def last(self, model: str) -> TrainingDecision | None:
        """Return the last decision on a model, None = there is none."""
        rows = self._engine.fold.placements.versions(f"{PREFIX}{model}")
        return decision_of(rows[-1]) if rows else None

    def history(self, model: str = "") -> Sequence[TrainingDecision]:
        """Return the decisions that the state keeps, the newest first, of one model or of all.

        A training that was begun is there as long as nothing else was said of it.
        """
        table = self._engine.fold.placements
        rows = table.versions(f"{PREFIX}{model}") if model else table.rows
        return told_history(rows)

    async def write(self, decision: TrainingDecision) -> TrainingDecision:
        """Append a decision; it is durable and folded when this returns.

        Raises:
            Overloaded: There is no place for it, or too many events wait.
            AppendFailed: The log could not be made durable.
        """
        async with self._turn:
            await self._append(decision)
        self._tell(decision)
        return decision

    async def amend(self, last: TrainingDecision, more: TrainingDecision) -> None:
        """Append the last decision with more that is known by now: the same step, so it is neither told nor counted.

        Nothing is done where another decision came meanwhile.

        Raises:
            Overloaded: There is no place for it, or too many events wait.
            AppendFailed: The log could not be made durable.
        """
        async with self._turn:
            if self.last(last.model) == last:
                await self._append(more)

    async def _append(self, decision: TrainingDecision) -> None:
        name, table = f"{PREFIX}{decision.model}", self._engine.fold.placements
        before = table.versions(name)
        number = before[-1].version + 1 if before else 1
        body = placement_body(name, number, encode_decision(decision), AUTHOR, decision.action)
        if not table.takes(body):
            message = "as many control documents are kept as may be; give back placements that are not needed"
            raise Overloaded(message)
        await self._engine.record(build((Event(Kind.CONTROL, body=encode_placement(body)),)))

    def concern(self, decision: TrainingDecision) -> None:
        """Show in health what a decision says, where somebody should look at it."""
        topic = f"training-{decision.model}"
        alarm = self._engine.metrics.trainings.alarm.labels(decision.model)
        if decision.action in _ALARMS:
            alarm.set(1)
            self._engine.concerns[topic] = f"training of {decision.model} {decision.action}: {decision.reason}"
        elif decision.action != "begun":
            alarm.set(0)
            self._engine.concerns.pop(topic, None)

    def _tell(self, decision: TrainingDecision) -> None:
        """Log a decision, and show it in health."""
        self.concern(decision)
        self._count(decision)
        fields: dict[str, FieldValue] = {
            "model": decision.model,
            "action": decision.action,
            "candidate": decision.candidate,
            "champion": decision.champion,
            "gate": next((each.name for each in decision.gates if not each.passed), ""),
        }
        level = _LEVELS.get(decision.action, "info")
        key = f"{decision.model} {decision.action} {decision.at_ms}"
        self._engine.facts.note(Fact("training_decided", level, fields, key, detail=decision.reason))  # type: ignore[arg-type]  # one of these

    def _count(self, decision: TrainingDecision) -> None:
        """Count what ended by a decision."""
        metrics, model = self._engine.metrics.trainings, decision.model
        if decision.action in ("failed", "refused", "passed"):
            gate = next((each.name for each in decision.gates if each.outcome == "refused"), "")
            metrics.ended(model, decision.action, decision.at_ms, gate)
        elif decision.action == "rolled_back":
            metrics.rolled_back(model)


def told_history(rows: Sequence[PlacementVersion]) -> Sequence[TrainingDecision]:
    """Return the decisions among documents, the newest first, without beginnings of which the end is there.

    Of one that was amended the newest is there.
    """
    newest = dict[tuple[str, str, int, int], TrainingDecision]()
    for each in decisions_in(sorted(rows, key=lambda each: each.position, reverse=True)):
        newest.setdefault((each.model, each.action, each.began_ms, each.at_ms), each)
    decisions = newest.values()
    ended = {(each.model, each.began_ms) for each in decisions if each.action != "begun"}
    return [each for each in decisions if each.action != "begun" or (each.model, each.began_ms) not in ended]
