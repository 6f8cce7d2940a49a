"""Snapshot store: a shared place of published snapshots, each in a folder of its own, behind one small contract.

A folder of files is one store, an object storage and the HTTP address of a peer are others. All of them run the same
conformance checks (``tests/contract``). A store knows nothing of what it holds: what makes a snapshot whole, fit and
trusted is in ``published_snapshots``.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from midstream.core.errors import MidstreamError, StoreUnavailable
from midstream.events.file_modes import make_folder
from midstream.events.whole_file import WholeFile

READ_BYTES = 1 << 20
"""Of one piece of a file: a copy has two of them in memory, whatever the size of the snapshot."""


class StoredFileMissing(MidstreamError):
    """A file is not in the store, or not any more."""


class PeerUnknown(MidstreamError):
    """A caller that asks for snapshots has no key of this shop's nodes."""


class SnapshotStore(Protocol):
    """Folders of files, one level deep; the names come from ``published_snapshots`` and are checked there."""

    @property
    def address(self) -> str:
        """Address for messages, without credentials."""
        ...

    def folders(self) -> Sequence[str]:
        """Return the names of the folders, in any order; an absent place has none.

        Raises:
            StoreUnavailable: The place cannot be read now.
        """
        ...

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces of at most ``READ_BYTES``.

        Raises:
            StoredFileMissing: There is no such file.
            StoreUnavailable: The place cannot be read now, also in the middle of a file.
        """
        ...

    def write(self, folder: str, name: str, pieces: Iterable[bytes]) -> None:
        """Store a file; it is there as a whole or not at all.

        Raises:
            StoreUnavailable: The place cannot be written now, or takes no files.
        """
        ...

    def remove(self, folder: str, last: str) -> None:
        """Remove a folder; the file ``last`` goes first, so that a broken removal leaves no whole snapshot.

        Raises:
            StoreUnavailable: The place cannot be written now.
        """
        ...


class FolderStore:
    """A ``SnapshotStore`` in a folder of this machine, or of a file system that machines share."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, which need not exist yet."""
        self._root = root

    @property
    def address(self) -> str:
        """The folder."""
        return str(self._root)

    def folders(self) -> Sequence[str]:
        """Return the folders below the root."""
        try:
            return [each.name for each in self._root.iterdir() if each.is_dir()]
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unavailable(error) from error

    def read(self, folder: str, name: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        try:
            with (self._root / folder / name).open("rb") as file:
                while piece := file.read(READ_BYTES):
                    yield piece
        except (FileNotFoundError, NotADirectoryError) as error:
            raise missing(self.address, folder, name) from error
        except OSError as error:
            raise self._unavailable(error) from error

    def write(self, folder: str, name: str, pieces: Iterable[bytes]) -> None:
        """Write beside the name, sync, rename."""
        try:
            make_folder(self._root / folder)
            with WholeFile(self._root / folder / name) as file:
                for piece in pieces:
                    file.write(piece)
        except OSError as error:
            raise self._unavailable(error) from error

    def remove(self, folder: str, last: str) -> None:
        """Remove a folder."""
        place = self._root / folder
        try:
            (place / last).unlink(missing_ok=True)
            if place.is_dir():
                shutil.rmtree(place)
        except OSError as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"{self.address}: {error.strerror or error}")


def missing(address: str, folder: str, name: str) -> StoredFileMissing:
    """Return the error of a file that is not in a store."""
    return StoredFileMissing(f"{address}: {folder}/{name} is not there")
