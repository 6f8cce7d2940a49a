"""Beginnings of trainings: whole fits and warm starts, and the window that an alarm begins anew."""

from msgspec.structs import replace

from midstream.training.decisions import Cause, TrainingDecision, begun_after
from midstream.training.schedule import CALIBRATION, TrainingRule

HOUR_MS = 3_600_000
WARM = TrainingRule(is_warm=True, whole_every_ms=24 * HOUR_MS)
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
    ended = replace(alarm, action="kept")
    other = begun_after(ended, WARM, Cause(CALIBRATION, 99_000), "0002-b", 7 * HOUR_MS)
    assert (other.start, other.since_ms) == ("0002-b", 99_000), "of another version, so people changed again"
    for cause, champion in ((Cause("time"), "0002-b"), (Cause(CALIBRATION, 99_000), "0001-a")):
        following = begun_after(ended, WARM, cause, champion, 7 * HOUR_MS)
        assert (following.start, following.since_ms) == ("", 9_000)
    whole = replace(ended, because="time", start="", whole_ms=7 * HOUR_MS)
    assert begun_after(whole, WARM, Cause("time"), "0003-c", 8 * HOUR_MS).start == "0003-c"
    again = begun_after(whole, WARM, Cause(CALIBRATION, 99_000), "0003-c", 8 * HOUR_MS)
    assert (again.start, again.since_ms) == ("0003-c", 99_000)


def test_without_warm_starts_every_fit_is_whole() -> None:
    """That of an alarm too; without times of whole fits none is once there is a champion."""
    assert begun_after(KEPT, TrainingRule(), Cause(CALIBRATION, 9_000), "0001-a", 6 * HOUR_MS).start == ""
    never = begun_after(KEPT, TrainingRule(is_warm=True), Cause(CALIBRATION, 9_000), "0001-a", 6 * HOUR_MS)
    assert never.start == "0001-a"
    assert begun_after(replace(never, action="kept"), TrainingRule(is_warm=True), Cause("time"), "b", 1).start == "b"
