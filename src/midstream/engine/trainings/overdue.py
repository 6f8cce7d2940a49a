"""Trainings that are late: by how much, from the last decision in the log and the clock."""

from collections.abc import Callable, Sequence

from midstream.core.types import Clock
from midstream.engine.listeners import Listener
from midstream.engine.trainings.journal import TrainingJournal
from midstream.monitoring.metrics import Metrics
from midstream.training.decisions import TrainingDecision, standing_of
from midstream.training.options import TrainingTable
from midstream.training.schedule import TrainingRule, next_ms

NAME = "trainings"


def overdue_listener(
    tables: Callable[[], Sequence[TrainingTable]], journal: TrainingJournal, metrics: Metrics, clock: Clock
) -> Listener:
    """Return a listener that sets by how much the next training of each model is late."""

    def set_gauges() -> None:
        now_ms = clock()
        metrics.trainings.overdue.clear()  # of a table that is gone nothing is late
        for table in tables():
            late_ms = overdue_ms(table.rule, journal.last(table.model), now_ms)
            metrics.trainings.overdue.labels(table.model).set(late_ms / 1_000)

    return Listener(name=NAME, gauges=set_gauges)


def overdue_ms(rule: TrainingRule, last: TrainingDecision | None, now_ms: int) -> int:
    """Return by how much the next training is late; of one under way, since when it is.

    Args:
        rule: Of the model; what is not trained by time is late only behind a failure.
        last: Decision on it; None = there was none, and the first one is not late.
        now_ms: Clock.
    """
    if last is not None and last.action == "begun":
        return max(0, now_ms - last.began_ms)
    standing = standing_of(last)
    due_ms = None if standing.is_busy else next_ms(rule, standing, now_ms)
    return 0 if due_ms is None else max(0, now_ms - due_ms)
