"""Arrival of a snapshot from elsewhere: files come one by one, the manifest last, and the folder gets its name then.

A copy that broke off leaves a folder with a temporary name. The next one takes over the files that are whole.
"""

from contextlib import AbstractContextManager
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO

from midstream.engine.snapshots.snapshots import MANIFEST_NAME, SnapshotManifest, put, sealed
from midstream.events.file_modes import make_folder
from midstream.events.whole_file import WholeFile, write_whole
from midstream.models.artifact.artifact import sync_folder

_TEMPORARY = ".arriving-"


class Arrival:
    """A snapshot that is being copied into a folder of snapshots."""

    def __init__(self, folder: Path, manifest: SnapshotManifest) -> None:
        """Begin, or go on with what an earlier copy of the same snapshot left.

        Args:
            folder: Of snapshots.
            manifest: Of the snapshot as it will be.

        Raises:
            OSError: The disk.
        """
        self._folder = folder
        self._manifest = manifest
        self._name = f"{manifest.log_position:020d}-{manifest.fold_version}"
        self._place = folder / f"{_TEMPORARY}{self._name}"
        make_folder(self._place)
        known = {f"{key}.npy" for key in manifest.files}
        for path in self._place.iterdir():
            if path.name not in known:
                path.unlink()

    def has(self, key: str) -> bool:
        """Return whether a file came whole before. Cost: reads it once."""
        path = self._place / f"{key}.npy"
        if not path.exists():
            return False
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest() == self._manifest.files[key]

    def file(self, key: str) -> AbstractContextManager[BinaryIO]:
        """Return the file of an array, to be written in a ``with`` block; it counts only when that ends well."""
        return WholeFile(self._place / f"{key}.npy")

    def finish(self) -> Path:
        """Write the manifest and give the folder its name; return it.

        Raises:
            OSError: The disk.
        """
        write_whole(self._place / MANIFEST_NAME, sealed(self._manifest))
        final = self._folder / self._name
        put(self._place, final)
        sync_folder(self._folder)
        return final
