"""Factory of log readers beside the process that appends: the one place that chooses the reader's class.

Children, exports, followers, evaluations and other readers of a log open it here, and name no class. A log elsewhere,
such as a topic of a broker, brings a reader of its own in a file of its own and a line here.
"""

from pathlib import Path
from typing import Protocol

from midstream.core.protocols import LogReader
from midstream.engine.folder import DataFolder
from midstream.events.disk import Disk, RealDisk
from midstream.events.segments.log_identity import LogIdentity
from midstream.events.segments.segment_reader import SegmentReader


class FolderLog(LogReader, Protocol):
    """A log with a folder of its own, which holds the base."""

    @property
    def folder(self) -> Path:
        """Where the log lies."""
        ...

    @property
    def identity(self) -> LogIdentity:
        """Which log it is, and which writing of its history."""
        ...


def open_reader(data: DataFolder, disk: Disk | None = None) -> FolderLog:
    """Return a reader of the log of a data folder; it takes no lock and changes nothing.

    Args:
        data: Folder of the log: its highest generation is read.
        disk: Makes the file calls; None = the real one.

    Raises:
        LogDamaged: There is no log, or its identity or the manifest of its history is damaged.
    """
    return read_folder(data.log, disk)


def read_folder(folder: Path, disk: Disk | None = None) -> FolderLog:
    """Return a reader of the log in a folder that is not yet, or perhaps no more, that of the data folder.

    Raises:
        LogDamaged: As ``open_reader``.
    """
    return SegmentReader(folder, disk or RealDisk())
