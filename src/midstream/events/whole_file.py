"""Atomic file: gets its name when it is complete and durable, so a reader never finds a part of it."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from midstream.events.disk import RealDisk
from midstream.events.file_modes import file_mode

OPEN_MODE = 0o666
"""Of a file that somebody asked for at a place of their own: what the process's mask leaves of it."""


class WholeFile(AbstractContextManager[BinaryIO]):
    """A file written in a ``with`` block; if that fails, the old file of the name stays."""

    def __init__(self, path: Path, mode: int | None = None) -> None:
        """Write to a file beside ``path``, in the same folder.

        Args:
            path: Of the file as it is to be found.
            mode: Of the file, less the process's mask; None = that of a file of this name in a data folder.
        """
        self._path = path
        self._mode = file_mode(path) if mode is None else mode
        self._part = path.with_name(f".{path.name}.part")
        self._file: BinaryIO | None = None

    def __enter__(self) -> BinaryIO:
        """Begin anew; remains of a killed writer are removed."""
        self._part.unlink(missing_ok=True)
        self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode), "wb")
        return self._file

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Make it durable and give it its name, or remove it."""
        if self._file is None:
            return
        try:
            self._file.close()  # a writer of tables may have done so
            if kind is None:
                sync_file(self._part)
                self._part.replace(self._path)
                RealDisk().sync_folder(self._path.parent)
        finally:
            self._part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by one that is durable."""
    with WholeFile(path) as file:
        file.write(content)


def sync_file(path: Path) -> None:
    """Make the contents of a file durable that somebody has written."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
