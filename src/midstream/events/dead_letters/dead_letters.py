"""Dead-letter store: rejected events with their reasons in a bounded file, for inspection and retry.

One JSON object a line. A letter keeps its number; a later line of the same number replaces an earlier one, and one with
``gone`` removes it, so a change of a letter costs one line. A full file replaces the older one beside it, and the
letters of that one alone are dropped and counted. The sender of a dead letter has its fault already, so letters are not
synced and never delay accepted events: letters that the disk refuses are counted as lost.

Other processes may read the files beside the process that writes them (``read_letters``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from midstream.core.answers.letters import DeadLetter
from midstream.core.errors import Fault
from midstream.core.types import TimestampMs
from midstream.events.dead_letters.id_search import IdSearch
from midstream.events.disk import Disk
from midstream.events.wire import WireEvent

FILE_BYTES_MAX = 16 << 20
"""Two files of 16 MiB: 64 events of the largest size, or some 100,000 of the usual one."""
RAW_CHARACTERS_MAX = 256 << 10
"""A body of an event may have 256 KiB, so one that was not refused for its size is kept whole."""
PIECE_BYTES = 64 << 10
"""Of letters that are looked through at once: 3 ms; 10 where the characters of an id stand in each of them."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class _Line(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a line says beside the letter itself.

    It refers to nothing, and the collector is told: 100,000 of them would have it look at the whole process.
    """

    number: int = 0
    """0 = the line is no letter's."""
    gone: bool = False
    last: int = 0
    """Number of the newest letter there was, on a line of an older one, or that says nothing else."""


@dataclass(frozen=True, slots=True)
class DeadLetterCounts:
    """Counts of dead letters since these files were opened, and their contents."""

    kept: int
    """Letters in both files."""
    dropped: int
    """Were kept, and dropped with the older file."""
    lost: int
    """Could not be written."""
    bytes_kept: int = 0
    """Size of both files, at most twice ``FILE_BYTES_MAX`` and a letter."""


_FIELDS = frozenset(WireEvent.__struct_fields__)
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_letter = msgspec.json.Decoder(DeadLetter).decode


def field_of(reason: Fault) -> str:
    """Return the field of a fault: a fixed word, whatever names the event itself has.

    Example:
        >>> field_of(Fault("line 3: /items/2/item_id", "", "", "")), field_of(Fault("/my own", "", "", ""))
        ('items', 'unknown field')
    """
    _, _, pointer = reason.where.partition("/")
    names = (each for each in pointer.split("/") if each and each != "events" and not each.isdigit())
    name = next(names, "")
    return name if name in _FIELDS else "unknown field" if name else "whole event"


def dead_letter(
    time_ms: TimestampMs, reason: Fault, raw: bytes, item: int = -1, origin: Mapping[str, str] | None = None
) -> DeadLetter:
    """Return the letter of an event ``raw``, cut to the maximum of one letter."""
    text = raw[: RAW_CHARACTERS_MAX * 4].decode(errors="backslashreplace")[:RAW_CHARACTERS_MAX]
    whole = raw.decode(errors="backslashreplace") if len(raw) > len(text) else text
    return DeadLetter(time_ms, reason, text, len(whole) - len(text), item, origin=origin or {})


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
        """Continue the existing files. Cost: reads both files once.

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
        self._turns = 0
        """How often the file became the older one."""
        self.sending: set[int] = set()
        """Numbers whose events are being sent again."""
        self._open()

    @property
    def counts(self) -> DeadLetterCounts:
        """Counts of the letters."""
        kept = len(self._numbers) + len(self._old_numbers)
        return DeadLetterCounts(kept, self._dropped, self._lost, self._size + self._old_size)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, in order, each with the next number. Those that the disk refuses are counted as lost."""
        for letter in letters:
            number = self._last + 1
            if self._append(msgspec.json.encode(msgspec.structs.replace(letter, number=number)), number):
                self._last = number
                self._numbers.add(number)
            else:
                self._lost += 1

    def holds(self, number: int) -> bool:
        """Return whether there is a letter of this number."""
        return number in self._numbers or number in self._old_numbers

    def remove(self, number: int) -> bool:
        """Remove a letter; return whether it is gone. Where the disk fails, it stays; durable after ``secure``."""
        if not self.holds(number):
            return True
        is_gone = self._append(msgspec.json.encode(_Line(number, gone=True)), number)
        if is_gone:
            self._numbers.discard(number)
            self._old_numbers.discard(number)
        return is_gone

    def refuse(self, letter: DeadLetter, reason: Fault) -> None:
        """Keep the new reason of a letter whose retry was rejected, under its number; ignore a removed one."""
        number = letter.number
        if not self.holds(number):
            return
        again = msgspec.structs.replace(letter, reason=reason, tries=letter.tries + 1)
        if self._append(msgspec.json.encode(again), number):
            self._old_numbers.discard(number)
            self._numbers.add(number)

    def secure(self) -> None:
        """Make durable what was done to the letters before the call; on any thread.

        Raises:
            OSError: The disk.
        """
        _secure(self.path, self.disk)

    def read(self) -> list[DeadLetter]:
        """Return the letters kept, by number. Cost: see ``read_letters``."""
        return read_letters(self.path, self.disk)

    def forget(self, user_ids: Sequence[str]) -> int:
        """Drop every letter that names one of these ids, and write both files anew without them.

        An id counts where it is a value or a name of its own, at any depth, and in what cannot be read as a word of its
        own; not within another word (``IdSearch``). Synced on return. Cost: a second or two when both files are full;
        ``begin_forgetting`` does the same in pieces.

        Returns:
            How many letters were dropped, those included that had been sent again and whose text was still there.

        Raises:
            OSError: A file could not be written; the rest may hold such letters still.
        """
        forgetting = self.begin_forgetting(user_ids)
        for _ in forgetting.pieces():
            pass
        self.end_forgetting(forgetting)
        forgetting.secure()
        return len(forgetting.dropped)

    def begin_forgetting(self, user_ids: Sequence[str]) -> "Forgetting":
        """Begin what ``forget`` does; letters may come and go until ``end_forgetting``. One at a time."""
        return Forgetting(self.path, self.disk, IdSearch(user_ids), self._size, self._turns)

    def end_forgetting(self, forgetting: "Forgetting") -> bool:
        """Put the new files in the place of those there are, with what came meanwhile.

        Args:
            forgetting: All of its pieces are done. What it says is on disk for good after its ``secure``.

        Returns:
            False when the file became the older one meanwhile: nothing was changed, and it is to be begun again.

        Raises:
            OSError: A file could not be written; the rest may hold such letters still.
        """
        if forgetting.turns != self._turns:
            return False
        try:
            rest_bytes = self._size - forgetting.size  # where nothing was ever kept there is no file
            rest = self.disk.read(self.path, forgetting.size, rest_bytes) if rest_bytes else b""
            size = forgetting.add_rest(rest, _Line(last=self._last))
            self.close()
            if forgetting.old_size is not None:
                self.disk.rename(_new(_older(self.path)), _older(self.path))
                self._old_size = forgetting.old_size
            self.disk.rename(_new(self.path), self.path)
        except OSError:
            self._open()
            raise
        self._size = size
        self._numbers -= forgetting.dropped
        self._old_numbers -= forgetting.dropped
        return True

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
        if len(now) > self._size:
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
        if number < self._last:  # else the newest number is gone with the older file, and would be given again
            text = text[:-1] + b',"last":%d}' % self._last
        line = text + b"\n"
        is_kept = self.holds(number)
        try:
            if self._size > 0 and self._size + len(line) > self._file_bytes_max:
                self._turn()
            if self._file is None:
                self._file = self.disk.open(self.path)
            self.disk.write(self._file, [line], self._size)
        except OSError:
            return False
        self._size += len(line)
        if is_kept and not self.holds(number):
            self._dropped -= 1  # with the older file, but for this line
        return True

    def _turn(self) -> None:
        """Make the file the older one."""
        self.disk.rename(self.path, _older(self.path))
        self._turns += 1
        self._dropped += len(self._old_numbers)
        self._old_numbers, self._old_size = self._numbers, self._size
        self._numbers, self._size = set(), 0
        self.close()


@dataclass(slots=True)
class Forgetting:
    """Files of letters rewritten without those that name certain ids: see ``DeadLetters.begin_forgetting``."""

    path: Path
    disk: Disk
    naming: IdSearch
    size: int
    """Of the file when it was begun: all before is looked through in pieces, the rest at the end."""
    turns: int
    """How often the file had become the older one by then."""
    dropped: set[int] = field(default_factory=set[int])
    """Numbers of the letters that are left out."""
    old_size: int | None = None
    """Of the older file as it is written anew, None = there is none."""
    _new_size: int = 0

    def pieces(self) -> Iterator[None]:
        """Look through the letters and write the new files beside those there are; yield after each piece of work.

        A piece takes some milliseconds, and up to a second where the disk is asked to sync 16 MiB. Any thread may do
        one, one after another: nothing is touched that the owner of the letters touches.

        Raises:
            OSError: A file could not be written.
        """
        there = self.disk.list_folder(self.path.parent)
        old: list[tuple[_Line, bytes]] = []
        now: list[tuple[_Line, bytes]] = []
        for path, lines in ((_older(self.path), old), (self.path, now)):
            if _new(path).name in there:
                self.disk.unlink(_new(path))  # of one that was broken off, perhaps without who is forgotten since
            content = _content(path, self.disk)
            for piece in _pieces(content if path != self.path else content[: self.size]):
                self._look(piece)
                lines.extend(piece)
                yield
        if _older(self.path).name in there:
            self.old_size = self._write(_older(self.path), old)
            yield
        self._new_size = self._write(self.path, now)
        yield

    def add_rest(self, content: bytes, last: _Line) -> int:
        """Add lines that came since, those that name nobody, and ``last``; return the size of the new file.

        Raises:
            OSError: The disk.
        """
        before = set(self.dropped)
        lines = list(_lines(content))
        self._look(lines)
        # Of a letter that was kept and is named by a later line only, the earlier ones are in the new files already.
        gone = [msgspec.json.encode(_Line(number, gone=True)) for number in sorted(self.dropped - before)]
        rest = b"".join(line + b"\n" for line in (*self._kept(lines), *gone, msgspec.json.encode(last)))
        file = self.disk.open(_new(self.path))
        try:
            self.disk.write(file, [rest], self._new_size)
        finally:
            self.disk.close(file)
        return self._new_size + len(rest)

    def secure(self) -> None:
        """Make durable what ``end_forgetting`` did; on any thread.

        Raises:
            OSError: The disk.
        """
        _secure(self.path, self.disk)

    def _look(self, lines: Sequence[tuple[_Line, bytes]]) -> None:
        """Find the letters among lines that name an id."""
        letters: list[tuple[int, DeadLetter]] = []
        for told, line in lines:
            if told.number and not told.gone:
                letter = _letter(line)
                if letter is not None:
                    letters.append((told.number, letter))
                elif self.naming.ids:
                    self.dropped.add(told.number)  # what cannot be read may have any id in it
        touched = self.naming.touched([_text(letter) for _, letter in letters])
        self.dropped.update(
            number for (number, letter), is_touched in zip(letters, touched, strict=True)
            if is_touched and _names(letter, self.naming)
        )  # fmt: skip

    def _kept(self, lines: Sequence[tuple[_Line, bytes]]) -> Iterator[bytes]:
        return (line for told, line in lines if told.number not in self.dropped)

    def _write(self, path: Path, lines: Sequence[tuple[_Line, bytes]]) -> int:
        """Write lines into a new file beside one, but for the letters that are dropped; return its size."""
        content = b"".join(line + b"\n" for line in self._kept(lines))
        file = self.disk.open(_new(path))
        try:
            self.disk.truncate(file, 0)
            self.disk.write(file, [content], 0)
            self.disk.sync(file)
        finally:
            self.disk.close(file)
        return len(content)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return all files there may be of the letters at a path: the file, the older one, and those being written anew."""
    return (path, _older(path), _new(path), _new(_older(path)))


def _secure(path: Path, disk: Disk) -> None:
    """Sync both files and their names: a line may have become one of the older file since it was written."""
    there = disk.list_folder(path.parent)
    for each in (path, _older(path)):
        if each.name in there:
            file = disk.open(each)
            try:
                disk.sync(file)
            finally:
                disk.close(file)
    disk.sync_folder(path.parent)


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".old")


def _new(path: Path) -> Path:
    """Return where a file is written anew."""
    return path.with_name(path.name + ".new")


def _content(path: Path, disk: Disk) -> bytes:
    if path.name not in disk.list_folder(path.parent):
        return b""
    try:
        return disk.read(path, 0, disk.size(path))
    except FileNotFoundError:  # it has just become the older one, beside a thread that looks through it
        return b""


def _lines(content: bytes) -> Iterator[tuple[_Line, bytes]]:
    """Yield each whole line that can be read, in order, and what it says."""
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            yield _decode_line(line), line
        except _UNREADABLE:
            continue


def _pieces(content: bytes) -> Iterator[list[tuple[_Line, bytes]]]:
    """Yield the whole lines, so many together as are a piece of work."""
    start = 0
    while start < len(content):
        stop = content.find(b"\n", start + PIECE_BYTES) + 1 or len(content)
        yield list(_lines(content[start:stop]))
        start = stop


def _letter(line: bytes) -> DeadLetter | None:
    """Return the letter of a line, None when somebody else wrote it."""
    try:
        return _decode_letter(line)
    except _UNREADABLE:
        return None


def _text(letter: DeadLetter) -> str:
    """Return all that a letter says of what came."""
    reason = letter.reason
    return f"{letter.raw}\n{reason.where}\n{reason.came}\n{reason.right}"


def _names(letter: DeadLetter, naming: IdSearch) -> bool:
    """Return whether a letter names an id: in the event as it came, or in what its reason repeats of it."""
    reason = letter.reason
    return (
        naming.is_named_in(letter.raw)
        or naming.is_step_of(reason.where)
        or naming.is_quoted_in(reason.came)
        or naming.is_quoted_in(reason.right)
    )
