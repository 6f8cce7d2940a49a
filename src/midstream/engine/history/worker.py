"""Child process that converts old segments to history, and cuts history by retention.

It runs at a priority below the server's, which continues to append and read. Before history is cut the state at the cut
is written as the base with which the log begins from then on.
"""

from pathlib import Path

import msgspec

from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Pace
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.history.retention import Cut, cut_of
from midstream.engine.log_readers import FolderLog, read_folder
from midstream.engine.snapshots import base_state
from midstream.events.disk import RealDisk
from midstream.events.segments.segment_scan import history_of
from midstream.state.settings import decode_settings


class SealOrder(child_process.WorkOrder, frozen=True):
    """Order of the child, as JSON on its standard input."""

    log_position: int
    """Before it all is durable."""
    hot_ms: int
    """Log time that stays in segments."""
    keep_ms: int
    """Log time that stays at all; 0 = all of it."""
    settings: str
    """``FoldSettings`` of the version in service, as ``encode_settings`` writes it."""
    now_ms: int
    """Wall clock: nothing is cut that is not too old by it."""


class SealReport(msgspec.Struct, frozen=True):
    """Report of the child, as one line of JSON on its standard output."""

    begin: int
    """Log position of the first event that is kept."""
    end: int
    """Log position at which history ends and the segments begin."""
    sealed_events: int
    files: int
    """Files of history that were written."""
    segments: int
    """Segments that were removed, because history holds them."""
    cut_events: int
    """Events that retention removed."""
    nameless: int
    """Changes of users that the base lacks, because no kept event has their id."""
    kept_back: str = ""
    """Reason why nothing was cut, where the clock cannot be trusted; empty = retention was applied."""
    held_ms: int = 0
    """How long pauses of the log were that count for nothing until it has gone on for a day."""


def run(order: SealOrder, pace: Pace | None = None) -> SealReport:
    """Seal what is old enough, and cut what is kept too long.

    Raises:
        FolderLocked: Another process seals, cuts or rewrites the history.
        LogDamaged: The log cannot be trusted; nothing of it was removed.
        OSError: The disk.
    """
    pace = pace or Pace(hurried=True)
    data = DataFolder(Path(order.folder))
    disk = RealDisk()
    lock = lock_history(data, disk)
    try:
        return _run(order, data, pace)
    finally:
        disk.close(lock)


def _run(order: SealOrder, data: DataFolder, pace: Pace) -> SealReport:
    from midstream.events.sealing import kept_from, seal  # Arrow takes 0.4 s and 40 MB where it is used

    folder, disk, position = data.log, RealDisk(), LogPosition(order.log_position)

    written = 0

    def rest(byte_count: int) -> None:
        nonlocal written
        written += byte_count
        if byte_count:
            pace.wrote(byte_count)
        pace.rest()
        pace.say("sealing", written, -1)  # how much it will be is not known

    sealed = seal(folder, disk, position, order.hot_ms, rest)
    reader = read_folder(folder, disk)
    history = history_of(folder, disk, reader.identity)
    begin, nameless, found = reader.begin, 0, Cut(0, 0)
    if history is not None and order.keep_ms and position:
        found = cut_of(reader, position, order.keep_ms, order.now_ms)
        cut = begin if found.refusal else kept_from(history, found.before_ms)
        if cut > begin:
            nameless = _cut(order, data, reader, LogPosition(cut), pace)
        begin = LogPosition(max(begin, cut))
    base_state.remove_other_bases(folder, begin)
    cut_events = begin - sealed.begin
    written_files = sealed.end, sealed.events, sealed.files, sealed.segments
    return SealReport(begin, *written_files, cut_events, nameless, found.refusal, found.held_ms)


def _cut(order: SealOrder, data: DataFolder, reader: FolderLog, begin: LogPosition, pace: Pace) -> int:
    """Write the base, and then begin the log with it; return the number of changes of users that it lacks."""
    from midstream.events.sealing import retain

    base = base_state.write_base(data, decode_settings(order.settings), reader, begin, pace)
    retain(reader.folder, RealDisk(), begin)
    return base.nameless


if __name__ == "__main__":
    child_process.main(SealOrder, run)
