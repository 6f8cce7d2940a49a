"""Export and import of versions as tar files, verified again at the import.

The names in it are ``<name>/<version>/<file>``, the manifest first, and nothing else is accepted: no absolute path, no
link, no folder, no sparse file, no file that the manifest does not name, none of another length. So all bytes are
compared with the free space before they are written. An imported version is read and answers its golden questions in a
temporary folder before it gets its name.
"""

import errno
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from midstream.core.errors import ArtifactInvalid
from midstream.events.file_modes import make_folder, open_file
from midstream.models.artifact.artifact import (
    MANIFEST,
    MANIFEST_BYTES_MAX,
    NAME,
    VERSION,
    Artifact,
    ArtifactContent,
    Draft,
    Manifest,
    locked,
    read_artifact,
    read_manifest,
    sync_folder,
)
from midstream.models.loading import load
from midstream.training.registry import ARRIVING, Registry

IMPORTED_NUMBER_MAX = 99_999_999
"""Leaves nine hundred million numbers to fits after an import: one a second for 28 years."""
FREE_BYTES_MIN = 1 << 28
"""Of the disk, after an import: some minutes of log, in which an operator sees the warning."""
_PARTS = 3
_PIECE_BYTES = 1 << 20
"""Maximum of one read, so that an entry with a name of a gigabyte takes no memory."""
_DISORDER = (
    tarfile.TarError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
"""Exceptions of the standard library for invalid tars, names and sparse maps."""


class _Bounded:
    """A file of which no more than a piece is read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _PIECE_BYTES:
            message = f"{size} bytes of names and the like, at most {_PIECE_BYTES} are right"
            raise tarfile.ReadError(message)
        return self._file.read(size)


def export_version(registry: Registry, name: str, version: str, target: Path) -> None:
    """Write a version, after verifying every byte, as a tar file; equal versions give equal bytes.

    Raises:
        NotFound: It does not exist.
        ArtifactInvalid: It is damaged.
        FileExistsError: The target exists already. ``OSError`` as the disk raises it.
    """
    manifest = registry.read(name, version).manifest
    with target.open("xb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for each in (MANIFEST, *sorted(manifest.files)):
            path = registry.folder / name / version / each
            told = tarfile.TarInfo(f"{name}/{version}/{each}")
            told.size = path.stat().st_size
            told.mtime = manifest.made_ms // 1_000
            with path.open("rb") as content:
                tar.addfile(told, content)


def import_version(registry: Registry, source: Path, name: str = "") -> tuple[str, str]:
    """Import a version from a tar file; return the model's name and the version.

    An existing version stays as it is; a damaged one is replaced.

    Args:
        registry: The target.
        source: From ``export_version``.
        name: New name of the model, as in ``take_in``; empty = the version's own.

    Raises:
        ArtifactTooLarge: Its manifest names more bytes than allowed; nothing remains.
        ArtifactInvalid: It is no version, is damaged, or fails its golden questions; nothing remains.
        ExtraMissing: A library that reads its kind is not installed; nothing remains.
        OSError: The disk, also where it would leave less than ``FREE_BYTES_MIN`` free; nothing remains.
    """
    return take_in(registry, lambda target: _unpack(registry, source, target), name)


def take_in(registry: Registry, fill: Callable[[Path], tuple[str, str]], name: str = "") -> tuple[str, str]:
    """Verify and publish an imported version; return the model's name and the version.

    Args:
        registry: The target.
        fill: Writes ``<name>/<version>/`` with its files into a folder, and returns the two.
        name: New name of the model, if it differs from the version's own: then it is published anew, with the next
            number, unless a version of the same files exists.

    Raises:
        MidstreamError: As ``fill`` raises; ``ArtifactInvalid`` where it is damaged or fails its golden questions;
            nothing remains.
        OSError: The disk; nothing remains.
    """
    registry.clean()
    temporary = registry.folder / f"{ARRIVING}{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    make_folder(temporary)
    try:
        own, version = fill(temporary)
        artifact = read_artifact(temporary / own / version)
        load(artifact)
        if name not in {"", own}:
            return name, _renamed(registry, artifact, name)
        make_folder(registry.folder / own)
        with locked(registry.folder / own):
            if not _is_there(registry, own, version):
                (temporary / own / version).rename(registry.folder / own / version)
        sync_folder(registry.folder / own)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return own, version


def require_room(folder: Path, wanted: int, what: str) -> None:
    """Refuse what would leave less than ``FREE_BYTES_MIN`` of a disk free.

    Raises:
        OSError: It would.
    """
    free = shutil.disk_usage(folder).free
    if wanted + FREE_BYTES_MIN > free:
        message = f"it takes {wanted:,} bytes, {free:,} are free and {FREE_BYTES_MIN:,} stay so"
        raise OSError(errno.ENOSPC, message, what)


def require_number(version: str, manifest: Manifest) -> None:
    """Refuse a version from elsewhere whose number leaves room for few others.

    Raises:
        ArtifactInvalid: It does.
    """
    if manifest.number > IMPORTED_NUMBER_MAX:
        message = f"{version} has a number above {IMPORTED_NUMBER_MAX}: few could follow it"
        raise ArtifactInvalid(message)


def _renamed(registry: Registry, artifact: Artifact, name: str) -> str:
    """Publish an imported version under another model's name, unless a version of the same files exists."""
    manifest = artifact.manifest
    for version in registry.versions(name):
        with suppress(ArtifactInvalid):
            if registry.manifest(name, version).files == manifest.files:
                registry.read(name, version)
                return version
    fields: dict[str, Any] = {each: getattr(manifest, each) for each in Draft.__struct_fields__}
    fields["name"] = name
    return registry.publish(Draft(**fields), ArtifactContent(artifact.arrays, artifact.files))


def _is_there(registry: Registry, name: str, version: str) -> bool:
    """Return whether an undamaged version exists; a damaged one is renamed."""
    if version not in registry.versions(name):
        return False
    try:
        registry.load(name, version)
    except ArtifactInvalid:
        (registry.folder / name / version).rename(registry.folder / f"{ARRIVING}{os.getpid()}" / "damaged")
        return False
    return True


def _unpack(registry: Registry, source: Path, target: Path) -> tuple[str, str]:
    """Write the files of a tar, each synced; return the model's name and the version.

    Raises:
        ArtifactInvalid: An entry is anything else than a file that the manifest, which is the first, names.
        OSError: There is no room for them.
    """
    try:
        with source.open("rb") as file, tarfile.open(fileobj=cast("BinaryIO", _Bounded(file)), mode="r:") as tar:
            entries = iter(tar)
            name, version, manifest = _begun(source, tar, entries, target)
            registry.require_size(version, manifest.bytes)
            folder, missing = target / name / version, set(manifest.files)
            for entry in entries:
                each = entry.name.removeprefix(f"{name}/{version}/")
                if each not in missing or not _is_plain(entry) or entry.size != manifest.files[each].bytes:
                    raise _no_file(source, entry)
                missing.remove(each)
                _copy(tar, entry, folder / each)
            sync_folder(folder)
    except _DISORDER as error:
        message = f"{source.name}: it cannot be read: {type(error).__name__}: {error}"
        raise ArtifactInvalid(message) from error
    return name, version


def _begun(
    source: Path, tar: tarfile.TarFile, entries: Iterator[tarfile.TarInfo], target: Path
) -> tuple[str, str, Manifest]:
    """Write the manifest of a tar; return the model's name, the version, and the manifest."""
    entry = next(entries, None)
    if entry is None:
        message = f"{source.name}: nothing is in it"
        raise ArtifactInvalid(message)
    parts = PurePosixPath(entry.name).parts
    fits = len(parts) == _PARTS and NAME.match(parts[0]) and VERSION.match(parts[1]) and parts[2] == MANIFEST
    if not fits or not _is_plain(entry) or entry.size > MANIFEST_BYTES_MAX:
        raise _no_file(source, entry)
    name, version, _ = parts
    folder = target / name / version
    make_folder(folder)
    _copy(tar, entry, folder / MANIFEST)
    manifest = read_manifest(folder)
    if manifest.name != name:
        message = f"{source.name}: it is a version of {manifest.name!r}, not of {name!r}"
        raise ArtifactInvalid(message)
    require_number(version, manifest)
    require_room(target, manifest.bytes, str(source))
    return name, version, manifest


def _is_plain(entry: tarfile.TarInfo) -> bool:
    """Return whether an entry is a file with all of its bytes in the tar: no link, no folder, no sparse file."""
    return entry.type in {tarfile.REGTYPE, tarfile.AREGTYPE} and not entry.issparse()


def _no_file(source: Path, entry: tarfile.TarInfo) -> ArtifactInvalid:
    told = f"{entry.name[:100]!r} of {entry.size} bytes"
    return ArtifactInvalid(f"{source.name}: {told} is no file that one version of a model has, its manifest first")


def _copy(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    """Write a file of a tar, synced."""
    content = tar.extractfile(entry)
    if content is None:
        message = f"{entry.name[:100]!r} has no content"
        raise ArtifactInvalid(message)
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_EXCL), "wb") as file:
        shutil.copyfileobj(content, file, _PIECE_BYTES)
        file.flush()
        os.fsync(file.fileno())
