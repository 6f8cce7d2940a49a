"""Rejected rows of an import, in a file of its own until the import is complete.

An import that is refused or interrupted leaves those of the one before as they were.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from midstream.core.answers.letters import DeadLetter
from midstream.core.types import TimestampMs
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.admitted_batch import ERASED_CAME
from midstream.events.dead_letters.dead_letters import DeadLetters, dead_letter, files_of
from midstream.events.disk import RealDisk
from midstream.events.json.decode import Rejected
from midstream.events.processes.process_ids import is_running

REFUSED_NAMED_MAX = 1_000
"""Refused rows of an import that are kept, the first ones: 40 ms. All are counted, by reason."""


class RejectedRows:
    """Rejected rows of one import. Use it in a ``with`` block; what is not put in its place goes at the end."""

    def __init__(self, data: DataFolder) -> None:
        """Keep none yet; what processes left that were killed is removed."""
        remove_left(data)
        self._final = data.import_rejected
        self._path = data.import_rejected.with_name(f"{data.import_rejected.stem}.{os.getpid()}.ndjson")
        _remove(self._path)  # of one that was killed and had the same number
        self._letters: DeadLetters | None = None
        self.count = 0
        """Rows that were rejected or refused, but for those of erased users."""
        self.refused_kept = 0
        """Of those, refused ones that are kept."""

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not put in its place."""
        if self._letters is not None:
            self._letters.close()
        _remove(self._path)

    @property
    def kept_count(self) -> int:
        """How many are kept, the last ones."""
        return 0 if self._letters is None else self._letters.counts.kept

    @property
    def refused_room(self) -> int:
        """How many refused rows are kept beside those that are."""
        return REFUSED_NAMED_MAX - self.refused_kept

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep some more."""
        if letters:
            self._letters = self._letters or DeadLetters(self._path, RealDisk())
            self._letters.add(letters)
            self.count += len(letters)

    def add_refused(self, refused: Sequence[Rejected], count: int, now_ms: TimestampMs) -> None:
        """Keep the first rows that were refused, but for those of erased users.

        Args:
            refused: Those that were named.
            count: How many there were, but for those of erased users.
            now_ms: The clock.
        """
        kept = [each for each in refused if each.fault.came != ERASED_CAME][: self.refused_room]
        self.add([dead_letter(now_ms, each.fault, each.raw) for each in kept])
        self.refused_kept += len(kept)
        self.count += count - len(kept)

    def put_in_place(self) -> None:
        """Put them in the place of those of the import before, all of which go: nobody asks about these any more.

        The last line says how many are in neither of both files.

        Raises:
            OSError: The disk.
        """
        if self._letters is not None:
            self._letters.close()
            if self.kept_count < self.count:
                told = {
                    "rejected_rows": self.count,
                    "kept": self.kept_count,
                    "not_kept": self.count - self.kept_count,
                }
                with self._path.open("ab") as file:
                    file.write(msgspec.json.encode(told) + b"\n")
        _remove(self._final)
        for made, place in zip(files_of(self._path)[:2], files_of(self._final)[:2], strict=True):
            if made.exists():
                made.replace(place)


def remove_left(data: DataFolder) -> None:
    """Remove rejected rows that imports left whose process is gone."""
    for path in data.root.glob(f"{data.import_rejected.stem}.*.ndjson*"):
        number = path.name.split(".")[1]
        if number.isdecimal() and not is_running(int(number)):
            path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """Remove all files of the letters at a path."""
    for each in files_of(path):
        each.unlink(missing_ok=True)
