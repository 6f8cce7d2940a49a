"""What a power loss, a failing disk or a full one may take from the log: nothing that was acknowledged.

The oracle is a client outside the log that keeps its own list: what it sent, what was acknowledged and what it read,
each with the number of disk calls made by then.
"""

import errno
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midstream.core.errors import AppendFailed, DiskFull
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.events.segments.frames import OPENING_BYTES, head_at, seed_of
from midstream.events.segments.log_repair import repair, survey_log
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import events_in
from tests.support.disks import CHANGES, DiskFault, FailingDisk, ForgetfulDisk, replayed

FOLDER = Path("/data/log")
LOG_ID = bytes(range(16))
SEGMENT_BYTES = 1_400
"""Room for a large commit or some small ones, so that workloads of three operations begin new segments."""
ROOM = DiskFault("write", error=errno.ENOSPC)
BROKEN = DiskFault("sync")


def batch_of(number, size, body_bytes):
    """Return a batch whose events say which it is: up to four of bodies that cannot be packed, more of one letter."""
    letters = bytes([65 + number % 26]) * body_bytes
    return build(
        [
            Event(
                1,
                event_id=f"{number}-{index}",
                action="view",
                body=letters if size > 4 else np.random.default_rng(9 * number + index).bytes(body_bytes),
            )
            for index in range(size)
        ]
    )


BATCHES = {"small": (1, 3), "large": (3, 310)}
PACKED = {"packed": (40, 60)}
"""5 kB in a frame of about 800 bytes."""
OPERATIONS = (*BATCHES, "reopen", "no room", "failed sync")


class Client:
    """Drives a log and writes down what it was promised, beside the number of calls the disk had seen by then."""

    def __init__(self, fault=None):
        self.disk = ForgetfulDisk()
        self.failing = FailingDisk(self.disk)
        if fault is not None:
            self.failing.fail(fault)
        self.promised: list[tuple[int, list[bytes], list[bytes]]] = [(0, [], [])]
        """Number of calls, events that must be there from then on, events that may follow them."""
        self.number = 0
        self.log: Any = None

    def open(self):
        """Open the log; what it shows is promised from now on."""
        if self.log is not None:
            self.log.close()
            self.log = None
        log = SegmentLog(FOLDER, self.failing, LOG_ID, SEGMENT_BYTES)
        try:
            found = read_all(log)
        except OSError:
            log.close()
            raise
        self.log = log
        _, must, may = self.promised[-1]
        assert found in (must, must + may)
        self.note(found, [])

    def note(self, must, may):
        self.promised.append((len(self.disk.calls), must, may))

    def append(self, size, body_bytes):
        batch = batch_of(self.number, size, body_bytes)
        if self.log.refused:
            with pytest.raises(AppendFailed):
                self.log.append(batch)
            return
        self.number += 1
        must = self.promised[-1][1]
        sent = events_in([(LogPosition(0), batch)])
        self.note(must, sent)
        try:
            self.log.append(batch)
        except DiskFull:
            self.note(must, [])
        except AppendFailed:
            self.note(must, sent)
        else:
            self.note(must + sent, [])

    def run(self, operation):
        if self.log is None:
            self.open()
        if operation == "reopen":
            self.open()
        elif operation == "no room":
            self.failing.fail(ROOM)
            self.append(*BATCHES["large"])
            self.failing.heal()
        elif operation == "failed sync":
            self.failing.fail(BROKEN)
            self.append(*BATCHES["small"])
            self.failing.heal()
            with pytest.raises(AppendFailed):
                self.log.append(batch_of(self.number, 1, 1))
            self.open()
        else:
            self.append(*(BATCHES | PACKED)[operation])

    def promise_at(self, call_count):
        """What must and what may be there when only that many calls were made."""
        return [promise for promise in self.promised if promise[0] <= call_count][-1][1:]


def read_all(log):
    """Return every event of a log, as bytes."""
    found: list[bytes] = []
    while len(found) < log.end:
        more = events_in(log.read(LogPosition(len(found)), 1_000))
        assert more
        found += more
    return found


def check_left(disk, must, may):
    """What is left holds what was promised, once and whole, and takes and keeps more."""
    log = SegmentLog(FOLDER, disk, LOG_ID, SEGMENT_BYTES)
    found = read_all(log)
    assert found in (must, must + may)
    further = batch_of(99, 1, 9)
    log.append(further)
    log.close()
    log = SegmentLog(FOLDER, disk, LOG_ID, SEGMENT_BYTES)
    assert log.recovered is None
    assert read_all(log) == found + events_in([(LogPosition(0), further)])
    log.close()
    return found


def check_every_state(client, tear, since=0):
    """Check each disk that a power loss after any call from ``since`` on may leave; return how many that were."""
    count = 0
    for call_count, disk in replayed(client.disk.calls):
        if call_count <= since:
            continue
        must, may = client.promise_at(call_count)
        for left in disk.crash_states(tear):
            check_left(left, must, may)
            count += 1
    return count


@pytest.mark.long
def test_power_loss_in_every_small_workload():
    """All workloads of up to three operations, a power loss after every call, in at least 10,000 states: every
    acknowledged event is there exactly once, an unacknowledged one wholly or not at all, and the log goes on.
    """
    count = 0
    for length in (1, 2, 3):
        operations = OPERATIONS if length > 2 else (*OPERATIONS, *PACKED)
        for workload in itertools.product(operations, repeat=length):
            client = Client()
            since = 0
            for operation in workload:
                since = len(client.disk.calls)
                client.run(operation)
            # What happens before the last operation is a shorter workload, checked as such.
            count += check_every_state(client, 10, since if length > 1 else 0)
    print(f"{count} crash states")
    assert count >= 10_000


def frames_on(disk):
    """Return the heads of all frames of a disk's log."""
    found = []
    for path, data in disk.contents().items():
        at = OPENING_BYTES
        while path.suffix == ".segment" and (frame := head_at(data, at, seed_of(LOG_ID))) is not None:
            found.append(frame)
            at += frame.length
    return found


def test_power_loss_tears_a_write_at_any_byte():
    """The same where the last write may end at every single byte."""
    client = Client()
    for operation in ("small", "large", "no room", "packed", "large", "small"):
        client.run(operation)
    client.log.close()
    assert any(frame.packed_bytes for frame in frames_on(client.disk))
    assert check_every_state(client, tear=1) > 1_000


def test_power_loss_while_recovering():
    """A second power loss while the log is opened after the first takes nothing either."""
    client = Client()
    for operation in ("small", "packed", "large", "small"):
        client.run(operation)
    count = 0
    for call_count, disk in replayed(client.disk.calls):
        must, may = client.promise_at(call_count)
        for left in disk.crash_states(256):
            before = left.contents()
            left.make_folder(FOLDER)
            log = SegmentLog(FOLDER, left, LOG_ID, SEGMENT_BYTES)
            shown = read_all(log)
            for _, again in _replayed_on(left, before):
                for left_again in again.crash_states(256):
                    check_left(left_again, must, may)
                    count += 1
            for left_again in left.crash_states():
                check_left(left_again, shown, [])
    assert count > 400


def _replayed_on(disk, contents):
    """Yield the disk after each call that changed it, beginning from ``contents``."""
    again = ForgetfulDisk(contents, [FOLDER, *FOLDER.parents])
    for number, (kind, arguments) in enumerate(disk.calls):
        if kind in CHANGES or kind in {"lock", "close"}:
            getattr(again, kind)(*arguments)
            yield number, again


def kinds_and_faults():
    """Every kind of call, failing once or for good, without room or broken, with nothing, some or all written."""
    for kind in ("make_folder", "lock", "list_folder", "open", "write", "sync", "sync_folder", "truncate", "rename"):
        for error, for_good in itertools.product((errno.EIO, errno.ENOSPC), (False, True)):
            for written in (0.0, 0.4, 1.0) if kind == "write" else (0.0,):
                yield DiskFault(kind, 1, error, written, for_good)
    for kind in ("read", "size"):
        yield DiskFault(kind)


def run_with(fault):
    """Run a workload on a disk with one fault; return the client, or None where the fault was never met."""
    client = Client(fault)
    for operation in ("reopen", "small", "large", "reopen", "small", "large", "large", "reopen", "small"):
        try:
            client.run(operation)
        except (OSError, AppendFailed):
            assert client.log is None  # it could not be opened; the next operation tries again
    return client if client.failing.failed else None


def check_no_second_sync(disk):
    """No file is synced again after its sync failed."""
    lost = set()
    for kind, arguments in disk.calls:
        if kind == "lose":
            lost.add(arguments[0])
        assert not (kind == "sync" and arguments[0] in lost)


@pytest.mark.parametrize("fault", list(kinds_and_faults()), ids=str)
def test_nth_call_fails(fault):
    """Whichever call fails, nothing acknowledged is lost, a failed sync is the file's last, and a log that is
    opened when the disk is well again shows and takes everything; nor does a power loss then take anything.
    """
    for nth in itertools.count(1):
        client = run_with(DiskFault(fault.kind, nth, fault.error, fault.written, fault.for_good))
        if client is None:
            assert nth > 1, "no call of this kind was made"
            break
        check_no_second_sync(client.disk)
        must, may = client.promised[-1][1:]
        for left in client.disk.crash_states(100_000):
            check_left(left, must, may)
        client.failing.heal()
        client.open()
        for left in client.disk.crash_states():
            check_left(left, client.promised[-1][1], [])
        assert nth < 200


def test_log_refuses_everything_after_a_failed_sync():
    """After a failed sync no append is tried, whatever the disk does; reading what was durable goes on."""
    client = Client()
    client.run("small")
    client.failing.fail(BROKEN)
    with pytest.raises(AppendFailed, match="could not be synced"):
        client.log.append(batch_of(1, 1, 1))
    client.failing.heal()
    calls = len(client.disk.calls)
    for _ in range(3):
        with pytest.raises(AppendFailed, match="could not be synced") as caught:
            client.log.append(batch_of(2, 1, 1))
        assert not isinstance(caught.value, DiskFull)
    assert len(client.disk.calls) == calls
    assert client.log.refused
    assert client.log.end == 1
    assert len(read_all(client.log)) == 1


@pytest.mark.parametrize("kind", ["write", "open"])
def test_disk_full_for_a_while(kind):
    """While there is no room each append says so and keeps nothing; with room the same log goes on."""
    client = Client()
    client.run("small")
    client.run("large")
    must = client.promised[-1][1]
    size = sum(map(len, client.disk.contents().values()))
    client.failing.fail(DiskFault(kind, error=errno.ENOSPC, for_good=True))
    for number in range(5):
        with pytest.raises(DiskFull, match="No space"):
            client.log.append(batch_of(number, 3, 400))
        assert client.log.end == len(must)
        assert read_all(client.log) == must
        assert sum(map(len, client.disk.contents().values())) == size
    for left in client.disk.crash_states():
        check_left(left, must, [])
    client.failing.heal()
    client.run("large")
    client.run("small")
    assert len(client.promised[-1][1]) == len(must) + 4
    check_every_state(client, tear=512)


def test_half_a_commit_that_cannot_be_cut_off_ends_the_log():
    """Where no room was found and the half commit stays, nothing may be written after it."""
    for kind in ("truncate", "sync"):
        client = Client()
        client.run("small")
        client.failing.fail(ROOM, then=DiskFault(kind))
        with pytest.raises(AppendFailed, match="could not be cut off") as caught:
            client.log.append(batch_of(1, 1, 1))
        assert not isinstance(caught.value, DiskFull)
        with pytest.raises(AppendFailed):
            client.log.append(batch_of(1, 1, 1))


@pytest.mark.parametrize("number, byte, good", [(1, 400, 2), (2, 300, 6)])
def test_repair_can_be_interrupted_anywhere(number, byte, good):
    """Power loss at any call of a repair leaves a log that is still refused, or is cut; done again, it is cut. Once
    anything is cut the generation is another, and no byte that was cut off is lost.
    """
    client = Client()
    for operation in ("small", "small", "large", "small", "small", "large"):
        client.run(operation)
    client.log.close()
    must = client.promised[-1][1]
    names = sorted(path for path in client.disk.contents() if path.name.endswith(".segment"))
    assert len(names) == 4
    content = bytearray(client.disk.contents()[names[number]])
    content[byte] ^= 4
    client.disk.damage(names[number], bytes(content))
    before = client.disk.contents()
    disk = ForgetfulDisk(before, [FOLDER, *FOLDER.parents])
    assert repair(FOLDER, disk).survey.end == good
    count = 0
    for _, again in _replayed_on(disk, before):
        for left in again.crash_states(512):
            count += 1
            is_cut = any(left.contents().get(path) != before[path] for path in names)
            check_nothing_lost(names, before, left.contents())
            if survey_log(FOLDER, left).damage is not None:
                repair(FOLDER, left)
                check_nothing_lost(names, before, left.contents())
            log = SegmentLog(FOLDER, left, LOG_ID, SEGMENT_BYTES)
            assert read_all(log) == must[:good]
            assert log.generation >= 1 or not is_cut
            log.close()
            check_left(left, must[:good], [])
    assert count > 10


def check_nothing_lost(names, before, after):
    """Each segment is as it was, or its beginning and a file beside it make it up, or that file is all of it."""
    for path in names:
        kept = after.get(path, b"")
        sides = [data for side, data in after.items() if side.name.startswith(f"{path.name}.generation")]
        assert kept == before[path] or any(kept + side == before[path] for side in sides)
