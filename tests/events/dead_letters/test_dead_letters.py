"""Dead letters: each rejected event is kept with its reason, dropped by age, or lost to a full disk, and counted."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.errors import Fault
from midstream.core.types import TimestampMs
from midstream.events.dead_letters.dead_letters import RAW_CHARACTERS_MAX, DeadLetters, dead_letter, read_letters
from midstream.events.disk import RealDisk
from tests.support.disks import DiskFault, FailingDisk, ForgetfulDisk

if TYPE_CHECKING:
    from midstream.core.answers.letters import DeadLetter

PATH = Path("/data/dead_letters.ndjson")
REASON = Fault("/events/3/item_id", "129 characters came", "at most 128 would be right", "/docs/events.md")


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
        sent += [replace(each, number=len(sent) + index) for index, each in enumerate(added, start=1)]
        counts = letters.counts
        assert counts.kept + counts.dropped == len(sent)
        assert counts.lost == 0
        assert letters.read() == sent[counts.dropped :]
        assert counts.bytes_kept == sum(map(len, disk.contents().values()))
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
    assert again.read()[-1] == replace(more, number=len(sent) + 1)


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


OTHER = Fault("/type", "something else", "this", "/docs/events.md")
steps = st.tuples(st.sampled_from(["add", "add", "remove", "refuse", "refuse", "open", "forget"]), st.integers(0, 60))


@given(st.lists(steps, max_size=40), st.integers(300, 1_000))
def test_numbers_stay_whatever_happens(done, file_bytes_max):
    """Letters keep their numbers and their order; those that are gone do not come back, not after opening again either;
    a number is never given twice; and what is read beside is what is read here.
    """
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk, file_bytes_max)
    model: dict[int, DeadLetter] = {}
    last = 0
    for act, value in done:
        before = letters.counts.dropped
        # Mostly one that is there, now and then one that is not.
        chosen = sorted(model)[value % len(model)] if model and value else value
        if act == "add":
            last += 1
            new = letter(last, ("é " * (value % 3 == 0) + "x" * value).encode())
            letters.add([new])
            model[last] = replace(new, number=last)
        elif act == "remove":
            assert letters.remove(chosen)
            model.pop(chosen, None)
        elif act == "refuse":
            letters.refuse(model.get(chosen, replace(letter(chosen), number=chosen)), OTHER)
            if chosen in model:
                model[chosen] = replace(model[chosen], reason=OTHER, tries=model[chosen].tries + 1)
        elif act == "open":
            letters.close()
            letters = DeadLetters(PATH, disk, file_bytes_max)
            before = 0
        elif value % 2:
            letters.forget(["nobody", "é"])
            model = {number: each for number, each in model.items() if "é" not in each.raw}
            assert not any("é".encode() in content for content in disk.contents().values())
        else:
            assert letters.forget(["", "nobody"]) == 0
        found = letters.read()
        kept = {each.number for each in found}
        assert letters.counts.dropped - before == len(model) - len(found)
        # What was dropped with the older file is no letter any more, however often it is looked for.
        model = {number: each for number, each in model.items() if number in kept}
        assert found == [model[number] for number in sorted(model)]
        assert read_letters(PATH, disk) == found
        assert letters.counts.kept == len(found)
    letters.add([letter(1)])
    assert letters.read()[-1].number == last + 1


def test_dropped_are_those_that_no_file_has_any_more():
    """A letter that is refused again moves into the newer file, and is not dropped with the older one."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk, file_bytes_max=500)
    letters.add([letter(1), letter(2)])
    first, second = letters.read()
    while letters.counts.dropped == 0:
        if letters.counts.bytes_kept + 250 > 1_000:
            letters.refuse(first, OTHER)
        letters.add([letter(9)])
    numbers = [each.number for each in letters.read()]
    assert first.number in numbers
    assert second.number not in numbers
    assert letters.counts.dropped == max(numbers) - len(numbers)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"user_id": "ann\xc3\xa9"}',
        b'{"user_id": "ann\\u00e9"}',
        b'{"user_id": "\\u0061nn\\u00E9"}',
        b'{"user_id": "x", "context": {"of": "ann\xc3\xa9"}}',
        b'{"user_id": "x", "attributes": [{"ann\xc3\xa9": 1}]}',
        b"annn ann\xc3\xa9 no JSON {",
        b'{"user_id": "ann\xc3\xa9", \xff',
    ],
)
def test_forgotten_users_leave_no_trace(raw):
    """In whatever form the id stands, in letters that are there and in those that are gone already; others stay."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk, file_bytes_max=700)
    letters.add([letter(1), letter(2, raw), letter(3, raw), letter(4)])
    letters.remove(3)
    assert letters.forget(["nobody", "ann\u00e9"]) == 2
    assert [each.number for each in letters.read()] == [1, 4]
    for name, content in disk.contents().items():
        assert b"nn\xc3\xa9" not in content, name
        assert b"u00e9" not in content.lower(), name
    assert letters.forget(["ann\u00e9"]) == 0
    letters.add([letter(5)])
    assert [each.number for each in letters.read()] == [1, 4, 5]


IDS = [f"user-{number}" for number in range(1_000)]


def test_what_comes_while_letters_are_forgotten(monkeypatch):
    """Added, taken away, refused again between any two pieces: it is there, or gone, as it would be anyway."""
    monkeypatch.setattr("midstream.events.dead_letters.dead_letters.PIECE_BYTES", 300)
    when = last = 0
    while when <= last:
        disk = ForgetfulDisk()
        letters = DeadLetters(PATH, disk, file_bytes_max=6_000)
        letters.add([letter(number, f'{{"of": "user-{number}"}}'.encode()) for number in range(1, 31, 3)])
        letters.add([letter(number, f'{{"of": "{number}"}}'.encode()) for number in range(31)])
        first = len(letters.read())
        forgetting = letters.begin_forgetting(["nobody", *IDS])
        for last, _ in enumerate(forgetting.pieces()):
            if last == when:
                letters.add([letter(50, b"new"), letter(51, b"of user-7")])
                kept = next(each for each in letters.read() if each.raw == '{"of": "3"}')
                other = next(each for each in letters.read() if each.raw == '{"of": "4"}')
                letters.refuse(kept, OTHER)
                letters.refuse(other, replace_came('"user-8" came'))
                assert letters.remove(next(each for each in letters.read() if each.raw == '{"of": "5"}').number)
        assert letters.end_forgetting(forgetting)
        forgetting.secure()
        found = letters.read()
        assert len(forgetting.dropped) == 10 + 2
        assert len(found) == letters.counts.kept == first - 10 - 2 + 1
        assert [each.raw for each in found if each.raw == "new" or each.tries] == ['{"of": "3"}', "new"]
        assert letters.counts.bytes_kept == sum(map(len, disk.contents().values()))
        assert not any(b"user-" in content for content in disk.contents().values())
        letters.add([letter(9)])
        letters.close()
        again = DeadLetters(PATH, disk, file_bytes_max=6_000)
        assert [each.number for each in again.read()] == [*(each.number for each in found), first + 3]
        when += 1
    assert when > 5


def test_a_file_that_became_the_older_one_is_looked_through_again():
    """Nothing is changed then; done again, all is as it should be."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk, file_bytes_max=450)
    letters.add([letter(1, b"ann"), letter(2)])
    forgetting = letters.begin_forgetting(["ann"])
    for _ in forgetting.pieces():
        pass
    letters.add([letter(3), letter(4)])
    assert not letters.end_forgetting(forgetting)
    assert [each.number for each in letters.read()] == [1, 2, 3, 4]
    assert letters.forget(["ann"]) == 1
    assert [each.number for each in letters.read()] == [2, 3, 4]
    assert len(disk.contents()) == 2


@pytest.mark.parametrize("kind", ["write", "sync", "rename", "open"])
def test_a_disk_that_fails_while_letters_are_forgotten(kind):
    """It is told, and no letter is lost by it; what one that was broken off left is gone after the next one."""
    inner = ForgetfulDisk()
    disk = FailingDisk(inner)
    letters = DeadLetters(PATH, disk)
    letters.add([letter(1, b"ann"), letter(2)])
    disk.fail(DiskFault(kind, error=errno.EIO, for_good=True))
    with pytest.raises(OSError, match="Input/output error"):
        letters.forget(["ann"])
    disk.heal()
    assert [each.number for each in letters.read()] == [1, 2]
    letters.add([letter(3)])
    assert letters.forget(["ann"]) == 1
    assert [each.number for each in letters.read()] == [2, 3]
    assert list(inner.contents()) == [PATH]


def test_an_id_in_the_reason_is_forgotten_too():
    """What came is quoted there."""
    letters = DeadLetters(PATH, ForgetfulDisk())
    letters.add([dead_letter(TimestampMs(1), replace_came('"ann" is too long'), b"{}")])
    assert letters.forget(["ann"]) == 1
    assert letters.read() == []


def replace_came(came):
    """Return a reason that quotes what came."""
    return Fault(REASON.where, came, REASON.right, REASON.page)


def test_an_astral_character_in_two_escapes_is_one():
    """As JSON has it."""
    letters = DeadLetters(PATH, ForgetfulDisk())
    letters.add([letter(1, b'{"user_id": "\\ud83d\\ude00"}'), letter(2, b'{"user_id": "\\ud83d"}')])
    assert letters.forget(["\U0001f600"]) == 1
    assert [each.number for each in letters.read()] == [2]


def test_what_others_wrote_into_the_file_is_passed_by():
    """A line that is no letter stops nobody, and is gone after a rewrite."""
    good = ForgetfulDisk()
    DeadLetters(PATH, good).add([letter(1)])
    content = b"no json\n[]\n" + good.contents()[PATH] + b'{"number":7,"raw":5}\n\xff\n'
    letters = DeadLetters(PATH, ForgetfulDisk({PATH: content}, [PATH.parent]))
    assert [each.number for each in letters.read()] == [1]
    letters.add([letter(2)])
    assert [each.number for each in letters.read()] == [1, 8]


def test_a_full_disk_changes_no_letter():
    """What cannot be taken away or refused anew stays as it was."""
    disk = FailingDisk(ForgetfulDisk())
    letters = DeadLetters(PATH, disk)
    letters.add([letter(1), letter(2)])
    before = letters.read()
    disk.fail(DiskFault("write", error=errno.ENOSPC, written=0.5, for_good=True))
    assert not letters.remove(1)
    letters.refuse(before[1], OTHER)
    assert letters.read() == before
    disk.heal()
    assert letters.remove(1)
    assert letters.read() == before[1:]


def test_the_number_of_a_forgotten_letter_is_not_given_again():
    """Not after opening again either, though no line is left of it."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk)
    letters.add([letter(1, b"ann"), letter(2, b"ann")])
    assert letters.forget(["ann"]) == 2
    letters.close()
    again = DeadLetters(PATH, disk)
    again.add([letter(3)])
    assert [each.number for each in again.read()] == [3]


def test_the_number_of_a_letter_that_was_dropped_is_not_given_again():
    """Not after opening again either, though older letters that were sent again have pushed it out of both files."""
    disk = ForgetfulDisk()
    letters = DeadLetters(PATH, disk, file_bytes_max=300)
    letters.add([letter(1), letter(2)])
    for _ in range(6):
        letters.refuse(letters.read()[0], OTHER)
    assert [each.number for each in letters.read()] == [1]
    letters.close()
    again = DeadLetters(PATH, disk, file_bytes_max=300)
    again.add([letter(3)])
    assert [each.number for each in again.read()] == [1, 3]


def test_letters_of_others_stay_whatever_word_is_forgotten():
    """Ids of a letter or two stand in every event, reason and message within words: none of these letters is theirs."""
    letters = DeadLetters(PATH, ForgetfulDisk())
    raws = [b'{"type": "view", "user_id": "annabelle", "quantity": 1, "context": {"page": "a view of a lamp"}}'] * 50
    letters.add([dead_letter(TimestampMs(1), replace_came('"annabelle" came, a user of 1.'), raw) for raw in raws])
    letters.add([letter(1, b'{"type": "view", "user_id": "a"}'), letter(2, b'{"user_id": 1, "items": []}')])
    ids = ["a", "u", "0", "1", "anna", "view of", "user", "type", "user_id", "quantity"]
    assert letters.forget(ids) == 2
    assert [each.raw.encode() for each in letters.read()] == raws
