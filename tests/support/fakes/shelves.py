"""Snapshots of a server that nodes join by: one with a file, given to nodes that have the key of the docs."""

from midstream.core.errors import NotFound
from midstream.engine.replication.snapshot_shelf import SnapshotContent
from midstream.engine.replication.snapshot_store import PeerUnknown

PEER_KEY = "0123456789abcdef"
SNAPSHOT = "00000000000000000100-v1-own"


class FakeShelf:
    """The routes' side of a ``SnapshotShelf``."""

    def require_peer(self, authorization: str) -> None:
        """Refuse others."""
        if authorization != f"Bearer {PEER_KEY}":
            raise PeerUnknown("This is for nodes of the same shop, which have its key.")

    def names(self) -> list[str]:
        """Return the one."""
        return [SNAPSHOT]

    def content(self, folder: str, name: str) -> SnapshotContent:
        """Return the content of its manifest."""
        if (folder, name) != (SNAPSHOT, "published.json"):
            raise NotFound("It is not there.")
        return SnapshotContent(2, iter([b"{}"]))
