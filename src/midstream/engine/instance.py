"""Engine instance: one open data folder, and the services that run beside its engine, in the order of their start."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol, Self

from midstream.core.errors import AppendFailed
from midstream.core.types import LogPosition
from midstream.engine.active_config import Configuration, Service
from midstream.engine.engine import Engine
from midstream.engine.erasure.eraser import Eraser
from midstream.engine.experiments.canaries import Canaries
from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.experiments.watch import ExperimentWatch
from midstream.engine.explain.explainer import Explainer
from midstream.engine.explain.past_features import PastFeatures
from midstream.engine.history.sealer import Sealer
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.models.champions import Champions
from midstream.engine.online.figuring import OnlineFiguring
from midstream.engine.operational_log import OperationalLog
from midstream.engine.placements.placing import Placing
from midstream.engine.rebuild.rebuilder import Rebuilder
from midstream.engine.replication.lease_keeper import LeaseKeeper
from midstream.engine.replication.replicated_writer import ReplicatedWriter
from midstream.engine.sinks.sink_group import SinkGroup
from midstream.engine.snapshots.snapshotter import Snapshotter
from midstream.engine.trainings.training_loop import TrainingLoop
from midstream.events.segments.segments import SegmentLog
from midstream.monitoring.facts import Fact
from midstream.monitoring.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Started:
    """Result of a start."""

    snapshot_position: LogPosition
    """Log position of the snapshot that was restored; 0 = none, the fold began at the beginning."""
    folded: int
    """Events folded from the log after it."""
    refused_snapshots: tuple[str, ...]
    torn_tail: str
    """Remains of an interrupted write at the log's end, which were dropped; empty = none."""
    seconds: float
    config_hash: str = ""
    """Of the configuration that serves."""
    instead_of: str = ""
    """Fold version of the configured state, which is still being built; empty when it serves."""


class EngineService(Protocol):
    """A service that runs beside an engine: started after the engine on its event loop, stopped before it."""

    def start(self) -> None:
        """Begin on the running event loop."""

    async def stop(self) -> None:
        """End running work; the next start continues it."""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """One open data folder."""

    engine: Engine
    snapshotter: Snapshotter | None
    """None when the log is in memory."""
    sealer: Sealer | None
    """As the snapshotter."""
    eraser: Eraser | None
    """As the snapshotter."""
    started: Started
    ingest: IngestService
    """Takes events of clients."""
    rebuilder: Rebuilder
    champions: Champions
    placing: Placing
    experimenting: Experimenting
    explainer: Explainer | None = None
    """As the snapshotter."""
    past: PastFeatures | None = None
    """As the explainer."""
    operational_log: OperationalLog | None = None
    """Observer that writes the operational log."""
    sinks: SinkGroup | None = None
    """As the snapshotter; one of ``services``."""
    online: OnlineFiguring | None = None
    """As the snapshotter; one of ``services``."""
    services: tuple[EngineService, ...] = ()
    """In the order of their start; they stop in the reverse order."""
    shared_log: ReplicatedWriter | None = None
    """Writer of a log that several nodes share, with its lag and connection; None = the log is this node's own."""
    leases: LeaseKeeper | None = None
    """Of a log that several nodes share; one of ``services``."""
    trainings: TrainingLoop | None = None
    """One of ``services``; None = this process trains nothing by itself."""
    watch: ExperimentWatch | None = None
    """Of running experiments, as the snapshotter; one of ``services``."""
    canaries: Canaries | None = None
    """As the watch."""
    tracing: Tracing | None = None
    """Traces of requests, whose exporter is one of ``services``; None = there are none."""

    @property
    def service(self) -> Service:
        """Configuration and plans in service; read it anew at each use."""
        return self.rebuilder.service

    @property
    def config(self) -> Configuration:
        """The configuration in service now."""
        return self.service.config

    async def __aenter__(self) -> Self:
        """Start; see ``start``."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; see ``stop``."""
        await self.stop()

    async def start(self) -> None:
        """Begin to take turns and to write snapshots on the running event loop; let go of the folder if that fails."""
        with ExitStack() as undo:
            undo.callback(self.abandon)
            await self.engine.start()
            if self.snapshotter is not None:
                self.snapshotter.start()
            for service in self.services:
                service.start()
            undo.pop_all()

    def abandon(self) -> None:
        """Release the folder, and the connection of a shared log, of an instance that was not started."""
        self.ingest.close()
        self.engine.log.close()
        if self.shared_log is not None:
            self.shared_log.close()

    async def stop(self) -> None:
        """Acknowledge accepted events, write the last snapshot, release the log and the folder."""
        try:
            for service in reversed(self.services):
                await service.stop()
            if self.explainer is not None:
                await self.explainer.stop()
            if self.past is not None:
                await self.past.stop()
            await self.engine.stop()
            self._look_at_log()
            if self.snapshotter is not None:
                await self.snapshotter.stop()
        finally:
            self.ingest.close()
            self.engine.log.close()
            if self.operational_log is not None:
                self.operational_log.write_all()

    def _look_at_log(self) -> None:
        """See whether the log still has its place, where no event came since it lost it."""
        log = self.engine.log
        if isinstance(log, SegmentLog):
            with suppress(AppendFailed):  # ``flaw`` keeps it, for whoever tells how this process ended
                log.require_in_place()


def note_start(engine: Engine, started: Started) -> None:
    """Log the result of a start."""
    if started.torn_tail:
        engine.facts.note(Fact("torn_tail_dropped", "warning", {"what": started.torn_tail}))
    for number, reason in enumerate(started.refused_snapshots):
        engine.facts.note(Fact("snapshot_passed_by", "warning", {"reason": reason}, str(number)))
    if started.instead_of:
        fields = {"config_hash": started.config_hash, "asked_for": started.instead_of}
        engine.facts.note(Fact("configuration_waits", "warning", fields))
    recovery = {
        "log_position": engine.log.end,
        "snapshot": started.snapshot_position,
        "folded": started.folded,
        "seconds": round(started.seconds, 1),
    }
    engine.facts.note(Fact("recovered", fields=recovery))
