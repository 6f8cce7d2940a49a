"""Child process that publishes one snapshot, and removes those that gave way to newer ones.

The files are linked into a folder of the child first, so that retention may remove the snapshot meanwhile.
"""

import os
import shutil
from pathlib import Path

import msgspec

from midstream.app.replicas.stores import store_of
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.child_process import Pace
from midstream.engine.erasure.log_rewrite import Receipt
from midstream.engine.folder import DataFolder
from midstream.engine.replication import published_snapshots
from midstream.engine.replication.snapshot_publisher import PublishOrder, PublishReport
from midstream.engine.replication.snapshot_shelf import SnapshotShelf

_WORK = ".publishing"


def run(order: PublishOrder, pace: Pace) -> PublishReport:
    """Publish the snapshot that was ordered.

    Raises:
        NotFound: Retention removed it.
        StoreUnavailable: The store takes no files now.
        ExtraMissing: A package for the store is not installed.
        OSError: The disk of this node.
    """
    data = DataFolder(Path(order.folder))
    shelf = SnapshotShelf(data)
    local = data.snapshots / order.snapshot
    manifest = shelf.published(local)
    work = data.root / _WORK
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(local, work, copy_function=os.link)
    try:
        store = store_of(order.address, shelf.identity, data.root.parent)
        upload = f"{order.node}-{order.upload}" if order.node else order.upload
        since = _erased_until(data)
        # Before it too: where uploads break off again and again, the place does not fill with what they left.
        left = published_snapshots.remove_left(store, shelf.identity, order.node) if order.node else ()
        pruned = published_snapshots.prune(store, order.keep, shelf.identity, since)
        pace.say("publishing", 0, manifest.bytes)
        name = published_snapshots.publish(store, work, manifest, shelf.identity, upload, pace.say)
        removed = (*left, *pruned, *published_snapshots.prune(store, order.keep, shelf.identity, since))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return PublishReport(name, manifest.bytes, removed)


def _erased_until(data: DataFolder) -> LogPosition:
    """Return the log position behind the last erasure that this node carried out: older states may have the user."""
    found = [0]
    for path in data.receipts.glob("*.json"):
        try:
            receipt = msgspec.json.decode(path.read_bytes(), type=Receipt)
        except (OSError, msgspec.MsgspecError):
            continue
        found += [position + 1 for position in receipt.erasures]
    return LogPosition(max(found))


if __name__ == "__main__":
    child_process.main(PublishOrder, run)
