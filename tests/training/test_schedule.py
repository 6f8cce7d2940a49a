"""Schedules: due by time, volume or drift, from the log alone; after failures later and later, and never for ever."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.training.schedule import (
    BACK_OFF_MS_MAX,
    TrainingRule,
    TrainingStanding,
    back_off_ms,
    due,
    is_whole,
    next_ms,
)

HOUR_MS = 3_600_000
SIX = TrainingRule(every_ms=6 * HOUR_MS, rest_ms=HOUR_MS)


def test_a_model_without_a_training_is_due_at_once_where_there_are_events() -> None:
    """By time; by volume when there are as many."""
    assert due(SIX, TrainingStanding(), 0, 1) == "time"
    assert due(SIX, TrainingStanding(), 0, 0) == ""
    volume = TrainingRule(events=1_000)
    assert [due(volume, TrainingStanding(), 0, end) for end in (999, 1_000)] == ["", "events"]


def test_time_counts_from_the_end_of_the_last_one() -> None:
    """To the millisecond."""
    last = TrainingStanding(ended_ms=100, position=5)
    assert [due(SIX, last, 100 + 6 * HOUR_MS - 1, 9), due(SIX, last, 100 + 6 * HOUR_MS, 9)] == ["", "time"]
    assert next_ms(SIX, last, 200) == 100 + 6 * HOUR_MS


def test_drift_waits_for_the_rest() -> None:
    """Features that go on drifting do not train without end."""
    rule, last = TrainingRule(on_drift=True, rest_ms=HOUR_MS), TrainingStanding(ended_ms=0)
    assert due(rule, last, HOUR_MS - 1, 9, has_drifted=True) == ""
    assert due(rule, last, HOUR_MS, 9, has_drifted=True) == "drift"
    assert due(rule, last, HOUR_MS, 9) == ""


def test_a_calibration_that_moved_trains_where_the_rule_says_so() -> None:
    """After the rest, as drift does, and before any other cause: its window begins anew."""
    every = TrainingRule(on_calibration=True, rest_ms=HOUR_MS, every_ms=HOUR_MS, events=1, on_drift=True)
    assert (
        due(every, TrainingStanding(ended_ms=0), HOUR_MS, 9, has_drifted=True, is_miscalibrated=True) == "calibration"
    )
    rule, last = TrainingRule(on_calibration=True, rest_ms=HOUR_MS), TrainingStanding(ended_ms=0)
    assert due(rule, last, HOUR_MS - 1, 9, is_miscalibrated=True) == ""
    assert due(rule, last, HOUR_MS, 9, is_miscalibrated=True) == "calibration"
    assert due(rule, last, HOUR_MS, 9) == ""
    assert due(TrainingRule(on_drift=True, rest_ms=HOUR_MS), last, HOUR_MS, 9, is_miscalibrated=True) == ""


def test_a_whole_fit_comes_between_warm_starts() -> None:
    """To the millisecond from the last one's beginning; at once where none is known; never where no time is set."""
    warm = TrainingRule(is_warm=True, whole_every_ms=24 * HOUR_MS)
    last = TrainingStanding(ended_ms=200, whole_ms=100)
    assert [is_whole(warm, last, 100 + 24 * HOUR_MS - 1), is_whole(warm, last, 100 + 24 * HOUR_MS)] == [False, True]
    assert is_whole(warm, TrainingStanding(ended_ms=200), 300)
    assert not is_whole(TrainingRule(is_warm=True), TrainingStanding(), 1 << 60)
    assert is_whole(TrainingRule(), last, 100)


def test_nothing_is_due_while_a_candidate_is_tried() -> None:
    """However long that takes."""
    assert due(SIX, TrainingStanding(ended_ms=0, is_busy=True), 1 << 60, 9) == ""


@given(st.integers(1, 10_000))
def test_the_wait_after_failures_grows_to_a_maximum(failures: int) -> None:
    """It never shrinks, and never becomes for ever."""
    assert 0 < back_off_ms(failures) <= back_off_ms(failures + 1) <= BACK_OFF_MS_MAX
    assert back_off_ms(1) == 60_000


@given(
    st.lists(st.tuples(st.integers(1, 8 * HOUR_MS), st.integers(0, 3_000), st.booleans()), min_size=1, max_size=60),
    st.integers(0, 6),
    st.sampled_from([0, 1_000]),
)
def test_any_course_trains_neither_twice_nor_too_late(
    course: list[tuple[int, int, bool]], hours: int, events: int
) -> None:
    """Two trainings are apart by the rest at least; what is due by time is late by one look at most; a look that is
    repeated, as after a restart, says the same.
    """
    rule = TrainingRule(every_ms=hours * HOUR_MS, events=events, rest_ms=60_000)
    last, now, position, ends = TrainingStanding(), 0, 1, list[int]()
    for step, more, fails in course:
        now, position = now + step, position + more
        said = due(rule, last, now, position)
        assert due(rule, TrainingStanding(last.ended_ms, last.position, last.failures), now, position) == said
        if not said:
            if rule.every_ms and last.ended_ms is not None and not last.failures:
                assert now - last.ended_ms < rule.every_ms
            continue
        if ends:
            assert now - ends[-1] >= min(rule.rest_ms, back_off_ms(max(1, last.failures)))
        ends.append(now)
        last = TrainingStanding(now, last.position, last.failures + 1) if fails else TrainingStanding(now, position, 0)
