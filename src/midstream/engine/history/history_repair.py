"""Repair of a damaged history: reports the loss, and writes a base with the known state.

A manifest is made again from its files. A file that is damaged or missing is removed from the log with those before it,
which then begins after it, in a new generation. The base has catalogue, profiles, merges and erasures of the newest
good snapshot, and counts begin there. A damaged base is made again in the same way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from midstream.core.errors import LogDamaged, SnapshotInvalid
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import read_folder
from midstream.engine.snapshots import base_state, snapshots
from midstream.engine.snapshots.compactions import dropped_by
from midstream.events.disk import RealDisk
from midstream.events.history.history import History, history_folder
from midstream.events.history.history_file import FileReader
from midstream.events.history_repair import begin_after, flawed, known_history, move_aside
from midstream.events.segments.log_identity import LogIdentity, identity_of, write_identity
from midstream.events.segments.log_repair import known_identity
from midstream.events.segments.segment_scan import survey_segments
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings


@dataclass(frozen=True, slots=True)
class HistoryRepaired:
    """Result of a repair of history."""

    manifest_is_new: bool
    begin: int
    """Log position of the first event that is kept."""
    lost: int
    """Events that were readable before the damage and are not now."""
    from_snapshot: int | None
    """Log position of the snapshot whose catalogue and profiles became the base; None = no base was made."""
    nameless: int
    """Changes of users that are not in it, because no event that can be read has their id."""
    side_files: tuple[Path, ...]
    """Where the files are that were taken out."""


def repair_history(data: DataFolder, settings: FoldSettings) -> HistoryRepaired | None:
    """Repair the history of a log; None = there was nothing to do, and nothing was changed. Hold the folder's lock.

    Interrupted, it is begun again.

    Raises:
        OSError: A file could not be read, written or synced.
    """
    disk, folder = RealDisk(), data.log
    identity = known_identity(folder, disk)
    history, is_new = known_history(folder, disk, identity)
    if history is None:
        return HistoryRepaired(is_new, 0, 0, None, 0, ()) if is_new else None
    bad = flawed(folder, disk, history)
    base_is_bad = base_state.documents_flaw(base_state.base_folder(folder, history.begin), identity.log_id)
    if not bad and not (history.begin and base_is_bad):
        return HistoryRepaired(is_new, history.begin, 0, None, 0, ()) if is_new else None
    position = max(history.begin, bad[-1].end if bad else 0)
    place = base_state.base_folder(folder, position)
    raised = identity_of(identity.id_bytes, identity.generation + 1)
    fold = _newest_snapshot(data, settings, identity)
    before = [file for file in history.files if file.end <= position]
    until_ms = before[-1].last_log_time_ms if before else 0
    base = base_state.store_documents(place, raised, fold, _events(folder, history, identity), until_ms)
    write_identity(folder, disk, raised)
    side_files = move_aside(folder, disk, [file.name for file in before], raised.generation)
    begin_after(folder, disk, history, position)
    from_snapshot = None if fold is None else fold.log_position
    lost = position - history.begin
    return HistoryRepaired(is_new, position, lost, from_snapshot, base.nameless, tuple(side_files))


def _newest_snapshot(data: DataFolder, settings: FoldSettings, identity: LogIdentity) -> Fold | None:
    """Return the newest good snapshot of this log and these settings, whatever its generation."""
    end = LogPosition(1 << 62)
    try:
        dropped = dropped_by(data, settings)
    except SnapshotInvalid:
        return None
    generations = {each.generation for _, each in snapshots.manifests(data.snapshots)}
    for generation in sorted(generations, reverse=True):
        known = identity_of(identity.id_bytes, generation)
        wanted = snapshots.SnapshotRequirement(settings, dropped, known, LogPosition(0), end)
        found = snapshots.find_newest(data.snapshots, wanted, Pace(hurried=True))
        if found.fold is not None:
            return found.fold
    return None


def _events(folder: Path, history: History, identity: LogIdentity) -> Iterator[EventBatch]:
    """Yield the readable events of the base and of history: they have the ids of users."""
    if history.begin:
        place = base_state.base_folder(folder, history.begin)
        try:
            yield from base_state.base_events(place, base_state.read_base(place, identity.log_id))
        except LogDamaged:
            return
    disk = RealDisk()
    for file in history.files:
        try:
            reader = FileReader(history_folder(folder) / file.name, disk, file)
            for number in range(len(file.groups)):
                yield reader.read_group(number)
        except (LogDamaged, FileNotFoundError):
            continue
    log = read_folder(folder, disk)
    end = LogPosition(survey_segments(folder, disk, identity, history).end)
    read = batches(lambda after, limit: log.read(after, limit, end), LogPosition(history.end), end)
    yield from (batch for _, batch in read)
