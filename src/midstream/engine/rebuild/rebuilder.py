"""Rebuild and swap: puts another configuration in service while events and requests go on.

A child process folds the log under the new settings into a snapshot. A thread restores it beside the state in service
and folds most of the later events. The owner's turns fold the rest, and between two of them state, plans and decoding
settings are replaced together. Before that turn no answer and no event is affected, so a failed rebuild (a killed
child, a full disk, a configuration that cannot be loaded) leaves the old state in service.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from midstream.core.errors import ConfigInvalid, Fault, MidstreamError, RebuildFailed, RebuildRunning
from midstream.core.protocols import LogReader
from midstream.core.tracebacks import raised_of
from midstream.core.types import LogPosition, Models
from midstream.engine import child_process
from midstream.engine.active_config import Service
from midstream.engine.answer.warmup import WarmupResult, warm_up
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.log_reader import batches
from midstream.engine.log_readers import open_reader
from midstream.engine.snapshots import compactions, snapshots
from midstream.engine.snapshots.retention import NONE, Hourly
from midstream.engine.snapshots.snapshotter import CHILD, Snapshotter
from midstream.engine.snapshots.worker import STEP_EVENTS, SnapshotOrder, SnapshotReport
from midstream.engine.types import Change, RebuildState, RebuildView
from midstream.events.schema import cut
from midstream.monitoring.facts import MINUTE_S, Fact, FieldValue, Level
from midstream.ranking.plan import Plan
from midstream.state.control.placements import PlacementVersion
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, decode_settings, encode_settings

NEAR_EVENTS = 10_000
"""So near to the state in service the owner's turns do the rest: five of them, 10 ms."""
ROUNDS_MAX = 20
"""Rounds of the thread that folds later events; each leaves those that arrived during it, half as many or fewer."""
CONCERN = "rebuild"
FILE_CONCERN = "file"
PLACEMENTS_CONCERN = "placements"


@dataclass(frozen=True, slots=True)
class ConfigStore:
    """Reading and writing of configurations, which only ``app`` implements."""

    read: Callable[[Service, Sequence[PlacementVersion]], Service]
    """Reads the configuration file and wires it, with the placements set through the API instead of those of their
    name. Raises ``ConfigInvalid``, every fault named; also where the file is gone, and the configuration in service,
    the first argument, is no default."""
    write: Callable[[Service], None]
    """Writes a configuration down, so that records which name it find it. Raises ``OSError``."""
    differs_at_start: Callable[[Service, Service], tuple[str, ...]]
    """Returns the changed sections of the second one that are read at a start only."""
    remember: Callable[[Service], None]
    """Keeps which configuration is in service, for the next start."""
    keep: int
    """Number of snapshots of each fold version that are kept."""
    hourly: Hourly = NONE
    """Which stay beside those, for explanations."""


class Rebuilder:
    """Configuration in service, and the one rebuild at a time that replaces it."""

    def __init__(
        self,
        engine: Engine,
        snapshotter: Snapshotter,
        folder: DataFolder,
        service: Service,
        beside: ConfigStore,
        due: Service | None = None,
    ) -> None:
        """Begin with the configuration that ``engine`` was made of; rebuild for ``due`` at the start, None = not."""
        self.service = service
        """What is in service beside the state. Take it anew at each use."""
        self._engine = engine
        self._snapshotter = snapshotter
        self._folder = folder
        self._beside = beside
        self._view = RebuildView()
        self._wanted = service
        self._due = due
        self._task: asyncio.Task[None] | None = None
        self._is_changing = False
        self._said_s = self._began_s = 0.0
        """Monotonic time at which the log of the process was told of progress, and at which the last one began."""
        self._is_stopping = threading.Event()
        self._tell_aside()

    def view(self) -> RebuildView:
        """Return the progress."""
        now, wanted = self.service, self._wanted
        is_other = self._view.state != "idle"
        return replace(
            self._view,
            fold_version=now.settings.version(),
            config_hash=now.config_hash,
            to_fold_version=wanted.settings.version() if is_other else "",
            to_config_hash=wanted.config_hash if is_other else "",
        )

    async def order(self, *, compact: bool = False) -> RebuildView:
        """Read the configuration again and put it in service: plans at once, another state by a rebuild.

        Args:
            compact: Make the state anew in any case, without the slots of items that are gone.

        Raises:
            ConfigInvalid: The file cannot be used; every fault is named, and nothing was changed.
            RebuildRunning: One is under way.
        """
        with self.alone(), self._refusals():
            said = tuple(self._engine.fold.placements.current)
            wanted = await asyncio.to_thread(self._beside.read, self.service, said)
            _require_held(self.service, wanted)
            compaction = self.service.settings.compaction
            wanted = wanted.under(msgspec.structs.replace(wanted.settings, compaction=compaction))
            at_start = self._beside.differs_at_start(self.service, wanted)
            change = self._change(wanted, compact=compact)
            if change == "plans":
                await self.serve_plans(wanted, tuple(wanted.plans.values()))
            elif change == "nothing":  # of a placement that was set through the API the file may say something else
                self.service = replace(self.service, file=wanted.file)
        self._engine.concerns.pop(FILE_CONCERN, None)
        self._view = replace(self._view, change=change, at_start=at_start)
        self._note("configuration_read", {"change": change, "at_start": " ".join(at_start)})
        if change == "state":
            self.begin(wanted, compact=compact)
        return self.view()

    @contextmanager
    def _refusals(self) -> Generator[None]:
        """Log why the file was refused: its faults, without its values."""
        try:
            yield
        except ConfigInvalid as error:
            first = error.faults[0]
            fields: dict[str, FieldValue] = {
                "where": first.where,
                "right": first.right,
                "page": first.page,
                "faults": len(error.faults),
            }
            self._engine.facts.note(Fact("configuration_refused", "error", fields, detail=str(error)))
            raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
            self._engine.facts.note(Fact("configuration_refused", "error", {"reason": reason}, detail=str(error)))
            raise

    @contextmanager
    def alone(self) -> Generator[None]:
        """Exclude other changes of the configuration in service while the block runs.

        Raises:
            RebuildRunning: One is running.
        """
        if self.is_running:
            running = self.view()
            message = f"a rebuild to {running.to_fold_version} is {running.state}, {running.progress:.0%} done"
            raise RebuildRunning(message)
        if self._is_changing:
            message = "another change of what is in service is under way"
            raise RebuildRunning(message)
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False

    async def serve_plans(self, service: Service, fresh: Sequence[Plan]) -> None:
        """Put plans in service that read the state as it is; be ``alone``.

        Args:
            service: With them, under the settings of the state in service.
            fresh: Those of them that never answered here.
        """
        await warm(self._engine, service.settings, fresh)
        await self._written(service)
        self.swap_plans(service)
        await self.remember()

    def swap_plans(self, service: Service) -> None:
        """Put plans in service between two turns; be ``alone``."""
        self._engine.swap(self._engine.fold, service.plans)
        self._serve(service)

    async def remember(self) -> bool:
        """Store the configuration in service; return whether that succeeded, else it is in health.

        If it fails the next start finds it out by folding.
        """
        return await self._told(self._beside.remember, self.service)

    async def _written(self, service: Service) -> None:
        """Store the configuration that is about to be in service."""
        await self._told(self._beside.write, service)

    async def _told(self, write: Callable[[Service], None], service: Service) -> bool:
        try:
            await asyncio.to_thread(write, service)
        except OSError as error:
            self._engine.concerns["configuration"] = f"which configuration is in service was not written down: {error}"
            return False
        self._engine.concerns.pop("configuration", None)
        return True

    async def heed(self) -> None:
        """Run ``order`` for a caller without an answer, such as a signal: its error is in health."""
        try:
            await self.order()
        except (ConfigInvalid, RebuildRunning, OSError) as error:
            if isinstance(error, RebuildRunning):
                self._engine.facts.note(Fact("configuration_refused", "error", {"reason": str(error)}))
            said = f"the configuration was asked for again and not taken, the one in service goes on: {error}"
            self._engine.concerns[FILE_CONCERN] = said

    @property
    def is_running(self) -> bool:
        """Whether a rebuild is under way."""
        return self._task is not None

    def begin(self, wanted: Service, *, compact: bool = False) -> None:
        """Begin a rebuild on the running event loop."""
        self._wanted, self._began_s = wanted, self._engine.host.monotonic()
        self._note("rebuild_begun", {"compact": compact})
        self._view = replace(self._view, state="waiting", change="state", progress=0.0, reason="")
        self._set_concern()
        self._task = asyncio.get_running_loop().create_task(
            self._run(wanted, compact=compact), name="midstream-rebuild"
        )
        self._task.add_done_callback(self._ended)

    def start(self) -> None:
        """Begin the rebuild that was due when the folder was opened, if there is one."""
        if self._due is not None:
            self.begin(self._due)
            self._due = None

    async def stop(self) -> None:
        """End a running rebuild; the next start continues it, from the newest snapshot that it made."""
        self._is_stopping.set()
        if (task := self._task) is not None:
            task.cancel()
            await asyncio.wait((task,))

    def _change(self, wanted: Service, *, compact: bool) -> Change:
        if compact or wanted.settings.version() != self.service.settings.version():
            return "state"
        if wanted.config_hash != self.service.config_hash or wanted.plans != self.service.plans:
            return "plans"
        return "state" if self._waiting_acts and open_reader(self._folder).begin == 0 else "nothing"

    @property
    def _waiting_acts(self) -> int:
        """Number of acts that were taken back and are to be passed by.

        Where retention has cut the log they wait for a rebuild for another reason: one for them alone would lose the
        counts from before the cut.
        """
        return len(self._engine.fold.vocabulary.retractions)

    async def _run(self, wanted: Service, *, compact: bool) -> None:
        async with self._snapshotter.swaps:
            await self._rebuild(wanted, compact=compact)

    async def _rebuild(self, wanted: Service, *, compact: bool) -> None:
        async with self._snapshotter.turn:
            report = await self._child(wanted, compact=compact)
        wanted = self._wanted = wanted.under(decode_settings(report.settings))
        self._say("loading", report.log_position, self._engine.fold.log_position)
        fold = await asyncio.to_thread(self._loaded, wanted.settings, LogPosition(report.log_position))
        self._say("catching_up", fold.log_position, self._engine.fold.log_position)
        await self._come_near(fold)
        await warm(self._engine, wanted.settings, tuple(wanted.plans.values()))
        await self._written(wanted)
        await self._engine.hand_over(fold, wanted.plans)
        # Nothing was awaited since the swap: whoever records or answers next sees all of it, or none.
        self._snapshotter.begin_from(LogPosition(report.log_position))
        self._snapshotter.versions_beside = ()
        self._serve(wanted)
        self._view = replace(self._view, state="done", progress=1.0)
        self._set_concern()
        self._engine.metrics.rebuilds.labels("done").inc()
        seconds = round(self._engine.host.monotonic() - self._began_s, 1)
        self._note("rebuild_swapped", {"log_position": self._engine.fold.log_position, "seconds": seconds})
        if await self.remember():  # else the next start begins with the compaction of before
            await asyncio.to_thread(compactions.prune, self._folder, {wanted.settings.compaction})

    def _serve(self, service: Service) -> None:
        self.service = self._wanted = service
        self._engine.metrics.set_configuration(service.config_hash, service.settings.version())
        self._tell_aside()

    def _tell_aside(self) -> None:
        """Report in health the set placements that are not in force, and why."""
        told = [
            f"the placement {name} that was set is not in force: {faults[0].where} {faults[0].came}"
            for name, faults in sorted(self.service.aside.items())
        ]
        if told:
            self._engine.concerns[PLACEMENTS_CONCERN] = "; ".join(told)
        else:
            self._engine.concerns.pop(PLACEMENTS_CONCERN, None)

    async def _child(self, wanted: Service, *, compact: bool) -> SnapshotReport:
        """Have the new state's snapshot made; it stays beside those of the version in service. Hold the turn.

        Raises:
            RebuildFailed: The child ended without it.
        """
        self._snapshotter.versions_beside = (wanted.settings.version(),)
        fold = self._engine.fold
        if compact:
            deleted = fold.vocabulary.item_hash[fold.items.deleted()]
            await asyncio.to_thread(compactions.write_candidates, self._folder, deleted, fold.dropped)
        position = fold.log_position
        order = SnapshotOrder(
            folder=str(self._folder.root),
            log_position=position,
            settings=encode_settings(wanted.settings),
            keep=self._beside.keep,
            versions=(self.service.settings.version(),),
            compacts=compact,
            takes_back=bool(self._waiting_acts),
            hourly=self._beside.hourly,
        )
        ended = await child_process.run(CHILD, order, self._say)
        if not ended.line:
            raise RebuildFailed(ended.reason)
        report = msgspec.json.decode(ended.line, type=SnapshotReport)
        # What a compaction drops is part of the version, and only the child knew it; the next child prunes all others.
        self._snapshotter.versions_beside = (decode_settings(report.settings).version(),)
        return report

    def _loaded(self, settings: FoldSettings, position: LogPosition) -> Fold:
        """Return the state that the child wrote. Runs on a thread of its own, and touches nothing that is in service.

        Raises:
            RebuildFailed: It cannot be read.
        """
        dropped = compactions.dropped_by(self._folder, settings)
        identity = open_reader(self._folder).identity
        pace = child_process.Pace(hurried=True, beside=True)
        loaded = snapshots.load_newest(self._folder.snapshots, settings, identity, position, dropped, pace)
        if loaded.fold.log_position != position:
            message = f"the snapshot at {position} was refused: {'; '.join(loaded.refused)}"
            raise RebuildFailed(message)
        return loaded.fold

    async def _come_near(self, fold: Fold) -> None:
        """Fold later events on a thread, until the owner's turns can do the rest."""
        reader = open_reader(self._folder)
        for _ in range(ROUNDS_MAX):
            upto = self._engine.fold.log_position
            if upto - fold.log_position <= NEAR_EVENTS:
                return
            await asyncio.to_thread(self._fold_to, fold, reader, upto)
            self._say("catching_up", fold.log_position, self._engine.fold.log_position)

    def _fold_to(self, fold: Fold, reader: LogReader, upto: LogPosition) -> None:
        began = fold.log_position
        for first, batch in batches(lambda after, limit: reader.read(after, limit, upto), began, upto):
            for start in range(0, len(batch), STEP_EVENTS):
                if self._is_stopping.is_set():
                    return
                fold.apply(LogPosition(first + start), cut(batch, start, min(start + STEP_EVENTS, len(batch))))

    def _note(self, event: str, fields: Mapping[str, FieldValue], error: BaseException | None = None) -> None:
        """Log the progress of a rebuild."""
        wanted = self._wanted
        named = {"config_hash": wanted.config_hash, "fold_version": wanted.settings.version()}
        level: Level = "info" if error is None else "error"
        raised, detail = (None, "") if error is None else (raised_of(error), str(error))
        self._engine.facts.note(Fact(event, level, {**named, **fields}, raised=raised, detail=detail))

    def _say(self, stage: str, done: int, total: int) -> None:
        """Keep the progress; a stage of the child is one of the states."""
        share = done / total if total else 1.0
        if stage != self._view.state or self._said_s + MINUTE_S <= self._engine.host.monotonic():
            self._said_s = self._engine.host.monotonic()
            self._note("rebuild_progress", {"stage": stage, "progress": round(share, 2)})
        state: RebuildState = msgspec.convert(stage, RebuildState)
        self._view = replace(self._view, state=state, progress=share)
        self._set_concern()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Keep the reason of a failure; unexpected ones go to the event loop as well."""
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        self._view = replace(self._view, state="failed", reason=f"{type(error).__name__}: {error}")
        self._set_concern()
        self._engine.metrics.rebuilds.labels("failed").inc()
        self._note("rebuild_failed", {}, error)
        if not isinstance(error, (MidstreamError, OSError, MemoryError)):
            context = {"message": "a rebuild ended by a bug", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    def _set_concern(self) -> None:
        """Report the progress in health."""
        view = self.view()
        if view.state == "failed":
            self._engine.concerns[CONCERN] = (
                f"the rebuild from fold version {view.fold_version} to {view.to_fold_version} failed and the state of "
                f"before goes on serving: {view.reason}. POST /v1/rebuild begins again"
            )
        elif view.state in {"idle", "done"}:
            self._engine.concerns.pop(CONCERN, None)
        else:
            self._engine.concerns[CONCERN] = (
                f"configuration {view.config_hash} serves until the state of {view.to_config_hash} is rebuilt: "
                f"{view.state}, {view.progress:.0%}"
            )

    def set_gauges(self) -> None:
        """Set the gauges of a rebuild's progress."""
        view = self.view()
        is_outdated = view.state not in {"idle", "done"}
        self._engine.metrics.set_rebuild(view.progress if is_outdated else 1.0, is_outdated=is_outdated)


async def warm(
    engine: Engine, settings: FoldSettings, plans: Sequence[Plan], models: Models | None = None
) -> WarmupResult:
    """Answer from each plan in a state of its own, on a thread, and return the result.

    The first time may load or compile.

    Args:
        engine: Has the clock and, unless others are given, the models.
        settings: Of the state.
        plans: Each answers.
        models: Models for the plans; those that they read.
    """
    asked = [plan.serving(engine.live.models if models is None else models) for plan in plans]
    return await asyncio.to_thread(lambda: asyncio.run(warm_up(settings, asked, engine.host.monotonic)))


def _require_held(now: Service, wanted: Service) -> None:
    """Refuse a file beside which a placement that is in service through the API does not hold."""
    faults: list[Fault] = []
    for name in sorted(wanted.aside.keys() - now.aside.keys()):
        for each in wanted.aside[name]:
            right = f"{each.right} Or first: midstream placements remove {name}"
            faults.append(replace(each, where=f"$.placements.{name}{each.where.removeprefix('$')}", right=right))
    if faults:
        raise ConfigInvalid(tuple(faults))
