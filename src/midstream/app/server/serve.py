"""Server of a data folder: opened before the port is bound, closed after the last answer was sent."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME
from midstream.app.server.keys import watch_keys
from midstream.app.server.leader import Followers
from midstream.app.server.opened_engine import open_with_groups, opened_engine
from midstream.app.server_address import Address, publish, withdraw
from midstream.core.errors import MidstreamError
from midstream.core.tracebacks import raised_of
from midstream.core.types import LogPosition
from midstream.engine.child_process import Notify, nobody
from midstream.engine.folder import DataFolder
from midstream.engine.instance import Instance, Started
from midstream.engine.snapshots import snapshots
from midstream.events.segments.segments import SegmentLog
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact, FieldValue
from midstream.serving.operation import OtherProcesses
from midstream.serving.options import ServerOptions
from midstream.serving.run import FollowerGroup, OpenedEngine, StopSignals, serve


@dataclass(frozen=True, slots=True)
class Ready:
    """State of a server that accepts requests."""

    url: str
    log_position: LogPosition
    started: Started
    placements: tuple[str, ...]
    item_id: str | None
    """A known item for an example request, None = there is none."""
    config: Config
    """In service."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """State after a stop."""

    log_position: LogPosition
    recorded: int
    """Events that the log has gained, served records included."""
    snapshot_position: LogPosition
    """Log position of the newest snapshot; 0 = there is none."""
    mismatch: str
    """How the last snapshot differed from the live state; empty as it should be."""
    flaw: str
    """Why the next start may not find all that was acknowledged; empty as it should be."""


@dataclass(frozen=True, slots=True, eq=False)
class _Course:
    """What became of a server: one instance, once it is open, and what that left behind."""

    opened: list[Instance] = field(default_factory=list[Instance])
    stopped: list[Stopped] = field(default_factory=list[Stopped])


def serve_folder(
    folder: Path, config: Config, options: ServerOptions, on_ready: Callable[[Ready], None], notify: Notify = nobody
) -> Stopped | None:
    """Serve a folder until a signal requests a stop; return the state after it, None if it came at the start.

    Args:
        folder: Its data is served; made if it does not exist.
        config: Of that folder.
        options: Address, sizes, waits.
        on_ready: Called once requests are accepted.
        notify: Receives the progress of the fold before.

    Raises:
        FolderLocked: Another process has the folder open.
        ConfigInvalid: The host can be reached from outside and nothing protects the server, or the port is invalid.
        AddressUnavailable: The address cannot be bound.
    """
    log_fact(Fact("starting", fields={"version": version("midstream"), "folder": str(folder.resolve())}))
    data = DataFolder(folder / DATA_NAME)
    course = _Course()

    def ready(url: str) -> None:
        running = course.opened[0]
        live = running.engine.liveness
        publish(data.root, Address(url, live.log, live.pid))
        running.engine.facts.note(Fact("started", fields=_start_fields(url, folder, running)))
        on_ready(_ready(url, running))

    try:
        keys = watch_keys(data, identity=config.identity)

        def company_of(running: Instance) -> FollowerGroup:
            return _company(Followers(running, folder, options, lambda: keys.asks))

        follow = company_of if options.followers else None
        serve(lambda signals: _opening(folder, config, follow, signals, course, notify), options, ready, keys)
    except (MidstreamError, OSError) as error:
        log_fact(Fact("ended_by_error", "error", raised=raised_of(error), detail=str(error)))
        raise
    if not course.stopped:
        log_fact(Fact("stopped", fields={"recorded": 0}))
        return None
    return course.stopped[0]


def _opening(
    folder: Path,
    config: Config,
    follow: Callable[[Instance], FollowerGroup] | None,
    signals: StopSignals,
    course: _Course,
    notify: Notify,
) -> AbstractAsyncContextManager[OpenedEngine]:
    @asynccontextmanager
    async def opening() -> AsyncGenerator[OpenedEngine]:
        data = DataFolder(folder / DATA_NAME)
        with signals.at_start():
            running, inputs, outputs = open_with_groups(folder, config, notify)
        began = running.engine.log.end
        await running.start()
        course.opened.append(running)
        try:
            company = None if follow is None else follow(running)
            yield opened_engine(folder, running, inputs, outputs, company)
        finally:
            withdraw(data.root)  # while the lock is held: after that it may be another server's
            asked = time.monotonic()
            await running.stop()
            course.stopped.append(_stopped(running, data, began))
            _log_stop(course.stopped[0], time.monotonic() - asked)

    return opening()


def _start_fields(url: str, folder: Path, running: Instance) -> dict[str, FieldValue]:
    """Return what the log of the process says of a server that takes requests."""
    engine = running.engine
    return {
        "version": version("midstream"),
        "url": url,
        "folder": str(folder.resolve()),
        "log_position": engine.log.end,
        "generation": engine.log.generation,
        "config_hash": running.service.config_hash,
        "fold_version": running.service.settings.version(),
        "pid": engine.liveness.pid,
    }


def _company(followers: Followers) -> FollowerGroup:
    return FollowerGroup(OtherProcesses(metrics_text=followers.metrics_text), followers.joining)


def _log_stop(stopped: Stopped, seconds: float) -> None:
    """Write the last line of a server into the log of the process."""
    fields: dict[str, FieldValue] = {
        "log_position": stopped.log_position,
        "recorded": stopped.recorded,
        "snapshot": stopped.snapshot_position,
        "seconds": round(seconds, 1),
    }
    if stopped.mismatch:
        log_fact(Fact("snapshot_differs", "error", {"reason": stopped.mismatch}))
    if stopped.flaw:
        log_fact(Fact("log_incomplete", "error", {"reason": stopped.flaw}))
    log_fact(Fact("stopped", fields=fields))


def _ready(url: str, running: Instance) -> Ready:
    fold = running.engine.fold
    item_id = fold.vocabulary.item_id(0) if fold.vocabulary.item_count else None
    placements = tuple(running.engine.plans)
    return Ready(url, running.engine.log.end, running.started, placements, item_id, running.service.config)


def _stopped(running: Instance, data: DataFolder, began: LogPosition) -> Stopped:
    version = running.engine.fold.settings.version()  # one of another configuration helps no start
    newest = [each for each in snapshots.names(data.snapshots) if snapshots.version_of(each) == version][:1]
    position = snapshots.position_of(newest[0]) if newest else LogPosition(0)
    end = running.engine.fold.log_position
    mismatch = running.snapshotter.mismatch if running.snapshotter is not None else ""
    log = running.engine.log
    return Stopped(end, end - began, position, mismatch, log.flaw if isinstance(log, SegmentLog) else "")
