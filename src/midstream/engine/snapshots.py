"""Snapshots: the fold at one log position as ``.npy`` files and a manifest with the SHA-256 of each.

Written beside the others in a temporary folder, synced, then renamed, so that a folder with a snapshot's name is
always a whole one. Read with every hash checked, so that a flipped bit makes an older snapshot serve, never wrong
state. A snapshot belongs to one generation of one log and to one fold version, and says so.
"""

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import SnapshotInvalid
from midstream.core.types import LogPosition
from midstream.events.log_identity import LogIdentity
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings

FORMAT_VERSION = 1
KEEP_MIN = 2
"""The newest may turn out damaged; the one before it then saves a fold from the beginning."""
_MANIFEST = "manifest.json"
_TEMPORARY = ".writing-"
_SET_ASIDE = ".differs-"
"""Before the name of a snapshot that differed from the live state: kept to be looked into, never read at a start."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a snapshot is a snapshot of."""

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
class Loaded:
    """What a start found."""

    fold: Fold
    refused: tuple[str, ...]
    """Snapshots that were passed by, each with its reason."""


def write(folder: Path, fold: Fold, identity: LogIdentity) -> Manifest:
    """Write the fold as a snapshot; return its manifest.

    Cost: the state's bytes once to disk and once through SHA-256; the arrays are views where the tables allow it.

    Raises:
        OSError: The disk; what was begun is removed. What a killed writer leaves has a temporary name, for ``prune``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{fold.log_position:020d}-{fold.settings.version()}"
    temporary = folder / f"{_TEMPORARY}{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        manifest = _write_files(temporary, fold, identity)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk the log needs the room
        raise
    final = folder / name
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync_folder(folder)
    return manifest


def _write_files(temporary: Path, fold: Fold, identity: LogIdentity) -> Manifest:
    files = {key: _write_array(temporary / f"{key}.npy", array) for key, array in fold.arrays().items()}
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        log_id=identity.log_id,
        generation=identity.generation,
        log_position=fold.log_position,
        log_time_ms=fold.log_time_ms,
        fold_version=fold.settings.version(),
        digest=fold.digest(),
        files=files,
    )
    _write_synced(temporary / _MANIFEST, _seal(manifest))
    _sync_folder(temporary)
    return manifest


def set_aside(folder: Path, log_position: int, fold_version: str) -> None:
    """Take a snapshot out of use without losing it; the one set aside before goes."""
    for old in folder.glob(f"{_SET_ASIDE}*"):
        shutil.rmtree(old)
    name = f"{log_position:020d}-{fold_version}"
    (folder / name).rename(folder / f"{_SET_ASIDE}{name}")


def names(folder: Path) -> list[str]:
    """Return the whole snapshots in a folder, newest first."""
    if not folder.is_dir():
        return []
    found = [each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")]
    return sorted(found, reverse=True)


def load_newest(folder: Path, settings: FoldSettings, identity: LogIdentity, end: LogPosition) -> Loaded:
    """Return a fold restored from the newest good snapshot of this log, generation and fold version.

    Without one the fold is empty and stands at log position 0. Every restore is checked against the digest that was
    written, so that a table which forgets something is found at the first start and not by a customer.
    """
    refused: list[str] = []
    for name in names(folder):
        try:
            fold = _restore(folder / name, settings, identity, end)
        except SnapshotInvalid as error:
            refused.append(f"{name}: {error}")
        else:
            return Loaded(fold, tuple(refused))
    return Loaded(Fold(settings), tuple(refused))


def read(path: Path) -> tuple[Manifest, Mapping[str, NDArray[np.generic]]]:
    """Return a snapshot whose every byte was checked.

    Raises:
        SnapshotInvalid: A file is missing, superfluous, unreadable or does not match its hash.
    """
    try:
        return parse({each.name: each.read_bytes() for each in path.iterdir()})
    except OSError as error:
        message = f"it cannot be read: {error}"
        raise SnapshotInvalid(message) from error


def parse(files: Mapping[str, bytes]) -> tuple[Manifest, Mapping[str, NDArray[np.generic]]]:
    """Return a snapshot from the content of its files, by name; every byte is under a checksum.

    Raises:
        SnapshotInvalid: A file is missing, superfluous or does not match its hash.
    """
    manifest = _unseal(files.get(_MANIFEST, b""))
    expected = {f"{key}.npy" for key in manifest.files}
    if files.keys() - {_MANIFEST} != expected:
        message = f"its files are not those of the manifest: {sorted((files.keys() - {_MANIFEST}) ^ expected)[:3]}"
        raise SnapshotInvalid(message)
    return manifest, {key: _parse_array(key, files[f"{key}.npy"], digest) for key, digest in manifest.files.items()}


def prune(folder: Path, keep: int, identity: LogIdentity) -> Sequence[str]:
    """Remove all but the newest snapshots of a log's generation and what an interrupted writer left; return the names.

    Those of another generation go first: their log positions may be higher, and none of them can ever serve again.
    """
    removed: list[str] = []
    if folder.is_dir():
        leftovers = [each.name for each in folder.iterdir() if each.name.startswith(_TEMPORARY)]
        foreign = [name for name in names(folder) if not _may_be_of(folder / name, identity)]
        own = [name for name in names(folder) if name not in foreign]
        for name in [*own[max(keep, KEEP_MIN) :], *foreign, *leftovers]:
            shutil.rmtree(folder / name)
            removed.append(name)
    return removed


def _may_be_of(path: Path, identity: LogIdentity) -> bool:
    """Return whether a snapshot is of this generation of this log, as far as it can be read."""
    try:
        manifest = _unseal((path / _MANIFEST).read_bytes())
    except (OSError, SnapshotInvalid):
        return True
    return (manifest.log_id, manifest.generation) == (identity.log_id, identity.generation)


def _restore(path: Path, settings: FoldSettings, identity: LogIdentity, end: LogPosition) -> Fold:
    manifest, arrays = read(path)
    _require_fit(manifest, settings, identity, end)
    fold = Fold(settings)
    fold.restore(arrays)
    if fold.digest() != manifest.digest:
        message = "what was restored has another digest than what was written"
        raise SnapshotInvalid(message)
    return fold


def _require_fit(manifest: Manifest, settings: FoldSettings, identity: LogIdentity, end: LogPosition) -> None:
    """Raise ``SnapshotInvalid`` unless the log and the configuration are those of the snapshot."""
    if (manifest.log_id, manifest.generation) != (identity.log_id, identity.generation):
        message = "it belongs to another log or another generation of it"
        raise SnapshotInvalid(message)
    if manifest.fold_version != settings.version():
        message = f"it has fold version {manifest.fold_version}, the configuration {settings.version()}"
        raise SnapshotInvalid(message)
    if manifest.log_position > end:
        message = f"it stands at log position {manifest.log_position}, the log ends at {end}"
        raise SnapshotInvalid(message)


def _seal(manifest: Manifest) -> bytes:
    body = msgspec.json.encode(manifest)
    return sha256(body).hexdigest().encode() + b"\n" + body


def _unseal(content: bytes) -> Manifest:
    seal, _, body = content.partition(b"\n")
    if sha256(body).hexdigest().encode() != seal:
        message = "its manifest is missing or does not match its checksum"
        raise SnapshotInvalid(message)
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        message = f"its manifest is of another release: {error}"
        raise SnapshotInvalid(message) from error
    if manifest.format_version != FORMAT_VERSION:
        message = f"it has format {manifest.format_version}, this release reads {FORMAT_VERSION}"
        raise SnapshotInvalid(message)
    return manifest


def _write_array(path: Path, array: NDArray[np.generic]) -> str:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    _write_synced(path, buffer.getbuffer())
    return sha256(buffer.getbuffer()).hexdigest()


def _parse_array(key: str, content: bytes, digest: str) -> NDArray[np.generic]:
    if sha256(content).hexdigest() != digest:
        message = f"{key} does not match its SHA-256"
        raise SnapshotInvalid(message)
    array: NDArray[np.generic] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _write_synced(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
