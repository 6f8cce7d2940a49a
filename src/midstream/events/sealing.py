"""Sealing: converts old segments to history, removes them, and cuts history by retention.

Each step is synced before the next one begins: files of history, read back and compared with the log; the manifest that
names them; only then the segments are removed. After any interruption the log has the same content, and the next
sealing removes the remains of this one. The last segment is never sealed: it is the writer's.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from midstream.core.errors import LogDamaged
from midstream.core.types import EventBatch, LogPosition
from midstream.events.disk import Disk
from midstream.events.history.history import (
    DAY_MS,
    History,
    HistoryFile,
    LastTrimmed,
    damage_text,
    file_flaw,
    history_folder,
    unnamed,
    write_history,
)
from midstream.events.history.history_file import FILE_ROWS_MAX, FileReader, FileWriter, Rest, go_on
from midstream.events.schema import cut
from midstream.events.segments.segment_reader import SegmentReader
from midstream.events.segments.segment_scan import (
    Tail,
    gap,
    history_of,
    hot_firsts,
    scan_file,
    segment_firsts,
    segment_name,
    start_of,
)

_READ_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class Sealed:
    """Result of a sealing."""

    begin: int
    """Oldest log position that can be read."""
    end: int
    """Log position at which history ends and the segments begin."""
    events: int
    """Events that became history."""
    files: int
    """Files that were written."""
    segments: int
    """Segments that were removed."""


def seal(folder: Path, disk: Disk, durable: LogPosition, hot_ms: int, rest: Rest = go_on) -> Sealed:
    """Make history of all segments but the last whose events are older than ``hot_ms`` of log time.

    A server may append and others may read meanwhile; two sealings at a time may not be. Memory: a segment and a row
    group. Cost: about 3 µs an event.

    Args:
        folder: Of the log.
        disk: Makes all file calls.
        durable: Log position before which all is durable, by the word of the writer.
        hot_ms: Log time before that of the last durable event which stays in segments.
        rest: Called after each piece of work.

    Raises:
        LogDamaged: A segment, or what was written of it, is not as it should be; nothing was removed.
        OSError: The disk.
    """
    return _Sealing(folder, disk, durable, rest).run(hot_ms)


def kept_from(history: History, before_ms: int) -> int:
    """Return the log position after the oldest files whose every event is from before a log time."""
    for file in history.files:
        if file.last_log_time_ms >= before_ms:
            return max(file.first, history.begin)
    return history.end


def retain(folder: Path, disk: Disk, begin: int) -> History | None:
    """Cut the log to begin at a position of its history, and remove the files before it; return the other ones.

    The caller has written a base for that position first: the events before are lost with this.

    Raises:
        LogDamaged: The history is damaged.
        OSError: The disk.
        ValueError: The position is beyond the history.
    """
    identity = SegmentReader(folder, disk).identity
    history = history_of(folder, disk, identity)
    if history is not None and begin > history.begin:
        if begin > history.end:
            message = f"the log cannot begin at {begin}: history ends at {history.end}"
            raise ValueError(message)
        files = tuple(file for file in history.files if file.end > begin)
        history = msgspec.structs.replace(history, begin=begin, files=files)
        write_history(folder, disk, history)
    _remove_unnamed(folder, disk, history)
    return history


class _Sealing:
    def __init__(self, folder: Path, disk: Disk, durable: LogPosition, rest: Rest) -> None:
        self._rest = rest
        self._folder = folder
        self._place = history_folder(folder)
        self._disk = disk
        self._durable = durable
        self._reader = SegmentReader(folder, disk)
        self._identity = self._reader.identity
        self._history = history_of(folder, disk, self._identity)
        self._removed = 0

    @property
    def _end(self) -> int:
        return 0 if self._history is None else self._history.end

    @property
    def _begin(self) -> int:
        return 0 if self._history is None else self._history.begin

    @property
    def _files(self) -> tuple[HistoryFile, ...]:
        return () if self._history is None else self._history.files

    def run(self, hot_ms: int) -> Sealed:
        self._disk.make_folder(self._place)
        _remove_unnamed(self._folder, self._disk, self._history)
        self._trim()
        began, files = self._end, 0
        if self._durable > began:
            before_ms = self._log_time_at(self._durable - 1) - hot_ms
            while (tail := self._due(before_ms)) is not None:
                written = self._write(tail.position)
                history = History(self._identity.log_id, self._begin, (*self._files, *written), _last_trimmed(tail))
                write_history(self._folder, self._disk, history)
                self._history = history
                self._trim()
                files += len(written)
        return Sealed(self._begin, self._end, self._end - began, files, self._removed)

    def _due(self, before_ms: int) -> Tail | None:
        """Return where the next segments end that are old enough, about a file's worth; None = there are none.

        Every byte of them is checked, and that each follows the one before it.
        """
        start = tail = start_of(self._identity, self._history)
        firsts = [first for first in hot_firsts(self._folder, self._disk, self._history) if first <= self._durable]
        for first, following in pairwise(firsts):
            if self._log_time_at(following - 1) >= before_ms or tail.position - start.position >= FILE_ROWS_MAX:
                break
            found = scan_file(self._folder, self._disk, first, self._identity, tail, is_last=False)
            damage = found.damage or gap(found.tail.position, following)
            if damage is not None:
                raise damage.error(self._folder)
            tail = found.tail
        return tail if tail.position > start.position else None

    def _log_time_at(self, position: int) -> int:
        ((_, batch),) = self._reader.read(LogPosition(position), 1, self._durable)
        return int(batch.rows["log_time_ms"][0])

    def _write(self, upto: int) -> list[HistoryFile]:
        """Write the events between history and a position to files, and see that they hold them."""
        files: list[HistoryFile] = []
        writer: FileWriter | None = None
        with ExitStack() as undo:
            for first, batch in self._pieces(upto):
                if writer is not None and not writer.takes(batch):
                    files.append(writer.close())
                    writer = None
                if writer is None:
                    writer = FileWriter(self._place, self._disk, first, self._rest)
                    undo.callback(writer.give_up)
                writer.add(batch)
            if writer is not None:
                files.append(writer.close())
        for file in files:
            self._read_back(file)
        return files

    def _pieces(self, upto: int) -> Iterator[tuple[int, EventBatch]]:
        """Yield the events between history and a position, each batch of one day of log time."""
        after = self._end
        while after < upto:
            for first, batch in self._reader.read(LogPosition(after), min(_READ_EVENTS, upto - after), self._durable):
                kept = cut(batch, 0, upto - first)
                days = kept.rows["log_time_ms"] // DAY_MS
                edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(kept)]
                yield from ((first + start, cut(kept, start, stop)) for start, stop in pairwise(edges))
                after = first + len(kept)

    def _read_back(self, file: HistoryFile) -> None:
        """Read a file that was written, by its bytes and event by event, before anything rests on it.

        Raises:
            LogDamaged: It is not what it should be.
        """
        path = self._place / file.name
        if flaw := file_flaw(path, self._disk, file, thorough=True):
            raise LogDamaged(damage_text(path, file.first, file.end, flaw))
        reader = FileReader(path, self._disk, file)
        for number in range(len(file.groups)):
            reader.read_group(number)
            self._rest(0)

    def _trim(self) -> None:
        """Remove the segments that history holds, the oldest first."""
        held = [first for first in segment_firsts(self._folder, self._disk) if first < self._end]
        for first in held:
            self._disk.unlink(self._folder / segment_name(first))
        if held:
            self._disk.sync_folder(self._folder)
        self._removed += len(held)


def _last_trimmed(tail: Tail) -> LastTrimmed:
    return LastTrimmed(tail.segment, tail.size, tail.position, tail.chain.hex(), tail.generation, tail.log_time_ms)


def _remove_unnamed(folder: Path, disk: Disk, history: History | None) -> None:
    """Remove what no manifest names: files that a sealing broke off, or that retention took out of it."""
    left = unnamed(folder, disk, history)
    for path in left:
        disk.unlink(path)
    if left:
        disk.sync_folder(history_folder(folder))
