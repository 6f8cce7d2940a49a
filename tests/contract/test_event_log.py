"""Every event log keeps the same promises."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from midstream.core.protocols import EventLog
from midstream.engine.log_readers import read_folder
from midstream.events.disk import RealDisk
from midstream.events.memory import MemoryLog
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import check_event_log, check_log_reader
from tests.support.disks import ForgetfulDisk

LOG_ID = bytes(range(16))


def in_memory(_folder: Path) -> Callable[[], EventLog]:
    """Make logs in memory."""
    return MemoryLog


def in_small_segments(folder: Path) -> Callable[[], EventLog]:
    """Make logs that begin a new segment every few batches, on the real disk."""
    numbers = itertools.count()
    return lambda: SegmentLog(folder / str(next(numbers)) / "log", RealDisk(), LOG_ID, segment_bytes=1_000)


def in_one_segment(_folder: Path) -> Callable[[], EventLog]:
    """Make logs on the forgetful disk."""
    return lambda: SegmentLog(Path("/log"), ForgetfulDisk(), LOG_ID)


@pytest.mark.parametrize("way", [in_memory, in_small_segments, in_one_segment])
def test_an_event_log_keeps_its_promises(way, tmp_path):
    """Positions, order, content, cuts, limits, log time: all that the type of an event log cannot say."""
    check_event_log(way(tmp_path))


def test_the_checks_notice_a_broken_log():
    """A log that forgets to cut its first batch, loses an event, or lets log time go back does not pass."""

    class Uncut(MemoryLog):
        def read(self, after, limit):
            return super().read(after - 1 if after % 7 == 3 else after, limit)

    class Forgetful(MemoryLog):
        def append(self, batch):
            super().append(batch)
            self._batches[-1] = self._batches[0]
            return self.end

    class Timeless(MemoryLog):
        def append(self, batch):
            self._last_log_time_ms = 0
            return super().append(batch)

    class Endless(MemoryLog):
        def read(self, after, limit):
            return super().read(after, 1_000_000)

    for broken in (Uncut, Forgetful, Timeless, Endless):
        with pytest.raises((AssertionError, IndexError)):
            check_event_log(broken)


def test_a_log_reader_keeps_its_promises(tmp_path):
    """Beside the process that appends, on the real disk and on the forgetful one."""
    for folder, disk in (tmp_path / "log", RealDisk()), (Path("/log"), ForgetfulDisk()):
        log = SegmentLog(folder, disk, LOG_ID, segment_bytes=1_000)
        check_log_reader(log, partial(read_folder, folder, disk))
        log.close()


def test_the_checks_notice_a_broken_reader(tmp_path):
    """A reader that reads past what is durable, or never sees what came later, does not pass."""
    disk = RealDisk()

    class Eager(SegmentReader):
        def read(self, after, limit, durable):
            return super().read(after, limit, max(durable, 40))

    class Stale(SegmentReader):
        def read(self, after, limit, durable):
            return super().read(after, limit, min(durable, 55))

    for number, broken in enumerate((Eager, Stale)):
        place = tmp_path / str(number) / "log"
        log = SegmentLog(place, disk, LOG_ID, segment_bytes=1_000)
        with pytest.raises((AssertionError, ValueError)):
            check_log_reader(log, partial(broken, place, disk))
