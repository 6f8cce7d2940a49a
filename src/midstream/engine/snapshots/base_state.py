"""Base state of a fold without a usable snapshot: empty, or the base that replaces history that was cut.

When retention cuts history at a log position, the state there is written first: as a snapshot, for the fold version in
service, and as events that repeat the catalogue, the profiles, merges and erasures, for any other version. They take
the places before the cut, of which there are at least as many. So documents outlive the events; counts of other
versions begin at the cut.

A base is in the log's own folder and is named by the position at which the log begins, so it belongs to that log and
that beginning alone; a base of another position is ignored.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from midstream.core.errors import LogDamaged, SnapshotInvalid
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.folder import BASE_NAME, DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import FolderLog
from midstream.engine.snapshots import compactions, snapshots
from midstream.events.disk import RealDisk
from midstream.events.history.history import HistoryFile
from midstream.events.schema import ROW, cut
from midstream.events.segments.log_identity import LogIdentity, identity_of
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import Dropped
from midstream.state.restate import Restated, restated
from midstream.state.settings import FoldSettings

MANIFEST_NAME = "base.json"
_SNAPSHOTS = "snapshots"
_TEMPORARY = ".writing-"


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the manifest."""

    log_id: str
    generation: int
    log_position: int
    documents: HistoryFile | None
    """Events of the known catalogue and profiles, in the places before ``log_position``; None = none were known."""
    nameless: int
    """Changes of users that it lacks, because no readable event has their id."""
    checksum: str = ""
    """xxh3-128 of all the others."""

    @property
    def identity(self) -> LogIdentity:
        """Of the log when the base was made, as in its snapshot."""
        return identity_of(bytes.fromhex(self.log_id), self.generation)


def newest(
    data: DataFolder, settings: FoldSettings, reader: FolderLog, end: LogPosition, pace: Pace | None = None
) -> snapshots.FoundSnapshot:
    """Return the state of the newest good snapshot of the log, else that of the log's beginning.

    Args:
        data: Has snapshots and compactions.
        settings: Decide the fold version.
        reader: Of the log.
        end: Snapshots after this log position are ignored.
        pace: Speed.

    Raises:
        LogDamaged: There is no such snapshot, and the base of the cut history is damaged.
        SnapshotInvalid: The compaction of the settings is lost.
    """
    dropped = compactions.dropped_by(data, settings)
    wanted = snapshots.SnapshotRequirement(settings, dropped, reader.identity, reader.begin, end)
    found = snapshots.find_newest(data.snapshots, wanted, pace)
    fold = found.fold or beginning(settings, dropped, reader, pace)
    return snapshots.FoundSnapshot(fold, found.refused)


def beginning(settings: FoldSettings, dropped: Dropped, reader: FolderLog, pace: Pace | None = None) -> Fold:
    """Return the fold at the log's beginning: empty at 0, else from the base.

    Raises:
        LogDamaged: The base is missing or damaged.
    """
    if reader.begin == 0:
        return Fold(settings, dropped)
    place = base_folder(reader.folder, reader.begin)
    base = read_base(place, reader.identity.log_id)
    position = LogPosition(base.log_position)
    wanted = snapshots.SnapshotRequirement(settings, dropped, base.identity, position, position)
    found = snapshots.find_newest(place / _SNAPSHOTS, wanted, pace)
    return found.fold or _from_documents(Fold(settings, dropped), place, base)


def is_counted(settings: FoldSettings, dropped: Dropped, reader: FolderLog) -> bool:
    """Return whether a fold of these settings from the log's beginning has the counts of cut history.

    It has where nothing is cut, or where the base has a snapshot of it; else counts begin at the cut.
    """
    if reader.begin == 0:
        return True
    place = base_folder(reader.folder, reader.begin)
    base = read_base(place, reader.identity.log_id)
    position = LogPosition(base.log_position)
    wanted = snapshots.SnapshotRequirement(settings, dropped, base.identity, position, position)
    return snapshots.find_newest(place / _SNAPSHOTS, wanted).fold is not None


def everything(
    reader: FolderLog, before: LogPosition, after: LogPosition | None = None
) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield the events of the base, and then those of the log, before a log position.

    Args:
        reader: Of the log.
        before: Events before it.
        after: Events before this one are not wanted: none of the log are read, and the base is left out whole where it
            ends before it.

    Raises:
        LogDamaged: They are damaged.
    """
    begin = LogPosition(max(reader.begin, after or 0))
    if reader.begin and (after is None or after < reader.begin):
        place = base_folder(reader.folder, reader.begin)
        base = read_base(place, reader.identity.log_id)
        first = reader.begin if base.documents is None else base.documents.first
        for batch in base_events(place, base):
            yield LogPosition(first), batch
            first += len(batch)
    yield from batches(lambda at, limit: reader.read(at, limit, before), begin, before)


def write_base(data: DataFolder, settings: FoldSettings, reader: FolderLog, begin: LogPosition, pace: Pace) -> Base:
    """Write the base for a log that will begin at a position; it counts once the log does.

    Args:
        data: Has snapshots and compactions.
        settings: Of the fold version in service.
        reader: Of the log.
        begin: The new beginning.
        pace: Speed. Cost: the fold of the events between the newest snapshot before and the position, and its memory.

    Raises:
        LogDamaged: The log cannot be trusted.
        OSError: The disk.
    """
    fold = newest(data, settings, reader, begin, pace).fold
    for first, batch in batches(lambda after, limit: reader.read(after, limit, begin), fold.log_position, begin):
        fold.apply(first, batch)
        pace.rest()
        pace.say("folding", fold.log_position, begin)
    return store_base(fold, reader, (batch for _, batch in everything(reader, begin)), pace)


def store_base(fold: Fold, reader: FolderLog, events: Iterable[EventBatch], pace: Pace) -> Base:
    """Write a fold as the base of a log that will begin at its position.

    Args:
        fold: The state there.
        reader: Of the log.
        events: Earlier events, as far as they are readable: they have the ids of users.
        pace: Speed.

    Raises:
        LogDamaged: The log cannot be trusted.
        OSError: The disk.
    """
    place = base_folder(reader.folder, fold.log_position)
    fresh = _fresh(place)
    snapshots.write(fresh / _SNAPSHOTS, fold, reader.identity, pace)
    said = restated(fold, _paced(events, fold.log_position, pace))
    return _store(fresh, place, reader.identity, said)


def _paced(events: Iterable[EventBatch], total: LogPosition, pace: Pace) -> Iterator[EventBatch]:
    """Yield the events, saying how far they are and resting between two batches."""
    done = 0
    for batch in events:
        yield batch
        done += len(batch)
        pace.say("writing", done, total)
        pace.rest()


def store_documents(
    place: Path, identity: LogIdentity, fold: Fold | None, events: Iterable[EventBatch], until_ms: int
) -> Base:
    """Write the base of a log that lost its beginning: documents of a later state, and no snapshot.

    Args:
        place: Place of the base, by the position at which the log will begin.
        identity: Future identity of the log.
        fold: Has the catalogue and the profiles; None = they are lost.
        events: The readable ones: they have the ids of users.
        until_ms: Log time of the last event before the position.

    Raises:
        OSError: The disk.
    """
    position = int(place.name)
    said = Restated(EventBatch(np.empty(0, dtype=ROW), b""), 0)
    if fold is not None:
        said = restated(fold, events, until_ms)
    surplus = max(0, len(said.events) - position)  # there are no places for more; the oldest are left out
    said = Restated(cut(said.events, surplus, len(said.events)), said.nameless + surplus)
    return _store(_fresh(place), place, identity, said)


def _fresh(place: Path) -> Path:
    fresh = place.with_name(f"{_TEMPORARY}{place.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    RealDisk().make_folder(fresh)
    return fresh


def _store(fresh: Path, place: Path, identity: LogIdentity, said: Restated) -> Base:
    """Write what is said into a new folder, and give that its name."""
    disk = RealDisk()
    base = _write(fresh, int(place.name), identity, said)
    shutil.rmtree(place, ignore_errors=True)
    disk.rename(fresh, place)
    disk.sync_folder(place.parent)
    return base


def _write(folder: Path, position: int, identity: LogIdentity, said: Restated) -> Base:
    """Write documents and manifest of a base into a folder."""
    disk = RealDisk()
    documents = _write_documents(folder, said.events, position - len(said.events))
    base = Base(identity.log_id, identity.generation, position, documents, said.nameless)
    base = msgspec.structs.replace(base, checksum=_checksum(base))
    file = disk.open(folder / MANIFEST_NAME)
    try:
        disk.truncate(file, 0)
        disk.write(file, [msgspec.json.encode(base)], 0)
        disk.sync(file)
    finally:
        disk.close(file)
    disk.sync_folder(folder)
    return base


def adopt(folder: Path, fold: Fold, identity: LogIdentity) -> Base:
    """Make a snapshot that lies in the place of a base its manifest and documents: a log begins at another's snapshot.

    No earlier event is there, so the documents have items and controls; profiles are in the snapshot alone, and count
    as nameless.

    Args:
        folder: Of the log that will begin at the fold's position; ``base_snapshots`` of it has the snapshot.
        fold: Restored from it.
        identity: Of that log.

    Raises:
        OSError: The disk.
    """
    said = restated(fold, ())
    surplus = max(0, len(said.events) - fold.log_position)
    said = Restated(cut(said.events, surplus, len(said.events)), said.nameless + surplus)
    return _write(base_folder(folder, fold.log_position), fold.log_position, identity, said)


def base_snapshots(folder: Path, begin: int) -> Path:
    """Return the folder of the snapshot in the base of a log that begins at a position."""
    return base_folder(folder, begin) / _SNAPSHOTS


def remove_other_bases(folder: Path, begin: int) -> None:
    """Remove the bases in a log's folder of other positions than its beginning."""
    kept = base_folder(folder, begin).name if begin else ""
    for name in RealDisk().list_folder(folder / BASE_NAME):
        if name != kept:
            shutil.rmtree(folder / BASE_NAME / name)


def base_folder(folder: Path, begin: int) -> Path:
    """Return where the base lies of a log, in its folder, that begins at a position."""
    return folder / BASE_NAME / f"{begin:020d}"


def read_base(place: Path, log_id: str) -> Base:
    """Return the manifest of a base.

    Raises:
        LogDamaged: It is missing, not as it was written, or of another log.
    """
    try:
        written = (place / MANIFEST_NAME).read_bytes()
        base = msgspec.json.decode(written, type=Base)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise LogDamaged(_damaged(place, str(error))) from error
    if base.checksum != _checksum(base) or base.log_id != log_id or f"{base.log_position:020d}" != place.name:
        raise LogDamaged(_damaged(place, "its manifest is not as it was written"))
    return base


def base_flaw(place: Path, log_id: str) -> str:
    """Return the fault of a base, after checking every byte; empty = none."""
    flaw = documents_flaw(place, log_id)
    try:
        for name in snapshots.names(place / _SNAPSHOTS):
            snapshots.read(place / _SNAPSHOTS / name)
    except SnapshotInvalid as error:
        return flaw or f"{place}: its snapshot cannot be used, so a fold from here begins with the documents: {error}"
    return flaw


def documents_flaw(place: Path, log_id: str) -> str:
    """Return the fault of the documents of a base, which any fold version needs; empty = none."""
    try:
        for _ in base_events(place, read_base(place, log_id)):
            pass
    except LogDamaged as error:
        return str(error)
    return ""


def base_events(place: Path, base: Base) -> Iterator[EventBatch]:
    """Yield the events of the documents, a row group at a time.

    Raises:
        LogDamaged: They are damaged.
    """
    if base.documents is None:
        return
    from midstream.events.history.history_file import FileReader  # Arrow takes 0.4 s and 40 MB where it is used

    try:
        reader = FileReader(place / base.documents.name, RealDisk(), base.documents)
        for number in range(len(base.documents.groups)):
            yield reader.read_group(number)
    except FileNotFoundError as error:
        raise LogDamaged(_damaged(place, str(error))) from error


def _from_documents(fold: Fold, place: Path, base: Base) -> Fold:
    count = 0 if base.documents is None else base.documents.end - base.documents.first
    fold.begin_with(LogPosition(base.log_position), count, base_events(place, base))
    return fold


def _write_documents(place: Path, events: EventBatch, first: int) -> HistoryFile | None:
    if not len(events):
        return None
    from midstream.events.history.history_file import GROUP_ROWS, FileWriter

    writer = FileWriter(place, RealDisk(), first)
    try:
        for start in range(0, len(events), GROUP_ROWS):
            writer.add(cut(events, start, min(start + GROUP_ROWS, len(events))))
        return writer.close()
    finally:
        writer.give_up()


def _checksum(base: Base) -> str:
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(msgspec.structs.replace(base, checksum="")))


def _damaged(place: Path, reason: str) -> str:
    return (
        f"{place}: {reason}. It stands for the events before log position {int(place.name)}, which are gone, so no "
        "state can begin here; a start from a snapshot is not affected. `midstream doctor --repair` makes the newest "
        "good snapshot the base"
    )
