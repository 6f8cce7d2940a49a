"""A version as one file, to be carried elsewhere: a tar of its folder, verified again where it arrives.

The names in it are ``<name>/<version>/<file>``, and nothing else is taken from one: no absolute path, no link, no
folder, no file that the manifest does not name. What arrives is read and asked its golden questions in a temporary
folder before it has a name.
"""

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from midstream.core.errors import ArtifactInvalid
from midstream.models.artifact import FILES_MAX, MANIFEST, NAME, VERSION, read_artifact
from midstream.models.loading import load
from midstream.training.registry import Registry

_TEMPORARY = ".arriving"
_PARTS = 3


def export_version(registry: Registry, name: str, version: str, target: Path) -> None:
    """Write a version, every byte of which was verified, as a tar file; equal versions give equal bytes.

    Raises:
        NotFound: It is not there.
        ArtifactInvalid: It is damaged.
        FileExistsError: The target is there already. ``OSError`` as the disk says.
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


def import_version(registry: Registry, source: Path) -> tuple[str, str]:
    """Take in a version from a tar file; return the model's name and the version.

    A version that is there already stays as it is, if it is the same.

    Raises:
        ArtifactInvalid: It is no version, a damaged one, or does not answer its golden questions; nothing stays.
        ExtraMissing: A library that reads its kind is not installed; nothing stays.
        OSError: The disk; nothing stays.
    """
    temporary = registry.folder / f"{_TEMPORARY}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        name, version = _unpack(source, temporary)
        artifact = read_artifact(temporary / name / version)
        if artifact.manifest.name != name:
            message = f"{source.name}: it is a version of {artifact.manifest.name!r}, not of {name!r}"
            raise ArtifactInvalid(message)
        load(artifact)
        if version not in registry.versions(name):
            (registry.folder / name).mkdir(exist_ok=True)
            (temporary / name / version).rename(registry.folder / name / version)
            _sync_folder(registry.folder / name)
        else:
            registry.load(name, version)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return name, version


def _unpack(source: Path, target: Path) -> tuple[str, str]:
    """Write the files of a tar, each synced; return the model's name and the version.

    Raises:
        ArtifactInvalid: An entry is anything else than a file of one version.
    """
    found: set[tuple[str, str]] = set()
    count = 0
    try:
        with tarfile.open(source, mode="r:") as tar:
            for entry in tar:
                parts = PurePosixPath(entry.name).parts
                count += 1
                fits = len(parts) == _PARTS and NAME.match(parts[0]) and VERSION.match(parts[1])
                content = tar.extractfile(entry) if entry.isreg() and fits and ".." not in parts else None
                found.add((parts[0], parts[1]) if fits else ("", ""))
                if content is None or len(found) != 1 or count > FILES_MAX + 1:
                    message = f"{source.name}: {entry.name[:100]!r} is no file of one version of a model"
                    raise ArtifactInvalid(message)
                path = target.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file)
                    file.flush()
                    os.fsync(file.fileno())
                _sync_folder(path.parent)
    except (tarfile.TarError, FileExistsError, EOFError) as error:
        message = f"{source.name}: it cannot be read: {error}"
        raise ArtifactInvalid(message) from error
    if not found:
        message = f"{source.name}: nothing is in it"
        raise ArtifactInvalid(message)
    return found.pop()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
