"""Schedule of trainings: whether one is due, from the log alone.

What is known is the last decision, which is an event of the log, and where the log is now. So a restart neither trains
twice nor forgets, and every process that reads the log says the same. Nothing here reads a clock.
"""

from dataclasses import dataclass

BACK_OFF_MS_MIN = 60_000
"""After the first failure: what ended a training, such as a full disk, seldom ends within a minute."""
DOUBLINGS_MAX = 10
"""A thousand minutes, 17 hours; ``back_off_ms_max`` ends it before."""
BACK_OFF_MS_MAX = 6 * 3_600_000
"""A training that fails is tried again four times a day."""
CALIBRATION = "calibration"
"""Cause of a training: acts are others than the version in service predicts."""
PSI_MAX = 0.25
"""Population stability index above which a column has drifted: much has changed, by custom."""


@dataclass(frozen=True, slots=True)
class TrainingRule:
    """When a model is trained."""

    every_ms: int = 0
    """Time from the end of one training to the next; 0 = not by time."""
    events: int = 0
    """Events of the log from one to the next; 0 = not by volume."""
    on_drift: bool = False
    on_calibration: bool = False
    rest_ms: int = 3_600_000
    """Least time between two, unless somebody orders one."""
    is_warm: bool = False
    """Whether a fit begins with what the champion has learned."""
    whole_every_ms: int = 0
    """Time from the beginning of one whole fit to the next; 0 = a fit is whole only where there is no champion."""


@dataclass(frozen=True, slots=True)
class TrainingStanding:
    """What the log says of the trainings of a model."""

    ended_ms: int | None = None
    """Clock when the last one ended, well or not; None = there was none."""
    position: int = 0
    """Log position at which the last one that published a version began."""
    failures: int = 0
    """Trainings that failed since, one after another."""
    is_busy: bool = False
    """A candidate of it is being tried: the next one waits for that."""
    whole_ms: int | None = None
    """Clock when the last whole fit began that published a version; None = none is known."""


def due(
    rule: TrainingRule,
    standing: TrainingStanding,
    now_ms: int,
    position: int,
    *,
    has_drifted: bool = False,
    is_miscalibrated: bool = False,
) -> str:
    """Return why a training is due, in one word; empty = none is.

    Args:
        rule: Of the configuration.
        standing: Of the model.
        now_ms: Clock.
        position: End of the log.
        has_drifted: Whether features drift from their baseline now.
        is_miscalibrated: Whether acts are others than the version in service predicts, or were since the last training.
    """
    if standing.is_busy or position == 0 or now_ms < rests_until(rule, standing):
        return ""
    if standing.failures:
        return "again"
    if rule.on_calibration and is_miscalibrated:
        return CALIBRATION  # before all others: what follows from it is more than a training
    if rule.every_ms and (standing.ended_ms is None or now_ms - standing.ended_ms >= rule.every_ms):
        return "time"
    if rule.events and position - standing.position >= rule.events:
        return "events"
    return "drift" if rule.on_drift and has_drifted else ""


def is_whole(rule: TrainingRule, standing: TrainingStanding, now_ms: int) -> bool:
    """Return whether the next fit learns all data anew, and is no warm start.

    A warm start keeps what its ancestors learned, also where the window has left that behind; a whole fit forgets it.

    Args:
        rule: Of the configuration.
        standing: Of the model.
        now_ms: Clock.
    """
    if not rule.is_warm:
        return True
    is_due = standing.whole_ms is None or now_ms - standing.whole_ms >= rule.whole_every_ms
    return rule.whole_every_ms > 0 and is_due


def rests_until(rule: TrainingRule, standing: TrainingStanding) -> int:
    """Return the clock before which none is due: a rest, longer after failures."""
    if standing.ended_ms is None:
        return 0
    if not standing.failures:
        return standing.ended_ms + min(rule.rest_ms, rule.every_ms or rule.rest_ms)
    return standing.ended_ms + back_off_ms(standing.failures)


def next_ms(rule: TrainingRule, standing: TrainingStanding, now_ms: int) -> int | None:
    """Return the clock at which one is due by time, or again after a failure; None = only by events or drift."""
    if standing.failures and standing.ended_ms is not None:
        return standing.ended_ms + back_off_ms(standing.failures)
    if not rule.every_ms:
        return None
    return now_ms if standing.ended_ms is None else standing.ended_ms + rule.every_ms


def back_off_ms(failures: int) -> int:
    """Return how long is waited after so many failures, 1 or more."""
    return min(BACK_OFF_MS_MIN << min(failures - 1, DOUBLINGS_MAX), BACK_OFF_MS_MAX)
