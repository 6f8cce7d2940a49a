"""Letters of erased users are dropped while the loop goes on, and what comes meanwhile stays."""

import asyncio

import pytest

from midstream.app.letter_erasure import forget_in_pieces, forgetting
from midstream.core.errors import Fault
from midstream.core.types import TimestampMs
from midstream.events.dead_letters import dead_letters
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter, read_letters
from midstream.events.disk import RealDisk

REASON = Fault("/type", "x", "y", "/docs/events.md")
IDS = [f"erased-{number}" for number in range(1_000)]


def letter(raw):
    """Return a letter with a text."""
    return dead_letter(TimestampMs(1), REASON, raw.encode())


@pytest.mark.parametrize("adds", ["one at a turn", "as many as fill the file, again and again"])
def test_letters_may_come_at_any_moment(tmp_path, monkeypatch, adds):
    """The loop has a turn between two pieces; each letter that came in one is there, unless it names somebody."""
    monkeypatch.setattr(dead_letters, "PIECE_BYTES", 2_000)
    letters = DeadLetters(tmp_path / "letters", RealDisk(), file_bytes_max=150_000)
    letters.add([letter(f"of {('erased', 'kept')[number % 2]}-{number}") for number in range(500)])
    turns = [0]

    async def main():
        forgotten = asyncio.ensure_future(forget_in_pieces(letters, IDS))
        while not forgotten.done():
            await asyncio.sleep(0)
            if turns[0] < 100:
                turns[0] += 1
                letters.add([letter(f"came-{turns[0]}"), letter(f"erased-{turns[0]} came")])
            if adds.startswith("as many"):
                letters.add([letter("x" * 90_000)])
        return await forgotten

    dropped = asyncio.run(main())
    letters.close()
    texts = [each.raw for each in read_letters(tmp_path / "letters", RealDisk())]
    if adds.startswith("one"):
        assert turns[0] > 20
        assert dropped >= 250
        came = [f"came-{turn}" for turn in range(1, turns[0] + 1)]
        assert [text for text in texts if not text.startswith("erased-")] == [
            *(f"of kept-{number}" for number in range(1, 500, 2)),
            *came,
        ]
    assert not any(text.startswith("of erased") for text in texts)


def forgotten(path, user_id):
    """Have a user forgotten; return the number of letters."""

    async def main():
        return await forgetting(path)([user_id])

    return asyncio.run(main())


def test_files_that_nobody_has_open(tmp_path):
    """None are made where there are none."""
    path = tmp_path / "letters"
    assert forgotten(path, "ann") == 0
    assert list(tmp_path.iterdir()) == []
    letters = DeadLetters(path, RealDisk())
    letters.add([letter("ann"), letter("bob")])
    letters.close()
    assert forgotten(path, "ann") == 1
    assert [each.raw for each in read_letters(path, RealDisk())] == ["bob"]
    assert [each.name for each in tmp_path.iterdir()] == ["letters"]


def test_a_file_that_was_being_written_anew_goes(tmp_path):
    """What was broken off may name who is forgotten since, also where there are no letters any more."""
    path = tmp_path / "letters"
    path.with_name("letters.new").write_text('{"user_id": "ann"}')
    assert forgotten(path, "ann") == 0
    assert "ann" not in "".join(each.read_text() for each in tmp_path.iterdir())
