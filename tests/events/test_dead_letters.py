"""Dead letters: each rejected event is kept with its reason, dropped by age, or lost to a full disk, and counted."""

import errno
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Fault
from midstream.core.types import TimestampMs
from midstream.events.dead_letters import RAW_CHARACTERS_MAX, DeadLetter, DeadLetters, dead_letter
from midstream.events.disk import RealDisk
from midstream.testing.disks import DiskFault, FailingDisk, ForgetfulDisk

PATH = Path("/data/dead_letters.ndjson")
REASON = Fault("/events/3/item_id", "129 characters came", "at most 128 would be right", "docs/events.md")


def letter(number, raw=b"{}"):
    """Return the letter of one rejected event."""
    return dead_letter(TimestampMs(number), REASON, raw)


@given(st.lists(st.lists(st.binary(max_size=300), max_size=5), max_size=12), st.integers(1, 1_500))
def test_kept_dropped_and_bounded(groups, file_bytes_max):
    """The newest letters are there in order and whole, the rest is counted as dropped, and no file but one that a
    single letter fills is larger than its maximum. Opening again changes nothing.
    """
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk, file_bytes_max)
    sent: list[DeadLetter] = []
    for group in groups:
        added = [letter(len(sent) + index, raw) for index, raw in enumerate(group)]
        letters.add(added)
        sent += added
        counts = letters.counts
        assert counts.kept + counts.dropped == len(sent)
        assert counts.lost == 0
        assert letters.read() == sent[counts.dropped :]
        for data in disk.contents().values():
            assert len(data) <= file_bytes_max or data.count(b"\n") == 1
        assert len(disk.contents()) <= 2
    if sent:
        assert letters.counts.kept > 0
    kept = letters.read()
    letters.close()
    again = DeadLetters(PATH, disk, file_bytes_max)
    assert again.read() == kept
    assert again.counts.kept == len(kept)
    more = letter(-1)
    again.add([more])
    assert again.read()[-1] == more


def test_letter_holds_what_came():
    """Time, reason and text come back; what is not UTF-8 is escaped; what is too long is cut and says by how much."""
    letters = DeadLetters(PATH, ForgetfulDisk())
    letters.add(
        [letter(5, "größer\n\u2028".encode()), letter(6, b"\xff{\x00"), letter(7, b"x" * (RAW_CHARACTERS_MAX + 9))]
    )
    first, second, third = letters.read()
    assert (first.time_ms, first.reason, first.raw, first.characters_cut) == (5, REASON, "größer\n\u2028", 0)
    assert second.raw == "\\xff{\x00"
    assert (third.raw, third.characters_cut) == ("x" * RAW_CHARACTERS_MAX, 9)


def test_half_a_line_is_written_over():
    """A line that a crash cut short is dropped; the letters before and after it are whole."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk)
    letters.add([letter(1), letter(2)])
    whole = disk.contents()[PATH]
    for stop in range(len(whole) + 1):
        left = ForgetfulDisk({PATH: whole[:stop]}, [PATH.parent])
        again = DeadLetters(PATH, left)
        again.add([letter(3)])
        before = [1, 2][: whole[:stop].count(b"\n")]
        assert [each.time_ms for each in again.read()] == [*before, 3]


def test_full_disk_loses_letters_and_counts_them():
    """A disk that takes nothing raises nothing; each letter it refused is counted, and with room they are kept."""
    for kind in ("write", "open", "rename"):
        disk = FailingDisk(ForgetfulDisk())
        letters = DeadLetters(PATH, disk, file_bytes_max=400)
        letters.add([letter(1, b"a" * 150)])
        disk.fail(DiskFault(kind, error=errno.ENOSPC, written=0.7, for_good=True))
        letters.add([letter(number, b"b" * 150) for number in range(2, 5)])
        counts = letters.counts
        assert counts.lost == 3
        assert [each.time_ms for each in letters.read()] == [1]
        disk.heal()
        letters.add([letter(9, b"c")])
        assert [each.time_ms for each in letters.read()][-1] == 9
        assert letters.counts.kept + letters.counts.dropped == 2
        assert letters.counts.lost == 3


def test_real_files(tmp_path):
    """On the real disk there are one file and one older, in a folder that is made where it is missing."""
    path = tmp_path / "shop" / "dead_letters.ndjson"
    letters = DeadLetters(path, RealDisk(), file_bytes_max=1_000)
    letters.add([letter(number) for number in range(20)])
    letters.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["dead_letters.ndjson", "dead_letters.ndjson.old"]
    again = DeadLetters(path, RealDisk(), file_bytes_max=1_000)
    assert [each.time_ms for each in again.read()] == list(range(20))[-again.counts.kept :]
    assert 0 < again.counts.kept < 20
    again.close()
