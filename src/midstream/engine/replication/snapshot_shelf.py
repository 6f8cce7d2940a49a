"""Snapshot shelf: the local snapshots of a node in published form, for peers that join.

Nothing is copied for it: the manifest is made when it is asked for, the files are those of the snapshot folder. A
snapshot that retention removes meanwhile is missing from then on, and the joiner takes a newer one.
"""

import os
from collections.abc import Iterator, Sequence
from hmac import compare_digest
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple
from weakref import finalize

from midstream.core.errors import NotFound, Overloaded
from midstream.core.types import LogPosition
from midstream.engine.folder import DataFolder
from midstream.engine.log_readers import open_reader
from midstream.engine.replication.published_snapshots import (
    MANIFEST_NAME,
    PublishedSnapshot,
    peer_key,
    published_of,
    seal,
)
from midstream.engine.replication.snapshot_store import READ_BYTES, PeerUnknown
from midstream.engine.replication.topic_position import TOPIC_NAME, TopicPosition, read_topic_position
from midstream.engine.snapshots import snapshots
from midstream.events.segments.log_identity import LogIdentity

STREAMS_MAX = 4
"""Files that are sent at once, 1 MiB of memory each: two joiners with two connections each."""
_OWN = "-own"
"""Behind the name of a snapshot: the place of the name of an upload."""


class SnapshotContent(NamedTuple):
    """Content of one file."""

    size: int
    pieces: Iterator[bytes]


class SnapshotPieces(Iterator[bytes]):
    """Content of an open file in pieces; it counts among the streams until it ends, is closed, or nobody has it."""

    def __init__(self, file: BinaryIO, streams: set[int]) -> None:
        """Count among ``streams`` from now on, also before the first piece is asked for."""
        self._file = file
        streams.add(file.fileno())
        self.close = finalize(self, _end, file, streams)

    def __next__(self) -> bytes:
        """Return the next piece."""
        piece = self._file.read(READ_BYTES) if self.close.alive else b""
        if not piece:
            self.close()
            raise StopIteration
        return piece


def _end(file: BinaryIO, streams: set[int]) -> None:
    streams.discard(file.fileno())
    file.close()


class SnapshotShelf:
    """Read access to the snapshots of one data folder, in the names of published ones."""

    def __init__(self, data: DataFolder) -> None:
        """Show the snapshots of ``data``, whose log exists."""
        self._data = data
        self._streams: set[int] = set()
        self._is_counting = Lock()
        self._expected = f"Bearer {peer_key(self._identity)}".encode()  # the id of a log stays through its rewrites

    def require_peer(self, authorization: str) -> None:
        """Refuse a caller that is no node of this shop.

        Args:
            authorization: Header of that name.

        Raises:
            PeerUnknown: It has no or another key.
        """
        if not compare_digest(authorization.encode(), self._expected):
            raise PeerUnknown("This is for nodes of the same shop, which have its key.")

    def names(self) -> Sequence[str]:
        """Return the folders, newest first."""
        return [f"{name}{_OWN}" for name in snapshots.names(self._data.snapshots)]

    def content(self, folder: str, name: str) -> SnapshotContent:
        """Return a file of a snapshot; closing its pieces ends the stream.

        Raises:
            NotFound: It is not there, or not any more.
            Overloaded: As many files as may be are being sent.
        """
        local = self._data.snapshots / folder.removesuffix(_OWN)
        if folder not in self.names():
            raise NotFound(f'No snapshot "{folder[:150]}" is here, or it gave way to a newer one.')
        if name == MANIFEST_NAME:
            content = self._manifest(local)
            return SnapshotContent(len(content), (each for each in (content,)))
        if name not in snapshots.file_names(local) - {snapshots.MANIFEST_NAME}:  # which has the log's id
            raise NotFound(f'No file "{name[:150]}" is in that snapshot.')
        try:
            return self._opened(local / name)
        except FileNotFoundError as error:
            raise NotFound("The snapshot gave way to a newer one.") from error

    def published(self, local: Path) -> PublishedSnapshot:
        """Return the manifest under which a local snapshot is published.

        Raises:
            NotFound: It is not there any more, or the shared topic has no position at or before it.
        """
        found = dict(snapshots.manifests(self._data.snapshots)).get(local.name)
        position = self._topic_at(LogPosition(0 if found is None else found.log_position))
        if found is None:
            raise NotFound("The snapshot gave way to a newer one.")
        try:
            return published_of(local, self._identity, position, found)
        except FileNotFoundError as error:
            raise NotFound("The snapshot gave way to a newer one.") from error

    @property
    def identity(self) -> LogIdentity:
        """Identity of the log now."""
        return self._identity

    @property
    def _identity(self) -> LogIdentity:
        return open_reader(self._data).identity

    def _manifest(self, local: Path) -> bytes:
        return seal(self.published(local), self._identity)

    def _topic_at(self, log_position: LogPosition) -> TopicPosition | None:
        """Return the place in the shared topic for a snapshot, None = the log is one of files alone."""
        known = read_topic_position(self._data.root / TOPIC_NAME)
        if known is None:
            return None
        found = known.joined_at(log_position)
        if found is None:
            raise NotFound(f"No place in the shared topic is known at or before log position {log_position}.")
        return found

    def _opened(self, path: Path) -> SnapshotContent:
        """Return an open file, counted among the streams.

        Raises:
            Overloaded: As many as may be are there.
        """
        with self._is_counting:
            if len(self._streams) >= STREAMS_MAX:
                raise Overloaded(f"{STREAMS_MAX} files are being sent to other nodes; the next one waits.")
            file = path.open("rb")
            return SnapshotContent(os.fstat(file.fileno()).st_size, SnapshotPieces(file, self._streams))
