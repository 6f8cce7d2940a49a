"""Copy of a log into a folder of its own, each batch passed through a function that may change or blank its events.

History stays history and segments stay segments, each event in the same one of the two. A copy may end before its
source does; later events are left out.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import FolderLog, read_folder
from midstream.events.disk import Disk
from midstream.events.history.history import (
    DAY_MS,
    FOLDER_NAME,
    History,
    HistoryFile,
    LastTrimmed,
    read_history,
    write_history,
)
from midstream.events.schema import cut
from midstream.events.segments.segments import SegmentLog

COMMIT_EVENTS = 10_000
"""Events in a frame of the new log."""
_LOCK_NAME = "rewrite.lock"
Change: TypeAlias = Callable[[LogPosition, EventBatch], EventBatch]
"""Given the position before a batch, and the batch; returns as many events."""


@dataclass(frozen=True, slots=True, eq=False)
class LogCopy:
    """Options of one copy: source, target, and the function for its events."""

    old: FolderLog
    target: Path
    disk: Disk
    change: Change
    pace: Pace

    def history(self, stop: LogPosition | None = None) -> History | None:
        """Write the history of the new log, a file for each of the old one's; return it, None = there is none.

        Args:
            stop: Where it ends at the latest; None = where the old one's ends.
        """
        old = read_history(self.old.folder, self.disk)
        if old is None or (stop is not None and stop <= old.begin):
            return None
        end = old.end if stop is None else min(old.end, stop)
        place = self.target / FOLDER_NAME
        self.disk.make_folder(place)
        files: list[HistoryFile] = []
        log_time_ms = old.tail.log_time_ms
        for file in old.files:
            if file.first < end:
                written, log_time_ms = self._history_file(file, end, place)
                files.append(written)
        generation = read_folder(self.target, self.disk).identity.generation
        # Nothing is left of the segments of before, so the first one that there is follows none.
        tail = LastTrimmed(-1, 0, end, old.log_id, generation, log_time_ms)
        history = History(old.log_id, old.begin, tuple(files), tail)
        write_history(self.target, self.disk, history)
        return history

    def _history_file(self, file: HistoryFile, end: int, place: Path) -> tuple[HistoryFile, int]:
        """Write a file of history up to a position; return it with its last event's log time."""
        from midstream.events.history.history_file import FileReader, FileWriter  # Arrow takes 0.4 s and 40 MB

        reader = FileReader(self.old.folder / FOLDER_NAME / file.name, self.disk, file)
        writer = FileWriter(place, self.disk, file.first)
        log_time_ms = 0
        try:
            for number in range(len(file.groups)):
                first, after = reader.group_range(number)
                if first >= end:
                    break
                batch = cut(reader.read_group(number), 0, end - first)
                writer.add(self.change(LogPosition(first), batch))
                log_time_ms = int(batch.rows["log_time_ms"][-1])
                self.rest("history", min(after, end), end)
            written = writer.close()
        finally:
            writer.give_up()
        self.pace.wrote(written.bytes)
        return written, log_time_ms

    def append(self, log: SegmentLog, upto: LogPosition) -> None:
        """Append the events between the new log's end and a position."""
        for first, batch in batches(lambda after, limit: self.old.read(after, limit, upto), log.end, upto):
            append_days(log, self.change(first, batch))
            self.rest("segments", first + len(batch), upto)
            self.pace.wrote(batch.rows.nbytes + len(batch.text))

    def rest(self, stage: str, done: int, total: int) -> None:
        """Report progress, and pause for a moment."""
        self.pace.say(stage, done, total)
        self.pace.rest()


def open_new(target: Path, disk: Disk, segment_bytes: int) -> "_OpenNew":
    """Open the new log for appending, in a ``with`` block; the caller holds the data folder's lock."""
    return _OpenNew(target, disk, segment_bytes)


def remove_lock(target: Path) -> None:
    """Remove the lock of a new log that is open no more."""
    (target / _LOCK_NAME).unlink(missing_ok=True)


class _OpenNew:
    def __init__(self, target: Path, disk: Disk, segment_bytes: int) -> None:
        self._log = SegmentLog(target, disk, b"", segment_bytes, disk.lock(target / _LOCK_NAME, target))

    def __enter__(self) -> SegmentLog:
        return self._log

    def __exit__(self, *_: object) -> None:
        self._log.close()


def append_days(log: SegmentLog, batch: EventBatch) -> None:
    """Append events; those of two days of log time are two commits, as segments end with a day."""
    days = np.asarray(batch.rows["log_time_ms"], dtype=np.int64) // DAY_MS
    ends: list[int] = [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(batch)]
    start = 0
    while start < len(batch):
        stop = min(ends[bisect_right(ends, start)], start + COMMIT_EVENTS)
        log.append(cut(batch, start, stop))
        start = stop
