"""The segment log: rotation, torn tails, damage, repair, readers, the lock."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import AppendFailed, DiskFull, FolderLocked, LogDamaged, LogUnreadable
from midstream.core.types import EventBatch, LogPosition
from midstream.events.disk import RealDisk
from midstream.events.schema import ROW, Event, build, concat
from midstream.events.segments import frames
from midstream.events.segments.frames import body_of, encode, head_at, is_sound, seed_of
from midstream.events.segments.log_identity import identity_of, write_identity
from midstream.events.segments.log_repair import repair, survey_log
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segment_scan import segment_name
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import events_in, sample_batch
from tests.support.disks import ForgetfulDisk

FOLDER = Path("/data/log")
LOG_ID = bytes(range(16))
FOLDERS = (FOLDER, *FOLDER.parents)


def log_on(disk, segment_bytes=1 << 20):
    """Open the log on a disk."""
    return SegmentLog(FOLDER, disk, LOG_ID, segment_bytes)


def read_all(log, limit=1_000):
    """Return every event of a log, as bytes."""
    found: list[bytes] = []
    while len(found) < log.end:
        found += events_in(log.read(LogPosition(len(found)), limit))
    return found


def all_of(batches):
    """Return every event of the batches, as bytes."""
    return events_in([(LogPosition(0), concat(batches))])


def filled(sizes, segment_bytes=1 << 20):
    """Return a disk with a log of commits of these sizes, and its events."""
    disk = ForgetfulDisk()
    log = log_on(disk, segment_bytes)
    batches, first = [], 0
    for size in sizes:
        batches.append(sample_batch(first, size, first))
        first += size
        log.append(batches[-1])
    log.close()
    return disk, all_of(batches)


def segments_of(disk):
    """Return the paths of the segments, in order."""
    return sorted(path for path in disk.contents() if path.name.endswith(".segment"))


def with_content(disk, path, content):
    """Return another disk that is the same but for one file."""
    return ForgetfulDisk({**disk.contents(), path: bytes(content)}, FOLDERS)


def without(disk, path):
    """Return another disk that is the same without one file."""
    return ForgetfulDisk({each: data for each, data in disk.contents().items() if each != path}, FOLDERS)


def frame_ends(data):
    """Return where each frame of a segment ends."""
    at, ends = frames.OPENING_BYTES, [0]
    while at < len(data):
        frame = head_at(data, at, seed_of(LOG_ID))
        assert frame is not None
        at += frame.length
        ends.append(at)
    return ends


def test_one_event_takes_little():
    """A commit of one event takes at most 250 bytes beside its ids."""
    ids = 0
    for count in range(1, 30):
        batch = build([Event(1, event_id="e" * count, user_id="u" * 20, item_id="i" * (count % 7))])
        ids = len(batch.text)
        body = body_of(batch)
        assert body.length - ids <= 250
        parts, _ = encode(body, 0, 0, bytes(16), 7)
        assert frames.bytes_of(parts) == body.length
        assert b"".join(parts).rstrip(b"\0").endswith(batch.text)


@pytest.mark.parametrize("count", [1, 2, 40])
def test_a_frame_in_one_piece_is_the_same(count, monkeypatch):
    """Hashed and written as a whole or part by part, packed or not: the same bytes and the same checksum."""
    body = body_of(build([Event(1, event_id=f"e{each}", user_id="u" * 20) for each in range(count)]))
    at_once = encode(body, 5, 1, bytes(16), 7)
    monkeypatch.setattr(frames, "JOINED_BYTES_MAX", -1)
    apart = encode(body, 5, 1, bytes(16), 7)
    assert (len(at_once.parts), at_once.checksum) == (1, apart.checksum)
    assert len(apart.parts) > 1
    assert b"".join(at_once.parts) == b"".join(apart.parts)


@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.integers(200, 5_000),
    st.sets(st.integers(0, 11), max_size=3),
    st.integers(1, 50),
)
def test_log_is_the_list_of_its_events(sizes, segment_bytes, reopened, limit):
    """Whatever the sizes of commits and segments, whenever it is opened anew: the log is the list of its events."""
    disk = ForgetfulDisk()
    log = log_on(disk, segment_bytes)
    batches = [sample_batch(0, 0, 0)]
    for number, size in enumerate(sizes):
        if number in reopened:
            log.close()
            log = log_on(disk, segment_bytes)
            assert log.recovered is None
        first = sum(map(len, batches))
        batches.append(sample_batch(first, size, 10 + first))
        log.append(batches[-1])
        assert log.end == first + size
    expected = all_of(batches)
    assert read_all(log, limit) == expected
    last = log.last_log_time_ms
    log.close()
    again = log_on(disk, segment_bytes)
    assert again.last_log_time_ms == last
    assert read_all(again, limit) == expected
    assert survey_log(FOLDER, disk).end == len(expected)


def test_rotation():
    """A commit that does not fit begins a segment named by its position; none is larger, save for a larger commit."""
    disk, expected = filled([1] * 30 + [250, 1, 1], segment_bytes=2_000)
    segments = segments_of(disk)
    assert len(segments) > 4
    assert [segment_name(int(path.stem)) for path in segments] == [path.name for path in segments]
    sizes = [len(disk.contents()[path]) for path in segments]
    assert sum(size > 2_000 for size in sizes) == 1
    assert read_all(log_on(disk, 2_000)) == expected


def test_a_full_segment_that_cannot_be_closed_stops_nothing():
    """All of it was durable before, so the log goes on in the next one, and reads back whole."""

    class Unclosing(ForgetfulDisk):
        fails = False

        def close(self, file):
            super().close(file)
            if self.fails:
                raise OSError(5, "input/output error")

    disk = Unclosing()
    log = log_on(disk, 1_000)
    disk.fails = True
    batches = [sample_batch(number, 1, number) for number in range(20)]
    for number, batch in enumerate(batches, 1):
        assert log.append(batch) == number
    assert read_all(log) == all_of(batches)


def test_rows_are_aligned_and_not_copied():
    """Rows that were read lie at a multiple of 8 and are a view of what was read, so kernels take them as they are."""
    disk, _ = filled([1, 2, 3, 1, 5, 50, 1])
    for _, batch in log_on(disk).read(LogPosition(0), 100):
        assert batch.rows.ctypes.data % 8 == 0
        assert not batch.rows.flags.owndata
        assert batch.rows.dtype == ROW


def test_large_commits_and_places_between():
    """Commits larger than a read, and positions far into a segment, are found and read whole."""
    disk = ForgetfulDisk()
    log = log_on(disk, 64 << 20)
    large = build([Event(1, body=np.random.default_rng(number).bytes(300_000)) for number in range(7)])
    small = sample_batch(0, 700, 0)
    batches = [small, large, small, *([sample_batch(0, 1, 0)] * 900), large, sample_batch(0, 3, 0)]
    for batch in batches:
        log.append(batch)
    expected = all_of(batches)
    for reader in (log, log_on(with_content(disk, FOLDER / "other", b""))):
        for after in (0, 1, 699, 700, 706, 707, 1_406, 1_407, 1_900, 2_306, 2_307, 2_313, 2_314, 2_316, 1_500, 10):
            assert events_in(reader.read(LogPosition(after), 1))[0] == expected[after]
        assert read_all(reader, 333) == expected


def test_torn_at_every_byte():
    """A log cut at any byte of its last commits, in commits of three sizes: whole ones are kept, a torn one is
    dropped and reported, and the log goes on.
    """
    for size, step in ((1, 1), (3, 5), (17, 41)):
        disk, expected = filled([size] * 26)
        (path,) = segments_of(disk)
        data = disk.contents()[path]
        ends = frame_ends(data)
        for stop in range(ends[2], len(data), step):
            left = with_content(disk, path, data[:stop])
            log = log_on(left)
            whole = sum(end <= stop for end in ends[1:])
            assert log.end == whole * size
            dropped = stop - ends[whole]
            assert (log.recovered is not None) == (dropped > 0)
            if log.recovered is not None:
                assert log.recovered.dropped_bytes == dropped
                assert log.recovered.position == log.end
            if stop % 97 == 0:
                further = sample_batch(5, 2, 10_000)
                log.append(further)
                log.close()
                log = log_on(left)
                assert log.recovered is None
                assert read_all(log) == expected[: whole * size] + all_of([further])
            log.close()


def test_first_commit_torn_at_every_byte():
    """A first segment without one whole commit is an empty log, and a later one adds nothing."""
    for sizes, kept in (([2], 0), ([3, 2], 3)):
        disk, expected = filled(sizes, segment_bytes=100)
        path = segments_of(disk)[-1]
        data = disk.contents()[path]
        for stop in range(len(data)):
            left = with_content(disk, path, data[:stop])
            log = log_on(left, 100)
            assert read_all(log) == expected[:kept]
            assert log.last_log_time_ms == 0
            further = sample_batch(7, 2, 7)
            log.append(further)
            log.close()
            assert read_all(log_on(left, 100)) == expected[:kept] + all_of([further])


def test_tails_that_are_no_commit():
    """Zeros, garbage and an older commit in a wrong place behind the last commit are dropped."""
    disk, expected = filled([1, 2, 3, 1])
    (path,) = segments_of(disk)
    data = disk.contents()[path]
    ends = frame_ends(data)
    random = np.random.default_rng(5)
    tails = [bytes(length) for length in range(1, 4_097, 13)]
    tails += [random.bytes(length) for length in range(1, 4_097, 29)]
    tails += [b"msf1" * length for length in range(1, 200, 3)]
    tails += [data[start:stop] for start, stop in zip([80, *ends[1:]], ends[1:], strict=False)]
    for tail in tails:
        log = log_on(with_content(disk, path, data + tail))
        assert read_all(log) == expected
        assert log.recovered is not None
        assert log.recovered.dropped_bytes == len(tail)


def test_a_commit_holding_a_commit_is_torn_like_any_other():
    """The bytes of a frame inside an event's body, sent by someone who knows the format, are no frame of this log."""
    inner = encode(body_of(sample_batch(0, 1, 0)), 5, 0, bytes(16), seed_of(bytes(16)))
    body = b"".join([bytes(4), *map(bytes, inner.parts)])
    disk = ForgetfulDisk()
    log = log_on(disk)
    log.append(sample_batch(0, 1, 0))
    for pad in range(8):
        log.append(build([Event(1, body=bytes(pad) + body * 3)]))
        log.close()
        (path,) = segments_of(disk)
        left = with_content(disk, path, disk.contents()[path][:-8])
        torn = log_on(left)
        assert torn.end == 1 + pad
        log = log_on(disk)


def test_failed_opening_changes_nothing_and_frees_the_lock():
    """A log that is refused is left as it was, and says what to do."""
    disk, _ = filled([1] * 12, segment_bytes=700)
    path = segments_of(disk)[-1]
    content = bytearray(disk.contents()[path])
    content[100] ^= 1
    left = with_content(disk, path, content)
    before = left.contents()
    for _ in range(2):
        with pytest.raises(LogDamaged, match=r"log position \d+ to .*midstream doctor --repair"):
            log_on(left, 700)
    assert left.contents() == before


def damaged_disks():
    """Every way in which a log of several segments is damaged, with the position of its last good event."""
    disk, expected = filled([1, 2] * 12, segment_bytes=900)
    segments = segments_of(disk)
    assert len(segments) >= 5
    contents = disk.contents()
    middle, last = segments[2], segments[-1]
    firsts = [int(path.stem) for path in segments]
    ends = frame_ends(contents[last])

    def flipped(path, at):
        content = bytearray(contents[path])
        content[at] ^= 16
        return with_content(disk, path, content)

    yield "middle of the last segment", flipped(last, ends[1] + 90), firsts[-1] + 1 + (firsts[-1] % 3 > 0)
    yield "opening of the last segment", flipped(last, 30), firsts[-1]
    yield "middle of a sealed segment", flipped(middle, 100), firsts[2]
    yield "opening of a sealed segment", flipped(middle, 5), firsts[2]
    yield "end of a sealed segment", flipped(middle, len(contents[middle]) - 3), None
    yield "sealed segment cut short", with_content(disk, middle, contents[middle][:-8]), None
    yield "sealed segment empty", with_content(disk, middle, b""), firsts[2]
    yield "bytes behind a sealed segment", with_content(disk, middle, contents[middle] + bytes(8)), firsts[3]
    yield "first segment missing", without(disk, segments[0]), 0
    yield "segment missing", without(disk, middle), firsts[2]
    yield "segment before the last missing", without(disk, segments[-2]), firsts[-2]
    swapped = with_content(disk, middle, contents[segments[3]])
    yield "two segments swapped", with_content(swapped, segments[3], contents[middle]), firsts[2]
    frame = contents[last][ends[1] : ends[2]]
    doubled = contents[last][: ends[2]] + frame + contents[last][ends[2] :]
    yield "a commit twice", with_content(disk, last, doubled), None
    lost = contents[last][: ends[1]] + contents[last][ends[2] :]
    yield "a commit missing", with_content(disk, last, lost), None
    assert len(expected) == 36


DAMAGED = {name: (disk, good) for name, disk, good in damaged_disks()}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused_and_repaired(name):
    """Damage is never read as events: it is refused with its range when the log is opened or read. A repair keeps
    all before it, the generation moves on, and nothing of the rest is thrown away.
    """
    damaged, good = DAMAGED[name]
    _, expected = filled([1, 2] * 12, segment_bytes=900)
    disk = with_content(damaged, FOLDER / "other", b"")
    before = disk.contents()

    def open_and_read():
        log = log_on(disk, 900)
        try:
            return read_all(log, 5)
        finally:
            log.close()

    with pytest.raises(LogDamaged, match=r"(?s)segment.*log position \d+ to .*midstream doctor --repair"):
        open_and_read()
    found = survey_log(FOLDER, disk)
    assert found.damage is not None
    assert found.damage.first == found.end
    if good is not None:
        assert found.end == good
    repaired = repair(FOLDER, disk)
    assert repaired.survey.end == found.end
    assert repaired.survey.damage is None
    assert repaired.survey.generation == 1
    assert repaired.side_files
    log = log_on(disk, 900)
    assert log.recovered is None
    assert log.generation == 1
    assert read_all(log) == expected[: found.end]
    further = sample_batch(50, 3, 50)
    log.append(further)
    log.close()
    log = log_on(disk, 900)
    assert read_all(log) == expected[: found.end] + all_of([further])
    log.close()
    assert repair(FOLDER, disk).side_files == ()
    kept = disk.contents()
    for path in segments_of(ForgetfulDisk(before)):
        rest = b"".join(data for side, data in kept.items() if side.name.startswith(path.name + ".generation"))
        assert before[path].endswith(rest)
        assert len(rest) == len(before[path]) or kept[path].startswith(before[path][: len(before[path]) - len(rest)])


FOUND_BY_READING = {"middle of a sealed segment", "end of a sealed segment"}
"""Opening reads the last segment alone; of the others it sees names, sizes and openings."""


@pytest.mark.parametrize("name", DAMAGED.keys() - FOUND_BY_READING)
def test_damage_of_names_and_sizes_is_refused_at_the_start(name):
    """A log with a segment missing, cut short, grown or misplaced, or with damage in the last one, is not opened."""
    damaged, _ = DAMAGED[name]
    with pytest.raises(LogDamaged, match="midstream doctor --repair"):
        log_on(with_content(damaged, FOLDER / "other", b""), 900)


def test_two_histories_do_not_mix():
    """Commits of a copy of the log that went on otherwise are refused, though id, positions and sizes are the same."""
    logs: list[bytes] = []
    disk = ForgetfulDisk()
    for name in ("a", "b"):
        disk = ForgetfulDisk()
        log = log_on(disk)
        for number in range(6):
            log.append(build([Event(1, event_id=name if number == 3 else "c", log_time_ms=number)]))
        log.close()
        logs.append(disk.contents()[segments_of(disk)[0]])
    one, other = logs
    assert len(one) == len(other)
    ends = frame_ends(one)
    for frame in (4, 5):
        mixed = one[: ends[frame]] + other[ends[frame] :]
        left = with_content(disk, segments_of(disk)[0], mixed)
        with pytest.raises(LogDamaged, match=f"log position {frame} to"):
            log_on(left)
        with pytest.raises(LogDamaged, match="does not follow"):
            SegmentReader(FOLDER, left).read(LogPosition(0), 10, LogPosition(6))
        assert SegmentReader(FOLDER, left).read(LogPosition(0), 1, LogPosition(6))


def test_identity_lost_or_damaged():
    """Without its identity, or with a single bit of it flipped, a log is refused; a repair takes it from the
    segments and raises the generation above all that was ever used.
    """
    disk, expected = filled([1, 2] * 6, segment_bytes=900)
    path = FOLDER / "log.json"
    data = disk.contents()[path]
    broken = [without(disk, path)]
    for bit in range(len(data) * 8):
        content = bytearray(data)
        content[bit // 8] ^= 1 << bit % 8
        broken.append(with_content(disk, path, content))
    for number, left in enumerate(broken):
        with pytest.raises(LogDamaged, match="midstream doctor --repair"):
            log_on(left, 900)
        if number % 50 == 0:
            repaired = repair(FOLDER, left)
            assert repaired.damage is not None
            assert repaired.survey.generation == 1
            log = log_on(left, 900)
            assert log.log_id == LOG_ID.hex()
            assert read_all(log) == expected


def test_generation_does_not_go_back():
    """Commits of a later generation than the log's are damage; those of earlier ones are its history."""
    disk, _ = filled([2, 2])
    write_identity(FOLDER, disk, identity_of(LOG_ID, 3))
    log = log_on(disk)
    log.append(sample_batch(4, 1, 4))
    assert log.generation == 3
    log.close()
    assert log_on(with_content(disk, FOLDER / "other", b"")).end == 5
    write_identity(FOLDER, disk, identity_of(LOG_ID, 2))
    with pytest.raises(LogDamaged, match="generation 3 where 0 to 2 would be right"):
        log_on(disk)


def test_segment_of_another_log_is_refused():
    """Segments of two logs do not mix, though their names and positions fit."""
    disk, _ = filled([1] * 8, segment_bytes=700)
    other = ForgetfulDisk()
    log = SegmentLog(FOLDER, other, bytes(16), 700)
    for number in range(8):
        log.append(sample_batch(number, 1, number))
    for path in segments_of(disk):
        mixed = with_content(disk, path, other.contents()[path])
        with pytest.raises(LogDamaged):
            read_all(log_on(mixed, 700))


def test_other_schema_version_is_not_damage(monkeypatch):
    """Events of another version are refused by name and never cut away by a repair."""
    monkeypatch.setattr(frames, "SCHEMA_VERSION", 999)
    disk, _ = filled([1, 1])
    monkeypatch.undo()
    before = disk.contents()
    for call in (lambda: log_on(disk), lambda: repair(FOLDER, disk), lambda: survey_log(FOLDER, disk)):
        with pytest.raises(LogUnreadable, match="version 999"):
            call()
    with pytest.raises(LogUnreadable, match="version 999"):
        SegmentReader(FOLDER, disk).read(LogPosition(0), 1, LogPosition(2))
    assert disk.contents() == before


def test_reader_beside_a_writer_sees_only_what_is_durable():
    """Another reader is told how far the log is durable, gives all before and nothing after, through new segments,
    and changes no file, not even a torn tail.
    """
    disk = ForgetfulDisk()
    log = log_on(disk, 700)
    log.append(sample_batch(0, 1, 0))
    reader = SegmentReader(FOLDER, disk)
    for number in range(1, 30):
        log.append(sample_batch(number, 3, number))
    expected = read_all(log)
    for durable in range(0, len(expected), 5):
        for after in range(0, durable + 1, 3):
            found: list[bytes] = []
            while after + len(found) < durable:
                found += events_in(reader.read(LogPosition(after + len(found)), 7, LogPosition(durable)))
            assert found == expected[after:durable]
    path = segments_of(disk)[-1]
    torn = with_content(disk, path, disk.contents()[path] + b"msf1 half a commit")
    before = torn.contents()
    reader = SegmentReader(FOLDER, torn)
    assert len(events_in(reader.read(LogPosition(80), 100, LogPosition(len(expected))))) == len(expected) - 80
    with pytest.raises(LogDamaged):
        reader.read(LogPosition(len(expected)), 1, LogPosition(len(expected) + 1))
    with pytest.raises(LogDamaged, match="holds no log"):
        SegmentReader(Path("/data/none"), torn)
    assert torn.contents() == before
    assert {call.kind for call in torn.calls} <= {"list_folder", "read", "size"}


def test_reader_remembers_a_bounded_number_of_places():
    """However long a segment is, one place each 64 KiB is remembered."""
    disk = ForgetfulDisk()
    log = log_on(disk, 64 << 20)
    for number in range(3_000):
        log.append(sample_batch(number, 1, number))
    read_all(log, 10)
    read_all(log, 1_000)
    (path,) = segments_of(disk)
    ((positions, starts),) = log._reader._places.values()
    assert len(positions) == len(starts) <= len(disk.contents()[path]) / (1 << 16) + 1
    calls = len(disk.calls)
    assert events_in(log.read(LogPosition(2_990), 1))
    assert len(disk.calls) - calls <= 3


HOLD = """
import sys
from pathlib import Path
from midstream.events.disk import RealDisk
from midstream.events.segments.segments import SegmentLog
log = SegmentLog(Path(sys.argv[1]), RealDisk(), b"other process id")
print("open", flush=True)
sys.stdin.read()
log.close()
"""


def test_second_opener_is_refused(tmp_path):
    """One process has a log open; another, and a second log in the same one, are told whose it is."""
    folder = tmp_path / "shop" / "log"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(FolderLocked, match=f"process {holder.pid};"):
            SegmentLog(folder, RealDisk(), LOG_ID)
        holder.communicate()
    assert holder.returncode == 0
    log = SegmentLog(folder, RealDisk(), LOG_ID)
    with pytest.raises(FolderLocked, match=f"process {os.getpid()};"):
        SegmentLog(folder, RealDisk(), LOG_ID)
    with pytest.raises(FolderLocked):
        repair(folder, RealDisk())
    log.close()
    log.close()
    with pytest.raises(AppendFailed, match="closed"):
        log.append(sample_batch(0, 1, 0))
    SegmentLog(folder, RealDisk(), LOG_ID).close()


def test_real_disk_without_room(tmp_path):
    """A real write that is cut short by a limit leaves nothing; with room the same log goes on."""
    log = SegmentLog(tmp_path / "log", RealDisk(), LOG_ID)
    log.append(sample_batch(0, 5, 0))
    path = tmp_path / "log" / segment_name(0)
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1_000, hard))
    try:
        for _ in range(2):
            with pytest.raises(DiskFull):
                log.append(sample_batch(5, 200, 5))
            assert path.stat().st_size == size
        log.append(sample_batch(5, 1, 5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append(sample_batch(6, 200, 6))
    log.close()
    again = SegmentLog(tmp_path / "log", RealDisk(), b"")
    assert again.recovered is None
    expected = all_of([sample_batch(0, 5, 0), sample_batch(5, 1, 5), sample_batch(6, 200, 6)])
    assert read_all(again) == expected
    again.close()


def test_real_disk_writes_on_after_short_writes(tmp_path, monkeypatch):
    """Where the system takes a few bytes at a time, or gives a few, all of them arrive, at their places."""
    pwrite, pwritev, pread = os.pwrite, os.pwritev, os.pread
    monkeypatch.setattr(os, "pwritev", lambda file, parts, at: pwritev(file, [b"".join(parts)[:5]], at))
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:7], at))
    monkeypatch.setattr(os, "pread", lambda file, length, at: pread(file, min(length, 11), at))
    disk = RealDisk()
    file = disk.open(tmp_path / "file")
    disk.write(file, [b"0123456789", memoryview(b"abcdefghij"), b"", b"end"], 3)
    assert disk.read(tmp_path / "file", 0, 100) == b"\0\0\0" + b"0123456789abcdefghijend"
    assert disk.read(tmp_path / "file", 5, 12) == b"23456789abcd"
    disk.close(file)


def test_programming_errors_are_refused():
    """A log id of the wrong length and a frame beyond any that is made are the caller's mistakes."""
    with pytest.raises(ValueError, match="5 bytes where 16"):
        SegmentLog(FOLDER, ForgetfulDisk(), b"short")
    log = log_on(ForgetfulDisk())

    class Endless(bytes):
        __slots__ = ()

        def __len__(self):
            return 1 << 31

    with pytest.raises(ValueError, match="is the most"):
        log.append(EventBatch(sample_batch(0, 1, 0).rows, Endless()))
    assert log.end == 0


@pytest.mark.parametrize("count, is_packed", [(4, False), (40, True)])
def test_sound_frames_are_told_from_others(count, is_packed):
    """A frame is sound in its place only: not cut, not with another seed, not at another byte."""
    frame = b"".join(map(bytes, encode(body_of(sample_batch(0, count, 9)), 3, 1, bytes(16), 77).parts))
    head = head_at(frame, 0, 77)
    assert head is not None
    assert (head.first, head.event_count, head.generation, head.log_time_ms, head.end) == (3, count, 1, 9, 3 + count)
    assert (head.packed_bytes > 0) == is_packed
    assert head.length == len(frame)
    assert is_sound(frame, 0, head, 77)
    assert not is_sound(frame, 0, head, 78)
    assert not is_sound(frame[:-1], 0, head, 77)
    assert head_at(frame, 0, 78) is None
    assert head_at(frame, 8, 77) is None
    assert head_at(frame[: frames.HEAD_BYTES - 1], 0, 77) is None


@pytest.mark.parametrize(
    "event_id, packing",
    [
        pytest.param("e7-1234-{:09d}", "_LZ4", id="ids of their own"),
        pytest.param("e#{}", "_ZSTD", id="items of one event"),
        pytest.param("", "_ZSTD", id="no ids"),
        pytest.param("{:x}", "_ZSTD", id="ids too short to say what came"),
    ],
)
def test_lz4_alone_packs_what_clients_sent_in_full(event_id, packing):
    """Zstandard is tried where LZ4 might leave more than twice what came, and packs what repeats better."""
    events = [
        Event(1, event_id=event_id.format(each), user_id=f"u{each * 7919 % 10**6:07d}", item_id=f"i{each * 31:07d}")
        for each in range(100)
    ]
    body = body_of(build(events))
    assert body.packing == getattr(frames, packing)
    if packing == "_LZ4":
        assert body.packed_bytes <= 2 * sum(len(each.event_id) + 4 for each in events)
