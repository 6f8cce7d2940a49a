"""Live windows beside the accumulator that reads a whole log: the same figures, in bounded room."""

from typing import Any

import numpy as np
import pytest

from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.feedback import live_windows
from midstream.feedback.live_windows import LiveWindows, RecordReads
from midstream.feedback.online_metrics import OnlineMetrics, SlateLabels
from midstream.feedback.slate_labels import ServedRecords
from midstream.state.outcomes.slate_groups import SlateGroup
from tests.feedback.test_online_metrics import NOW, OPTIONS, Told, columns_of

KEY = np.array([1, 2], dtype=np.uint64)
GROUPS = {0: SlateGroup("home", "plan", "full")}
NO_LOG = RecordReads(LogPosition(1_000_000), lambda *_: [])
"""Holds no record any more: labels are ``gone``."""


def ignore(*_):
    """What is noted of records is of no matter here."""


def lots(count: int, lot: int):
    """Slates in lots, at rising log positions."""
    told = [Told(NOW - 90 + n % 80, "home", 0, [(1 + n % 5, n % 16, 1.0)]) for n in range(count)]
    for start in range(0, count, lot):
        slates, _ = columns_of(told[start : start + lot])
        slates.slate["log_position"] = np.arange(start, start + len(slates))
        slates.slate["user"] = 1 + np.arange(len(slates)) % 3
        yield slates


def round_of(windows: LiveWindows, some, since_ms=NOW - 500):
    """The figures of a round."""
    windows.begin()
    for each in some:
        windows.add(each, GROUPS, since_ms)
    return windows.figures(OPTIONS, lambda: NO_LOG, KEY)


def test_figures_are_those_of_the_accumulator():
    """Of the same slates, whatever the lots; a slate without a record counts for its user."""
    windows = LiveWindows(ignore)
    found = round_of(windows, lots(40, 7))
    plain = OnlineMetrics(OPTIONS)
    for each in lots(40, 40):
        labels = {"placement": ["home"] * 40, "tier": ["full"] * 40, "model": ["gone"] * 40}
        plain.add(each, SlateLabels(labels, (1 + np.arange(40) % 7 % 3).astype(np.uint64)))
    expected = {(row.window_ms, row.label, row.value): row.so_far.slates for row in plain.rows()}
    assert {(row.window_ms, row.label, row.value): row.so_far.slates for row in found.rows} == expected
    again = round_of(windows, lots(40, 40))
    clicks = [row.so_far.click_rate for row in found.rows]
    assert clicks == pytest.approx([row.so_far.click_rate for row in again.rows], nan_ok=True)


def test_the_newest_slates_are_kept(monkeypatch):
    """Whole lots of the oldest make room, and are said; a round forgets the labels of what went."""
    monkeypatch.setattr(live_windows, "SLATES_MAX", 10)
    windows = LiveWindows(ignore)
    found = round_of(windows, lots(40, 5))
    assert found.left_out == 30
    assert {row.so_far.slates for row in found.rows if row.window_ms == 500} == {10}
    assert len(windows._known) == 10
    assert round_of(windows, lots(0, 5)).rows == ()


def test_slates_before_the_longest_window_are_passed_by():
    """Their records are not read."""
    windows = LiveWindows(ignore)
    found = round_of(windows, lots(20, 5), since_ms=NOW)
    assert (found.rows, found.unread, len(windows._known)) == ((), 0, 0)


def test_a_commit_is_read_once_for_all_records():
    """Records at rising positions: a read that came with more commits serves those behind it too."""
    count = 1_500
    returned: list[Any] = []

    def read(after: LogPosition, limit: int):
        some = [(LogPosition(each), build((Event(Kind.TICK),))) for each in range(after, min(after + limit, count))]
        returned.extend(first for first, _ in some)
        return some

    records = ServedRecords(read, LogPosition(10))
    assert [records.at(position) for position in range(0, count, 3)] == [None] * 500  # ticks are no records
    assert returned == sorted(set(returned)), "none was read again"
    assert returned[-1] == count - 1


def test_a_rest_is_offered_behind_each_record_and_each_step():
    """Whoever makes the round may rest there, or end it."""
    windows, rests = LiveWindows(ignore), list[int]()
    windows.begin()
    for each in lots(40, 20):
        windows.add(each, GROUPS, NOW - 500)
    found = windows.figures(OPTIONS, lambda: NO_LOG, KEY, lambda: rests.append(1))
    windows_and_labels = len({(row.window_ms, row.label) for row in found.rows})
    assert windows_and_labels == 6
    assert len(rests) > 2 + 40 + 2 + 2 * 10 * windows_and_labels

    class Ended(Exception):
        """The round is to end."""

    def end():
        raise Ended

    for each in lots(40, 20):
        windows.add(each, GROUPS, NOW - 500)
    with pytest.raises(Ended):
        windows.figures(OPTIONS, lambda: NO_LOG, KEY, end)
    assert round_of(windows, lots(40, 20)).rows == found.rows
