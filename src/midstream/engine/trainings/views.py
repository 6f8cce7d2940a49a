"""Views of trainings: what is under way, what comes next, what was decided last."""

from collections.abc import Sequence

import msgspec

from midstream.core.errors import NotFound
from midstream.engine.trainings.journal import told_history
from midstream.state.fold import Fold
from midstream.training.decisions import PREFIX, TrainingDecision, decision_of, standing_of
from midstream.training.options import TrainingTable
from midstream.training.schedule import next_ms


class TrainingView(msgspec.Struct, frozen=True):
    """All that is known of the trainings of one model."""

    model: str
    state: str
    """``waits``, ``queued``, ``training``, ``shadow``: a candidate waits for requests to be run again with it, or
    ``canary`` and ``promoted``: some users get another version."""
    next_ms: int | None
    """Clock of the next one by time or after a failure; None = not by time, or a candidate is tried."""
    events_left: int | None
    """Until the next one by volume; None = not by volume."""
    failures: int
    """One after another."""
    champion: str
    """Version in service; empty = none."""
    last: TrainingDecision | None
    """The last decision; None = there is none."""


class TrainingHistory(msgspec.Struct, frozen=True):
    """Decisions that the state keeps, the newest first."""

    decisions: Sequence[TrainingDecision]


class TrainingList(msgspec.Struct, frozen=True):
    """The trainings of all models."""

    trainings: Sequence[TrainingView]


def table_of(tables: Sequence[TrainingTable], model: str) -> TrainingTable:
    """Return the table of a model.

    Raises:
        NotFound: There is none.
    """
    found = next((each for each in tables if each.model == model), None)
    if found is None:
        names = ", ".join(sorted(each.model for each in tables)) or "none"
        message = f"no [[trainings]] of {model[:64]!r} is configured; there are {names}"
        raise NotFound(message)
    return found


def training_view(table: TrainingTable, fold: Fold, now_ms: int, under_way: str = "") -> TrainingView:
    """Return what a state says of the trainings of a model.

    Args:
        table: Of the configuration.
        fold: The state.
        now_ms: Clock.
        under_way: ``queued`` or ``training``, where this process has it so; empty = neither.
    """
    rows = fold.placements.versions(f"{PREFIX}{table.model}")
    last = decision_of(rows[-1]) if rows else None
    standing, champion = standing_of(last), fold.promotions.find(table.model)
    state = under_way or ("waits" if last is None or not standing.is_busy else last.action)
    left = max(0, table.events - (fold.log_position - standing.position)) if table.events else None
    return TrainingView(
        model=table.model,
        state=state,
        next_ms=None if standing.is_busy else next_ms(table.rule, standing, now_ms),
        events_left=left,
        failures=standing.failures,
        champion="" if champion is None else champion.version,
        last=last,
    )


def training_history(fold: Fold, model: str = "") -> TrainingHistory:
    """Return the decisions that a state keeps, the newest first, of one model or of all."""
    table = fold.placements
    return TrainingHistory(told_history(table.versions(f"{PREFIX}{model}") if model else table.rows))
