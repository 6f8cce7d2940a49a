"""Joining of a node: an empty data folder takes the newest fitting snapshot of the shop, and its log begins there.

The log is built beside its place and named at the end, so a join that broke off left no log, and the next one takes
over the files that came whole. The lock of the data folder is held meanwhile, so no other start has a log there that a
join would remove. The snapshot becomes the base of the log, as where retention cut history: what reads a
log with a beginning above 0 reads this one.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from midstream.core.errors import Fault, Invalid, SnapshotInvalid, StoreUnavailable
from midstream.core.types import LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.replication.published_snapshots import (
    SLACK_BYTES,
    PublishedSnapshot,
    SnapshotFit,
    download,
    newest_first,
    read_manifest,
    require_fit,
)
from midstream.engine.replication.snapshot_store import SnapshotStore, StoredFileMissing
from midstream.engine.replication.topic_position import TOPIC_NAME, TopicPosition, write_topic_position
from midstream.engine.snapshots import base_state, snapshots
from midstream.events.disk import RealDisk
from midstream.events.file_modes import make_folder
from midstream.events.history.history import History, LastTrimmed, history_folder, write_history
from midstream.events.segments.log_identity import LogIdentity, write_identity
from midstream.events.segments.segment_scan import make_first_segment
from midstream.models.artifact.artifact import sync_folder
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING
from midstream.state.settings import FoldSettings
from midstream.state.tables import sizes_max

TRIES = 3
"""Of one snapshot whose store fails in the middle: a peer that was started anew is there again by then, and files that
came whole are not copied again."""
CANDIDATES_MAX = 16
"""Snapshots that are looked at: those of some nodes and versions; each refused one is named."""
PAGE = "/docs/replicas.md"
_WORK = ".joining"


class NoSnapshotFits(Invalid):
    """No source has a snapshot that this node can begin with; each that was refused is named with its reason."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Result of a join."""

    log_position: LogPosition
    """Where the log of this node begins."""
    source: str
    """Address of the store, and the folder in it."""
    bytes: int
    digest: str
    refused: tuple[str, ...]
    """Newer snapshots that did not fit, and sources that did not answer, each with its reason."""
    topic: TopicPosition | None
    """Place in the shared topic from which the log goes on."""


class _Candidate(NamedTuple):
    name: str
    store: SnapshotStore

    @property
    def where(self) -> str:
        return f"{self.store.address}: {self.name}"


def join(
    data: DataFolder,
    settings: FoldSettings,
    identity: LogIdentity,
    stores: Sequence[SnapshotStore],
    notify: Notify = nobody,
) -> Joined:
    """Begin the log of an empty data folder at the newest fitting snapshot of some stores.

    Args:
        data: Has no log; its lock is held.
        settings: Of the state of this node, keyed by its own identity.
        identity: Of the node's log, made of the shop's key.
        stores: In the order of preference among snapshots of the same position.
        notify: Receives the progress.

    Raises:
        NoSnapshotFits: No store has one; nothing was changed.
        Invalid: There is a log in the folder, or no room on its disk.
        OSError: The disk of this node.
    """
    if data.log.exists() and any(data.log.iterdir()):
        right = "An empty data folder: move the one that is there aside first."
        raise Invalid((Fault(str(data.root), "It has a log already.", right, PAGE),))
    fit = SnapshotFit(identity, settings.version(), sum(sizes_max(settings).values()) + SLACK_BYTES)
    refused: list[str] = []
    for each in _candidates(stores, refused):
        try:
            manifest = _manifest(each, fit)
            _require_room(data.root, manifest)
            fold = _fetched(each, manifest, fit, settings, data.root / _WORK, notify)
        except (SnapshotInvalid, StoredFileMissing, StoreUnavailable) as error:
            refused.append(f"{each.where}: {error}")
            continue
        _begin_log(data.root / _WORK, fold, identity)
        _name_log(data.root, manifest.topic)
        return Joined(fold.log_position, each.where, manifest.bytes, manifest.digest, tuple(refused), manifest.topic)
    shutil.rmtree(data.root / _WORK, ignore_errors=True)
    raise _none(stores, refused)


def _candidates(stores: Sequence[SnapshotStore], refused: list[str]) -> Sequence[_Candidate]:
    """Return what the stores have, the highest log position first, the preferred store first among equals."""
    found: list[_Candidate] = []
    for store in stores:
        try:
            found += [_Candidate(name, store) for name in newest_first(store.folders())]
        except StoreUnavailable as error:
            refused.append(str(error))
    ordered = sorted(found, key=lambda each: each.name[:20], reverse=True)
    return ordered[:CANDIDATES_MAX]


def _manifest(each: _Candidate, fit: SnapshotFit) -> PublishedSnapshot:
    manifest = read_manifest(each.store, each.name, fit.identity)
    require_fit(manifest, fit)
    return manifest


def _fetched(
    each: _Candidate,
    manifest: PublishedSnapshot,
    fit: SnapshotFit,
    settings: FoldSettings,
    work: Path,
    notify: Notify,
) -> Fold:
    """Copy a snapshot into the place of the future base and restore it.

    Raises:
        SnapshotInvalid: What came is not what the manifest says.
        StoreUnavailable: The store failed again and again.
    """
    if lacking := sorted(Fold(settings).arrays().keys() - manifest.files.keys()):
        message = f"it lacks {', '.join(lacking[:3])}, which every state of this configuration has"
        raise SnapshotInvalid(message)
    position = LogPosition(manifest.log_position)
    place = base_state.base_snapshots(work, position)
    make_folder(place)
    for attempt in range(1, TRIES + 1):
        try:
            for done in download(each.store, each.name, manifest, fit.identity, place):
                notify("copying", done, manifest.bytes)
        except StoreUnavailable:
            if attempt == TRIES:
                raise
        else:
            break
    wanted = snapshots.SnapshotRequirement(settings, NOTHING, fit.identity, position, position)
    found = snapshots.find_newest(place, wanted)
    if found.fold is None:
        shutil.rmtree(place, ignore_errors=True)
        raise SnapshotInvalid("; ".join(found.refused))
    return found.fold


def _begin_log(folder: Path, fold: Fold, identity: LogIdentity) -> None:
    """Make the files of a log without events that begins at the position of a fold."""
    disk, position = RealDisk(), fold.log_position
    base_state.adopt(folder, fold, identity)
    base_state.remove_other_bases(folder, position)
    disk.make_folder(history_folder(folder))
    tail = LastTrimmed(-1, 0, position, identity.log_id, identity.generation, fold.log_time_ms)
    write_history(folder, disk, History(identity.log_id, position, (), tail))
    make_first_segment(folder, disk, position)
    write_identity(folder, disk, identity)


def _name_log(root: Path, topic: TopicPosition | None) -> None:
    """Give a log that was built its name, which is the commit of the join.

    The topic position comes before it: without a log it stands for nothing, and the next join replaces it.
    """
    (root / TOPIC_NAME).unlink(missing_ok=True)
    if topic is not None:
        write_topic_position(root / TOPIC_NAME, topic)
    shutil.rmtree(root / "log", ignore_errors=True)
    (root / _WORK).rename(root / "log")
    sync_folder(root)


def _require_room(root: Path, manifest: PublishedSnapshot) -> None:
    """Refuse a snapshot that is larger than the room on the disk.

    Raises:
        Invalid: It is.
    """
    make_folder(root)
    free = shutil.disk_usage(root).free
    if manifest.bytes > free:
        came = f"The snapshot at {manifest.log_position} has {manifest.bytes:,} bytes, and {free:,} are free."
        raise Invalid((Fault(str(root), came, "Room for the snapshot and the log behind it.", PAGE),))


def _none(stores: Sequence[SnapshotStore], refused: Sequence[str]) -> NoSnapshotFits:
    where = ", ".join(store.address for store in stores)
    came = "; ".join(refused) or "There is no snapshot."
    right = "A snapshot that a node with this configuration and this key has published."
    return NoSnapshotFits((Fault(where, came, right, PAGE),))
