"""Rejected events, kept with their reason in a bounded file, so that someone can look at them and send them again.

One JSON object a line. When the file is full it takes the place of the older one beside it, and what that held is
dropped and counted. Dead letters were answered with their fault already, so they are not synced and never hold up
what is accepted: where the disk takes none, they are counted as lost.
"""

from collections.abc import Sequence
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


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rejected event."""

    time_ms: TimestampMs
    reason: Fault
    raw: str
    """The event as it came; what is not UTF-8 in it is written as backslash escapes."""
    characters_cut: int = 0
    """How many were cut off the end of ``raw`` to keep within ``RAW_CHARACTERS_MAX``."""


@dataclass(frozen=True, slots=True)
class DeadLetterCounts:
    """What became of dead letters since these files were opened, and what is in them."""

    kept: int
    """Lines in both files."""
    dropped: int
    """Were kept, and dropped with the older file."""
    lost: int
    """Could not be written."""


def dead_letter(time_ms: TimestampMs, reason: Fault, raw: bytes) -> DeadLetter:
    """Return the letter for what came as ``raw``, cut to what one letter may hold."""
    text = raw[: RAW_CHARACTERS_MAX * 4].decode(errors="backslashreplace")[:RAW_CHARACTERS_MAX]
    whole = raw.decode(errors="backslashreplace") if len(raw) > len(text) else text
    return DeadLetter(time_ms, reason, text, len(whole) - len(text))


class DeadLetters:
    """The file of rejected events and the older one beside it (``.old``). One thread."""

    def __init__(self, path: Path, disk: Disk, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        """Go on with what is there. Cost: reads both files once.

        Raises:
            OSError: The file could not be read or opened.
        """
        self._path = path
        self._old = path.with_name(path.name + ".old")
        self._disk = disk
        self._file_bytes_max = file_bytes_max
        disk.make_folder(path.parent)
        old, now = self._content(self._old), self._content(path)
        self._old_lines, self._lines = old.count(b"\n"), now.count(b"\n")
        self._size = now.rfind(b"\n") + 1
        """Behind the last whole line: half a line that a crash left is written over."""
        self._dropped = self._lost = 0
        self._file: int | None = disk.open(path)
        disk.truncate(self._file, self._size)

    @property
    def counts(self) -> DeadLetterCounts:
        """What became of the letters."""
        return DeadLetterCounts(self._old_lines + self._lines, self._dropped, self._lost)

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, in order. What the disk does not take is counted as lost."""
        for line in map(_line, letters):
            try:
                self._write(line)
            except OSError:
                self._lost += 1

    def read(self) -> list[DeadLetter]:
        """Return the letters kept, oldest first. Cost: up to twice the size of a file in memory."""
        lines = (self._content(self._old) + self._content(self._path)[: self._size]).splitlines()
        return [msgspec.json.decode(line, type=DeadLetter) for line in lines]

    def close(self) -> None:
        """Release the file. The next letter opens it again."""
        if self._file is not None:
            self._disk.close(self._file)
        self._file = None

    def _write(self, line: bytes) -> None:
        if self._size > 0 and self._size + len(line) > self._file_bytes_max:
            self._turn()
        if self._file is None:
            self._file = self._disk.open(self._path)
        self._disk.write(self._file, [line], self._size)
        self._size += len(line)
        self._lines += 1

    def _turn(self) -> None:
        """Make the file the older one."""
        self._disk.rename(self._path, self._old)
        self._dropped += self._old_lines
        self._old_lines, self._lines, self._size = self._lines, 0, 0
        self.close()

    def _content(self, path: Path) -> bytes:
        if path.name not in self._disk.list_folder(path.parent):
            return b""
        return self._disk.read(path, 0, self._disk.size(path))


def _line(letter: DeadLetter) -> bytes:
    return msgspec.json.encode(letter) + b"\n"
