"""Snapshot stores by their addresses: a peer's URL, a folder, or an address of an object storage."""

from pathlib import Path

from midstream.app.replicas.peer_store import PeerStore
from midstream.engine.replication.published_snapshots import peer_key
from midstream.engine.replication.snapshot_store import FolderStore, SnapshotStore
from midstream.events.segments.log_identity import LogIdentity

_PEER = ("http://", "https://")
_FILE = "file://"


def is_peer(address: str) -> bool:
    """Return whether an address is that of another node."""
    return address.startswith(_PEER)


def store_of(address: str, identity: LogIdentity, here: Path) -> SnapshotStore:
    """Return the store at an address.

    Args:
        address: ``http://…`` of a peer, a folder, ``file://…``, or what ``fsspec`` reads.
        identity: Of the shop's log: peers are asked with a key that follows from it.
        here: Folder at which relative paths begin.

    Raises:
        ExtraMissing: A package for that storage is not installed.
        Invalid: There is no such storage.
    """
    if is_peer(address):
        return PeerStore(address, peer_key(identity))
    if address.startswith(_FILE):
        return FolderStore(Path(address.removeprefix(_FILE)))
    if "://" in address:
        from midstream.integrations.object_storage import ObjectStorage

        return ObjectStorage(address)
    return FolderStore(here / address)
