"""Published snapshots: the form in which a snapshot leaves its node, and the checks with which another takes it in.

A published snapshot is a folder with the files of a local one (``snapshots.py``) and a manifest, which is written last:
a folder without one counts as nothing, so an upload that broke off is never taken. Each upload has a folder of its own,
so two nodes that publish the same state never mix their files.

The manifest has no secret. The log is named by its public name, and the seal is a keyed hash under a key that follows
from the log's id: who does not have the shop's key can neither make a manifest that a node takes, nor read the id from
one. A node with another key refuses it by the same check. The files are under the SHA-256 in the manifest.

Reference: M.-J. Saarinen and J.-P. Aumasson, The BLAKE2 Cryptographic Hash, RFC 7693 (keyed mode).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from hmac import compare_digest
from pathlib import Path

import msgspec

from midstream.core.errors import SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.replication.snapshot_store import READ_BYTES, SnapshotStore, StoredFileMissing
from midstream.engine.replication.topic_position import TopicPosition
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.arrival import Arrival
from midstream.engine.snapshots.snapshots import SnapshotManifest
from midstream.events.segments.log_identity import LogIdentity

FORMAT_VERSION = 3
"""That of ``snapshots``: a release takes no array for one that an earlier one laid out in another way."""
MANIFEST_NAME = "published.json"
MANIFEST_BYTES_MAX = 1 << 20
"""A file takes about 150 bytes of it: 100 files of today's state are 15 kB."""
FILES_MAX = 4_096
"""A state has 100 arrays, and a few more for each kind of declared feature."""
FOLDERS_MAX = 10_000
"""Looked through for the newest: a store that holds more is not one of ours."""
SLACK_BYTES = 64 << 20
"""Headers of files and rounding of tables above the maxima of the settings."""
_LOG_DIGITS = 16
"""Of the public name of the log, in the name of a folder: shops that share a place leave each other's uploads alone."""
_FOLDER = re.compile(r"(\d{20})-([0-9a-f]{16})-([A-Za-z0-9_.-]{1,100})")
_ARRAY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_VERSION = re.compile(r"[0-9a-f]{16}")
_SEAL_BYTES = 32


class PublishedFile(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A file of a published snapshot."""

    bytes: int
    sha256: str


class PublishedSnapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Manifest of a published snapshot."""

    log: str
    """Public name of the log."""
    log_position: int
    log_time_ms: int
    fold_version: str
    digest: str
    topic: TopicPosition | None
    """Place in the shared topic at or before the log position, from which the log goes on; None = a log of files."""
    files: dict[str, PublishedFile]
    """By name of the array."""
    format_version: int = FORMAT_VERSION

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files.values())


@dataclass(frozen=True, slots=True)
class SnapshotFit:
    """Requirements of the node that takes a snapshot in."""

    identity: LogIdentity
    """Made of the node's own key."""
    fold_version: str
    bytes_max: int
    """Of all files: what the maxima of the node's tables allow."""


def seal(manifest: PublishedSnapshot, identity: LogIdentity) -> bytes:
    """Return the content of the manifest's file."""
    body = msgspec.json.encode(manifest)
    return _mac(body, identity).encode() + b"\n" + body


def unseal(content: bytes, identity: LogIdentity) -> PublishedSnapshot:
    """Return the manifest of a file's content.

    Raises:
        SnapshotInvalid: It is not sealed with the key of this shop, or names what no snapshot has.
    """
    found, _, body = content.partition(b"\n")
    if not compare_digest(found, _mac(body, identity).encode()):
        raise SnapshotInvalid("its manifest was not made with the key of this shop, or is not as it was written")
    try:
        manifest = msgspec.json.decode(body, type=PublishedSnapshot)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"its manifest is of another release: {error}"
        raise SnapshotInvalid(message) from error
    if manifest.format_version != FORMAT_VERSION:
        message = f"it has format {manifest.format_version}, this release reads {FORMAT_VERSION}"
        raise SnapshotInvalid(message)
    _require_plain(manifest)
    return manifest


def peer_key(identity: LogIdentity) -> str:
    """Return the secret with which nodes of a shop ask each other for snapshots, 64 hex digits.

    It follows from the log's id, and neither the id nor the key of ids follows from it.
    """
    return blake2b(identity.id_bytes, digest_size=_SEAL_BYTES, person=b"midstream peers").hexdigest()


def published_of(
    place: Path, identity: LogIdentity, topic: TopicPosition | None, manifest: SnapshotManifest
) -> PublishedSnapshot:
    """Return the manifest under which a local snapshot is published.

    Args:
        place: Folder of the snapshot.
        identity: Of the log.
        topic: Place in the shared topic at or before the snapshot's log position.
        manifest: The snapshot's own.

    Raises:
        OSError: A file is not there any more.
    """
    files = {
        key: PublishedFile((place / f"{key}.npy").stat().st_size, digest) for key, digest in manifest.files.items()
    }
    return PublishedSnapshot(
        log=identity.public_name,
        log_position=manifest.log_position,
        log_time_ms=manifest.log_time_ms,
        fold_version=manifest.fold_version,
        digest=manifest.digest,
        topic=topic,
        files=files,
    )


def folder_name(manifest: PublishedSnapshot, upload: str) -> str:
    """Return the name of the folder of an upload; ``upload`` is its own alone."""
    return f"{manifest.log_position:020d}-{manifest.fold_version}-{manifest.log[:_LOG_DIGITS]}-{upload}"


def newest_first(names: Iterable[str]) -> Sequence[str]:
    """Return the folders of published snapshots among some names, the highest log position first; others are left."""
    found = sorted((name for name in names if _FOLDER.fullmatch(name)), reverse=True)
    return found[:FOLDERS_MAX]


def version_of(name: str) -> str:
    """Return the fold version in the name of a folder."""
    found = _FOLDER.fullmatch(name)
    return "" if found is None else found[2]


def publish(
    store: SnapshotStore,
    place: Path,
    manifest: PublishedSnapshot,
    identity: LogIdentity,
    upload: str,
    notify: Notify = nobody,
) -> str:
    """Copy a local snapshot into a store, the manifest last; return the name of its folder.

    Args:
        store: Of published snapshots.
        place: Folder of the snapshot, which stays as it is meanwhile.
        manifest: Of ``published_of``.
        identity: Of the log.
        upload: Name of this upload, unlike that of any other: the node and a random number.
        notify: Receives the progress, with every piece: an upload that goes on is not taken for one that hangs.

    Raises:
        StoreUnavailable: The store takes no files now; what was stored has no manifest and counts as nothing.
        OSError: A local file cannot be read.
    """
    name, done = folder_name(manifest, upload), 0

    def told(pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal done
        for piece in pieces:
            yield piece
            done += len(piece)
            notify("publishing", done, manifest.bytes)

    for key in manifest.files:
        store.write(name, f"{key}.npy", told(_pieces(place / f"{key}.npy")))
    store.write(name, MANIFEST_NAME, (seal(manifest, identity),))
    return name


def prune(store: SnapshotStore, keep: int, identity: LogIdentity, since: LogPosition) -> Sequence[str]:
    """Remove published snapshots that no node needs, and remains of broken uploads; return the names.

    The newest ``keep`` of each fold version stay. A folder of this log without a manifest goes once so many are newer:
    an upload that is under way is one of the newest. What another shop or another release sealed is left alone.

    Args:
        store: Of published snapshots.
        keep: Number of each fold version, 1 at least.
        identity: Of the log.
        since: Log position at which a rewrite last erased users: a snapshot from before may hold them, and goes.

    Raises:
        StoreUnavailable: The store cannot be read or written now.
    """
    kept: dict[str, int] = {}
    removed: list[str] = []
    for name in newest_first(store.folders()):
        version = version_of(name)
        is_new = kept.get(version, 0) < keep
        try:
            manifest = read_manifest(store, name, identity)
        except SnapshotInvalid:
            continue
        except StoredFileMissing:
            stays = is_new or not is_of_log(name, identity)
        else:
            stays = is_new and manifest.log_position >= since
            kept[version] = kept.get(version, 0) + stays
        if not stays:
            store.remove(name, MANIFEST_NAME)
            removed.append(name)
    return removed


def is_of_log(name: str, identity: LogIdentity) -> bool:
    """Return whether the name of a folder says that it is of a log; a manifest proves it, a name does not."""
    found = _FOLDER.fullmatch(name)
    return found is not None and found[3].startswith(f"{identity.public_name[:_LOG_DIGITS]}-")


def remove_left(store: SnapshotStore, identity: LogIdentity, node: str) -> Sequence[str]:
    """Remove what earlier uploads of a node left when they broke off; return the names.

    Args:
        store: Of published snapshots.
        identity: Of the log.
        node: Begins the names of all uploads of the node, and of no other.

    Raises:
        StoreUnavailable: The store cannot be read or written now.
    """
    removed: list[str] = []
    mine = f"{identity.public_name[:_LOG_DIGITS]}-{node}-"
    for name in newest_first(store.folders()):
        found = _FOLDER.fullmatch(name)
        if found is None or not found[3].startswith(mine):
            continue
        try:
            read_manifest(store, name, identity)
        except StoredFileMissing:
            store.remove(name, MANIFEST_NAME)
            removed.append(name)
        except SnapshotInvalid:
            continue
    return removed


def read_manifest(store: SnapshotStore, name: str, identity: LogIdentity) -> PublishedSnapshot:
    """Return the manifest of a folder in a store.

    Raises:
        SnapshotInvalid: It is not one of this shop.
        StoredFileMissing: There is none: the upload is under way, or broke off.
        StoreUnavailable: The store cannot be read now.
    """
    content = b""
    for piece in store.read(name, MANIFEST_NAME):
        content += piece
        if len(content) > MANIFEST_BYTES_MAX:
            message = f"its manifest has more than {MANIFEST_BYTES_MAX} bytes"
            raise SnapshotInvalid(message)
    return unseal(content, identity)


def require_fit(manifest: PublishedSnapshot, fit: SnapshotFit) -> None:
    """Refuse a snapshot that this node cannot go on from.

    Raises:
        SnapshotInvalid: It is of another log or fold version, or larger than the node's tables can be.
    """
    if manifest.log != fit.identity.public_name:
        raise SnapshotInvalid("it belongs to another log")
    if manifest.fold_version != fit.fold_version:
        message = f"it has fold version {manifest.fold_version}, the configuration {fit.fold_version}"
        raise SnapshotInvalid(message)
    if manifest.bytes > fit.bytes_max:
        message = f"its files have {manifest.bytes:,} bytes, the tables of this node at most {fit.bytes_max:,}"
        raise SnapshotInvalid(message)


def download(
    store: SnapshotStore, name: str, manifest: PublishedSnapshot, identity: LogIdentity, folder: Path
) -> Iterator[int]:
    """Copy a published snapshot into a folder of snapshots, every byte checked; yield the bytes copied so far.

    The local manifest is written last. Files that an earlier attempt left whole are not copied again.

    Args:
        store: Has it.
        name: Of its folder there.
        manifest: Its manifest, unsealed and fit.
        identity: Of the log of this node, for the local manifest.
        folder: Of the node's snapshots, in which the new one gets its name.

    Raises:
        SnapshotInvalid: A file does not match its SHA-256 or its size.
        StoredFileMissing: One is not there.
        StoreUnavailable: The store cannot be read now.
        OSError: The disk of this node.
    """
    arrival, done = Arrival(folder, _local(manifest, identity)), 0
    for key, file in manifest.files.items():
        if arrival.has(key):
            done += file.bytes
            yield done
            continue
        with arrival.file(key) as target:
            for piece in _checked(store, name, key, file):
                target.write(piece)
                done += len(piece)
                yield done
    arrival.finish()


def _checked(store: SnapshotStore, name: str, key: str, file: PublishedFile) -> Iterator[bytes]:
    """Yield a file's pieces, never more bytes than its manifest says.

    Raises:
        SnapshotInvalid: It has another size or content.
    """
    digest, size = sha256(), 0
    for piece in store.read(name, f"{key}.npy"):
        size += len(piece)
        if size > file.bytes:
            break
        digest.update(piece)
        yield piece
    if size < file.bytes:
        message = f"{key}.npy ends after {size:,} of {file.bytes:,} bytes"
        raise SnapshotInvalid(message)
    if size > file.bytes or digest.hexdigest() != file.sha256:
        message = f"{key}.npy does not match its SHA-256"
        raise SnapshotInvalid(message)


def _local(manifest: PublishedSnapshot, identity: LogIdentity) -> SnapshotManifest:
    return SnapshotManifest(
        format_version=snapshots.FORMAT_VERSION,
        log_id=identity.log_id,
        generation=identity.generation,
        log_position=manifest.log_position,
        log_time_ms=manifest.log_time_ms,
        fold_version=manifest.fold_version,
        digest=manifest.digest,
        files={key: file.sha256 for key, file in manifest.files.items()},
    )


def _require_plain(manifest: PublishedSnapshot) -> None:
    """Refuse names that lead elsewhere, sizes below zero, and more files than a state has.

    Raises:
        SnapshotInvalid: It is such a manifest.
    """
    if len(manifest.files) > FILES_MAX:
        message = f"its manifest names {len(manifest.files):,} files, a state has at most {FILES_MAX:,}"
        raise SnapshotInvalid(message)
    for key, file in manifest.files.items():
        if not _ARRAY.fullmatch(key) or file.bytes < 0:
            message = f"its manifest names {key[:100]!r} of {file.bytes} bytes, which no snapshot has"
            raise SnapshotInvalid(message)
    if (
        manifest.log_position < 0
        or manifest.log_time_ms < 0
        or not re.fullmatch(r"[0-9a-f]{16}", manifest.fold_version)
    ):
        raise SnapshotInvalid("its manifest names a position, a time or a fold version that no snapshot has")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece


def _mac(body: bytes, identity: LogIdentity) -> str:
    key = blake2b(identity.id_bytes, digest_size=_SEAL_BYTES, person=b"midstream seal").digest()
    return blake2b(body, key=key, digest_size=_SEAL_BYTES).hexdigest()
