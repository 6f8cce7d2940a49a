"""A segment cut or changed at any byte: what is sound ends with a whole commit, and what follows is torn or damaged."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.events.segments.frames import OPENING_BYTES, head_at, seed_of
from midstream.events.segments.log_identity import LogIdentity
from midstream.events.segments.segment_scan import gap, no_segment, scan, segment_firsts, segment_name, start_of
from midstream.events.segments.segments import SegmentLog
from midstream.testing.log_conformance import sample_batch
from tests.support.disks import ForgetfulDisk

FOLDER = Path("/data/log")
LOG_ID = bytes(range(16))
IDENTITY = LogIdentity(LOG_ID.hex(), 0)
SIZES = (1, 3, 2)


def segment() -> bytes:
    """The one segment of a log of three commits."""
    disk, first = ForgetfulDisk(), 0
    log = SegmentLog(FOLDER, disk, LOG_ID, 1 << 20)
    for size in SIZES:
        log.append(sample_batch(first, size, first))
        first += size
    log.close()
    return disk.contents()[FOLDER / segment_name(0)]


DATA = segment()


def ends() -> list[int]:
    """Where the opening and each commit end."""
    found = [OPENING_BYTES]
    while found[-1] < len(DATA):
        frame = head_at(DATA, found[-1], seed_of(LOG_ID))
        assert frame is not None
        found.append(found[-1] + frame.length)
    return found


ENDS = ends()


@given(size=st.integers(0, len(DATA)), is_last=st.booleans())
@example(size=0, is_last=True)
@example(size=0, is_last=False)
@example(size=OPENING_BYTES, is_last=True)
@example(size=len(DATA), is_last=True)
@example(size=len(DATA), is_last=False)
def test_a_segment_that_was_cut_ends_with_its_last_whole_commit(size: int, *, is_last: bool) -> None:
    """The rest of the last segment is torn, and is dropped with the opening when there is no commit; of another one it
    is damage.
    """
    found = scan(DATA[:size], 0, IDENTITY, start_of(IDENTITY), is_last=is_last)
    whole = sum(end <= size for end in ENDS[1:])
    end, position = ([0, *ENDS[1:]][whole], sum(SIZES[:whole]))
    is_clean = size in ENDS[1:] or (size == 0 and is_last)
    assert found.tail.position == position
    assert (found.torn is not None, found.damage is not None) == (
        not is_clean and is_last,
        not is_clean and not is_last,
    )
    if found.torn is not None:
        assert (found.torn.byte, found.torn.dropped_bytes, found.torn.position) == (end, size - end, position)
    if found.damage is not None:
        begun = OPENING_BYTES if whole == 0 and size >= OPENING_BYTES else end
        assert (found.damage.byte, found.damage.first, found.damage.stop) == (begun, position, None)
    else:
        assert found.tail.size == end


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_changed_byte_with_a_commit_behind_it_is_damage_up_to_that(at: int, change: int) -> None:
    """In the last commit it is a torn tail: nothing can be told apart from one that was cut short."""
    data = bytearray(DATA)
    data[at] ^= change
    found = scan(bytes(data), 0, IDENTITY, start_of(IDENTITY), is_last=True)
    before = sum(end <= at for end in ENDS[1:])
    assert found.tail.position == sum(SIZES[:before])
    is_last = before == len(SIZES) - 1
    assert (found.torn is not None, found.damage is not None) == (is_last, not is_last)
    if found.damage is not None:
        assert found.damage.first == sum(SIZES[:before])
        assert found.damage.stop == (0 if at < OPENING_BYTES else sum(SIZES[: before + 1]))


@pytest.mark.parametrize("position, first, stop", [(5, 5, 0), (5, 9, 9), (5, 3, None), (0, 1, 1)])
def test_a_segment_that_is_missing_is_named(position: int, first: int, stop: int | None) -> None:
    """With the place where events can be trusted again, if there is one, and that it may be put back."""
    found = gap(position, first)
    if position == first:
        assert found is None
        return
    assert found is not None
    assert (found.segment, found.first, found.stop, found.is_missing) == (segment_name(first), position, stop, True)
    assert f"should begin at {position}" in found.reason
    lost = no_segment(position)
    assert (lost.segment, lost.first, lost.is_missing) == (segment_name(position), position, True)
    assert ("all segments are missing" in lost.reason) == (position == 0)


def test_segments_are_told_from_other_files_by_their_names() -> None:
    """Twenty digits and nothing else, in the order of what they say."""
    names = ["12.segment", f"{segment_name(3)}.tmp", f"{'x' * 20}.segment", "identity", f"{'0' * 21}.segment"]
    firsts = [1 << 40, 0, 7]
    files = {FOLDER / name: b"" for name in [*names, *map(segment_name, firsts)]}
    assert segment_firsts(FOLDER, ForgetfulDisk(files, (FOLDER, *FOLDER.parents))) == sorted(firsts)
