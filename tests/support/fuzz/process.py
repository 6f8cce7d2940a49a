"""One process of the engine, from its start to the moment it dies: the real opening, engine and routes, in one loop.

Whatever runs in it belongs to it: a death cancels all of that at once, wherever it waits.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from midstream.app.config.schema import UsersSection
from midstream.app.letter_erasure import forget_in_pieces
from midstream.app.opening import DATA_NAME, Outside, config_of, open_running
from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.letters import DeadLetter, RetriedLetters
from midstream.core.errors import DiskFull, MidstreamError
from midstream.core.types import LogPosition
from midstream.engine.engine import Engine
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.dead_letter_retry import retry
from midstream.engine.instance import Instance
from midstream.engine.pending_erasures import DAY_MS
from midstream.engine.tokens import parse_position
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.segments.segments import SegmentLog
from midstream.events.wire import Accept
from midstream.serving.events.ingest import Ingest, IngestOptions
from midstream.serving.options import ServerOptions
from midstream.serving.slates.bulk_changes import CatalogueSubject
from midstream.serving.slates.recommendations import Recommendations, recording
from tests.support.dice import Dice
from tests.support.fuzz.conditions import IDS_FEW, KEEP
from tests.support.fuzz.disk import Machine, PowerOut, SimulatedDisk
from tests.support.fuzz.ledger import Broken, Forgotten, Ledger
from tests.support.fuzz.letters import last_number
from tests.support.fuzz.streams import StreamBody, Streamed, stream
from tests.support.fuzz.weather import Spell, WallClock
from tests.support.fuzz.writer import SimulatedWriter
from tests.support.virtual_loop import VirtualLoop

T = TypeVar("T")
Tasks = dict["asyncio.Task[Any]", None]
_OWNER: ContextVar[Tasks] = ContextVar("tasks of the process that runs")
_EVERY = IngestOptions(all_results=True)
_ERASE_MS = UsersSection().erase_days_max * DAY_MS
LETTERS_BYTES_MAX = 5_000
"""Of one of the two files: about ten letters, so that some are dropped in a run."""


class Ground(NamedTuple):
    """What a process stands on, and what is there after it."""

    loop: VirtualLoop
    folder: Path
    machine: Machine
    wall: WallClock
    dice: Dice
    number: int
    """Of the process: its request ids differ from those before."""


class Resent(NamedTuple):
    """Letters that were sent again."""

    letters: Sequence[DeadLetter]
    told: RetriedLetters
    end: LogPosition
    """Of the log, behind all of them that are in it."""


class Process:
    """A server without a socket."""

    def __init__(self, ground: Ground, ledger: Ledger, on_death: Callable[[], None]) -> None:
        """Prepare one that is not started; ``on_death`` is called in the call of the disk that is its last."""
        self.is_dead = False
        self.tasks: Tasks = {}
        self.disk = SimulatedDisk(ground.machine, on_death, self._note_failed_sync)
        self.problems: list[BaseException] = []
        """What ended a part of the engine that should go on for ever."""
        self.swaps = 0
        """How often another state took the place of the one before."""
        self.swaps_of_features = 0
        """How often it counts something else for features."""
        self._version = ""
        self._ground = ground
        self._data = DataFolder(ground.folder / DATA_NAME)
        self._services = ledger.services
        self._forgotten = ledger.forgotten
        self._plans = ledger.plans
        self._entropy = Dice(ground.number, 7, 7)
        self._running: Instance | None = None
        self._letters: DeadLetters | None = None
        self._ingest: Ingest | None = None
        self._recommendations: Recommendations | None = None
        self._last_durable: LogPosition | None = None
        """End of the log when a sync failed: nothing behind it may be acknowledged by this process."""

    @property
    def running(self) -> Instance:
        """What was opened."""
        if self._running is None:
            message = "the process is not started"
            raise Broken(message)
        return self._running

    @property
    def is_serving(self) -> bool:
        """Whether it takes requests."""
        return self._recommendations is not None and not self.is_dead

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self.running.engine

    async def start(self) -> None:
        """Open the folder and begin to take turns.

        Raises:
            MidstreamError: The engine does not start.
            OSError: The disk.
        """
        ground = self._ground
        outside = Outside(
            clock=ground.wall,
            monotonic=self._monotonic,
            entropy=lambda size: bytes(self._entropy.below(256) for _ in range(size)),
            disk=self.disk,
            writer=partial(SimulatedWriter, delay_s=self._delay_s),
            worked_s=self._monotonic,
        )
        config = config_of(ground.folder)
        running = open_running(ground.folder, config, outside=outside, may_serve_before=True)
        self._running = running
        letters = self._letters = DeadLetters(self._data.dead_letters, self.disk, LETTERS_BYTES_MAX)
        running.ingest.dead_letters = letters
        if running.eraser is not None:
            running.eraser.forgets["dead_letters"] = partial(self._forget_users, letters)
        await running.start()
        engine = running.engine
        self._ingest = Ingest(running.ingest, self._accept, engine.token, ServerOptions().body_bytes_max)
        self._recommendations = Recommendations(engine, recording(self._ingest))

    async def stop(self) -> None:
        """Stop as a server does.

        Raises:
            MidstreamError: As the engine does.
            OSError: The disk.
        """
        await self.running.stop()

    @property
    def ingest(self) -> Ingest:
        """What takes events."""
        if self._ingest is None:
            message = "the process is not started"
            raise Broken(message)
        return self._ingest

    @property
    def letters(self) -> DeadLetters:
        """Where rejected events are kept."""
        if self._letters is None:
            message = "the process is not started"
            raise Broken(message)
        return self._letters

    def spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run something in this process."""
        context = copy_context()
        context.run(_OWNER.set, self.tasks)
        return self._ground.loop.create_task(work, context=context)

    async def die(self) -> None:
        """End all that runs in it, and wait until that is so. What the system does for the dead is done already."""
        self.is_dead = True
        while self.tasks:
            doomed = list(self.tasks)
            for task in doomed:
                task.cancel()
            await asyncio.gather(*doomed, return_exceptions=True)
            self._forget(doomed)

    async def take(self, body: bytes) -> tuple[EventsAnswer, LogPosition]:
        """Record events; return the answer with the log position that it names.

        Raises:
            MidstreamError: They were not all taken.
            Broken: They were, and never should have been.
        """
        engine = self.engine
        before = engine.health()
        is_closed = not before.accepts_events and not self.is_full
        answer = await self.ingest.take(body, _EVERY)
        position = parse_position(answer.log_position or "", engine.log.generation, engine.log.end)
        if position is None:
            message = f"events were acknowledged in another generation: {answer.log_position}"
            raise Broken(message)
        if answer.recorded and is_closed:
            message = f"events were taken while health said: {before.reason}"
            raise Broken(message)
        self._check_recorded(position if answer.recorded else LogPosition(0))
        return answer, position

    async def stream(self, body: StreamBody, noun: CatalogueSubject | None) -> Streamed:
        """Record a stream of events, of ``noun`` alone if there is one.

        Raises:
            Broken: Events were recorded that never should have been.
        """
        told = await stream(self.ingest, body, noun, lambda: self._ground.dice.between(0.0, 0.004))
        recorded = (position for position, result in told.results if result.outcome == "recorded")
        self._check_recorded(max(recorded, default=LogPosition(0)))
        return told

    async def retry(self, dice: Dice) -> Resent:
        """Send one letter again, or all; now and then as two operators do at once.

        Raises:
            MidstreamError: Not all of them could be sent.
            OSError: The letters could not be read.
            Broken: Both operators were told that a letter is recorded.
        """
        kept = self.letters.read()
        wanted = [dice.choice(kept)] if kept and dice.chance(0.5) else kept
        times = 2 if dice.chance(0.3) else 1
        retries = (
            retry(self.ingest.service, self.letters, lambda: self.ingest.accept, wanted, ()) for _ in range(times)
        )
        told: list[RetriedLetters] = []
        for each in await asyncio.gather(*retries, return_exceptions=True):
            if isinstance(each, BaseException):
                raise each
            told.append(each)
        recorded = sum(each.recorded for each in told)
        if recorded > len(wanted) and self.engine.fold.settings.limits.event_ids_max > IDS_FEW:
            raise Broken(f"of {len(wanted)} letters {recorded} were recorded: {told}")
        self.check_bounds()
        return Resent(wanted, told[0], self.engine.log.end)

    async def erase(self, user: str) -> None:
        """Forget a user; return when that is durable and applied."""
        await self.engine.erase(user)

    async def recommend(self, body: bytes) -> dict[str, Any]:
        """Answer a question; return the slate as a client reads it, with its log position under ``position``.

        Raises:
            MidstreamError: It cannot be answered.
            Broken: The answer contradicts the log.
        """
        if self._recommendations is None:
            message = "the process is not started"
            raise Broken(message)
        self.note_service()
        reply = await self._recommendations.from_body(body)
        self.note_service()
        slate: dict[str, Any] = msgspec.json.decode(reply.body)
        engine = self.engine
        try:
            position = parse_position(slate["applied_log_position"], engine.log.generation, engine.log.end)
        except MidstreamError as error:
            message = f"an answer was made from what a crash could take back: {error}"
            raise Broken(message) from error
        self.check_bounds()
        return {
            **slate,
            "position": position,
            "fold_version": engine.fold.settings.version(),
            "generation": engine.log.generation,
        }

    @property
    def is_full(self) -> bool:
        """Whether health speaks of a full disk, which is tried again with each event."""
        return isinstance(self.engine._commits.refusal, DiskFull)  # pyright: ignore[reportPrivateUsage]

    def check_bounds(self) -> None:
        """Raise ``Broken`` where the engine contradicts itself now."""
        engine = self.engine
        health = engine.health()
        if health.applied_log_position > health.log_position:
            message = f"{health.applied_log_position} is applied, {health.log_position} is durable"
            raise Broken(message)
        if self.disk.complaint:
            raise Broken(self.disk.complaint)
        if isinstance(engine.log, SegmentLog) and engine.log.begin:
            message = f"the log begins at {engine.log.begin}: what was cut is not as old as {KEEP}"
            raise Broken(message)
        promised_ms = engine.clock() + _ERASE_MS
        if any(due.erase_by_ms > promised_ms for due in engine.erasures()):
            message = "an erasure is promised for later than was ever said"
            raise Broken(message)
        if self.running.snapshotter is not None and self.running.snapshotter.mismatch:
            raise Broken(self.running.snapshotter.mismatch)
        if self._last_durable is not None and health.log_position > self._last_durable:
            message = f"the log goes on to {health.log_position} after a sync failed at {self._last_durable}"
            raise Broken(message)

    def _check_recorded(self, position: LogPosition) -> None:
        """Raise ``Broken`` where something before ``position`` was acknowledged that may be gone."""
        if self._last_durable is not None and position > self._last_durable:
            message = f"{position} was acknowledged after the sync of what follows {self._last_durable} had failed"
            raise Broken(message)
        self.check_bounds()

    def note_service(self) -> None:
        """Write down what is in service now."""
        engine = self.engine
        version = engine.fold.settings.version()
        if self._version not in {"", version}:
            self.swaps += 1
            self.swaps_of_features += self._services[self._version][0].cells != engine.fold.settings.cells
        self._version = version
        self._services.setdefault(version, (engine.fold.settings, engine.fold.dropped))
        for plan in engine.plans.values():
            self._plans.setdefault((plan.config_hash, plan.fold_version), engine.plans)

    def note_end(self, task: "asyncio.Task[Any]") -> None:
        """Keep what ended a part of the engine that only a stop or a death may end."""
        self.tasks.pop(task, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None or isinstance(error, PowerOut):
            return
        is_part = task.get_name().startswith("midstream-")
        if is_part or not isinstance(error, MidstreamError | OSError):
            self.problems.append(error)

    def _forget(self, tasks: list["asyncio.Task[Any]"]) -> None:
        for task in tasks:
            self.tasks.pop(task, None)

    def _accept(self) -> Accept:
        return msgspec.structs.replace(self.running.service.accept, now_ms=int(self._ground.wall()))

    async def _forget_users(self, letters: DeadLetters, user_ids: Sequence[str]) -> int:
        """Let the letters forget users, and write down that they did."""
        last = last_number(letters.path)
        count = await forget_in_pieces(letters, user_ids)
        self._forgotten.append(Forgotten(tuple(user_ids), last))
        return count

    def _note_failed_sync(self, path: Path) -> None:
        """Take note that the log is not to be relied on, if it is one of its files."""
        if self._running is not None and path.parent == self._data.log:
            self._last_durable = self.engine.log.end

    def _monotonic(self) -> float:
        """Return the time; between two looks at it some goes by."""
        stall_s = 0.03 if self._ground.dice.chance(0.002) else 0.0
        self._ground.loop.spend(stall_s + 0.0003 * self._ground.dice.share())
        return self._ground.loop.time()

    def _delay_s(self) -> float:
        if self.is_dead:
            raise PowerOut
        slow = 100.0 if self._ground.machine.weather.is_on(Spell.SLOW) else 1.0
        return self._ground.dice.between(0.0001, 0.008) * slow


def owned(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> "asyncio.Task[Any]":
    """Make tasks, each known to the process in which it runs: a task factory."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    tasks = _OWNER.get(None) if context is None else context.get(_OWNER)
    if tasks is not None:
        tasks[task] = None
    return task
