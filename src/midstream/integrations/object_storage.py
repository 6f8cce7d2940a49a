"""Snapshot store in an object storage or any other file system that ``fsspec`` knows: ``s3://``, ``gs://``, ``memory://``.

A file is written through ``fsspec``'s own upload, which shows an object when it is whole; the store's manifest is
written behind all others, so a rename, which object storages do not have, is not needed.

Reference: https://filesystem-spec.readthedocs.io/en/latest/api.html
"""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any

from midstream.core.errors import ExtraMissing, Fault, Invalid, MidstreamError, StoreUnavailable
from midstream.engine.replication.snapshot_store import READ_BYTES, missing

PAGE = "/docs/replicas.md"
_NOT_OF_STORAGES = ("builtins", "midstream")


class ObjectStorage:
    """A ``SnapshotStore`` at an address of ``fsspec``; credentials come from the environment of the storage's package.

    Names are read anew at each call, never from a cache of listings.
    """

    def __init__(self, url: str) -> None:
        """Prepare access to ``url``; nothing is asked for yet.

        Raises:
            ExtraMissing: ``fsspec``, or the package of the storage, is not installed.
            Invalid: ``fsspec`` knows no such storage.
            StoreUnavailable: The package of the storage found no credentials, or no way there.
        """
        core = _library()
        try:
            self._files: Any
            with _LibraryErrors(url):  # some storages look for credentials here
                self._files, root = core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            message = f"{url}: its storage needs a package of its own, such as s3fs for s3: {error}"
            raise ExtraMissing(message) from error
        except OSError as error:
            raise _unavailable(url, error) from error
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
            with _LibraryErrors(self._url):
                found = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unavailable(error) from error
        return [str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] == "directory"]

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        try:
            path = f"{self._root}/{folder}/{name}"
            with _LibraryErrors(self._url), self._files.open(path, "rb", block_size=READ_BYTES) as file:
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
            with _LibraryErrors(self._url):
                self._files.makedirs(f"{self._root}/{folder}", exist_ok=True)
                with self._files.transaction, self._files.open(path, "wb") as file:  # without one, half a file is shown
                    for piece in pieces:
                        file.write(piece)
        except OSError as error:
            raise self._unavailable(error) from error

    def remove(self, folder: str, last: str) -> None:
        """Remove a folder."""
        try:
            with _LibraryErrors(self._url):
                if self._files.exists(f"{self._root}/{folder}/{last}"):
                    self._files.rm_file(f"{self._root}/{folder}/{last}")
                if self._files.exists(f"{self._root}/{folder}"):
                    self._files.rm(f"{self._root}/{folder}", recursive=True)
        except FileNotFoundError:
            return  # object storages have no folders: with the last file it is gone
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return _unavailable(self.address, error)


class _LibraryErrors:
    """Translation of errors whose classes the package of a storage defines, such as those of botocore and gcsfs.

    They are no ``OSError`` and have no common base, so they are told by where their class is defined. Errors of Python
    and of this package go on as they are.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Raise ``StoreUnavailable`` in place of an error of a library."""
        if kind is None or not isinstance(error, Exception) or isinstance(error, OSError | MidstreamError):
            return
        if kind.__module__.partition(".")[0] not in _NOT_OF_STORAGES:
            raise _unavailable(self._address, error) from error


def _unavailable(address: str, error: Exception) -> StoreUnavailable:
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return StoreUnavailable(f"{address}: {reason}")


def _library() -> Any:  # noqa: ANN401  a module of an extra
    try:
        core: Any = import_module("fsspec.core")
    except ImportError as error:
        message = "Snapshots in object storage need the extra: pip install 'midstream[storage]'"
        raise ExtraMissing(message) from error
    return core
