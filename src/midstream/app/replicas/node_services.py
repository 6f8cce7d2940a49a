"""Services of a node of a shared log beside its engine: ready gate, heartbeats, published snapshots."""

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.replicas.nodes import board_of
from midstream.app.replicas.shared_log import NodeLog
from midstream.app.server_address import read_address
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.instance import EngineService, Instance
from midstream.engine.listeners import Listener
from midstream.engine.log_readers import open_reader
from midstream.engine.replication.lease_keeper import LeaseKeeper, LeaseNames
from midstream.engine.replication.node_reporter import NodeFacts, NodeReporter
from midstream.engine.replication.ready_gate import ReadyGate
from midstream.engine.replication.snapshot_publisher import PublishOptions, SnapshotPublisher
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.base_state import base_snapshots

_NAME_BYTES = 6


def with_replicas(
    running: Instance,
    data: DataFolder,
    config: Config,
    entropy: Callable[[int], bytes],
    environ: Mapping[str, str],
    shared: NodeLog | None,
) -> Instance:
    """Return an instance with what a configuration asks for between nodes; without any of it, as it was.

    Args:
        running: Not started.
        data: Of the node.
        config: Of the node.
        entropy: Names uploads of snapshots.
        environ: Has passwords.
        shared: The shared log; None = the log is the node's own.
    """
    services: list[EngineService] = []
    leases: LeaseKeeper | None = None
    engine, kept = running.engine, config.snapshots
    if kept.publish:
        mine = blake2b(node_name(socket.gethostname(), data.root).encode(), digest_size=_NAME_BYTES).hexdigest()
        options = PublishOptions(kept.publish, kept.publish_keep, mine)
        services.append(SnapshotPublisher(engine, data, options, entropy))
    if shared is not None:
        leases = _leases(running, data, shared)
        gate = ReadyGate(shared, engine.clock)
        engine.listeners.add(Listener(name="ready_gate", concern=gate.concern, wait=gate.wait))
        services.append(NodeReporter(engine, data, board_of(config, environ), _facts(engine, data, shared, gate)))
    first: Sequence[EngineService] = () if leases is None else (leases,)
    return replace(running, services=(*first, *running.services, *services), leases=leases)


def _leases(running: Instance, data: DataFolder, shared: NodeLog) -> LeaseKeeper | None:
    """Return the keeper of the leases of a node, which its sinks have."""
    writer, engine = running.shared_log, running.engine
    if writer is None:
        return None
    key, process = writer.name
    names = LeaseNames(key, process, node_name(socket.gethostname(), data.root))
    keeper = LeaseKeeper(writer, names, engine.host.monotonic, engine.supervise)
    topic = shared.shared.topic.name
    engine.listeners.add(Listener(name="leases", gauges=lambda: engine.metrics.set_leases(topic, keeper.held_count)))
    if running.sinks is not None:
        running.sinks.share(keeper.lease)
    if running.watch is not None:
        running.watch.share(keeper.lease)
    return keeper


def _facts(engine: Engine, data: DataFolder, shared: NodeLog, gate: ReadyGate) -> NodeFacts:
    def url() -> str:
        address = read_address(data.root)
        return "" if address is None else address.url

    return NodeFacts(
        node=node_name(socket.gethostname(), data.root),
        log=open_reader(data).identity.public_name,
        release=version("midstream"),
        since_ms=engine.clock(),
        url=url,
        lag_ms=lambda: shared.lag_ms,
        unreachable_since_ms=lambda: gate.unreachable_since_ms,
        counts_from=lambda: counts_from(data, engine.fold.settings.version()),
    )


def node_name(host: str, root: Path) -> str:
    """Return the stable name of a node: its machine, and a hash of the place of its data there."""
    place = blake2b(str(root.resolve()).encode(), digest_size=_NAME_BYTES).hexdigest()
    return f"{host[:64]}-{place}"


def counts_from(data: DataFolder, fold_version: str) -> int:
    """Return the log position at which counts of a fold version begin on this node: 0, unless its log lacks events.

    A base that has a snapshot of the version has the counts of what lies before it.
    """
    reader = open_reader(data)
    if reader.begin == 0:
        return 0
    known = snapshots.names(base_snapshots(reader.folder, reader.begin))
    return 0 if any(snapshots.version_of(name) == fold_version for name in known) else int(reader.begin)
