"""Rejected events, kept with their reason in a bounded file, so that someone can look at them and send them again.

One JSON object a line. A letter has a number for good; a later line of the same number replaces an earlier one, and
one that says ``gone`` takes it away, so a change of a letter costs one line. When the file is full it takes the place
of the older one beside it, and what only that held is dropped and counted. Dead letters were answered with their fault
already, so they are not synced and never hold up what is accepted: where the disk takes none, they are counted as lost.

Anyone may read the files beside the process that writes them (``read_letters``).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from midstream.core.errors import Fault
from midstream.core.types import TimestampMs
from midstream.events.disk import Disk

FILE_BYTES_MAX = 16 << 20
"""Two files of 16 MiB: 64 events of the largest size, or some 100,000 of the usual one."""
RAW_CHARACTERS_MAX = 256 << 10
"""A body of an event may have 256 KiB, so one that was not refused for its size is kept whole."""
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|["\\/bfnrt])')
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rejected event."""

    time_ms: TimestampMs
    reason: Fault
    raw: str
    """The event as it came; what is not UTF-8 in it is written as backslash escapes."""
    characters_cut: int = 0
    """How many were cut off the end of ``raw`` to keep within ``RAW_CHARACTERS_MAX``."""
    item: int = -1
    """Place in the event's ``items`` of the one that this is about, the others being judged apart; -1 = the event."""
    tries: int = 0
    """How often it was sent again and refused."""
    number: int = 0
    """Rises by one from 1 with each letter, and stays; 0 = not kept yet."""


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a line says beside the letter itself."""

    number: int = 0
    """0 = the line is no letter's."""
    gone: bool = False
    last: int = 0
    """Number of the newest letter there was, on a line that says nothing else."""


@dataclass(frozen=True, slots=True)
class DeadLetterCounts:
    """What became of dead letters since these files were opened, and what is in them."""

    kept: int
    """Letters in both files."""
    dropped: int
    """Were kept, and dropped with the older file."""
    lost: int
    """Could not be written."""
    bytes_kept: int = 0
    """Size of both files, at most twice ``FILE_BYTES_MAX`` and a letter."""


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_letter = msgspec.json.Decoder(DeadLetter).decode


def dead_letter(time_ms: TimestampMs, reason: Fault, raw: bytes, item: int = -1) -> DeadLetter:
    """Return the letter for what came as ``raw``, cut to what one letter may hold."""
    text = raw[: RAW_CHARACTERS_MAX * 4].decode(errors="backslashreplace")[:RAW_CHARACTERS_MAX]
    whole = raw.decode(errors="backslashreplace") if len(raw) > len(text) else text
    return DeadLetter(time_ms, reason, text, len(whole) - len(text), item)


def read_letters(path: Path, disk: Disk) -> list[DeadLetter]:
    """Return the letters kept, by number, while another process may be adding some.

    Lines that cannot be read, such as half a line that a crash left, are passed by. Cost: reads both files once, up to
    0.3 s when they are full.
    """
    # The file becomes the older one, never the other way: read in this order nothing is missed, and twice does no harm.
    now = _content(path, disk)
    found: dict[int, bytes] = {}
    for told, line in _lines(_content(_older(path), disk) + now):
        if told.gone:
            found.pop(told.number, None)
        elif told.number:
            found[told.number] = line
    letters = (_letter(found[number]) for number in sorted(found))
    return [letter for letter in letters if letter is not None]


class DeadLetters:
    """The file of rejected events and the older one beside it (``.old``). One thread."""

    def __init__(self, path: Path, disk: Disk, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        """Go on with what is there. Cost: reads both files once.

        Raises:
            OSError: The file could not be read or opened.
        """
        self.path = path
        self.disk = disk
        self._file_bytes_max = file_bytes_max
        disk.make_folder(path.parent)
        self._dropped = self._lost = 0
        self._file: int | None = None
        self._size = 0
        """Behind the last whole line: half a line that a crash left is written over."""
        self._old_size = 0
        self._last = 0
        """Number of the newest letter there ever was."""
        self._numbers: set[int] = set()
        """Of letters whose last line is in the file. Up to 100,000 of them, 6 MB."""
        self._old_numbers: set[int] = set()
        """Of those whose last line is in the older one."""
        self._open()

    @property
    def counts(self) -> DeadLetterCounts:
        """What became of the letters."""
        kept = len(self._numbers) + len(self._old_numbers)
        return DeadLetterCounts(kept, self._dropped, self._lost, self._size + self._old_size)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, in order, each with the next number. What the disk does not take is counted as lost."""
        for letter in letters:
            number = self._last + 1
            if self._append(msgspec.json.encode(msgspec.structs.replace(letter, number=number)), number):
                self._last = number
                self._numbers.add(number)
            else:
                self._lost += 1

    def remove(self, number: int) -> bool:
        """Take a letter away; say whether it is gone. Where the disk takes nothing, it stays."""
        if number not in self._numbers and number not in self._old_numbers:
            return True
        is_gone = self._append(msgspec.json.encode(_Line(number, gone=True)), number)
        if is_gone:
            self._numbers.discard(number)
            self._old_numbers.discard(number)
        return is_gone

    def refuse(self, letter: DeadLetter, reason: Fault) -> None:
        """Keep a letter that was sent again with the reason of today, under its number. Of one that is gone nothing."""
        number = letter.number
        if number not in self._numbers and number not in self._old_numbers:
            return
        again = msgspec.structs.replace(letter, reason=reason, tries=letter.tries + 1)
        if self._append(msgspec.json.encode(again), number):
            self._old_numbers.discard(number)
            self._numbers.add(number)

    def read(self) -> list[DeadLetter]:
        """Return the letters kept, by number. Cost: see ``read_letters``."""
        return read_letters(self.path, self.disk)

    def forget(self, user_ids: Sequence[str]) -> int:
        """Drop every letter that names one of these ids in whatever place, and write both files anew without them.

        A letter is text that no one understood, so an id counts wherever its characters stand, also as JSON escapes,
        and also within another word. Synced on return.

        Returns:
            How many letters were dropped, those included that had been sent again and whose text was still there.

        Raises:
            OSError: A file could not be written; the rest may hold such letters still.
        """
        ids = [each for each in user_ids if each]
        dropped: set[int] = set()
        for path in (_older(self.path), self.path):
            kept: list[bytes] = []
            for told, line in _lines(_content(path, self.disk)):
                if told.number and not told.gone and ids and _names(_letter(line), ids):
                    dropped.add(told.number)
                else:
                    kept.append(line)
            if path == self.path:
                kept.append(msgspec.json.encode(_Line(last=self._last)))
            self._rewrite(path, kept)
        self._open()
        return len(dropped)

    def close(self) -> None:
        """Release the file. The next letter opens it again."""
        if self._file is not None:
            self.disk.close(self._file)
        self._file = None

    def _open(self) -> None:
        """Find out what is in the files, and go on behind the last whole line."""
        self.close()
        self._numbers, self._old_numbers = set(), set()
        old, now = _content(_older(self.path), self.disk), _content(self.path, self.disk)
        self._size, self._old_size = now.rfind(b"\n") + 1, len(old)
        for told, _ in _lines(old):
            self._note(told, self._old_numbers)
        for told, _ in _lines(now[: self._size]):
            self._old_numbers.discard(told.number)
            self._note(told, self._numbers)
        self._file = self.disk.open(self.path)
        self.disk.truncate(self._file, self._size)

    def _note(self, told: _Line, numbers: set[int]) -> None:
        """Note what a line says of the letters whose last line is in a file."""
        self._last = max(self._last, told.number, told.last)
        if told.gone:
            numbers.discard(told.number)
        elif told.number:
            numbers.add(told.number)

    def _append(self, text: bytes, number: int) -> bool:
        """Write a line of a letter; say whether the disk took it. A full file becomes the older one first."""
        line = text + b"\n"
        is_kept = number in self._numbers or number in self._old_numbers
        try:
            if self._size > 0 and self._size + len(line) > self._file_bytes_max:
                self._turn()
            if self._file is None:
                self._file = self.disk.open(self.path)
            self.disk.write(self._file, [line], self._size)
        except OSError:
            return False
        self._size += len(line)
        if is_kept and number not in self._numbers and number not in self._old_numbers:
            self._dropped -= 1  # with the older file, but for this line
        return True

    def _turn(self) -> None:
        """Make the file the older one."""
        self.disk.rename(self.path, _older(self.path))
        self._dropped += len(self._old_numbers)
        self._old_numbers, self._old_size = self._numbers, self._size
        self._numbers, self._size = set(), 0
        self.close()

    def _rewrite(self, path: Path, lines: Sequence[bytes]) -> None:
        """Put a file with these lines in the place of one, whole or not at all."""
        if path.name not in self.disk.list_folder(path.parent):
            return
        new = path.with_name(path.name + ".new")
        file = self.disk.open(new)
        try:
            self.disk.truncate(file, 0)
            self.disk.write(file, [b"".join(line + b"\n" for line in lines)], 0)
            self.disk.sync(file)
        finally:
            self.disk.close(file)
        self.disk.rename(new, path)
        self.disk.sync_folder(path.parent)


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def _content(path: Path, disk: Disk) -> bytes:
    if path.name not in disk.list_folder(path.parent):
        return b""
    return disk.read(path, 0, disk.size(path))


def _lines(content: bytes) -> Iterator[tuple[_Line, bytes]]:
    """Yield each whole line that can be read, in order, and what it says."""
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            yield _decode_line(line), line
        except _UNREADABLE:
            continue


def _letter(line: bytes) -> DeadLetter | None:
    """Return the letter of a line, None when somebody else wrote it."""
    try:
        return _decode_letter(line)
    except _UNREADABLE:
        return None


def _names(letter: DeadLetter | None, ids: Sequence[str]) -> bool:
    """Return whether a letter has one of some ids in it, as it is or within JSON escapes; one unread may have any."""
    if letter is None:
        return True
    reason = letter.reason
    text = f"{letter.raw}\n{reason.where}\n{reason.came}\n{reason.right}"
    plain = _unescaped(text)
    return any(each in text or each in plain for each in ids)


def _unescaped(text: str) -> str:
    """Return a text whose JSON escapes are the characters they stand for."""
    if "\\" not in text:
        return text
    found = _ESCAPE.sub(lambda each: _ESCAPED.get(each[1]) or chr(int(each[1][1:], 16)), text)
    # Two escapes of a surrogate pair are one character.
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
