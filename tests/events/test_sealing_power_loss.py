"""What a power loss or a failing disk may take from a log that is being sealed or cut: nothing that was to stay."""

import errno
import itertools
from pathlib import Path

import pytest

from midstream.core.errors import LogDamaged
from midstream.core.types import LogPosition
from midstream.events import sealing
from midstream.events.history import history_file
from midstream.events.history.history import DAY_MS, history_folder, read_history, unnamed
from midstream.events.schema import concat
from midstream.events.sealing import kept_from, retain, seal
from midstream.events.segments.log_repair import survey_log
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import events_in, sample_batch
from tests.support.disks import CHANGES, DiskFault, FailingDisk, ForgetfulDisk

FOLDER = Path("/data/log")
HISTORY = history_folder(FOLDER)
LOG_ID = bytes(range(16))
SEGMENT_BYTES = 1_400
SIZES = (1, 3, 2, 4, 1, 3, 2, 1)


@pytest.fixture(scope="module", autouse=True)
def _small_files():
    """Files and row groups of a few events, so that a short log has several of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_file, "GROUP_ROWS", 4)
        patch.setattr(history_file, "FILE_ROWS_MAX", 5)
        patch.setattr(sealing, "FILE_ROWS_MAX", 5)
        yield


def log_on(disk):
    return SegmentLog(FOLDER, disk, LOG_ID, SEGMENT_BYTES)


def filled():
    """Return a disk with a log of four days in several segments, and its events."""
    disk = ForgetfulDisk()
    log = log_on(disk)
    batches, first = [], 0
    for number, size in enumerate(SIZES):
        batches.append(sample_batch(first, size, number * DAY_MS // 2))
        first += size
        log.append(batches[-1])
    log.close()
    return disk, events_in([(LogPosition(0), concat(batches))])


def check_left(disk, events, begins=frozenset({0})):
    """What is left opens with the same events, can be sealed anew, takes more, and then has no leftovers."""
    log = log_on(disk)
    begin = SegmentReader(FOLDER, disk).begin
    assert begin in begins
    assert read_all(log, begin) == events[begin:]
    seal(FOLDER, disk, log.end, 0)
    further = sample_batch(len(events), 2, 9 * DAY_MS)
    log.append(further)
    log.close()
    log = log_on(disk)
    assert log.recovered is None
    assert read_all(log, begin) == events[begin:] + events_in([(LogPosition(0), further)])
    log.close()
    assert survey_log(FOLDER, disk, thorough=True).damage is None
    assert not unnamed(FOLDER, disk, read_history(FOLDER, disk))


def read_all(log, begin):
    found: list[bytes] = []
    while begin + len(found) < log.end:
        found += events_in(log.read(LogPosition(begin + len(found)), 1_000))
    return found


def crash_states(disk, before, tear=100_000):
    """Yield the distinct disks that a power loss after any call that was made since ``before`` may leave."""
    again = ForgetfulDisk(before, [HISTORY, *HISTORY.parents])
    seen: set[tuple[tuple[Path, bytes], ...]] = set()
    for kind, arguments in disk.calls:
        if kind in CHANGES or kind in {"lock", "close"}:
            getattr(again, kind)(*arguments)
        if kind in CHANGES:
            for left in again.crash_states(tear):
                key = tuple(sorted(left.contents().items()))
                if key not in seen:
                    seen.add(key)
                    yield left


def test_power_loss_while_sealing():
    """Whenever the power fails while segments become history, the log has every event once and goes on."""
    before, events = filled()
    disk = ForgetfulDisk(before.contents(), [FOLDER, *FOLDER.parents])
    done = seal(FOLDER, disk, LogPosition(len(events)), 0)
    assert done.files == 4
    assert done.segments == 3
    count = 0
    for left in crash_states(disk, before.contents()):
        check_left(left, events)
        count += 1
    print(f"{count} crash states")
    assert count > 50


def test_power_loss_while_cutting():
    """Whenever the power fails while history is cut, the log begins where it did or where it was to."""
    before, events = filled()
    seal(FOLDER, before, LogPosition(len(events)), 0)
    history = read_history(FOLDER, before)
    assert history is not None
    disk = ForgetfulDisk(before.contents(), [HISTORY, *HISTORY.parents])
    begin = kept_from(history, 2 * DAY_MS)
    assert 0 < begin < history.end
    retain(FOLDER, disk, begin)
    count = 0
    for left in crash_states(disk, before.contents()):
        check_left(left, events, {0, begin})
        count += 1
    assert count > 5


@pytest.mark.parametrize("kind", ["make_folder", "list_folder", "open", "write", "sync", "sync_folder", "rename"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_nth_call_of_a_sealing_fails(kind, error):
    """Whichever call fails, the sealing says so, nothing is lost then or by a power loss, and the next one is whole."""
    for nth in itertools.count(1):
        before, events = filled()
        disk = ForgetfulDisk(before.contents(), [FOLDER, *FOLDER.parents])
        failing = FailingDisk(disk)
        failing.fail(DiskFault(kind, nth, error))
        try:
            seal(FOLDER, failing, LogPosition(len(events)), 0)
        except OSError:
            assert failing.failed
        if not failing.failed:
            assert nth > 1
            break
        for left in disk.crash_states(100_000):
            check_left(left, events)
        failing.heal()
        check_left(disk, events)


@pytest.mark.parametrize("kind", ["unlink", "read", "size"])
def test_nth_call_of_a_sealing_fails_often(kind):
    """The same for calls that are many: each fifth of them."""
    for nth in itertools.count(1, 5):
        before, events = filled()
        disk = ForgetfulDisk(before.contents(), [FOLDER, *FOLDER.parents])
        failing = FailingDisk(disk)
        failing.fail(DiskFault(kind, nth))
        try:
            seal(FOLDER, failing, LogPosition(len(events)), 0)
        except (OSError, LogDamaged):
            assert failing.failed
        if not failing.failed:
            assert nth > 1
            break
        failing.heal()
        check_left(disk, events)


def test_what_is_written_wrong_is_not_named():
    """A file that does not hold what it should when it is read back counts for nothing, and no segment goes."""

    class Forger(ForgetfulDisk):
        def write(self, file, parts, start):
            data = b"".join(parts)
            if data[:4] == b"PAR1":
                data = data[:50] + bytes([data[50] ^ 1]) + data[51:]
            super().write(file, [data], start)

    before, events = filled()
    disk = Forger(before.contents(), [FOLDER, *FOLDER.parents])
    names = disk.list_folder(FOLDER)
    with pytest.raises(LogDamaged, match=r"SHA-256|cannot be trusted"):
        seal(FOLDER, disk, LogPosition(len(events)), 0)
    assert read_history(FOLDER, disk) is None
    assert disk.list_folder(FOLDER) == names
    check_left(ForgetfulDisk(disk.contents(), [HISTORY, *HISTORY.parents]), events)
