"""The world of one run: a machine, the process on it, and the supervisor that starts it again."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from midstream.app.opening import CONFIG_NAME, DATA_NAME
from midstream.core.errors import AppendFailed, MidstreamError
from midstream.engine.folder import DataFolder
from midstream.events.disk import Disk
from midstream.events.segments.segments import SegmentLog
from tests.support.dice import Dice
from tests.support.fuzz.conditions import Conditions
from tests.support.fuzz.declared import TABLE, TABLE_NAME
from tests.support.fuzz.disk import Machine, PowerOut, SimulatedDisk
from tests.support.fuzz.ledger import Broken, Ledger, Mark
from tests.support.fuzz.process import Ground, Process, owned
from tests.support.fuzz.weather import WallClock, Weather
from tests.support.virtual_loop import VirtualLoop

T = TypeVar("T")
HEALTHY_S_MAX = 60.0
"""Virtual seconds after the last fault in which everything is well again."""
_LOOK_S = 2.0
"""Between two looks of the supervisor while nothing alarms it."""
_POLL_S = 0.5
"""Between two looks at whether all is well."""
_BACK_OFF_S = 0.2
_STOP_S_MAX = 30.0
_SHOWN_LINES = 60


class Unreachable(Exception):
    """No answer came: nothing is known of what was asked."""


class FuzzWorld:
    """Everything that one seed decides."""

    def __init__(self, seed: int, steps: int, conditions: Conditions, folder: Path, loop: VirtualLoop) -> None:
        """Set up a machine with nothing on its disk."""
        self.seed = seed
        self.steps_left = steps
        self.conditions = conditions
        self.loop = loop
        self.wall = WallClock(loop.time)
        self.weather = Weather(Dice(seed, 1), loop.time)
        self.machine = Machine(Dice(seed, 2), self.weather)
        self.ledger = Ledger()
        self.process: Process | None = None
        self.damaged: set[str] = set()
        """Snapshots that the operator spoilt."""
        self.quiet_until_s = 0.0
        self.lines: deque[str] = deque(maxlen=_SHOWN_LINES)
        """The last lines of the trace."""
        self.alarm = asyncio.Event()
        """Set when something is wrong with the process, so that the supervisor looks at once."""
        self.met: Counter[str] = Counter()
        """What happened, and how often: a run that meets nothing proves nothing."""
        self._folder = folder
        self._dice = Dice(seed, 3)
        self._network = Dice(seed, 4)
        self._starts = 0
        self._was_stopped = False
        """The last process ended by itself, with nothing half done."""
        self._is_over = False
        self._generation = 0
        self._trace = xxhash.xxh3_128()
        loop.set_task_factory(owned)
        (folder / TABLE_NAME).write_text(TABLE, "utf-8")
        self.configure(conditions.texts[0])

    @property
    def data(self) -> DataFolder:
        """What is on the disk."""
        return DataFolder(self._folder / DATA_NAME)

    @property
    def generation(self) -> int:
        """How often the log was rewritten, as the process last said."""
        if self.process is not None and self.process.is_serving:
            before, self._generation = self._generation, self.process.engine.log.generation
            self.met["rewritten"] += self._generation - before
        return self._generation

    def own_disk(self) -> Disk:
        """Return the disk of the process that makes the call."""
        return SimulatedDisk(self.machine, lambda: None) if self.process is None else self.process.disk

    def child_disk(self) -> Disk:
        """Return the disk of a child; now and then the power goes in one of its changes."""
        disk = SimulatedDisk(self.machine, lambda: self.kill(power=True))
        if self._dice.chance(0.1):
            disk.calls_left = 1 + self._dice.few(30)
        return disk

    @property
    def trace_hash(self) -> str:
        """Hash of everything that was noted: equal for equal seeds."""
        return self._trace.hexdigest()

    def configure(self, text: str) -> None:
        """Write the configuration file anew."""
        (self._folder / CONFIG_NAME).write_text(text, "utf-8")

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        line = f"{self.loop.time():10.4f} {text}"
        self._trace.update(f"{line}\n".encode())
        self.lines.append(line)

    async def ask(self, work: Callable[[Process], Coroutine[Any, Any, T]], patience_s: float | None = None) -> T:
        """Do something in the process, as over a network.

        Raises:
            Unreachable: There is no process, it died, or ``patience_s`` were over.
            MidstreamError: What the process answers.
        """
        await asyncio.sleep(self._network.between(0.0, 0.002))
        process = self.process
        if process is None or not process.is_serving:
            await asyncio.sleep(0.05)
            raise Unreachable
        task = process.spawn(work(process))
        await asyncio.wait((task,), timeout=patience_s)
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if process.is_dead or task.cancelled():
            raise Unreachable
        await asyncio.sleep(self._network.between(0.0, 0.002))
        return result_of(task)

    def check(self) -> None:
        """Raise ``Broken`` where something is not as it should be now."""
        if self.loop.problems:
            problem = self.loop.problems.pop()
            if not isinstance(problem, PowerOut):
                message = f"unexpected: {type(problem).__name__}: {problem}"
                raise Broken(message) from problem
        process = self.process
        if process is None or not process.is_serving:
            return
        if process.problems:
            message = f"a part of the engine ended: {process.problems[0]!r}"
            raise Broken(message) from process.problems[0]
        process.check_bounds()
        process.note_service()
        self.met["swapped"] += process.swaps
        self.met["swapped features"] += process.swaps_of_features
        process.swaps = process.swaps_of_features = 0
        self.ledger.durable = max(self.ledger.durable, process.engine.log.end)

    def mark(self) -> None:
        """Write down what the live state is."""
        process = self.process
        if process is not None and process.is_serving:
            process.note_service()
            fold = process.engine.fold
            mark = Mark(fold.log_position, fold.digest(), fold.settings.version(), self.generation)
            self.ledger.marks.append(mark)
            self.note(f"state {mark.position} {mark.digest}")

    def kill(self, *, power: bool) -> None:
        """End the process at once, and with ``power`` the machine."""
        process = self.process
        if process is None or process.is_dead:
            return
        self.note("power loss" if power else "killed")
        self.alarm.set()
        process.is_dead = True
        process.disk.release()
        if power:
            self.machine.lose_power()
        else:
            self.machine.shadow.kill()
        self._was_stopped = False

    async def supervise(self) -> None:
        """Start the process whenever it is not there, or says that it cannot go on."""
        while not self._is_over:
            process = self.process
            if process is None:
                await self._start()
            elif process.is_dead:
                await process.die()
                self.process = None
            elif not (process.engine.health().accepts_events or process.is_full):
                await self.stop()
            else:
                self.check()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await self.alarm.wait()
                self.alarm.clear()

    async def stop(self) -> None:
        """Stop the process as an operator does; one that takes too long is killed."""
        process = self.process
        if process is None or not process.is_serving:
            return
        self.note("stop")
        task = process.spawn(process.stop())
        await asyncio.wait((task,), timeout=_STOP_S_MAX)
        if process.is_dead:
            return
        if not task.done():
            message = f"a stop took more than {_STOP_S_MAX} s"
            raise Broken(message)
        log = process.engine.log
        is_clean = task.exception() is None and isinstance(log, SegmentLog) and log.refused.endswith("was closed")
        self.note(f"stopped at {process.engine.log.end}")
        self.ledger.durable = max(self.ledger.durable, process.engine.log.end)
        process.is_dead = True
        process.disk.release()
        self.machine.shadow.kill()
        self._was_stopped = is_clean
        self.alarm.set()

    async def finish(self) -> None:
        """Stop the process for good."""
        self._is_over = True
        self._generation = self.generation
        await self.stop()

    async def healthy(self, is_well: Callable[[], Awaitable[bool]]) -> None:
        """Return when all is well.

        Raises:
            Broken: It is not for too long.
        """
        until = self.loop.time() + HEALTHY_S_MAX
        while True:
            found = await is_well()
            if self.loop.time() > until:
                process = self.process
                reason = "it does not start" if process is None else process.engine.health().reason
                message = f"not healthy {HEALTHY_S_MAX:.0f} s after the last fault: {reason or 'only later'}"
                raise Broken(message)
            if found:
                return
            await asyncio.sleep(_POLL_S)

    async def _start(self) -> None:
        self._starts += 1
        ground = Ground(self.loop, self._folder, self.machine, self.wall, self._dice, self._starts)
        process = Process(ground, self.ledger, lambda: self.kill(power=self._dice.chance(0.5)))
        self.process = process
        task = process.spawn(process.start())
        try:
            await asyncio.wait((task,))
            if not process.is_dead:
                result_of(task)
                self._check_start(process)
        except Broken:
            raise
        except (OSError, MidstreamError) as error:
            # A disk that is full or ill, told as it is or as the fault of the file that it has.
            if not (isinstance(error, OSError | AppendFailed) or isinstance(error.__cause__, OSError)):
                message = f"it does not start: {error}"
                raise Broken(message) from error
            self.note(f"does not start: {type(error).__name__}")
            self.met["no start"] += 1
            process.disk.release()
            process.is_dead = True
            await asyncio.sleep(_BACK_OFF_S)

    def _check_start(self, process: Process) -> None:
        engine, started = process.engine, process.running.started
        self.note(f"start {self._starts} at {engine.log.end} from {started.snapshot_position}")
        self.met["start with the configuration before"] += bool(started.instead_of)
        self.met["start from a snapshot"] += started.snapshot_position > 0
        self.met["start after a torn write"] += bool(started.torn_tail)
        self.met["start past a damaged snapshot"] += bool(started.refused_snapshots)
        if engine.log.end < self.ledger.durable:
            message = f"the log ends at {engine.log.end}, and did at {self.ledger.durable}"
            raise Broken(message)
        if engine.fold.log_position != engine.log.end:
            message = f"it starts at {engine.fold.log_position} of {engine.log.end}"
            raise Broken(message)
        if started.torn_tail and self._was_stopped:
            message = f"a stop left half a commit: {started.torn_tail}"
            raise Broken(message)
        for refused in started.refused_snapshots:
            if refused.partition(":")[0] not in self.damaged and not _is_of_another(refused):
                message = f"a snapshot that nobody damaged was refused: {refused}"
                raise Broken(message)
        self._was_stopped = False
        self.mark()


def _is_of_another(refused: str) -> bool:
    """Return whether a snapshot is good, and of another state than was asked for."""
    return "it has fold version" in refused or "another generation" in refused


def result_of(task: "asyncio.Task[T]") -> T:
    """Return what a task of the process gave.

    Raises:
        MidstreamError: As the task did.
        OSError: As the task did.
        Broken: The task ended by something that nobody expects.
    """
    error = task.exception()
    if error is not None and not isinstance(error, MidstreamError | OSError):
        message = f"unexpected: {error!r}"
        raise Broken(message) from error
    return task.result()
