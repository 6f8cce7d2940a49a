"""Reader of history. The last row group is cached, so a sequential reader decompresses each once.

The footers of some files are cached too. No file is held open: one that retention or an erasure removes is gone at the
next group, and the caller reads the manifest again.
"""

from bisect import bisect_right
from pathlib import Path

from midstream.core.types import EventBatch, LogPosition
from midstream.events.disk import Disk
from midstream.events.history.history import History, HistoryFile, history_folder
from midstream.events.history.history_file import FileReader
from midstream.events.schema import cut

FOOTERS_MAX = 16
"""A footer of 1 million events is 1 MB in memory."""


class HistoryReader:
    """Reads the files that one manifest names. One thread at a time."""

    def __init__(self, folder: Path, disk: Disk, history: History) -> None:
        """Read the history in a log's folder."""
        self.history = history
        self._place = history_folder(folder)
        self._disk = disk
        self._files: dict[int, FileReader] = {}
        self._group: tuple[int, EventBatch] | None = None

    def read(self, after: int, stop: int) -> list[tuple[LogPosition, EventBatch]]:
        """Return the events from ``after`` to before ``stop``, both within the history, a batch a row group.

        Raises:
            LogDamaged: They are not those that were written; the text names the range of positions.
            FileNotFoundError: A file is gone, which a newer manifest may explain.
        """
        found: list[tuple[LogPosition, EventBatch]] = []
        while after < stop:
            first, batch = self._group_at(after)
            kept = cut(batch, after - first, min(stop - first, len(batch)))
            found.append((LogPosition(after), kept))
            after += len(kept)
        return found

    def _group_at(self, position: int) -> tuple[int, EventBatch]:
        """Return the row group that holds a position, and the position of its first event."""
        known = self._group
        if known is not None and known[0] <= position < known[0] + len(known[1]):
            return known
        reader = self._file(self.history.file_at(position))
        number = bisect_right(reader.file.groups, position, key=lambda group: group.first) - 1
        self._group = reader.group_range(number)[0], reader.read_group(number)
        return self._group

    def _file(self, file: HistoryFile) -> FileReader:
        reader = self._files.get(file.first)
        if reader is None:
            if len(self._files) == FOOTERS_MAX:
                del self._files[next(iter(self._files))]  # the one that was opened first
            reader = self._files[file.first] = FileReader(self._place / file.name, self._disk, file)
        return reader
