"""Rewrite of a log without erased users: as many events, at the same positions and log times.

The new log is made beside the old one, in a folder that is ignored (``log-1.new``), with the next generation. It is
complete before it gets its name; that one rename is the commit. An interruption before it leaves the old log in use,
one after it the new log; a start removes the remains of the other.

History stays history and segments stay segments, each event in the same one of the two. A base that replaces events cut
by retention is made again from the state at the cut without those users.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from midstream.core.errors import AppendFailed, LogDamaged, SnapshotInvalid
from midstream.core.protocols import LogReader
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.child_process import Pace
from midstream.engine.erasure.log_copy import LogCopy, append_days, open_new, remove_lock
from midstream.engine.erasure.merged_people import KnownPeople
from midstream.engine.erasure.redaction import Blanker, ErasedIds, find_erased
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import FolderLog, open_reader, read_folder
from midstream.engine.snapshots import compactions, snapshots
from midstream.engine.snapshots.base_state import base_snapshots, beginning, everything, store_base
from midstream.events.disk import Disk
from midstream.events.file_modes import make_folder, open_file
from midstream.events.segments.log_identity import LogIdentity, identity_of, write_identity
from midstream.events.segments.segment_scan import make_first_segment
from midstream.events.segments.segments import SegmentLog
from midstream.state.settings import FoldSettings

NEW_SUFFIX = ".new"
SNAPSHOTS_NAME = "snapshots"
RECEIPT_NAME = "receipt.json"


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Result of a rewrite, without ids."""

    generation_before: int
    generation: int
    log_position: int
    """Events before it were looked at."""
    erasures: tuple[int, ...]
    """Log positions of the erases that it carried out."""
    ids: tuple[str, ...]
    """Of each erased id a salted BLAKE2b, 32 hex digits: a holder of an id can verify that it was erased."""
    salt: str
    events: dict[str, int]
    """Events that were changed, by kind, in segments and history together."""
    history_files: int = 0
    """Files of history that were written anew."""
    dead_letters: int = 0
    """Letters that named an erased id, dropped."""
    import_rejected: int = 0
    """Rejected rows of the last import that named one, dropped."""
    sinks: dict[str, int] = {}
    """Erased ids whose rows each sink of users deleted, by its name: all of them that no user has by now."""
    snapshots: int = 0
    """Snapshots of the generation before, dropped."""
    digest: str = ""
    """Of the state that the rewritten log gives at ``log_position``."""
    time_ms: int = 0
    """Wall clock at the commit."""
    outside: tuple[str, ...] = ()
    """Topics of the configured outputs: what was delivered to them stays there until their retention ends."""
    topic: str = ""
    """What stays of these events in the topic of a shared log; empty = the log is this node's own."""


@dataclass(slots=True, eq=False)
class Rewrite:
    """One rewrite: the old log, the erased users, and the new log so far."""

    data: DataFolder
    disk: Disk
    segment_bytes: int
    pace: Pace
    _blanker: Blanker = field(init=False)
    _old: FolderLog = field(init=False)

    @property
    def target(self) -> Path:
        """Where the new log grows."""
        return new_log(self.data)

    def make(self, upto: LogPosition, settings: FoldSettings) -> "Made":
        """Write the new log up to a log position.

        Args:
            upto: All events before it are durable, and its erases are carried out.
            settings: Of the fold version in service: they define copies of events, and the content of a base where the
                beginning of the log was cut.

        Raises:
            LogDamaged: The old log cannot be trusted.
            OSError: The disk.
        """
        shutil.rmtree(self.target, ignore_errors=True)
        self._old = open_reader(self.data, self.disk)
        erased = find_erased(
            lambda: self._paced("looking", everything(self._old, upto), upto),
            settings.limits.event_ids_max,
            settings.hash_key(),
            self._known(),
        )
        self._blanker = Blanker(erased)
        self.disk.make_folder(self.target)
        before = self._old.identity
        identity = identity_of(before.id_bytes, before.generation + 1)
        write_identity(self.target, self.disk, identity)
        base = [self._blanker.blank(first, batch) for first, batch in self._base_events()]
        copy = LogCopy(self._old, self.target, self.disk, self._blanker.blank, self.pace)
        history = copy.history()
        make_first_segment(self.target, self.disk, 0 if history is None else history.end)
        if self._old.begin:
            self._base(base, erased, settings)
        files = 0 if history is None else len(history.files)
        with open_new(self.target, self.disk, self.segment_bytes) as log:
            copy.append(log, upto)
        return Made(erased, identity, files, dict(self._blanker.blanked_counts))

    def _known(self) -> KnownPeople:
        """Return merges and erases from before the log's beginning, as the base's snapshot has them.

        Where retention cut the log, events of the base repeat them. Where a node joined, the snapshot alone has them.

        Raises:
            LogDamaged: The snapshot cannot be read: an erasure might leave ids that were merged.
        """
        begin = LogPosition(self._old.begin)
        place = base_snapshots(self._old.folder, begin)
        for name in snapshots.names(place) if begin else ():
            try:
                _, arrays = snapshots.read(place / name, self.pace)
            except SnapshotInvalid as error:
                message = f"{place / name}: {error}. It says which ids were merged before log position {begin}"
                raise LogDamaged(message) from error
            aliases = zip(arrays["aliases.alias"].tolist(), arrays["aliases.into"].tolist(), strict=True)
            hashes, times = arrays["erasures.user_hash"].tolist(), arrays["erasures.log_time_ms"].tolist()
            return KnownPeople(begin, dict(aliases), dict(zip(hashes, times, strict=True)))
        return KnownPeople(begin)

    def _base_events(self) -> Iterator[tuple[LogPosition, EventBatch]]:
        """Yield the base events that replace those cut by retention."""
        for first, batch in everything(self._old, LogPosition(self._old.begin)):
            if first < self._old.begin:
                yield first, batch

    def _base(self, events: list[EventBatch], erased: ErasedIds, settings: FoldSettings) -> None:
        """Make the base of the new log: the old one's state without those users."""
        dropped = compactions.dropped_by(self.data, settings)
        fold = beginning(settings, dropped, self._old, self.pace)
        fold.forget(erased.hashes())
        store_base(fold, read_folder(self.target, self.disk), events, self.pace)

    def _paced(
        self, stage: str, every: Iterator[tuple[LogPosition, EventBatch]], total: int
    ) -> Iterator[tuple[LogPosition, EventBatch]]:
        for first, batch in every:
            yield first, batch
            self.pace.say(stage, first + len(batch), total)
            self.pace.rest()


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A new log, up to its last position."""

    erased: ErasedIds
    identity: LogIdentity
    history_files: int
    blanked: dict[str, int]


def new_log(data: DataFolder) -> Path:
    """Return the folder of a new log in progress; it is never opened as the log."""
    following = data.next_log()
    return following.with_name(following.name + NEW_SUFFIX)


def go_on(old: LogReader, log: SegmentLog, erased: ErasedIds, upto: LogPosition) -> None:
    """Append later events of the old log to the new one, up to a log position.

    Raises:
        LogDamaged: The old log cannot be trusted.
        AppendFailed: The new one accepts nothing more.
    """
    blanker = Blanker(erased)
    for first, batch in batches(lambda after, limit: old.read(after, limit, upto), log.end, upto):
        append_days(log, blanker.blank(first, batch))


def commit(data: DataFolder, disk: Disk) -> Path:
    """Give the new log its name: from then on it is the log. Return its folder.

    Raises:
        OSError: The disk; the old log is still in use.
        AppendFailed: The disk, and it is unknown which of the two logs the next start will find. Both have all events;
            neither may get another one.
    """
    target = new_log(data)
    final = data.next_log()
    remove_lock(target)
    disk.sync_folder(target)
    try:
        disk.rename(target, final)
        disk.sync_folder(data.root)
    except OSError as error:
        _take_back(data, disk, final, target, error)
        raise
    return final


def _take_back(data: DataFolder, disk: Disk, final: Path, target: Path, error: OSError) -> None:
    """Make sure that the next start finds the old log, by a change of names that is durable."""
    try:
        if final.exists():
            disk.rename(final, target)
        disk.sync_folder(data.root)
    except OSError as second:
        message = (
            f"{final}: the rewritten log was to take the old one's place, the disk failed ({error.strerror or error}), "
            f"and so did taking that back ({second.strerror or second}). The next start finds one of the two"
        )
        raise AppendFailed(message) from error


def write_receipt(data: DataFolder, receipt: Receipt) -> None:
    """Lay a receipt into the new log, with which it is committed."""
    path = new_log(data) / RECEIPT_NAME
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def settle(data: DataFolder) -> None:
    """Finish or undo a rewrite, after a commit and at each start: move snapshot and receipt, remove remains.

    Hold the lock of the data folder.
    """
    log = data.log
    for path in data.root.glob(f"log-*{NEW_SUFFIX}"):
        shutil.rmtree(path)
    made = log / SNAPSHOTS_NAME
    if made.is_dir():
        make_folder(data.snapshots)
        for snapshot in made.iterdir():
            shutil.rmtree(data.snapshots / snapshot.name, ignore_errors=True)
            snapshot.replace(data.snapshots / snapshot.name)
        made.rmdir()
    written = log / RECEIPT_NAME
    if written.is_file():
        receipt = msgspec.json.decode(written.read_bytes(), type=Receipt)
        make_folder(data.receipts)
        written.replace(data.receipts / f"{receipt.time_ms}-{receipt.generation}.json")


def receipts(data: DataFolder) -> list[Receipt]:
    """Return all receipts, the oldest first."""
    if not data.receipts.is_dir():
        return []
    found = [msgspec.json.decode(path.read_bytes(), type=Receipt) for path in data.receipts.glob("*.json")]
    return sorted(found, key=lambda each: each.generation)
