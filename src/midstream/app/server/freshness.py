"""Freshness probe of a served folder: one in each process, where the configuration has an interval."""

import socket
from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b

from midstream.app.config.schema import Config
from midstream.app.replicas.node_services import node_name
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance
from midstream.engine.online.freshness_probe import FreshnessProbe, Record
from midstream.events.wire import Accept
from midstream.serving.events.ingest import Ingest, IngestOptions
from midstream.serving.slates.recommendations import recording

_NAME_BYTES = 6


def with_probe(running: Instance, data: DataFolder, config: Config, accept: Callable[[], Accept]) -> Instance:
    """Return an instance with the probe of its configuration as its last service; without an interval, as it was."""
    if not config.probe.every.ms:
        return running
    engine = running.engine
    ingest = Ingest(running.ingest, accept, engine.token, config.server.body_bytes_max)
    probe = FreshnessProbe(
        engine, recording(ingest, IngestOptions(is_probe=True)), config.probe, probe_name(data, config)
    )
    return replace(running, services=(*running.services, probe))


def follower_probe(
    engine: Engine, record: Record, data: DataFolder, config: Config, number: int
) -> list[FreshnessProbe]:
    """Return the probe of a follower, which records at its leader; none without an interval."""
    if not config.probe.every.ms:
        return []
    name = "-".join(filter(None, (probe_name(data, config), f"follower-{number}")))
    return [FreshnessProbe(engine, record, config.probe, name)]


def probe_name(data: DataFolder, config: Config) -> str:
    """Return the name of a server among those of a shared log; empty = the log is its own."""
    if config.log.kind == "segments":
        return ""
    return blake2b(node_name(socket.gethostname(), data.root).encode(), digest_size=_NAME_BYTES).hexdigest()
