"""History: a log whose old segments became Parquet reads as one whose segments are all there."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import EventsGone, LogDamaged
from midstream.core.types import EventBatch, LogPosition
from midstream.events import sealing
from midstream.events.history import history_file
from midstream.events.history.history import DAY_MS, MANIFEST_NAME, history_folder, read_history
from midstream.events.history.history_file import FileReader, FileWriter, contiguous
from midstream.events.history.history_reader import FOOTERS_MAX
from midstream.events.schema import ROW, TEXTS, concat
from midstream.events.sealing import kept_from, retain, seal
from midstream.events.segments.log_repair import repair, survey_log
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segment_scan import segment_firsts, segment_name
from midstream.events.segments.segments import SegmentLog
from midstream.state.fold import Fold
from midstream.testing.log_conformance import events_in, sample_batch
from tests.support.disks import ForgetfulDisk
from tests.support.events import random_events, tiny_settings

FOLDER = Path("/data/log")
HISTORY = history_folder(FOLDER)
LOG_ID = bytes(range(16))
FOLDERS = (HISTORY, *HISTORY.parents)
SEGMENT_BYTES = 1_500


@pytest.fixture(scope="module", autouse=True)
def _small_files():
    """Files and row groups of a few events, so that a short log has several of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_file, "GROUP_ROWS", 7)
        patch.setattr(history_file, "FILE_ROWS_MAX", 23)
        patch.setattr(sealing, "FILE_ROWS_MAX", 23)
        yield


@pytest.mark.parametrize(
    "added, size, day, fits",
    [(0, 23, 0, True), (0, 24, 0, False), (9, 14, 0, True), (9, 15, 0, False), (9, 1, 1, False)],
)
def test_a_file_takes_as_many_rows_as_may_be_of_one_day(added, size, day, fits):
    """Exactly so many, and none of another day of log time."""
    writer = FileWriter(HISTORY, ForgetfulDisk({}, FOLDERS), 100)
    if added:
        writer.add(sample_batch(100, added, DAY_MS))
    assert writer.takes(sample_batch(100 + added, size, (1 + day) * DAY_MS)) is fits


def log_on(disk):
    return SegmentLog(FOLDER, disk, LOG_ID, SEGMENT_BYTES)


def filled(sizes, step_ms=DAY_MS // 5, disk=None):
    """Return a disk with a log of commits of these sizes, each some hours after the one before, and its events."""
    disk = disk or ForgetfulDisk()
    log = log_on(disk)
    batches, first = [], 0
    for number, size in enumerate(sizes):
        batches.append(sample_batch(first, size, (number + 1) * step_ms))
        first += size
        log.append(batches[-1])
    log.close()
    return disk, events_in([(LogPosition(0), concat(batches))])


def copy_of(disk):
    return ForgetfulDisk(disk.contents(), FOLDERS)


def read_all(reader, begin, end, limit=11):
    found: list[bytes] = []
    while begin + len(found) < end:
        more = events_in(reader.read(LogPosition(begin + len(found)), limit, LogPosition(end)))
        assert more
        found += more
    return found


def sealed(sizes, hot_ms=0):
    """Return a disk with a log whose old part is history, its events, and the manifest."""
    disk, events = filled(sizes)
    done = seal(FOLDER, disk, LogPosition(len(events)), hot_ms)
    history = read_history(FOLDER, disk)
    assert history is not None
    assert 0 < done.end == history.end < len(events)
    return disk, events, history


texts = st.binary(max_size=9)


@st.composite
def strange_batches(draw):
    """Events that no client sends: any bytes in any field and text, and unused text between them."""
    count = draw(st.integers(1, 20))
    rows = np.frombuffer(draw(st.binary(min_size=56 * count, max_size=56 * count)), dtype=ROW).copy()
    rows["log_time_ms"] = np.sort(rows["log_time_ms"] % DAY_MS)
    arena = b""
    for row in range(count):
        arena += draw(st.sampled_from([b"", b"gap"]))
        rows["text_start"][row] = len(arena)
        for name in TEXTS:
            text = draw(texts)
            rows[f"{name}_length"][row] = len(text)
            arena += text
    return EventBatch(rows, arena)


@given(st.lists(strange_batches(), min_size=1, max_size=4), st.integers(0, 2**40))
def test_a_file_gives_back_the_same_bytes(batches, first):
    """Whatever is in rows and texts, NaN of any bits too, a file gives back row for row, byte for byte."""
    disk = ForgetfulDisk()
    disk.make_folder(HISTORY)
    writer = FileWriter(HISTORY, disk, first)
    for batch in batches:
        writer.add(batch)
    file = writer.close()
    reader = FileReader(HISTORY / file.name, disk, file)
    found = concat([reader.read_group(number) for number in range(len(file.groups))])
    expected = contiguous(concat(batches))
    assert found.text == expected.text
    assert found.rows.tobytes() == expected.rows.tobytes()
    assert events_in([(LogPosition(first), found)]) == events_in([(LogPosition(first), concat(batches))])
    assert (file.first, file.end) == (first, first + len(expected))


def test_numbers_keep_their_bits():
    """Each NaN is the one that was sent, and a zero keeps its sign, also where the others are many."""
    batch = sample_batch(0, 5, 9)
    rows = batch.rows.copy()
    rows["value"] = np.frombuffer(struct.pack("<5Q", 0x7FF8 << 48, 0x7FF8000000000001, 0xFFF8 << 48, 1 << 63, 0))
    disk = ForgetfulDisk()
    disk.make_folder(HISTORY)
    writer = FileWriter(HISTORY, disk, 0)
    writer.add(EventBatch(rows, batch.text))
    file = writer.close()
    found = FileReader(HISTORY / file.name, disk, file).read_group(0)
    assert found.rows["value"].tobytes() == rows["value"].tobytes()


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=2, max_size=25),
    step_ms=st.sampled_from([1, DAY_MS // 7, DAY_MS // 2, 3 * DAY_MS]),
    hot=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 60)), max_size=8),
    data=st.data(),
)
def test_a_trimmed_log_reads_as_an_untrimmed_one(sizes, step_ms, hot, places, data):
    """Whatever was sealed, in however many steps, events between them or not: reads of any range are equal, by a
    reader from before and by a new one; the log opens with the same end and goes on.
    """
    whole, events = filled(sizes, step_ms)
    disk = copy_of(whole)
    old = SegmentReader(FOLDER, disk)
    end = LogPosition(len(events))
    for days in sorted(hot, reverse=True):
        old.read(LogPosition(data.draw(st.integers(0, end - 1))), 5, end)
        seal(FOLDER, disk, end, days * DAY_MS // 2)
    for reader in (old, SegmentReader(FOLDER, disk)):
        assert read_all(reader, 0, end) == events
        for share, limit in places:
            after = int(share * end)
            pairs = reader.read(LogPosition(after), limit, end)
            found = events_in(pairs)
            assert not pairs or pairs[0][0] == after
            assert found == events[after : after + len(found)]
            assert min(limit, end - after) <= len(found) <= limit + max(sizes)
    log = log_on(disk)
    assert (log.end, log.recovered) == (end, None)
    assert log.last_log_time_ms == len(sizes) * step_ms
    more = sample_batch(end, 3, log.last_log_time_ms + 1)
    log.append(more)
    log.close()
    log_on(disk).close()
    expected = [*events, *events_in([(end, more)])]
    assert read_all(SegmentReader(FOLDER, disk), 0, len(expected)) == expected
    assert survey_log(FOLDER, disk).end == len(expected)


@settings(max_examples=15)
@given(seed=st.integers(0, 1_000), cuts=st.sets(st.integers(1, 1_999), max_size=6), hot=st.integers(0, 40))
def test_the_fold_does_not_notice(seed, cuts, hot):
    """Folding a log whose old part is history gives the digest that the events alone give."""
    stream = random_events(2_000, seed)
    whole = Fold(tiny_settings())
    whole.apply(LogPosition(0), stream)
    disk = ForgetfulDisk()
    log = SegmentLog(FOLDER, disk, LOG_ID, 20_000)
    edges = [0, *sorted(cuts), len(stream)]
    for start, stop in itertools.pairwise(edges):
        for at in range(start, stop, 97):
            log.append(contiguous(EventBatch(stream.rows[at : min(at + 97, stop)], stream.text)))
    seal(FOLDER, disk, log.end, hot * 60_000)
    fold = Fold(tiny_settings())
    while fold.log_position < log.end:
        for first, batch in log.read(fold.log_position, 500):
            fold.apply(first, batch)
    assert fold.digest() == whole.digest()
    log.close()


def test_the_last_segment_and_what_is_young_stay():
    """What is younger than asked stays in segments, what is not durable is not touched, and the last one stays."""
    disk, events = filled([3] * 20)
    end = LogPosition(len(events))
    assert seal(FOLDER, disk, end, 100 * DAY_MS).events == 0
    assert seal(FOLDER, disk, LogPosition(0), 0).events == 0
    part = seal(FOLDER, disk, LogPosition(30), 0)
    assert 0 < part.end <= 30
    done = seal(FOLDER, disk, end, 2 * DAY_MS)
    history = read_history(FOLDER, disk)
    assert history is not None
    times = [
        int(batch.rows["log_time_ms"][0])
        for _, batch in SegmentReader(FOLDER, disk).read(LogPosition(history.end), 1, end)
    ]
    assert history.files[-1].last_log_time_ms < 20 * (DAY_MS // 5) - 2 * DAY_MS <= times[0] + DAY_MS
    assert done.end < end
    assert seal(FOLDER, disk, end, 0).end == segment_firsts(FOLDER, disk)[-1]
    assert len(segment_firsts(FOLDER, disk)) == 1


def test_files_end_at_midnight_and_at_their_maximum():
    """No file has events of two days of log time, nor more than the maximum; row groups neither."""
    disk = filled([9] * 40)[0]
    seal(FOLDER, disk, LogPosition(360), 0)
    history = read_history(FOLDER, disk)
    assert history is not None
    for file in history.files:
        assert file.first_log_time_ms // DAY_MS == file.last_log_time_ms // DAY_MS
        assert 0 < file.end - file.first <= 23
        firsts = [group.first for group in file.groups]
        assert max(np.diff([*firsts, file.end])) <= 9
    assert [file.end for file in history.files[:-1]] == [file.first for file in history.files[1:]]


def test_a_day_of_log_time_begins_a_segment():
    """A commit of another day goes into the next segment, however small the last one is."""
    disk = filled([1, 1, 1, 1, 1, 1], step_ms=DAY_MS // 2)[0]
    assert segment_firsts(FOLDER, disk) == [0, 1, 3, 5]


def test_more_files_than_footers_are_kept():
    """A reader that goes through many files keeps few of their footers, and can go back."""
    disk, events, history = sealed([9] * 200)
    assert len(history.files) > FOOTERS_MAX + 2
    reader = SegmentReader(FOLDER, disk)
    assert read_all(reader, 0, len(events)) == events
    assert reader._history is not None
    assert len(reader._history._files) == FOOTERS_MAX
    assert events_in(reader.read(LogPosition(0), 1, LogPosition(len(events)))) == events[:1]


def test_retention_moves_the_beginning():
    """Whole files go; what is kept reads as before, by old readers too; what went is named as gone."""
    disk, events, history = sealed([3] * 40)
    end = len(events)
    old = SegmentReader(FOLDER, disk)
    old.read(LogPosition(0), 3, LogPosition(end))
    begin = kept_from(history, history.files[3].first_log_time_ms)
    assert begin == history.files[3].first
    retain(FOLDER, disk, begin)
    for reader in (old, SegmentReader(FOLDER, disk)):
        for gone in (0, begin - 1):
            with pytest.raises(EventsGone, match=f"begins at {begin}"):
                reader.read(LogPosition(gone), 30, LogPosition(end))
        assert read_all(reader, begin, end) == events[begin:]
        assert reader.begin == begin
    inside = begin + 2
    retain(FOLDER, disk, inside)
    retain(FOLDER, disk, begin)
    assert SegmentReader(FOLDER, disk).begin == inside
    survey = survey_log(FOLDER, disk)
    assert (survey.begin, survey.end) == (inside, end)
    with pytest.raises(ValueError, match="history ends"):
        retain(FOLDER, disk, end)
    retain(FOLDER, disk, kept_from(history, 1 << 60))
    log = log_on(disk)
    assert events_in(log.read(LogPosition(history.end), 1_000)) == events[history.end :]
    log.close()
    assert disk.list_folder(HISTORY) == [MANIFEST_NAME]


def test_every_flipped_bit_of_history_is_found():
    """A bit flipped anywhere in a file: reading gives the events as they were or says which cannot be trusted, the
    thorough check says so always; in the manifest: nothing opens.
    """
    disk, events, history = sealed([3] * 12)
    end = LogPosition(len(events))
    found: list[list[bytes] | str] = []
    for path, content in disk.contents().items():
        if path.parent != HISTORY:
            continue
        for byte in range(0, len(content), 1 if path.name == MANIFEST_NAME else 23):
            flipped = bytearray(content)
            flipped[byte] ^= 1 << byte % 8
            left = copy_of(disk)
            left.damage(path, bytes(flipped))
            if path.name == MANIFEST_NAME:
                with pytest.raises(LogDamaged, match=MANIFEST_NAME):
                    SegmentReader(FOLDER, left)
                continue
            with pytest.raises(LogDamaged, match=path.name):
                survey_log(FOLDER, left, thorough=True)
            found.append(read_or_error(left, end))
    assert {outcome for outcome in found if isinstance(outcome, str)} <= {file.name for file in history.files}
    assert all(outcome == events for outcome in found if not isinstance(outcome, str))
    assert sum(isinstance(outcome, str) for outcome in found) > 100
    assert len(history.files) > 1


def read_or_error(disk, end):
    """Return the events of a log, or the name of the file that the error names."""
    try:
        return read_all(SegmentReader(FOLDER, disk), 0, end)
    except LogDamaged as error:
        return Path(str(error).partition(": ")[0]).name


@pytest.mark.parametrize("shorter", [None, 1, 100])
def test_a_missing_or_short_file_is_named(shorter):
    """The log does not open without a file of its history, and says which events it had."""
    disk, events, history = sealed([3] * 12)
    file = history.files[1]
    path = HISTORY / file.name
    if shorter is None:
        disk.unlink(path)
    else:
        disk.damage(path, disk.contents()[path][:-shorter])
    expected = f"{file.first} to {file.end} cannot be trusted"
    with pytest.raises(LogDamaged, match=expected):
        log_on(disk)
    with pytest.raises(LogDamaged, match=expected):
        survey_log(FOLDER, disk)
    with pytest.raises((LogDamaged, FileNotFoundError), match=file.name):
        read_all(SegmentReader(FOLDER, disk), 0, len(events))


def test_what_follows_history_must_follow_it():
    """The first segment left is checked against the one that is gone: another in its place, or none, is damage."""
    disk, events, history = sealed([3] * 12, hot_ms=DAY_MS)
    firsts = segment_firsts(FOLDER, disk)
    other = filled([3] * 11 + [2, 1])[0]
    path = FOLDER / segment_name(firsts[0])
    gone = copy_of(disk)
    gone.unlink(path)
    with pytest.raises(LogDamaged, match="a segment is missing"):
        log_on(gone)
    for first in firsts[1:]:
        gone.unlink(FOLDER / segment_name(first))
    with pytest.raises(LogDamaged, match="should follow the history"):
        log_on(gone)
    assert survey_log(FOLDER, gone).damage is not None
    repaired = repair(FOLDER, gone)
    assert (repaired.survey.end, repaired.survey.damage) == (history.end, None)
    log = log_on(gone)
    assert log.end == history.end
    log.append(sample_batch(history.end, 3, 10 * DAY_MS))
    assert read_all(SegmentReader(FOLDER, gone), 0, log.end)[: history.end] == events[: history.end]
    log.close()
    log_on(gone).close()
    assert path in other.contents()
    other.damage(path, disk.contents()[path][:-8] + b"12345678")
    disk.damage(path, b"\0" * 8 + disk.contents()[path][8:])
    with pytest.raises(LogDamaged):
        log_on(disk)
    damage = survey_log(FOLDER, disk).damage
    assert damage is not None
    assert damage.segment == segment_name(firsts[0])


def test_history_of_another_log_is_refused():
    """A history folder that was copied beside other segments is not taken for theirs."""
    disk = sealed([3] * 12)[0]
    other = ForgetfulDisk()
    log = SegmentLog(FOLDER, other, bytes(16), SEGMENT_BYTES)
    log.append(sample_batch(0, 1, 5))
    log.close()
    mixed = ForgetfulDisk({**disk.contents(), FOLDER / "log.json": other.contents()[FOLDER / "log.json"]}, FOLDERS)
    with pytest.raises(LogDamaged, match="history of another log"):
        SegmentLog(FOLDER, mixed, bytes(16), SEGMENT_BYTES)
    mixed.unlink(FOLDER / "log.json")
    for path in [path for path in mixed.contents() if path.suffix == ".segment"]:
        mixed.unlink(path)
    with pytest.raises(LogDamaged, match="no log"):
        SegmentLog(FOLDER, mixed, bytes(16), SEGMENT_BYTES)
