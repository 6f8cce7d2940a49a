"""Opening of a data folder: log, newest good snapshot, replay of the rest, and a started engine."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from midstream.app.config.component_constraints import unnamed_faults, unnamed_server_faults
from midstream.app.config.effective import effective
from midstream.app.config.reader import read_config
from midstream.app.config.schema import Config
from midstream.app.config_history import (
    Span,
    differs_at_start,
    is_remembered,
    keep_config,
    keyed,
    remember,
    remembered,
    settings_of,
)
from midstream.app.drift_watch import baseline_of, clock_concern
from midstream.app.encoding.service import text_encoding_of
from midstream.app.fetch_connections import FetchConnections
from midstream.app.folder_owner import one_owner
from midstream.app.golden_files import require_golden
from midstream.app.letter_erasure import forget_in_pieces, forgetting, letters_of
from midstream.app.machine_reading import set_machine
from midstream.app.models_in_service import champions_of
from midstream.app.placement_parts import placement_services
from midstream.app.rejected_rows import remove_left
from midstream.app.replicas.join import join_by
from midstream.app.replicas.node_services import with_replicas
from midstream.app.replicas.shared_log import node_log
from midstream.app.server_address import withdraw
from midstream.app.sinks import sinks_of
from midstream.app.steady_clock import SteadyClock
from midstream.app.wiring import plans, with_any
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.protocols import EventLog
from midstream.core.types import Clock, LogPosition
from midstream.engine.active_config import Service
from midstream.engine.child_process import Notify, nobody
from midstream.engine.engine import Engine, EngineOptions
from midstream.engine.erasure.eraser import Eraser, EraserOptions
from midstream.engine.erasure.log_rewrite import settle
from midstream.engine.experiments.allocating import ExperimentAllocating
from midstream.engine.experiments.canaries import Canaries
from midstream.engine.experiments.watch import ExperimentWatch
from midstream.engine.explain.explainer import Explainer
from midstream.engine.explain.past_features import PastFeatures
from midstream.engine.folder import DataFolder
from midstream.engine.history.sealer import Sealer, SealOptions
from midstream.engine.ingest.event_writer import EventWriter
from midstream.engine.ingest.fold_scheduler import FoldShare
from midstream.engine.ingest.import_runs import close_run
from midstream.engine.ingest.ingest_service import IngestLimits, IngestService
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.ingest.writer import FRAME_EVENTS_MAX, QUEUE_BYTES_MAX, LogWriter
from midstream.engine.instance import Instance, Started, note_start
from midstream.engine.listeners import Listener
from midstream.engine.live import Host
from midstream.engine.log_opening import locked, open_log
from midstream.engine.log_readers import FolderLog, open_reader
from midstream.engine.online.figuring import OnlineFiguring
from midstream.engine.operational_log import OperationalLog
from midstream.engine.rebuild.rebuilder import ConfigStore, Rebuilder
from midstream.engine.recommender import Recommender
from midstream.engine.replication.topic_position import read_topic_position
from midstream.engine.sinks.log_pieces import LogPieces
from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.base_state import newest
from midstream.engine.snapshots.options import SnapshotsSection
from midstream.engine.snapshots.snapshotter import SnapshotOptions, Snapshotter
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Liveness
from midstream.engine.vectors.indexing import VectorIndexing
from midstream.events.disk import Disk, RealDisk
from midstream.events.machine_code.ahead import Manner, compile_ahead
from midstream.events.segments.log_identity import LOG_ID_BYTES, LogIdentity
from midstream.events.segments.segments import SegmentLog
from midstream.events.wire import Accept, Limits
from midstream.monitoring.metrics import Metrics
from midstream.state.control.placements import PlacementVersion
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings
from midstream.state.tables import sizes_max

CONFIG_NAME = "midstream.toml"
DATA_NAME = "data"
_EMBEDDED = Limits(events_max=FRAME_EVENTS_MAX, rows_max=FRAME_EVENTS_MAX, text_bytes_max=QUEUE_BYTES_MAX // 2)
"""Of a program that embeds the engine: one commit's events, and text that finds room beside what waits already."""
FOLD_AT_START_EVENTS = 50_000
"""As many events as a start folds in 0.1 s: less than a child takes to begin."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Time, randomness, disk and threads, as the machine has them; a simulation brings its own."""

    clock: Clock = field(default_factory=lambda: SteadyClock(wall_ms, _since_boot_s))
    monotonic: Callable[[], float] = time.monotonic
    entropy: Callable[[int], bytes] = os.urandom
    disk: Disk = field(default_factory=RealDisk)
    """Makes the file calls of the log."""
    log: Callable[[DataFolder, bytes, int, Disk], SegmentLog] = open_log
    """Opens the log; an import hands over the one that it has open."""
    writer: Callable[..., EventWriter] = LogWriter
    worked_s: Callable[[], float] = time.thread_time
    child_turn: asyncio.Lock | None = None
    """Held while a child works on snapshots or history; several engines of one process share it. None = its own."""
    training_turn: asyncio.Lock | None = None
    """Held while a child trains or measures a model; several engines of one process share it. None = its own."""
    fold_share: FoldShare | None = None
    """Shared by the engines of one event loop, so that all together fold half of the time. None = its own."""


def wall_ms() -> int:
    """Return the machine's time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _since_boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # unlike the monotonic clock it goes on while a machine sleeps


def config_of(folder: Path) -> Config:
    """Return the configuration of a folder's file; without a file the default, unless another one served before.

    Raises:
        ConfigInvalid: Every fault found is named. So is a missing file where ``data`` shows that another configuration
            than the default served last, and a broken link.
    """
    path = folder / CONFIG_NAME
    if os.path.lexists(path):
        return read_config(path)
    data = DataFolder(folder / DATA_NAME)
    if is_remembered(data) and ((before := remembered(data)) is None or before.config != Config()):
        came = "It is not there, and another configuration than the default served this folder."
        right = (
            "The file as it was; an empty one, if every default is meant. A program that brings a configuration of its "
            "own opens the folder with it."
        )
        raise ConfigInvalid((Fault(path.name, came, right, "/docs/configuration.md"),))
    return Config()


def config_to_read(folder: Path) -> Config:
    """Return the configuration for reading a folder: without a file, the one that served last.

    A program that embeds the engine may have brought it. To start an engine use ``config_of``.

    Raises:
        ConfigInvalid: Every fault found is named.
    """
    before = None if os.path.lexists(folder / CONFIG_NAME) else remembered(DataFolder(folder / DATA_NAME))
    return config_of(folder) if before is None else before.config


def config_again(folder: Path, serving: Config) -> Config:
    """Return the configuration of a folder, read again; ``serving`` is that of the last read or of the program.

    A deployment may remove the file, or empty it, before it writes it: neither means the default.

    Raises:
        ConfigInvalid: Every fault found is named; or the file is missing or empty, and ``serving`` is no default.
    """
    path = folder / CONFIG_NAME
    is_empty = path.exists() and path.stat().st_size == 0
    if serving != Config() and (is_empty or not os.path.lexists(path)):
        came = f"It is {'empty' if is_empty else 'not there'}, and the configuration in service is not the default."
        right = "The whole file; a line such as # defaults in it, if every default is meant."
        raise ConfigInvalid((Fault(path.name, came, right, "/docs/configuration.md"),))
    return require_golden(config_of(folder), folder)


def open_running(
    folder: Path,
    config: Config,
    options: EngineOptions | None = None,
    outside: Outside | None = None,
    notify: Notify = nobody,
    *,
    may_serve_before: bool = False,
) -> Instance:
    """Open the data in ``folder`` and bring its state to the log's end; ``start`` the result.

    Cost: the newest snapshot's bytes, then about 2 µs for each event after it.

    Args:
        folder: Of the configuration file and the data.
        config: To be put in service.
        options: Of the engine.
        outside: Time and randomness.
        notify: Receives the progress of the fold.
        may_serve_before: If ``config`` needs another state than a snapshot has, begin with the one before it, if
            that is known and its snapshot near, and swap once the new state is rebuilt; without it that is done here.
            Optional kernels are left to ``CompilationBehind``.

    Raises:
        FolderLocked: Another process has it open.
        LogDamaged: The log cannot be trusted; nothing was changed.
        ConfigInvalid: A custom component cannot be loaded, or there is no memory for the state.
    """
    outside = outside or Outside()
    began = outside.monotonic()
    data = DataFolder(folder / DATA_NAME)
    # A log that was handed over is locked already.
    is_held = config.log.kind == "segments" or outside.log is not open_log
    with nullcontext() if is_held else locked(data, outside.disk):
        shared = node_log(config.log, data, outside.entropy, os.environ, join_by(data, config, notify))
    with ExitStack() as undo:
        if shared is not None:
            undo.callback(shared.shared.topic.close)
            outside = replace(outside, writer=shared.writer)
        new_id = outside.entropy(LOG_ID_BYTES) if shared is None else shared.shared.log_id
        log = outside.log(data, new_id, config.log.segment_bytes_max, outside.disk)
        undo.callback(log.close)
        reader = open_reader(data)
        _tidy(data, log, reader.identity)
        compile_ahead(partial(notify, "compiling"), Manner(leaves_optional=may_serve_before))
        chosen = _chosen(folder, config, reader, log.end, may_serve_before=may_serve_before)
        fold, position = chosen.loaded.fold, chosen.loaded.fold.log_position
        folded = catch_up(fold, log.read, log.end, notify)
        service = (chosen := chosen.with_placements(folder)).service
        options = replace(
            options or EngineOptions(),
            baseline=baseline_of(require_golden(config, folder), folder),
            liveness=Liveness("live", log.public_name, os.getpid()),
        )
        engine = engine_of(log, fold, service, data, options, outside)
        keep_config(data, service.config)
        if position or not log.end:
            _remember(data, service, log)
        torn = "" if log.recovered is None else str(log.recovered)
        instead = "" if chosen.wanted is None else chosen.wanted.config_hash
        seconds = outside.monotonic() - began
        started = Started(position, folded, chosen.loaded.refused, torn, seconds, service.config_hash, instead)
        note_start(engine, started)
        running = _assembled(folder, config, outside, started, engine, chosen)
        running = running if shared is None else shared.joined_to(running)
        running = with_replicas(running, data, config, outside.entropy, os.environ, shared)
        undo.pop_all()
    return running


def engine_of(
    log: EventLog, fold: Fold, service: Service, data: DataFolder, options: EngineOptions, outside: Outside
) -> Engine:
    """Return the engine of a process that has the folder open, or of a follower."""
    ids = RequestIds(data.key(outside.entropy), outside.entropy)
    known = read_topic_position(data.topic_position)
    generation = None if known is None else known.token_generation
    host = Host(outside.clock, outside.monotonic, ids, outside.writer, outside.worked_s, generation, outside.fold_share)
    metrics = Metrics(CollectorRegistry()) if options.forwarding is None else options.forwarding.metrics
    metrics.set_versions(version("midstream"), service.config_hash, service.settings.version())
    options = replace(options, erase_days_max=service.config.users.erase_days_max)
    engine = Engine(log, fold, service.plans, host, metrics, options)
    engine.listeners.add(Listener(name="machine", gauges=partial(set_machine, metrics.machine, data.root)))
    return engine


def _assembled(
    folder: Path, config: Config, outside: Outside, started: Started, engine: Engine, chosen: "_Chosen"
) -> Instance:
    """Return an engine with its background services, none of them started."""
    data, each = DataFolder(folder / DATA_NAME), config.snapshots
    snapshots_as = SnapshotOptions(each.interval.ms, each.keep, each.mode, each.hourly, config.log.kind == "kafka")
    snapshotter = Snapshotter(data, snapshots_as, engine, started.snapshot_position)
    snapshotter.turn = outside.child_turn or snapshotter.turn
    store = _beside(folder, data, each, engine)
    rebuilder = Rebuilder(engine, snapshotter, data, chosen.service, store, chosen.wanted)
    sealer = Sealer(data, SealOptions(config.history.hot.ms, config.history.keep_ms), engine, snapshotter.turn)
    eraser = _eraser(engine, snapshotter, data, config, outside)
    engine.listeners.add(
        Listener(name="clock_leap", concern=partial(clock_concern, outside.clock)),
        Listener(name="snapshots", gauges=snapshotter.set_gauges, concern=snapshotter.age_concern),
        Listener(name="rebuild", gauges=rebuilder.set_gauges, snapshot_written=rebuilder.remember),
        Listener(name="erasures", concern=eraser.age_concern),
    )
    champions = champions_of(engine, data, config)
    champions.begin()
    operational_log = OperationalLog(engine)
    sinks = sinks_of(config, engine, eraser, partial(open_reader, data))
    online = OnlineFiguring(engine, partial(open_reader, data))
    placing, experimenting = placement_services(engine, rebuilder, champions, folder, data)
    watch = ExperimentWatch(engine, experimenting, LogPieces(partial(open_reader, data)))
    return Instance(
        engine,
        snapshotter,
        sealer,
        eraser,
        started,
        _ingest(engine, eraser, data, config, outside),
        rebuilder,
        champions,
        placing,
        experimenting,
        Explainer(engine, folder, snapshotter.turn),
        PastFeatures(engine, folder, snapshotter.turn),
        operational_log,
        services=(
            *(sealer, eraser, rebuilder, operational_log, sinks, VectorIndexing(engine), online, watch),
            *(FetchConnections(engine.plans.values), ExperimentAllocating(engine, experimenting, watch)),
            text_encoding_of(config, engine, data),
        ),
        sinks=sinks,
        online=online,
        watch=watch,
        canaries=Canaries(experimenting, watch),
    )


def _eraser(engine: Engine, snapshotter: Snapshotter, data: DataFolder, config: Config, outside: Outside) -> Eraser:
    """Return the eraser of the log and of files beside it."""
    days_max = config.users.erase_days_max
    options = EraserOptions(config.log.segment_bytes_max, outside.entropy, config.snapshots.keep, days_max)
    eraser = Eraser(engine, snapshotter, data, options)
    eraser.forgets["import_rejected"] = forgetting(data.import_rejected)
    return eraser


def _ingest(engine: Engine, eraser: Eraser, data: DataFolder, config: Config, outside: Outside) -> IngestService:
    """Return the ingest service, with the folder's dead letters."""
    letters = letters_of(data, outside.disk)
    eraser.forgets["dead_letters"] = partial(forget_in_pieces, letters)
    limits = IngestLimits(config.server.commit_wait_max.ms / 1_000, config.server.bulk_decodes_max)
    return IngestService(engine, limits, letters)


def _tidy(data: DataFolder, log: SegmentLog, identity: LogIdentity) -> None:
    """Finish or undo the interrupted work of an earlier process. Hold the lock of the folder."""
    close_run(data, log)
    remove_left(data)
    data.remove_outdated_logs()
    settle(data)
    snapshots.remove_foreign(data.snapshots, identity)
    withdraw(data.root)  # of a server that died: whoever holds the lock serves no HTTP until it says so


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What a start begins with, and what is to be put in its place; None = nothing."""

    service: Service
    loaded: snapshots.FoundSnapshot
    wanted: Service | None

    def with_placements(self, folder: Path) -> "_Chosen":
        """Return it with the placements that the state says were set."""
        said = self.loaded.fold.placements.current
        wanted = None if self.wanted is None else changed(folder, self.wanted, said)
        return replace(self, service=changed(folder, self.service, said), wanted=wanted)


def _chosen(folder: Path, config: Config, log: FolderLog, end: LogPosition, *, may_serve_before: bool) -> _Chosen:
    """Return the configuration to begin with: the wanted one, or the one before while the other's state is far away."""
    data = DataFolder(folder / DATA_NAME)
    wanted = service_of(folder, config, settings_of(data, config))
    loaded = loaded_state(data, wanted.settings, log, end)
    chosen = _Chosen(wanted, loaded, None)
    if not may_serve_before or end - loaded.fold.log_position <= FOLD_AT_START_EVENTS:
        return chosen
    before = remembered(data)
    if before is None or before.settings.version() == wanted.settings.version():
        return chosen
    unnamed = (*unnamed_faults(config, before.config), *unnamed_server_faults(config, before.config))
    if unnamed:  # code that the file of now does not name is not run, and servers are not asked
        return chosen
    try:
        service = service_of(folder, before.config, before.settings)
    except ConfigInvalid:  # a component of one's own that is not there any more
        return chosen
    older = loaded_state(data, before.settings, log, end)
    return _Chosen(service, older, wanted) if older.fold.log_position > loaded.fold.log_position else chosen


def _beside(folder: Path, data: DataFolder, kept: SnapshotsSection, engine: Engine) -> ConfigStore:
    """Return what the rebuilder reads and writes of configurations."""

    def read(now: Service, said: Sequence[PlacementVersion]) -> Service:
        config = config_again(folder, now.file)
        return changed(folder, service_of(folder, config, keyed(data, config.fold_settings())), said)

    return ConfigStore(
        read=read,
        write=lambda service: keep_config(data, service.config),
        differs_at_start=lambda running, wanted: differs_at_start(running.config, wanted.config),
        remember=lambda service: _remember(data, service, engine.log),
        keep=kept.keep,
        hourly=kept.hourly,
    )


def service_of(folder: Path, config: Config, settings: FoldSettings) -> Service:
    """Return a configuration with its plans.

    Raises:
        ConfigInvalid: A custom component cannot be loaded.
    """
    made = Service(
        config,
        config.config_hash,
        settings,
        with_any(config, plans(config, folder, settings=settings)),
        accept_of(config),
        config,
    )
    return made.under(settings)


def changed(folder: Path, service: Service, said: Sequence[PlacementVersion]) -> Service:
    """Return a file's configuration with the placements that were set through the API, and its plans.

    Args:
        folder: Of the file.
        service: Of the file alone.
        said: Current content of each set placement; an empty one means the file's.

    Raises:
        ConfigInvalid: A custom component cannot be loaded any more.
    """
    contents = [(each.name, each.content) for each in said if each.content]
    if not contents:
        return service
    found = effective(service.file, contents, lambda config: service_of(folder, config, service.settings))
    return replace(found.made, file=service.file, aside=found.aside)


def _remember(data: DataFolder, service: Service, log: EventLog) -> None:
    """Store the configuration in service, and keep those that records of the log may name."""
    begin = log.begin if isinstance(log, SegmentLog) else LogPosition(0)
    remember(data, service.file, service.settings, Span(begin, log.end), service.config)


def loaded_state(data: DataFolder, settings: FoldSettings, log: FolderLog, end: LogPosition) -> snapshots.FoundSnapshot:
    """Return the state from the newest good snapshot before a log position, that of the log's beginning without one.

    Raises:
        ConfigInvalid: There is no memory for tables of these maxima: the process may use less than the machine has.
    """
    try:
        return newest(data, settings, log, end)
    except MemoryError as error:
        came = f"Tables of {sum(sizes_max(settings).values()) >> 20:,} MiB at these maxima could not be reserved."
        right = "Lower the maxima, or let the process use more memory."
        raise ConfigInvalid((Fault("$.limits", came, right, "/docs/configuration.md"),)) from error


def open_shop(folder: str | Path, config: Config | None = None) -> Recommender:
    """Open a folder for a program that embeds the engine; use the result in a ``with`` block.

    Args:
        folder: Holds ``midstream.toml`` (without one, every default) and ``data``; made if it does not exist.
        config: Instead of the file.

    Raises:
        ConfigInvalid: The configuration cannot be used; every fault is named.
        FolderLocked: Another process has it open.
        LogDamaged: The log cannot be trusted; nothing was changed.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    with one_owner():
        running = open_running(root, config or config_of(root))
    return Recommender(running, lambda: msgspec.structs.replace(running.service.accept, now_ms=running.engine.clock()))


def accept_of(config: Config, limits: Limits | None = None, *, trusted: bool = False) -> Accept:
    """Return the terms on which events are taken; ``now_ms`` is 0 until a caller sets it.

    Args:
        config: Names the interactions and the item attributes.
        limits: Without them those of a program that embeds the engine, which sends as much as fits into a commit.
        trusted: Take the kinds that only the engine writes, and log times: an import of an export.
    """
    return Accept(
        actions=frozenset(config.events.types),
        now_ms=0,
        limits=limits or _EMBEDDED,
        attributes=config.items.attributes,
        against=frozenset(name for name, each in config.events.types.items() if each.weight < 0),
        trusted=trusted,
    )
