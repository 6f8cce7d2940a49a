"""Resumable exports: finished slates are kept beside the target file, so that an interrupted export continues.

The first line has the inputs of the slates, each further line a slate. A line counts when it is complete, so a killed
process leaves at most a partial line. An export with other inputs, such as another placement, configuration or
champion, begins anew, and so does one more than ``KEPT_MS_MAX`` later: slates are made ahead of a visit, and
yesterday's are outdated. Slates that are already in a complete target file are outdated too; after a crash just behind
its rename the target is the newer of the two files.
"""

import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, Self

import msgspec

from midstream.app.export.writers import ExportedSlate
from midstream.core.errors import Fault, Invalid
from midstream.events.file_modes import PRIVATE

KEPT_MS_MAX: Final = 24 * 60 * 60_000
"""A day: as often as most e-mails are sent."""
UNSURE_MAX: Final = 512
"""Newest slates that may not have reached the log: two batches of served records, one being collected while the
other is written."""
_OPENED_MAX: Final = 8
"""Times that the file is opened while others remove it between that and its lock."""
_PAGE = "/docs/cli.md"


class MadeWith(msgspec.Struct, frozen=True):
    """Inputs of slates beside the state and their user."""

    log_name: str
    config: str
    """Hash of the configuration, of the placements that were set and of the champions."""
    placement: str
    n: int | None
    fields: tuple[str, ...]
    is_logged: bool


class _Beginning(msgspec.Struct, frozen=True):
    """The first line."""

    made_with: MadeWith
    began_ms: int
    log_position: str


class Begun(AbstractContextManager["Begun"]):
    """The slates that were made so far for one file. One process at a time has them open."""

    def __init__(self, path: Path, made_with: MadeWith, now_ms: int, log_position: str, *, anew: bool = False) -> None:
        """Name the export.

        Args:
            path: Of the target file.
            made_with: Current inputs of slates.
            now_ms: Time.
            log_position: Current position of the state.
            anew: Discard earlier slates.
        """
        self._target = path
        self._path = path.with_name(f".{path.name}.slates")
        self._now = _Beginning(made_with, now_ms, log_position)
        self._anew = anew
        self._at: dict[str, int] = {}
        """Where the line of each user begins, in the order in which they were made."""
        self.log_position = log_position
        """Where the state stood when the first of them was made."""
        self.kept: frozenset[str] = frozenset()
        """Users whose slates are from before."""

    def __enter__(self) -> Self:
        """Open the file and read what is in it.

        Raises:
            Invalid: Another process has it open.
        """
        self._file = self._locked()
        self._read()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Remove them where they are in their file now, and where there are none."""
        if kind is None or not self._at:
            self._path.unlink(missing_ok=True)
        self._file.close()

    def forget_unlogged(self, is_logged: Callable[[str], bool]) -> None:
        """Discard those of the newest slates that did not reach the log before the process was killed.

        Args:
            is_logged: Returns whether a request id is in the log.
        """
        unsure = list(islice(reversed(self._at), UNSURE_MAX))
        end = self._file.seek(0, os.SEEK_END)
        for user_id in unsure:
            slate = self._slate(self._at[user_id])
            if slate.request_id is None or is_logged(slate.request_id):
                break
            end = self._at.pop(user_id)
        self._file.truncate(end)
        self.kept = frozenset(self._at)

    def add(self, slate: ExportedSlate) -> None:
        """Write one behind the others; a process that is killed after that does not lose it."""
        self._at[slate.user_id] = self._file.seek(0, os.SEEK_END)
        self._file.write(msgspec.json.encode(slate) + b"\n")
        self._file.flush()

    def slates(self, users: Collection[str]) -> Iterator[ExportedSlate]:
        """Yield the slates of some users, in the order of these. Cost: a read of one line each."""
        return (self._slate(self._at[user_id]) for user_id in users)

    def _locked(self) -> BinaryIO:
        """Return the file, open and locked: the one of that name, not one that was removed before it was locked."""
        for _ in range(_OPENED_MAX):
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE), "r+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                break
            named, own = _stat(self._path), os.fstat(file.fileno())
            if named is not None and os.path.samestat(named, own):
                return file
            file.close()
        fault = Fault("OUT", f"Another export is writing {self._path.name}.", "Another file, or later.", _PAGE)
        raise Invalid((fault,))

    def _slate(self, at: int) -> ExportedSlate:
        self._file.seek(at)
        return msgspec.json.decode(self._file.readline(), type=ExportedSlate)

    def _read(self) -> None:
        """Read what is whole, and cut what is behind it; begin anew where it is of something else."""
        end = 0
        if self._is_wanted(self._file.readline()):
            end = self._file.tell()
            for line in self._file:
                try:
                    slate = msgspec.json.decode(line if line.endswith(b"\n") else b"", type=ExportedSlate)
                except msgspec.MsgspecError:
                    break
                self._at[slate.user_id] = end
                end += len(line)
        self._file.seek(end)
        self._file.truncate(end)
        if not end:
            self._file.write(msgspec.json.encode(self._now) + b"\n")
            self._file.flush()
        self.kept = frozenset(self._at)

    def _is_wanted(self, line: bytes) -> bool:
        try:
            found = msgspec.json.decode(line, type=_Beginning)
        except msgspec.MsgspecError:
            return False
        is_old = self._now.began_ms - found.began_ms > KEPT_MS_MAX
        if self._anew or is_old or found.made_with != self._now.made_with or self._is_in_target():
            return False
        self.log_position = found.log_position
        return True

    def _is_in_target(self) -> bool:
        """Return whether the whole file was written after these; at once after is the same time on a coarse clock."""
        whole = _stat(self._target)
        return whole is not None and whole.st_mtime_ns >= os.fstat(self._file.fileno()).st_mtime_ns


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
