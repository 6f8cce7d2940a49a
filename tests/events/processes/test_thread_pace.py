"""The pace of a thread beside answers: a rest as long as the work before it, and none after less than a piece."""

import time

import pytest

from midstream.events.processes.thread_pace import PIECE_S, REST_S_MAX, ThreadPace


def test_rests_are_as_long_as_the_work_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a piece adds up; a piece that took a second is followed by the longest rest."""
    now_s, rests = [5.0], list[float]()
    monkeypatch.setattr(time, "thread_time", lambda: now_s[0])
    monkeypatch.setattr(time, "sleep", rests.append)
    pace = ThreadPace()
    pace.rest()
    now_s[0] += 0.6 * PIECE_S
    pace.rest()
    assert rests == []
    now_s[0] += 0.6 * PIECE_S
    pace.rest()
    pace.rest()
    assert rests == [pytest.approx(1.2 * PIECE_S)]
    now_s[0] += 1.0
    pace.rest()
    assert rests[1:] == [REST_S_MAX]
