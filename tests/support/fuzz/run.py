"""One seed, one run, one verdict; and of a run that fails the shortest beginning that fails as well."""

import asyncio
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from unittest import mock

from midstream.core.errors import MidstreamError
from midstream.engine import child_process
from tests.support.dice import Dice
from tests.support.fuzz.children import Children
from tests.support.fuzz.client_actions import ACTS, Client, is_well
from tests.support.fuzz.conditions import drawn
from tests.support.fuzz.faults import TURNS, Operator
from tests.support.fuzz.proof import prove
from tests.support.fuzz.world import FuzzWorld
from tests.support.virtual_loop import Stuck, VirtualLoop, only_virtual

STEPS = 100
"""Actions of clients in a run: about 400 events and 60 answers, 0.2 s."""
MAXIMA = {
    "midstream.engine.ingest.writer.QUEUE_EVENTS_MAX": 80,
    "midstream.engine.ingest.writer.QUEUE_BYTES_MAX": 24_000,
    "midstream.engine.ingest.writer.FRAME_EVENTS_MAX": 25,
    "midstream.engine.ingest.event_recording.BEHIND_EVENTS_MAX": 60,
    "midstream.engine.ingest.fold_scheduler.WAITERS_MAX": 5,
    "midstream.engine.ingest.fold_scheduler.TURN_EVENTS_MAX": 12,
    "midstream.engine.ingest.fold_scheduler.STEP_COST": 5,
    "midstream.engine.ingest.served_buffer.LOT_EVENTS_MAX": 6,
    "midstream.events.pieces.PIECE_EVENTS": 4,
    "midstream.engine.rebuild.rebuilder.NEAR_EVENTS": 10,
    "midstream.app.config.constraints.HOT_MS_MIN": 1,
    "midstream.app.config.constraints.SEGMENT_BYTES_MIN": 1_000,
    "midstream.app.opening.FOLD_AT_START_EVENTS": 20,
    "midstream.engine.operational_log.LOOK_S": 30.0,
}
"""So small that each is met in most runs; and a look for the log of the process at virtual hours now and then."""
_MEMORY = Path("/dev/shm")  # noqa: S108  a run leaves nothing there
_SHRINKS_MAX = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a run."""

    seed: int
    steps: int
    failure: str
    """Which promise was not kept; empty = all were."""
    trace_hash: str
    """Equal for equal seeds and sources."""
    virtual_s: float
    events: int
    lines: tuple[str, ...]
    """The last lines of the trace."""
    met: Mapping[str, int]
    """What happened, and how often."""

    @property
    def command(self) -> str:
        """What runs it again."""
        return f"python -m tests.support.fuzz --seeds {self.seed} --steps {self.steps}"


def run(seed: int, steps: int = STEPS) -> Verdict:
    """Run one seed to its end, or to the first promise that is not kept."""
    dice = Dice(seed, 4)
    loop = VirtualLoop(lambda: dice.between(0.0001, 0.005))
    folder = Path(tempfile.mkdtemp(prefix="midstream-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
    names = ({name: act.weight for name, act in ACTS.items()}, {name: turn.weight for name, turn in TURNS.items()})
    world = FuzzWorld(seed, steps, drawn(Dice(seed, 0), *names), folder, loop)
    failure = ""
    try:
        with _Named(seed, steps), only_virtual(loop), _small(), _stand_ins(world):
            loop.run_until_complete(_live(world))
    except* (MidstreamError, Stuck) as group:
        failure = _first_text(group)
    finally:
        _close(loop)
        shutil.rmtree(folder, ignore_errors=True)
    world.met.update({f"struck: {spell.value}": count for spell, count in world.weather.struck.items()})
    end = int(world.ledger.durable)
    return Verdict(seed, steps, failure, world.trace_hash, loop.time(), end, tuple(world.lines), world.met)


def shrunk(verdict: Verdict) -> Verdict:
    """Return the same failure after fewer steps, if there is one: steps are cut in halves, then in smaller parts."""
    best = verdict
    cut = best.steps // 2
    for _ in range(_SHRINKS_MAX):
        if cut < 1:
            break
        shorter = run(best.seed, best.steps - cut)
        if shorter.failure:
            best = shorter
        cut = min(cut, best.steps) // 2
    return best


async def _live(world: FuzzWorld) -> None:
    async with asyncio.TaskGroup() as group:
        supervisor = group.create_task(world.supervise())
        await _drive(world)
        supervisor.cancel()


async def _drive(world: FuzzWorld) -> None:
    """Open the shop, let everybody act, heal, see that all is well, and prove what was told."""
    clients = [Client(world, number) for number in range(world.conditions.clients)]
    operator = Operator(world)
    while world.process is None or not world.process.is_serving:  # noqa: ASYNC110  virtual time
        await asyncio.sleep(0.01)
    await clients[0].send(clients[0].traffic.opening())
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.live())
        group.create_task(operator.live())
    operator.heal()
    await world.healthy(lambda: is_well(clients[0]))
    for client in clients:
        await client.settle()
    await world.healthy(lambda: is_well(clients[0]))
    if world.seed % 2:  # the others prove a log of which less was rewritten
        await operator.see_erasures_done()
        await world.healthy(lambda: is_well(clients[0]))
    world.mark()
    world.check()
    await world.finish()
    await prove(world, world.ledger.durable)


class _Named:
    """Notes on whatever goes wrong inside which run it was."""

    def __init__(self, seed: int, steps: int) -> None:
        self._text = f"seed {seed}, {steps} steps"

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        """Add the note."""
        if error is not None:
            error.add_note(self._text)


@contextmanager
def _small() -> Generator[None]:
    with ExitStack() as stack:
        for name, value in MAXIMA.items():
            stack.enter_context(mock.patch(name, value))
        yield


@contextmanager
def _stand_ins(world: FuzzWorld) -> Generator[None]:
    """Put children without processes in the place of real ones, and simulated disks where the engine makes its own."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(child_process, "run", Children(Dice(world.seed, 5)).run))
        stack.enter_context(mock.patch("midstream.engine.erasure.eraser.RealDisk", world.own_disk))
        for name in ("history", "erasure"):
            stack.enter_context(mock.patch(f"midstream.engine.{name}.worker.RealDisk", world.child_disk))
        yield


def _first_text(group: BaseExceptionGroup[BaseException]) -> str:
    first = group.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return _first_text(cast("BaseExceptionGroup[BaseException]", first))
    return str(first)


def _close(loop: VirtualLoop) -> None:
    """Cancel what is left and close the loop."""
    for _ in range(3):
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
