"""Every bit of a segment matters: flip any one and it is noticed."""

from pathlib import Path

import pytest

from midstream.core.errors import LogDamaged
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.events.segments.frames import OPENING_BYTES, head_at, seed_of
from midstream.events.segments.log_identity import identity_of
from midstream.events.segments.segment_scan import scan, segment_name, start_of
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import events_in
from tests.support.disks import ForgetfulDisk

FOLDER = Path("/log")
LOG_ID = bytes(range(16))
BYTES = 16 << 10


def make_segment():
    """Return a disk with one segment of 16 KiB, its bytes, its events and where its last commit begins."""
    disk = ForgetfulDisk()
    log = SegmentLog(FOLDER, disk, LOG_ID)
    path = FOLDER / segment_name(0)
    number = 0
    while len(disk.contents().get(path, b"")) < BYTES - 4_000:
        size = (1, 12, 5, 150)[number % 4]  # as they are, or packed in one way or the other
        body = bytes([97 + number % 26]) * (20 + 31 * number % 170)
        log.append(build([Event(1, event_id=f"e{number}-{index}", body=body) for index in range(size)]))
        number += 1
    # Two commits that fill it to the byte: 80 of head and 56 of row each.
    for last in (1_600, 0):
        left = BYTES - len(disk.contents()[path]) - 136
        log.append(build([Event(1, body=b"z" * (last or left))]))
    events = events_in(log.read(LogPosition(0), 1_000_000))
    log.close()
    data = disk.contents()[path]
    assert len(data) == BYTES
    start = OPENING_BYTES
    packings = set()
    while True:
        frame = head_at(data, start, seed_of(LOG_ID))
        assert frame is not None
        packings.add(frame.packing)
        if start + frame.length == BYTES:
            assert packings == {0, 1, 2}
            return disk, data, events, start
        start += frame.length


@pytest.mark.long
def test_every_flipped_bit_is_found_by_a_scan():
    """Each of the 131,072 bits of a segment of 16 KiB, flipped: damage is found where it is, and only what hits the
    last commit is taken for a torn tail; no scan is content.
    """
    _, data, events, last = make_segment()
    identity = identity_of(LOG_ID, 0)
    before = start_of(identity)
    whole = scan(data, 0, identity, before, is_last=True)
    assert (whole.torn, whole.damage, whole.tail.position) == (None, None, len(events))
    content = bytearray(data)
    for bit in range(len(data) * 8):
        at = bit >> 3
        content[at] ^= 1 << (bit & 7)
        found = scan(content, 0, identity, before, is_last=True)
        content[at] ^= 1 << (bit & 7)
        if at >= last:
            assert found.damage is None
            assert found.torn is not None
            assert found.torn.byte == last
        else:
            assert found.torn is None
            assert found.damage is not None
            assert found.damage.byte <= at
            assert found.damage.first < len(events)
        sealed = found if at < last else None
        if sealed is None and bit % 16 == 0:
            content[at] ^= 1 << (bit & 7)
            sealed = scan(content, 0, identity, before, is_last=False)
            content[at] ^= 1 << (bit & 7)
        assert sealed is None or sealed.damage is not None


def test_flipped_bits_are_refused_or_dropped_by_a_log():
    """The same through opening and reading, for every 61st bit: refused, or what is read is a part that was so."""
    disk, data, events, last = make_segment()
    path = FOLDER / segment_name(0)
    for bit in range(0, len(data) * 8, 61):
        content = bytearray(data)
        content[bit >> 3] ^= 1 << (bit & 7)
        left = ForgetfulDisk({**disk.contents(), path: bytes(content)}, [FOLDER])
        if bit >> 3 < last:
            with pytest.raises(LogDamaged, match="cannot be trusted"):
                SegmentLog(FOLDER, left, LOG_ID)
            continue
        log = SegmentLog(FOLDER, left, LOG_ID)
        assert log.recovered is not None
        assert events_in(log.read(LogPosition(0), 1_000_000)) == events[:-1]


def test_flipped_bits_under_a_running_log_are_noticed_by_the_next_read():
    """Rot that comes after the log was opened: a read that meets it is refused, one that does not is right."""
    disk, data, events, _ = make_segment()
    path = FOLDER / segment_name(0)
    log = SegmentLog(FOLDER, disk, LOG_ID)
    for bit in range(0, len(data) * 8, 61):
        content = bytearray(data)
        content[bit >> 3] ^= 1 << (bit & 7)
        disk.damage(path, bytes(content))
        with pytest.raises(LogDamaged, match="cannot be trusted"):
            log.read(LogPosition(0), 1_000_000)
        half = len(events) // 2
        try:
            found = events_in(log.read(LogPosition(half), 1))
        except LogDamaged:
            continue
        assert found == events[half : half + len(found)]
