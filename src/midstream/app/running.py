"""Opens a data folder: the log, the newest good snapshot, the rest of the log, the engine that goes on from there."""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry

from midstream.app.config import Config
from midstream.app.reading import read_config
from midstream.app.server_address import withdraw
from midstream.app.wiring import plans
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.types import Clock, LogPosition, TimestampMs
from midstream.engine import snapshots
from midstream.engine.engine import ANY_PLACEMENT, Engine, EngineOptions, Host
from midstream.engine.folder import DataFolder, open_log
from midstream.engine.replay import catch_up
from midstream.engine.running import Running, Started
from midstream.engine.shop import Shop
from midstream.engine.snapshotter import SnapshotOptions, Snapshotter
from midstream.engine.tokens import RequestIds
from midstream.engine.writer import FRAME_EVENTS_MAX, QUEUE_BYTES_MAX
from midstream.events.log_identity import LOG_ID_BYTES, LogIdentity, identity_of
from midstream.events.wire import Accept, Limits
from midstream.monitoring.metrics import Metrics
from midstream.ranking.plan import Plan
from midstream.state.sizes import sizes_max

CONFIG_NAME = "midstream.toml"
DATA_NAME = "data"
_EMBEDDED = Limits(events_max=FRAME_EVENTS_MAX, rows_max=FRAME_EVENTS_MAX, text_bytes_max=QUEUE_BYTES_MAX // 2)
"""Of a program that embeds the engine: one commit's events, and text that finds room beside what waits already."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Time and randomness, as the machine has them; a simulation brings its own."""

    clock: Clock = lambda: TimestampMs(time.time_ns() // 1_000_000)
    monotonic: Callable[[], float] = time.monotonic
    entropy: Callable[[int], bytes] = os.urandom


def config_of(folder: Path) -> Config:
    """Return the configuration of a folder; one without a file has the default.

    Raises:
        ConfigInvalid: Every fault found is named.
    """
    path = folder / CONFIG_NAME
    return read_config(path) if path.exists() else Config()


def open_running(
    folder: Path,
    config: Config,
    options: EngineOptions | None = None,
    outside: Outside | None = None,
) -> Running:
    """Open the data in ``folder`` and bring its state to the log's end; ``start`` what is returned.

    Cost: the newest snapshot's bytes, then about 2 µs for each event after it.

    Raises:
        FolderLocked: Another process has it open.
        LogDamaged: The log cannot be trusted; nothing was changed.
        ConfigInvalid: A component of one's own cannot be loaded, or there is no memory for the state.
    """
    outside = outside or Outside()
    began = outside.monotonic()
    data = DataFolder(folder / DATA_NAME)
    log = open_log(data, outside.entropy(LOG_ID_BYTES), config.log.segment_bytes_max)
    with ExitStack() as undo:
        undo.callback(log.close)
        data.remove_outdated_logs()
        withdraw(data.root)  # of a server that died: whoever holds the lock serves no HTTP until it says so
        identity = identity_of(bytes.fromhex(log.log_id), log.generation)
        loaded = loaded_state(data, config, identity, log.end)
        position = loaded.fold.log_position
        folded = catch_up(loaded.fold, log.read, log.end)
        host = Host(outside.clock, outside.monotonic, RequestIds(data.key(outside.entropy), outside.entropy))
        metrics = Metrics(CollectorRegistry())
        metrics.set_versions(version("midstream"), config.config_hash, config.fold_settings().version())
        engine = Engine(log, loaded.fold, _answering(config, folder), host, metrics, options)
        undo.pop_all()
    each = config.snapshots
    snapshotter = Snapshotter(data, SnapshotOptions(each.interval.ms, each.keep, each.mode), engine, position)
    torn = "" if log.recovered is None else str(log.recovered)
    return Running(engine, snapshotter, Started(position, folded, loaded.refused, torn, outside.monotonic() - began))


def loaded_state(data: DataFolder, config: Config, identity: LogIdentity, end: LogPosition) -> snapshots.Loaded:
    """Return the state from the newest good snapshot, an empty one when there is none.

    Raises:
        ConfigInvalid: There is no memory for tables of these maxima: the process may use less than the machine has.
    """
    settings = config.fold_settings()
    try:
        return snapshots.load_newest(data.snapshots, settings, identity, end)
    except MemoryError as error:
        came = f"Tables of {sum(sizes_max(settings).values()) >> 20:,} MiB at these maxima could not be reserved."
        right = "Lower the maxima, or let the process use more memory."
        raise ConfigInvalid((Fault("$.limits", came, right, "docs/configuration.md"),)) from error


def _answering(config: Config, folder: Path) -> dict[str, Plan]:
    """Return the plans; while no placement is configured the default one answers under any name."""
    found = plans(config, folder)
    if config.placements == Config().placements:
        found[ANY_PLACEMENT] = found[config.placements[0].name]
    return found


def open_shop(folder: str | Path, config: Config | None = None) -> Shop:
    """Open a folder for a program that embeds the engine; use what is returned in a ``with`` block.

    Args:
        folder: Holds ``midstream.toml`` (without one, every default) and ``data``; made if it is not there.
        config: Instead of the file.

    Raises:
        ConfigInvalid: The configuration cannot be used; every fault is named.
        FolderLocked: Another process has it open.
        LogDamaged: The log cannot be trusted; nothing was changed.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    used = config or config_of(root)
    accept = accept_of(used)
    return Shop(open_running(root, used), lambda: msgspec.structs.replace(accept, now_ms=Outside().clock()))


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
        trusted=trusted,
    )
