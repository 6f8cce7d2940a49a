"""Snapshot store in an object storage or any other file system that ``fsspec`` knows: ``s3://``, ``gs://``, ``memory://``.

A file is written through ``fsspec``'s own upload, which shows an object when it is whole; the store's manifest is
written behind all others, so a rename, which object storages do not have, is not needed.

Reference: https://filesystem-spec.readthedocs.io/en/latest/api.html
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

from midstream.core.errors import ExtraMissing, Fault, Invalid, StoreUnavailable
from midstream.engine.replication.snapshot_store import READ_BYTES, missing

PAGE = "/docs/replicas.md"


class ObjectStorage:
    """A ``SnapshotStore`` at an address of ``fsspec``; credentials come from the environment of the storage's package.

    Names are read anew at each call, never from a cache of listings.
    """

    def __init__(self, url: str) -> None:
        """Prepare access to ``url``; nothing is asked for yet.

        Raises:
            ExtraMissing: ``fsspec``, or the package of the storage, is not installed.
            Invalid: ``fsspec`` knows no such storage.
        """
        core = _library()
        try:
            self._files: Any
            self._files, root = core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            message = f"{url}: its storage needs a package of its own, such as s3fs for s3: {error}"
            raise ExtraMissing(message) from error
        except ValueError as error:
            right = "A storage that fsspec knows, such as s3://bucket/shop or file:///shared/shop."
            raise Invalid((Fault(url, f"{error}.", right, PAGE),)) from error
        self._root = str(root).rstrip("/")
        self._url = url

    @property
    def address(self) -> str:
        """The address; credentials are never part of it."""
        return self._url

    def folders(self) -> Sequence[str]:
        """Return the folders below the root."""
        try:
            found = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unavailable(error) from error
        return [str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        try:
            with self._files.open(f"{self._root}/{folder}/{name}", "rb", block_size=READ_BYTES) as file:
                while piece := file.read(READ_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise missing(self.address, folder, name) from error
        except OSError as error:
            raise self._unavailable(error) from error

    def write(self, folder: str, name: str, pieces: Iterable[bytes]) -> None:
        """Upload a file."""
        path = f"{self._root}/{folder}/{name}"
        try:
            self._files.makedirs(f"{self._root}/{folder}", exist_ok=True)
            with self._files.transaction, self._files.open(path, "wb") as file:  # without one, half a file is shown
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            raise self._unavailable(error) from error

    def remove(self, folder: str, last: str) -> None:
        """Remove a folder."""
        try:
            if self._files.exists(f"{self._root}/{folder}/{last}"):
                self._files.rm_file(f"{self._root}/{folder}/{last}")
            if self._files.exists(f"{self._root}/{folder}"):
                self._files.rm(f"{self._root}/{folder}", recursive=True)
        except FileNotFoundError:
            return  # object storages have no folders: with the last file it is gone
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"{self.address}: {error.strerror or error}")


def _library() -> Any:  # noqa: ANN401  a module of an extra
    try:
        core: Any = import_module("fsspec.core")
    except ImportError as error:
        message = "Snapshots in object storage need the extra: pip install 'midstream[storage]'"
        raise ExtraMissing(message) from error
    return core
