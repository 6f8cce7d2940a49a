"""Model registry: immutable versions in one folder, ``<name>/<version>/``, without the state of which one serves.

A version is published once and never changed. The folder is the only record, so no index can contradict it. The aliases
champion, challenger and shadow are events of the log, not files.
"""

import os
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from midstream.core.errors import ArtifactInvalid, ArtifactTooLarge, MidstreamError, NotFound
from midstream.events.processes.process_ids import is_running
from midstream.events.processes.thread_pace import Rest, no_rest
from midstream.models.artifact.artifact import (
    MANIFEST,
    NAME,
    TEMPORARY,
    Artifact,
    ArtifactContent,
    Draft,
    Manifest,
    leftovers,
    read_artifact,
    read_manifest,
    versions,
    write_artifact,
)
from midstream.models.loading import load
from midstream.models.model import ItemModel, RowModel

VERSION_BYTES_MAX = 2 << 30
"""Of the files of a version, unless the configuration says otherwise; loaded it may hold twice as much
(``models.artifact.memory``). Beside the one that answers there are the one before it, and one that is being loaded:
three times as much while a model of this size is promoted. 200,000 items with 500 weights each, the largest there is by
default, are 0.8 GB."""
VERSIONS_KEPT = 32
"""Newest versions of a model that are kept: a month of daily fits."""
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
"""Of a version, as people type it."""
NUMBER_DIGITS = 4
"""Decimal digits of a version's number: so many or fewer are never the beginning of a hash, so a mistyped number
selects no other version."""
ARRIVING = ".arriving-"
"""Prefix of the temporary folder of an import; the number of its process follows."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedVersion:
    """A version that answers."""

    name: str
    version: str
    manifest: Manifest
    manifest_hash: str
    """As of ``Registry.manifest_hash``, so that a loaded version can be promoted when its folder is gone."""
    model: ItemModel | RowModel


@dataclass(frozen=True, slots=True)
class Registry:
    """Models by name and version."""

    folder: Path
    """Need not be there until something is published."""
    bytes_max: int = VERSION_BYTES_MAX
    """Of all files of a version: more is neither written, taken in nor loaded."""

    def publish(self, draft: Draft, content: ArtifactContent) -> str:
        """Write a new version, read it again and compare its golden answers; return its name.

        Args:
            draft: Metadata.
            content: Of ``models.artifact.golden``: arrays, vocabulary and golden answers.

        Raises:
            ArtifactTooLarge: It exceeds the maximum of bytes; nothing was written.
            ArtifactInvalid: It cannot be written, or fails its golden questions; nothing remains.
            ExtraMissing: A library that reads its kind is not installed; nothing remains.
            OSError: The disk; nothing remains.
        """
        size = sum(each.nbytes for each in content.arrays.values()) + sum(map(len, content.files.values()))
        self.require_size(draft.name, size)
        version = write_artifact(self.folder / draft.name, draft, content)
        try:
            self.load(draft.name, version)
        except MidstreamError:
            shutil.rmtree(self.folder / draft.name / version)
            raise
        return version

    def names(self) -> list[str]:
        """Return the models of which there is a version, by name."""
        if not self.folder.is_dir():
            return []
        return sorted(each.name for each in self.folder.iterdir() if NAME.match(each.name) and versions(each))

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, the oldest number first; none when there are none."""
        return versions(self._of(name))

    def find(self, name: str, wanted: str = "") -> str:
        """Return the version that is meant by some text.

        Args:
            name: Of the model.
            wanted: The version, its number (``7``), or how its digits begin (``3fa9``, five of them or more where all
                are decimal); empty = the newest.

        Raises:
            NotFound: None is meant, or more than one.
        """
        there = self.versions(name)
        if not there:
            message = f"no version of a model {name!r} is there. Models: {', '.join(self.names()) or 'none'}"
            raise NotFound(message)
        if wanted in there:
            return wanted
        if not wanted:
            return there[-1]
        number = int(wanted) if _NUMBER.match(wanted) else -1
        meant = [each for each in there if int(each.partition("-")[0]) == number]
        if not meant and (number < 0 or len(wanted) > NUMBER_DIGITS):
            meant = [each for each in there if each.partition("-")[2].startswith(wanted)]
        if len(meant) != 1:
            said = "no version" if not meant else "more than one version"
            message = f"{wanted!r} is {said} of {name!r}. Versions: {', '.join(there[-10:])}"
            raise NotFound(message)
        return meant[0]

    def manifest(self, name: str, version: str) -> Manifest:
        """Return the manifest of a version, verified by its name.

        Raises:
            NotFound: It does not exist.
            ArtifactInvalid: It is damaged, or of another model.
        """
        folder = self._there(name, version)
        return _named(read_manifest(folder), name, folder)

    def manifest_hash(self, name: str, version: str) -> str:
        """Return the 64 hex digits of the SHA-256 of a version's manifest, of which its name has the first twelve.

        Raises:
            NotFound: It is not there, or its manifest is not.
        """
        try:
            return sha256((self._there(name, version) / MANIFEST).read_bytes()).hexdigest()
        except OSError as error:
            message = f"the manifest of {version} of {name!r} cannot be read: {error}"
            raise NotFound(message) from error

    def manifests(self, name: str) -> Sequence[Manifest | ArtifactInvalid]:
        """Return the manifest of each version, in the order of ``versions``, or why it cannot be read."""
        found: list[Manifest | ArtifactInvalid] = []
        for version in self.versions(name):
            try:
                found.append(self.manifest(name, version))
            except ArtifactInvalid as error:
                found.append(error)
        return found

    def require_size(self, what: str, size: int) -> None:
        """Refuse a version that exceeds the maximum of bytes.

        Args:
            what: Its name, for the message.
            size: Bytes of all its files.

        Raises:
            ArtifactTooLarge: They are more.
        """
        if size > self.bytes_max:
            most = f"[registry] version_bytes_max is {self.bytes_max:,}"
            message = f"{what}: it has {size:,} bytes, {most}: make it smaller, or raise that"
            raise ArtifactTooLarge(message)

    def read(self, name: str, version: str, rest: Rest = no_rest) -> Artifact:
        """Return a version of which every byte was verified; ``rest`` is called after each piece.

        Raises:
            NotFound: It is not there.
            ArtifactTooLarge: Its manifest names more bytes than may be; no other file was read.
            ArtifactInvalid: It is damaged, or of another model.
        """
        folder = self._there(name, version)
        self.require_size(version, read_manifest(folder).bytes)
        artifact = read_artifact(folder, rest)
        _named(artifact.manifest, name, folder)
        return artifact

    def load(self, name: str, version: str, rest: Rest = no_rest) -> LoadedVersion:
        """Return a version that passed its golden questions. Cost: as ``read``, and that of its kind.

        Args:
            name: Of the model.
            version: Its whole name.
            rest: Called after each piece of what is read, hashed and looked through.

        Raises:
            NotFound: It does not exist.
            ArtifactTooLarge: As ``read``.
            ArtifactInvalid: It is damaged, or differs from its manifest.
            ExtraMissing: A library that reads its kind is not installed.
        """
        manifest_hash = self.manifest_hash(name, version)
        artifact = self.read(name, version, rest)
        return LoadedVersion(name, version, artifact.manifest, manifest_hash, load(artifact, rest))

    def remove(self, name: str, version: str) -> None:
        """Remove a version, for good, without checking whether it is in service.

        Raises:
            NotFound: It does not exist.
        """
        shutil.rmtree(self._there(name, version))

    def prune(self, newest: int, kept: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        """Remove all versions but the newest of each model and the named ones; return them as model and version.

        A folder is renamed first, so that no reader gets half a version; ``clean`` removes interrupted removals.

        Args:
            newest: Number of versions of each model to keep.
            kept: Other versions to keep, as model and version.

        Raises:
            OSError: The disk; the remaining ones still exist.
        """
        removed: list[tuple[str, str]] = []
        for name in self.names():
            for version in self.versions(name)[:-newest]:
                if (name, version) not in kept:
                    doomed = self._of(name) / f"{TEMPORARY}{version}-{os.getpid()}"
                    (self._of(name) / version).rename(doomed)
                    shutil.rmtree(doomed)
                    removed.append((name, version))
        return removed

    def clean(self) -> None:
        """Remove remains of interrupted writers and imports; folders of running processes stay."""
        if not self.folder.is_dir():
            return
        written = (left for name in self.folder.iterdir() for left in leftovers(name))
        for left in (*written, *self.folder.glob(f"{ARRIVING}*")):
            pid = left.name.rpartition("-")[2]
            if not (pid.isdecimal() and is_running(int(pid))):
                shutil.rmtree(left, ignore_errors=True)

    def _of(self, name: str) -> Path:
        """Return the folder of a model; that of a name that none can have is not there."""
        return self.folder / (name if NAME.match(name) else "-")

    def _there(self, name: str, version: str) -> Path:
        if version not in self.versions(name):
            message = f"no version {version!r} of a model {name!r} is there"
            raise NotFound(message)
        return self._of(name) / version


def _named(manifest: Manifest, name: str, folder: Path) -> Manifest:
    """Refuse a version that lies with another model than its own."""
    if manifest.name != name:
        message = f"{folder.name}: it is a version of {manifest.name!r} and lies with those of {name!r}"
        raise ArtifactInvalid(message)
    return manifest
