"""Beginnings of trainings: whole fits and warm starts, and the window that an alarm begins anew."""

from msgspec.structs import replace

from midstream.training.decisions import DAY_MS, Cause, TrainingDecision, alarmed, begun_after
from midstream.training.schedule import CALIBRATION, TrainingRule

HOUR_MS = 3_600_000
WARM = TrainingRule(is_warm=True, whole_every_ms=24 * HOUR_MS, on_calibration=True)
KEPT = TrainingDecision(model="ranker", action="kept", because="time", whole_ms=5 * HOUR_MS, learned_position=7)


def test_a_warm_start_keeps_what_is_known_of_the_whole_fit() -> None:
    """A whole fit begins without a parent, and says when it began once it has published a version."""
    begun = begun_after(KEPT, WARM, Cause("time"), "0001-a", 6 * HOUR_MS)
    assert (begun.start, begun.champion, begun.whole_ms, begun.learned_position) == ("0001-a", "0001-a", 5 * HOUR_MS, 7)
    assert (begun.action, begun.because, begun.began_ms, begun.at_ms) == ("begun", "time", 6 * HOUR_MS, 6 * HOUR_MS)
    assert begun_after(KEPT, WARM, Cause("time"), "0001-a", 29 * HOUR_MS).start == ""
    assert begun_after(None, WARM, Cause("time"), "", 0).start == ""
    assert begun_after(KEPT, TrainingRule(), Cause("time"), "0001-a", 6 * HOUR_MS).start == ""


def test_an_alarm_begins_the_window_anew() -> None:
    """A warm start bridges the time until the next training, which is whole; both learn nothing from before."""
    alarm = begun_after(KEPT, WARM, Cause(CALIBRATION, 9_000), "0001-a", 6 * HOUR_MS)
    assert (alarm.start, alarm.since_ms, alarm.whole_ms) == ("0001-a", 9_000, 0)
    ended = replace(alarm, action="kept", alarm_waits=False)
    other = begun_after(ended, WARM, Cause(CALIBRATION, 99_000), "0002-b", 7 * HOUR_MS)
    assert (other.start, other.since_ms) == ("0002-b", 99_000), "of another version, so people changed again"
    for cause, champion in ((Cause("time"), "0002-b"), (Cause(CALIBRATION, 99_000), "0001-a")):
        following = begun_after(ended, WARM, cause, champion, 7 * HOUR_MS)
        assert (following.start, following.since_ms) == ("", 9_000)
    whole = replace(ended, because="time", start="", whole_ms=7 * HOUR_MS)
    assert begun_after(whole, WARM, Cause("time"), "0003-c", 8 * HOUR_MS).start == "0003-c"
    again = begun_after(whole, WARM, Cause(CALIBRATION, 99_000), "0003-c", 8 * HOUR_MS)
    assert (again.start, again.since_ms) == ("0003-c", 99_000)


def test_an_alarm_waits_until_a_training_publishes_a_version() -> None:
    """Whatever causes that, and whichever version answers by then; behind failures with the same window."""
    kept = alarmed(KEPT, "0001-a", 9_000)
    assert (kept.action, kept.at_ms, kept.alarm, kept.since_ms, kept.alarm_waits) == ("kept", 0, "0001-a", 9_000, True)
    for cause in (Cause("time"), Cause("order", 99_000), Cause("again", 99_000), Cause(CALIBRATION, 99_000)):
        begun = begun_after(kept, WARM, cause, "0002-b", 6 * HOUR_MS)
        assert (begun.start, begun.since_ms, begun.alarm, begun.alarm_waits) == ("0002-b", 9_000, "0002-b", True)
        again = begun_after(replace(begun, action="failed", failures=1), WARM, Cause("again"), "0002-b", 7 * HOUR_MS)
        assert (again.start, again.since_ms, again.alarm_waits) == ("0002-b", 9_000, True)
    assert begun_after(KEPT, WARM, Cause("drift", 9_000), "0001-a", 6 * HOUR_MS).since_ms == 9_000
    assert begun_after(None, WARM, Cause(CALIBRATION, 9_000), "0001-a", 6 * HOUR_MS).since_ms == 9_000


def test_an_alarm_of_one_change_is_one() -> None:
    """Of the same version within a day, also behind a training by another cause; a table without alarms forgets it."""
    answered = replace(alarmed(KEPT, "0001-a", 9_000), because="again", alarm_waits=False)
    assert alarmed(answered, "0001-a", 9_000 + DAY_MS - 1) == answered
    assert alarmed(answered, "0001-a", 0) == answered
    for champion, since_ms in (("0001-a", 9_000 + DAY_MS), ("0002-b", 10_000)):
        found = alarmed(answered, champion, since_ms)
        assert (found.alarm, found.since_ms, found.alarm_waits, found.whole_ms) == (champion, since_ms, True, 0)
    off = begun_after(alarmed(KEPT, "0001-a", 9_000), TrainingRule(is_warm=True), Cause("time", 9_000), "0001-a", 1)
    assert (off.alarm, off.since_ms, off.alarm_waits) == ("", 0, False)


def test_without_warm_starts_every_fit_is_whole() -> None:
    """That of an alarm too; without times of whole fits none is once there is a champion."""
    rules = [TrainingRule(is_warm=each, on_calibration=True) for each in (False, True)]
    alarm = begun_after(KEPT, rules[0], Cause(CALIBRATION, 9_000), "0001-a", 6 * HOUR_MS)
    assert (alarm.start, alarm.since_ms) == ("", 9_000)
    never = begun_after(KEPT, rules[1], Cause(CALIBRATION, 9_000), "0001-a", 6 * HOUR_MS)
    assert never.start == "0001-a"
    assert begun_after(replace(never, action="kept"), TrainingRule(is_warm=True), Cause("time"), "b", 1).start == "b"
