"""Erasure in a running engine: the schedule of log rewrites, and the swap of the rewritten log into service.

An erased user is removed from the state at once. Within ``erase_days_max`` days the log is rewritten. A child process
writes the new log and its state. A thread copies the events that arrived meanwhile. Between two frames of the log
thread the last few events follow and the new log gets its name, which is the commit. Then the state is swapped.
Concurrent requests notice only that tokens of the old generation are refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

import msgspec

from midstream.core.errors import AppendFailed, ErasureRunning, FolderLocked, MidstreamError, RewriteFailed
from midstream.core.protocols import EventLog
from midstream.core.tracebacks import raised_of
from midstream.core.types import LogPosition
from midstream.engine import child_process
from midstream.engine.engine import Engine
from midstream.engine.erasure.log_copy import open_new
from midstream.engine.erasure.log_rewrite import (
    SNAPSHOTS_NAME,
    Receipt,
    commit,
    go_on,
    new_log,
    receipts,
    settle,
    write_receipt,
)
from midstream.engine.erasure.redaction import ErasedIds
from midstream.engine.erasure.worker import RewriteOrder, RewriteReport, erased_of
from midstream.engine.folder import DataFolder, lock_history
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.listeners import Concern
from midstream.engine.log_readers import open_reader, read_folder
from midstream.engine.pending_erasures import DAY_MS
from midstream.engine.snapshots import compactions, snapshots
from midstream.engine.snapshots.snapshotter import Snapshotter
from midstream.events.disk import RealDisk
from midstream.events.segments.segments import SegmentLog
from midstream.monitoring.facts import Fact, FieldValue
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import REFUSED_MS
from midstream.state.settings import encode_settings

CHILD = "midstream.engine.erasure.worker"
OF_SINKS = "sink "
"""Before the name of a sink, among what is to forget."""
CONCERN = "erasure"
OVERDUE = "erasure_overdue"
NEAR_EVENTS = 2_000
"""So few events are brought over between two frames: 5 ms in which the log waits."""
ROUNDS_MAX = 20
"""Rounds of the thread that copies later events; each leaves those that arrived during it."""
LOOK_S = 600.0
"""Interval of checks whether a rewrite is due, which is a matter of days."""
EARLY_MS = 6 * 3_600_000
"""With a day as the most, a rewrite begins before late copies are no longer refused, so that it can fail once."""
EARLY_GAP_S = 3_600.0
"""Minimum time between two early rewrites, which begin because places for erasures run out: each reads the whole log
and invalidates earlier tokens, and a client that erases made-up ids must not be able to cause them all the time."""
REWRITE_S = 60.0
"""A rewrite is thought to take as long as the last one, the first one of a process this: some 10 million events."""
LEFT_S_MIN = 5.0
"""Of a rewrite that takes longer than the last one did."""
SALT_BYTES = 16
SEAL_WAIT_S = 0.5
SEAL_LOOKS_MAX = 120
"""A minute for another process to end its sealing: as much as 5 GB of segments take."""
RECEIPTS_SHOWN_MAX = 100
"""The newest; all of them are in the folder."""
ErasureState = Literal[
    "idle", "waiting", "looking", "history", "segments", "folding", "writing", "catching_up", "done", "failed"
]
Forget = Callable[[Sequence[str]], Awaitable[int]]
"""Removes data of some ids somewhere beside the log, in bounded turns of the loop; returns the number of removals.
The ids are those of users, and of sessions that were theirs alone."""


@dataclass(frozen=True, slots=True)
class EraserOptions:
    """How the new log is written, and until when."""

    segment_bytes: int
    entropy: Callable[[int], bytes]
    """Makes the salt of a receipt."""
    keep: int = 2
    """Snapshots of a generation that stay."""
    days_max: int = 7


@dataclass(frozen=True, slots=True)
class RewriteView:
    """Progress of a rewrite."""

    state: ErasureState = "idle"
    progress: float = 0.0
    """Share of the stage ``state`` that is done, from 0 to 1."""
    reason: str = ""
    """Why the last one failed; empty when it did not."""


class Eraser:
    """The one rewrite at a time that carries out erasures."""

    def __init__(self, engine: Engine, snapshotter: Snapshotter, folder: DataFolder, options: EraserOptions) -> None:
        """Rewrite the log of ``engine`` in ``folder``; no other child is at work meanwhile."""
        self.forgets: dict[str, Forget] = {}
        """What names users beside the log, by its name in a receipt: ``dead_letters``, ``import_rejected``."""
        self.outside: tuple[str, ...] = ()
        """Topics outside that events were delivered to, for the receipt: no rewrite reaches them."""
        self.said_of_topic: Callable[[], str] = str
        """Returns what stays of erased events in a log that several nodes share; empty = there is none."""
        self.view = RewriteView()
        self._engine = engine
        self._snapshotter = snapshotter
        self._folder = folder
        self._options = options
        self._task: asyncio.Task[None] | None = None
        self._service = engine.supervise("erasures", self._look, LOOK_S, first_s=0.0)
        self._is_committing = False
        """From here to the end it takes milliseconds, and is not broken off."""
        self._early_s = self._began_s = -EARLY_GAP_S
        """Monotonic time at which the last one began that was not due, and the last one of all."""
        self._took_s = REWRITE_S
        self._early: asyncio.Task[None] | None = None
        """Begins the next one that is not due."""
        engine.erasure_places.when_crowded = self._ask_early
        engine.erasure_places.room_in_s = self._room_in_s

    @property
    def is_running(self) -> bool:
        """Whether a rewrite is under way."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to look whether a rewrite is due."""
        self._service.start()

    async def stop(self) -> None:
        """End a running rewrite: the old log stays, or the new one is complete; the next start begins again."""
        await self._service.stop()
        tasks = [task for task in (self._early, self._task) if task is not None]
        for task in tasks:
            if task is not self._task or not self._is_committing:
                task.cancel()
            await asyncio.wait((task,))

    def begin(self, *, hurried: bool = False) -> asyncio.Task[None]:
        """Begin a rewrite now, whether it is due or not.

        Args:
            hurried: The child does not rest: a caller waits for it.

        Raises:
            ErasureRunning: One is running.
        """
        if self.is_running:
            message = f"a rewrite is under way: {self.view.state}, {self.view.progress:.0%}"
            raise ErasureRunning(message)
        self.view = RewriteView("waiting")
        self._task = asyncio.get_running_loop().create_task(self._run(hurried=hurried), name="midstream-rewrite")
        self._task.add_done_callback(self._ended)
        return self._task

    async def carry_out(self) -> None:
        """Rewrite the log without all users erased by now, after a running rewrite; wait for it.

        Raises:
            RewriteFailed: The log could not be rewritten; and any other error that ended it.
        """
        while self._task is not None and not self._task.done():  # another may begin when one has ended
            await asyncio.wait((self._task,))
        await self.begin(hurried=True)

    def _ask_early(self) -> None:
        """Have a rewrite begin that is not due, for places for erasures run out, unless that is arranged for."""
        if self._early is None or self._early.done():
            self._early = asyncio.get_running_loop().create_task(self._begin_early(), name="midstream-early-rewrite")

    async def _begin_early(self) -> None:
        """Begin a rewrite now, or when the gap after the last early one is over.

        While one runs nothing is done: it frees places, except for erasures that came too late for it, which try again.
        """
        await asyncio.sleep(max(0.0, self._early_s + EARLY_GAP_S - self._engine.host.monotonic()))
        if not self.is_running and self._engine.fold.vocabulary.erasures.pending:
            self._early_s = self._engine.host.monotonic()
            self.begin()

    def _room_in_s(self) -> float:
        """Return the seconds until places for erasures are free again, estimated by the last rewrite."""
        now_s = self._engine.host.monotonic()
        if self.is_running:
            return max(LEFT_S_MIN, self._began_s + self._took_s - now_s)
        return max(0.0, self._early_s + EARLY_GAP_S - now_s) + self._took_s

    def receipts(self) -> list[Receipt]:
        """Return the receipts of the last rewrites, the oldest first. Reads files."""
        return receipts(self._folder)[-RECEIPTS_SHOWN_MAX:]

    def is_due(self) -> bool:
        """Return whether an erasure has waited as long as it should: until late copies of it are no longer refused."""
        wait_ms = min(REFUSED_MS, self._options.days_max * DAY_MS - EARLY_MS)
        return self._waited_ms() > wait_ms

    def _waited_ms(self) -> int:
        """Return how long the one has waited that waits longest, 0 = none waits."""
        return self._engine.erasure_ages.longest_ms(self._engine.fold)

    async def _look(self) -> None:
        if self.is_due() and not self.is_running:
            self.begin()

    async def _run(self, *, hurried: bool) -> None:
        began = self._began_s = self._engine.host.monotonic()
        async with self._snapshotter.swaps, self._snapshotter.turn:
            report = await self._child(hurried=hurried)
            erased = erased_of(report, self._engine.fold.vocabulary.id_key)
            self.view = RewriteView("catching_up")
            fold = await asyncio.to_thread(self._loaded, report)
            await self._come_near(fold, erased)
            receipt = await self._forget_beside(report, erased)
            await asyncio.to_thread(write_receipt, self._folder, receipt)
            lock = await self._lock_history()
            try:
                self._is_committing = True
                await self._engine.replace_log(lambda log: self._replaced(log, erased))
                await self._engine.hand_over(fold, None)
                # Nothing was awaited since the swap.
                self._snapshotter.begin_from(LogPosition(report.log_position))
                await asyncio.to_thread(self._clean)
            finally:
                self._is_committing = False
                RealDisk().close(lock)
        self.view = RewriteView("done", 1.0)
        self._engine.concerns.pop(CONCERN, None)
        self._took_s = self._engine.host.monotonic() - began
        self._engine.metrics.observe_rewrite(good=True, seconds=self._took_s)
        fields: dict[str, FieldValue] = {
            "generation": receipt.generation,
            "log_position": receipt.log_position,
            "erasures": len(receipt.erasures),
            "events": sum(receipt.events.values()),
            "seconds": round(self._took_s, 1),
        }
        self._engine.facts.note(Fact("log_rewritten", fields=fields))

    async def _lock_history(self) -> int:
        """Keep a ``midstream seal`` in another process from writing into the old log while it is removed.

        Raises:
            FolderLocked: One is at work for longer; the rewrite begins again when it is due the next time.
        """
        for _ in range(SEAL_LOOKS_MAX):
            try:
                return lock_history(self._folder, RealDisk())
            except FolderLocked:
                await asyncio.sleep(SEAL_WAIT_S)
        return lock_history(self._folder, RealDisk())

    async def _child(self, *, hurried: bool) -> RewriteReport:
        """Have the new log and its state made.

        Raises:
            RewriteFailed: The child ended without them.
        """
        fold = self._engine.fold
        order = RewriteOrder(
            folder=str(self._folder.root),
            log_position=fold.log_position,
            settings=encode_settings(fold.settings),
            segment_bytes=self._options.segment_bytes,
            hurried=hurried,
        )
        ended = await child_process.run(CHILD, order, self._say)
        if not ended.line:
            raise RewriteFailed(ended.reason)
        # On a thread: it may have as many bytes as a child may report.
        return await asyncio.to_thread(msgspec.json.decode, ended.line, type=RewriteReport)

    def _loaded(self, report: RewriteReport) -> Fold:
        """Return the state that the child wrote. Runs on a thread of its own.

        Raises:
            RewriteFailed: It cannot be read.
        """
        target = new_log(self._folder)
        reader = read_folder(target, RealDisk())
        settings = self._engine.fold.settings
        position = LogPosition(report.log_position)
        dropped = compactions.dropped_by(self._folder, settings)
        wanted = snapshots.SnapshotRequirement(settings, dropped, reader.identity, reader.begin, position)
        pace = child_process.Pace(hurried=True, beside=True)
        found = snapshots.find_newest(target / SNAPSHOTS_NAME, wanted, pace)
        if found.fold is None:
            message = f"the state of the new log was refused: {'; '.join(found.refused)}"
            raise RewriteFailed(message)
        return found.fold

    async def _come_near(self, fold: Fold, erased: ErasedIds) -> None:
        """Copy later events, on a thread, until few are left."""
        for _ in range(ROUNDS_MAX):
            upto = self._engine.log.end
            await asyncio.to_thread(self._bring, fold, erased, upto)
            if self._engine.log.end - upto <= NEAR_EVENTS:
                return

    def _bring(self, fold: Fold, erased: ErasedIds, upto: LogPosition) -> None:
        disk, target = RealDisk(), new_log(self._folder)
        with open_new(target, disk, self._options.segment_bytes) as log:
            go_on(open_reader(self._folder, disk), log, erased, upto)
        reader = read_folder(target, disk)
        catch_up(fold, lambda after, limit: reader.read(after, limit, upto), upto)

    async def _forget_beside(self, report: RewriteReport, erased: ErasedIds) -> Receipt:
        """Remove data of erased users beside the log, while the old log still has their ids."""
        ids = list(erased.ids)
        named = [*ids, *erased.sessions]
        dropped = {name: await forget(named) for name, forget in self.forgets.items()}
        salt = self._options.entropy(SALT_BYTES)
        return Receipt(
            generation_before=report.generation - 1,
            generation=report.generation,
            log_position=report.log_position,
            erasures=tuple(sorted(erased.groups)),
            ids=tuple(sorted(blake2b(each.encode(), digest_size=16, salt=salt).hexdigest() for each in ids)),
            salt=salt.hex(),
            events=report.blanked,
            history_files=report.history_files,
            dead_letters=dropped.get("dead_letters", 0),
            import_rejected=dropped.get("import_rejected", 0),
            sinks={name.removeprefix(OF_SINKS): n for name, n in dropped.items() if name.startswith(OF_SINKS)},
            snapshots=len(snapshots.names(self._folder.snapshots)),
            digest=report.digest,
            time_ms=self._engine.clock(),
            outside=self.outside,
            topic=self.said_of_topic(),
        )

    def _replaced(self, log: EventLog, erased: ErasedIds) -> EventLog:
        """Called on the log thread between two frames: copy the rest, commit, return the new log.

        Raises:
            RewriteFailed: The rest could not be copied; the old log stays. ``OSError`` likewise.
            AppendFailed: The old log may accept nothing more, and the new one cannot be used.
        """
        if not isinstance(log, SegmentLog):
            message = "only a log in a folder is rewritten"
            raise RewriteFailed(message)
        disk = RealDisk()
        try:
            with open_new(new_log(self._folder), disk, self._options.segment_bytes) as fresh:
                go_on(open_reader(self._folder, disk), fresh, erased, log.end)
        except (MidstreamError, MemoryError) as error:  # of the new log: the one in use takes events as before
            message = f"the last events could not be brought over: {type(error).__name__}: {error}"
            raise RewriteFailed(message) from error
        final = commit(self._folder, disk)
        # From here on the old log takes nothing more, whatever happens.
        lock = log.keep_lock()
        log.close()
        try:
            return SegmentLog(final, disk, b"", self._options.segment_bytes, lock)
        except (MidstreamError, OSError) as error:
            message = f"{final}: the rewritten log could not be opened: {error}. Start anew to go on in it"
            raise AppendFailed(message) from error

    def _clean(self) -> None:
        """Remove the replaced log."""
        settle(self._folder)
        self._folder.remove_outdated_logs()
        identity = open_reader(self._folder, RealDisk()).identity
        snapshots.prune(self._folder.snapshots, self._options.keep, identity)
        snapshots.remove_lost(self._folder.snapshots)

    def _say(self, stage: str, done: int, total: int) -> None:
        state: ErasureState = msgspec.convert(stage, ErasureState)
        self.view = RewriteView(state, done / total if total else 1.0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Keep the reason of a failure; unexpected ones go to the event loop as well."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        reason = f"{type(error).__name__}: {error}"
        self.view = replace(self.view, state="failed", reason=reason)
        self._engine.metrics.observe_rewrite(good=False, seconds=0.0)
        self._engine.facts.note(Fact("log_rewrite_failed", "error", raised=raised_of(error), detail=str(error)))
        self._engine.concerns[CONCERN] = f"the log was not rewritten without erased users: {reason}"
        if not isinstance(error, (MidstreamError, OSError, MemoryError)):
            context = {"message": "a rewrite of the log ended by a bug", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)

    def age_concern(self) -> Concern:
        """Return a warning on the last day before the deadline, and after it."""
        waited_ms, wait_ms = self._waited_ms(), self._options.days_max * DAY_MS
        if waited_ms > wait_ms:
            days = (waited_ms - wait_ms) / DAY_MS
            return Concern(OVERDUE, f"an erasure is {days:.1f} days older than was promised: POST /v1/erasures/run")
        if waited_ms > max(wait_ms - DAY_MS, REFUSED_MS):
            return Concern(OVERDUE, "an erasure is due within a day and was not carried out: POST /v1/erasures/run")
        return Concern(OVERDUE, "")
