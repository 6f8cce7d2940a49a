"""Snapshots: the fold at one log position as ``.npy`` files (``array_files``) and a manifest with the SHA-256 of each.

A snapshot is written into a temporary folder, synced, then renamed, and renamed again before its files are removed, so
that a folder with a snapshot's name is always complete. Every hash is checked when it is read, so a flipped bit
makes an older snapshot serve, never wrong state. The manifest has the generation, the log and
the fold version of the snapshot.
"""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.engine.child_process import PIECE_BYTES, Pace, PacedFile
from midstream.engine.snapshots.array_files import ArrayFiles, Content, content_of, parse_array
from midstream.engine.snapshots.retention import NONE, Hourly, KeptSnapshot, staying
from midstream.events.file_modes import make_folder, open_file
from midstream.events.segments.log_identity import LogIdentity
from midstream.events.whole_file import WholeFile
from midstream.models.artifact.artifact import sync_folder
from midstream.state.fold import Fold
from midstream.state.ids.compacted_items import NOTHING, Dropped
from midstream.state.settings import FoldSettings
from midstream.state.tables import TABLES

FORMAT_VERSION = 3
"""Rows of users lie in parts; an older snapshot is not read, and its log is folded anew."""
KEEP_MIN = 2
"""The newest may turn out damaged; the one before it then saves a fold from the beginning."""
MANIFEST_NAME = "manifest.json"
_TEMPORARY = ".writing-"
_SET_ASIDE = ".differs-"
"""Before the name of a snapshot that differed from the live state: kept to be looked into while the log has the same
generation, never read at a start."""
_LOST = ".lost-"
"""Before the name of a snapshot of events that are in no file any more: kept until the log is rewritten."""
_REMOVING = ".removing-"
"""Before the name of a snapshot whose files are being removed."""


class SnapshotManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Identity of a snapshot: log, generation, position, fold version, hashes."""

    format_version: int
    log_id: str
    generation: int
    log_position: int
    log_time_ms: int
    fold_version: str
    digest: str
    """``Fold.digest`` of the content."""
    files: dict[str, str]
    """Array name to the SHA-256 of its file."""


@dataclass(frozen=True, slots=True)
class SnapshotRequirement:
    """Required identity of a snapshot."""

    settings: FoldSettings
    dropped: Dropped
    identity: LogIdentity
    begin: LogPosition
    """Where the log begins: the fold of one from before cannot go on."""
    end: LogPosition


@dataclass(frozen=True, slots=True)
class Found:
    """Result of a search, with the refused snapshots."""

    fold: Fold | None
    refused: tuple[str, ...]
    """Refused snapshots, each with its reason."""


@dataclass(frozen=True, slots=True)
class FoundSnapshot:
    """Snapshot of a start."""

    fold: Fold
    refused: tuple[str, ...]
    """Refused snapshots, each with its reason."""


def write(folder: Path, fold: Fold, identity: LogIdentity, pace: Pace | None = None) -> SnapshotManifest:
    """Write the fold as a snapshot; return its manifest.

    Cost: the state without most of its zeros, once to disk and once through SHA-256; the arrays are views where
    the tables allow it.

    Args:
        folder: Of snapshots.
        fold: The state.
        identity: Of the log from which it was folded.
        pace: Of a child process; default: hurried.

    Raises:
        OSError: The disk; the unfinished folder is removed. That of a killed writer has a temporary name, for
            ``prune``.
    """
    make_folder(folder)
    name = f"{fold.log_position:020d}-{fold.settings.version()}"
    temporary = folder / f"{_TEMPORARY}{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        manifest = _write_files(temporary, fold, identity, pace or Pace(hurried=True))
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk the log needs the room
        raise
    put(temporary, folder / name)
    sync_folder(folder)
    return manifest


def put(whole: Path, final: Path) -> None:
    """Rename a whole snapshot to its name, in place of one that has it.

    Raises:
        OSError: The disk.
    """
    if final.exists():
        remove(final)
    whole.rename(final)


def remove(path: Path) -> None:
    """Remove a snapshot; what a process that dies meanwhile leaves of it has no snapshot's name, and goes later.

    Raises:
        OSError: The disk.
    """
    removing = path.with_name(f"{_REMOVING}{path.name.lstrip('.')}")
    shutil.rmtree(removing, ignore_errors=True)
    path.rename(removing)
    shutil.rmtree(removing)


def _write_files(temporary: Path, fold: Fold, identity: LogIdentity, pace: Pace) -> SnapshotManifest:
    arrays = fold.arrays()
    total = sum(array.nbytes for array in arrays.values())
    files: dict[str, str] = {}
    done = 0
    for key, array in arrays.items():
        pace.say("writing", done, total)
        files[key] = _write_array(temporary / f"{key}.npy", array, pace)
        done += array.nbytes
    manifest = SnapshotManifest(
        format_version=FORMAT_VERSION,
        log_id=identity.log_id,
        generation=identity.generation,
        log_position=fold.log_position,
        log_time_ms=fold.log_time_ms,
        fold_version=fold.settings.version(),
        digest=fold.digest(),
        files=files,
    )
    _write_synced(temporary / MANIFEST_NAME, sealed(manifest))
    sync_folder(temporary)
    return manifest


def set_aside(folder: Path, log_position: int, fold_version: str) -> None:
    """Take a snapshot out of use without losing it; the one set aside before goes."""
    for old in folder.glob(f"{_SET_ASIDE}*"):
        shutil.rmtree(old)
    name = f"{log_position:020d}-{fold_version}"
    (folder / name).rename(folder / f"{_SET_ASIDE}{name}")


def carry_over(folder: Path, before: LogIdentity, identity: LogIdentity) -> None:
    """Assign snapshots of one generation to another one with the same events; all others stay as they are.

    Raises:
        OSError: The disk.
    """
    for name, each in list(manifests(folder)):
        if (each.log_id, each.generation) == (before.log_id, before.generation):
            carried = msgspec.structs.replace(each, log_id=identity.log_id, generation=identity.generation)
            with WholeFile(folder / name / MANIFEST_NAME) as file:
                file.write(sealed(carried))


def set_aside_lost(folder: Path, log_id: str, end: int) -> Sequence[str]:
    """Disable the snapshots with events that the log has lost; return their new names.

    Args:
        folder: Of snapshots.
        log_id: Of the log as it continues.
        end: Log position at which it continues.
    """
    lost = [name for name, each in manifests(folder) if each.log_id != log_id or each.log_position > end]
    for name in lost:
        shutil.rmtree(folder / f"{_LOST}{name}", ignore_errors=True)
        (folder / name).rename(folder / f"{_LOST}{name}")
    return [f"{_LOST}{name}" for name in lost]


def remove_lost(folder: Path) -> None:
    """Remove snapshots disabled by ``set_aside_lost``: they may hold users whom a rewrite erased."""
    for path in folder.glob(f"{_LOST}*"):
        shutil.rmtree(path)


def manifests(folder: Path) -> Iterator[tuple[str, SnapshotManifest]]:
    """Yield names and manifests of the snapshots whose manifest can be read, newest first; no array is read."""
    for name in names(folder):
        try:
            yield name, _unseal((folder / name / MANIFEST_NAME).read_bytes())
        except (OSError, SnapshotInvalid):
            continue


def names(folder: Path) -> list[str]:
    """Return the whole snapshots in a folder, newest first."""
    if not folder.is_dir():
        return []
    found = [each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
    return sorted(found, reverse=True)


def load_newest(
    folder: Path,
    settings: FoldSettings,
    identity: LogIdentity,
    end: LogPosition,
    dropped: Dropped = NOTHING,
    pace: Pace | None = None,
) -> FoundSnapshot:
    """Return a fold restored from the newest good snapshot of a log that has all its events, an empty one without."""
    found = find_newest(folder, SnapshotRequirement(settings, dropped, identity, LogPosition(0), end), pace)
    return FoundSnapshot(found.fold or Fold(settings, dropped), found.refused)


def find_newest(folder: Path, wanted: SnapshotRequirement, pace: Pace | None = None) -> Found:
    """Return a fold restored from the newest good snapshot of the required identity.

    The digest of every restore is compared with the written one, so that a table which loses content is found at the
    first start.
    """
    refused: list[str] = []
    for name in names(folder):
        try:
            fold = _restore(folder / name, wanted, pace or Pace(hurried=True))
        except SnapshotInvalid as error:
            refused.append(f"{name}: {error}")
        else:
            return Found(fold, tuple(refused))
    return Found(None, tuple(refused))


def read(path: Path, pace: Pace | None = None) -> tuple[SnapshotManifest, Mapping[str, NDArray[np.generic]]]:
    """Return a snapshot after checking every byte.

    Raises:
        SnapshotInvalid: A file is missing, superfluous, unreadable or does not match its hash.
    """
    pace = pace or Pace(hurried=True)
    try:
        return parse({each.name: _content(each, pace) for each in path.iterdir()}, pace)
    except OSError as error:
        message = f"it cannot be read: {error}"
        raise SnapshotInvalid(message) from error


def parse(
    files: Mapping[str, Content], pace: Pace | None = None
) -> tuple[SnapshotManifest, Mapping[str, NDArray[np.generic]]]:
    """Return a snapshot from the content of its files, by name; every byte is under a checksum.

    Raises:
        SnapshotInvalid: A file is missing, superfluous or does not match its hash.
    """
    pace = pace or Pace(hurried=True)
    manifest = _unseal(bytes(files.get(MANIFEST_NAME, b"")))
    _require_files(manifest, files)
    return manifest, {
        key: parse_array(key, files[f"{key}.npy"], digest, pace) for key, digest in manifest.files.items()
    }


def prune(
    folder: Path,
    keep: int,
    identity: LogIdentity,
    versions: Collection[str] | None = None,
    hourly: Hourly = NONE,
) -> Sequence[str]:
    """Remove snapshots that no start and no explanation needs, and remains of interrupted writers; return the names.

    Those of another generation are removed whatever their number: their log positions may be higher, and none of them
    can serve again.

    Args:
        folder: Of snapshots.
        keep: Number of the newest to keep, of each fold version in use; two at least.
        identity: Of the log.
        versions: Fold versions in use: of the state in service, and of a rebuild. None = all that exist.
        hourly: Retention of older ones of all versions.
    """
    removed = list(remove_foreign(folder, identity))
    kept: dict[str, int] = {}
    stay = staying(_written(folder), hourly) if hourly.days else frozenset[str]()
    for name in names(folder):
        version = version_of(name)
        kept[version] = kept.get(version, 0) + 1
        is_new = kept[version] <= max(keep, KEEP_MIN) and (versions is None or version in versions)
        if not is_new and name not in stay:
            remove(folder / name)
            removed.append(name)
    return removed


def _written(folder: Path) -> dict[str, KeptSnapshot]:
    """Return the snapshots that can be read, by name."""
    found: dict[str, KeptSnapshot] = {}
    for name in names(folder):
        try:
            manifest = _unseal((folder / name / MANIFEST_NAME).read_bytes())
            byte_count = sum(each.stat().st_size for each in (folder / name).iterdir())
        except (OSError, SnapshotInvalid):
            continue
        found[name] = KeptSnapshot(manifest.log_time_ms, byte_count)
    return found


def remove_foreign(folder: Path, identity: LogIdentity) -> Sequence[str]:
    """Remove snapshots of another log or generation, disabled or not, and remains of interrupted writers.

    After a rewrite the log is without erased users: earlier snapshots still hold them.

    Returns:
        The names of the removed ones.
    """
    if not folder.is_dir():
        return ()
    foreign = [name for name in names(folder) if not _is_of(folder / name, identity, unread=True)]
    aside = [each.name for each in folder.glob(f"{_SET_ASIDE}*") if not _is_of(each, identity, unread=False)]
    for name in (*foreign, *aside):
        remove(folder / name)
    leftovers = [each.name for start in (_TEMPORARY, _REMOVING) for each in folder.glob(f"{start}*")]
    for name in leftovers:
        # The child of a server that died may still be writing there, until its next rest: what it leaves goes later.
        shutil.rmtree(folder / name, ignore_errors=True)
    return (*foreign, *aside, *leftovers)


def file_names(path: Path) -> frozenset[str]:
    """Return the names of the files that a snapshot has when it is whole; none where its manifest cannot be read."""
    try:
        manifest = _unseal((path / MANIFEST_NAME).read_bytes())
    except (OSError, SnapshotInvalid):
        return frozenset()
    return frozenset({MANIFEST_NAME, *(f"{key}.npy" for key in manifest.files)})


def version_of(name: str) -> str:
    """Return the fold version of a snapshot, by its name."""
    return name.partition("-")[2]


def position_of(name: str) -> LogPosition:
    """Return the log position of a snapshot, by its name."""
    return LogPosition(int(name.partition("-")[0]))


def _is_of(path: Path, identity: LogIdentity, *, unread: bool) -> bool:
    """Return whether a snapshot is of this generation of this log; ``unread`` if its manifest cannot be read."""
    try:
        manifest = _unseal((path / MANIFEST_NAME).read_bytes())
    except (OSError, SnapshotInvalid):
        return unread
    return (manifest.log_id, manifest.generation) == (identity.log_id, identity.generation)


def _restore(path: Path, wanted: SnapshotRequirement, pace: Pace) -> Fold:
    """Return the fold of a snapshot whose files are all as they were written, and which has the digest of then."""
    try:
        manifest = _unseal((path / MANIFEST_NAME).read_bytes())
        _require_fit(manifest, wanted)  # before all the rest is read
        _require_files(manifest, [each.name for each in path.iterdir()])
        fold = Fold(wanted.settings, wanted.dropped)
        with ArrayFiles(path, _in_order(manifest.files), fold.rooms(), pace) as arrays:
            fold.restore_each(arrays.of_table)
            digest = fold.digest(arrays.verify)
            arrays.verify_all()
    except OSError as error:
        message = f"it cannot be read: {error}"
        raise SnapshotInvalid(message) from error
    if digest != manifest.digest:
        message = "what was restored has another digest than what was written"
        raise SnapshotInvalid(message)
    return fold


def _in_order(files: Mapping[str, str]) -> dict[str, str]:
    """Return files in the order in which the tables are restored."""
    place = {entry.name: number for number, entry in enumerate(TABLES)}
    return dict(sorted(files.items(), key=lambda each: place.get(each[0].partition(".")[0], -1)))


def _require_files(manifest: SnapshotManifest, found: Collection[str]) -> None:
    """Raise ``SnapshotInvalid`` unless these names are those of the manifest and its files."""
    expected, present = {f"{key}.npy" for key in manifest.files}, set(found) - {MANIFEST_NAME}
    if present != expected:
        message = f"its files are not those of the manifest: {sorted(present ^ expected)[:3]}"
        raise SnapshotInvalid(message)


def _require_fit(manifest: SnapshotManifest, wanted: SnapshotRequirement) -> None:
    """Raise ``SnapshotInvalid`` unless the log and the configuration are those of the snapshot."""
    if (manifest.log_id, manifest.generation) != (wanted.identity.log_id, wanted.identity.generation):
        message = "it belongs to another log or another generation of it"
        raise SnapshotInvalid(message)
    if manifest.fold_version != wanted.settings.version():
        message = f"it has fold version {manifest.fold_version}, the configuration {wanted.settings.version()}"
        raise SnapshotInvalid(message)
    if not wanted.begin <= manifest.log_position <= wanted.end:
        extent = f"the log begins at {wanted.begin} and ends at {wanted.end}"
        message = f"it stands at log position {manifest.log_position}, {extent}"
        raise SnapshotInvalid(message)


def sealed(manifest: SnapshotManifest) -> bytes:
    """Return the content of the manifest's file."""
    body = msgspec.json.encode(manifest)
    return sha256(body).hexdigest().encode() + b"\n" + body


def _unseal(content: bytes) -> SnapshotManifest:
    seal, _, body = content.partition(b"\n")
    if sha256(body).hexdigest().encode() != seal:
        message = "its manifest is missing or does not match its checksum"
        raise SnapshotInvalid(message)
    try:
        manifest = msgspec.json.decode(body, type=SnapshotManifest)
    except msgspec.MsgspecError as error:
        message = f"its manifest is of another release: {error}"
        raise SnapshotInvalid(message) from error
    if manifest.format_version != FORMAT_VERSION:
        message = f"it has format {manifest.format_version}, this release reads {FORMAT_VERSION}"
        raise SnapshotInvalid(message)
    return manifest


def _write_array(path: Path, array: NDArray[np.generic], pace: Pace) -> str:
    digest = sha256()
    with PacedFile(path, pace) as file:
        for piece in content_of(array):
            digest.update(piece)
            file.write(piece)
            pace.rest()
    return digest.hexdigest()


def _content(path: Path, pace: Pace) -> Content:
    """Return a file's bytes, read in pieces into memory that an array may lie in."""
    buffer = np.empty(path.stat().st_size, dtype=np.uint8)
    filled = 0
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer[filled : filled + PIECE_BYTES].data):
            filled += count
            pace.rest()
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # nobody reads it again; the log's pages stay
    return buffer[:filled].data


def _write_synced(path: Path, content: Content) -> None:
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
