"""Join of a node: the sources of its configuration or of a command, tried when its data folder is empty."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from midstream.app.config.schema import Config
from midstream.app.replicas.stores import store_of
from midstream.core.errors import StoreUnavailable
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.replication.joining import Joined, NoSnapshotFits, join
from midstream.engine.replication.snapshot_store import SnapshotStore
from midstream.events.segments.log_identity import LogIdentity
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact, FieldValue


def join_by(data: DataFolder, config: Config, notify: Notify = nobody) -> Callable[[LogIdentity], Joined | None] | None:
    """Return what begins the log of an empty data folder by a snapshot, once the identity of the log is known.

    None = the configuration names no sources.

    Where no source has one that fits, the reasons are logged and the log is left to begin with the topic.

    Args:
        data: Of the node.
        config: Names the sources, the preferred ones first; its fold version has to be the snapshot's.
        notify: Receives the progress.
    """
    sources = config.log.join
    if not sources:
        return None

    def begin(identity: LogIdentity) -> Joined | None:
        settings = msgspec.structs.replace(config.fold_settings(), id_key=identity.id_key)
        stores = list(_stores(sources, identity, data))
        try:
            done = join(data, settings, identity, stores, notify)
        except NoSnapshotFits as error:
            for fault in error.faults:
                log_fact(Fact("no_snapshot_fits", "warning", {"where": fault.where, "reason": fault.came}))
            return None
        for number, reason in enumerate(done.refused):
            log_fact(Fact("snapshot_passed_by", "warning", {"reason": reason}, str(number)))
        fields: dict[str, FieldValue] = {
            "log_position": int(done.log_position),
            "source": done.source,
            "bytes": done.bytes,
        }
        log_fact(Fact("joined", fields=fields))
        return done

    return begin


def _stores(sources: Sequence[str], identity: LogIdentity, data: DataFolder) -> Iterator[SnapshotStore]:
    """Yield the sources that can be asked; one that cannot is logged."""
    for source in sources:
        try:
            yield store_of(source, identity, data.root.parent)
        except StoreUnavailable as error:
            log_fact(Fact("snapshot_passed_by", "warning", {"reason": str(error)}, source))
