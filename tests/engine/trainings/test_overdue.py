"""By how much a training is late, from the last decision on its model."""

import pytest

from midstream.engine.trainings.overdue import overdue_ms
from midstream.training.decisions import Action, TrainingDecision
from midstream.training.schedule import BACK_OFF_MS_MIN, TrainingRule

EVERY = TrainingRule(every_ms=1_000)
BY_EVENTS = TrainingRule(events=5)


@pytest.mark.parametrize(
    "rule, action, failures, now_ms, expected",
    [
        (EVERY, "kept", 0, 10_900, 0),
        (EVERY, "kept", 0, 11_500, 500),
        (BY_EVENTS, "kept", 0, 99_000, 0),
        (EVERY, "begun", 0, 10_500, 1_500),
        (EVERY, "canary", 0, 99_000, 0),
        (EVERY, "failed", 1, 10_000 + BACK_OFF_MS_MIN - 1, 0),
        (BY_EVENTS, "failed", 1, 10_007 + BACK_OFF_MS_MIN, 7),
    ],
)
def test_late_from_when_it_is_due(
    rule: TrainingRule, action: Action, failures: int, now_ms: int, expected: int
) -> None:
    """By time or again after a failure; while one is under way since it began, and not while its candidate is tried."""
    last = TrainingDecision(model="taste", action=action, began_ms=9_000, at_ms=10_000, failures=failures)
    assert overdue_ms(rule, last, now_ms) == expected


def test_the_first_one_is_not_late() -> None:
    """It is due from the first event on, and nothing says since when that is."""
    assert overdue_ms(EVERY, None, 99_000) == 0
