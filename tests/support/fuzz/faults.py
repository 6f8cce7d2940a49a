"""Faults of the machine and the process: a table of small functions, each with a weight."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from midstream.core.errors import AppendFailed, ErasureRunning, Overloaded, RebuildRunning
from midstream.engine.erasure.eraser import LOOK_S
from midstream.engine.snapshots import snapshots
from midstream.state.ids.erased_users import REFUSED_MS
from tests.support.dice import Dice
from tests.support.fuzz.ledger import Broken
from tests.support.fuzz.process import Process
from tests.support.fuzz.traffic import USERS
from tests.support.fuzz.weather import Spell
from tests.support.fuzz.world import FuzzWorld, Unreachable

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
LEAPS = {
    "hour forward": _HOUR_MS,
    "hour back": -_HOUR_MS,
    "day forward": _DAY_MS,
    "day back": -_DAY_MS,
    "year forward": 365 * _DAY_MS,
    "year back": -365 * _DAY_MS,
}
"""Of a clock that is set by hand, by an hour of daylight saving, or by a battery that is empty."""
_DUE_S_MAX = 3 * LOOK_S
"""A rewrite begins at the next look and takes a second or two; one that finds another under way begins anew."""
_LOOK_S = 20.0
_AWAITS_MAX = 12
"""So many turns of the loop an action may wait, to fall between any two of what is under way."""


class Operator:
    """Does to the world what nobody wants, until the run has no steps left."""

    def __init__(self, world: FuzzWorld) -> None:
        """Begin with everything well."""
        self.world = world
        self.dice = Dice(world.seed, 50)

    async def live(self) -> None:
        """Act, and let the machine alone in between."""
        world = self.world
        while world.steps_left > 0:
            await asyncio.sleep(2 * self.dice.share() * world.conditions.calm_s)
            for _ in range(self.dice.below(_AWAITS_MAX)):
                await asyncio.sleep(0)
            if world.steps_left > 0:
                name = self.dice.weighted(world.conditions.turns)
                world.note(f"operator: {name}")
                world.met[name] += 1
                await TURNS[name].run(self)
                world.check()
                world.mark()

    async def see_erasures_done(self) -> None:
        """Wait until the erasures that were asked for are due, and see that they are done, whatever the clock did.

        Raises:
            Broken: One of them is not.
        """
        world = self.world
        world.wall.jump(REFUSED_MS + _HOUR_MS)
        until = world.loop.time() + _DUE_S_MAX
        while (left := await self._pending()) is None or left:
            if world.loop.time() > until:
                raise Broken(f"{left} erasures that were due were not carried out")
            await asyncio.sleep(_LOOK_S)
        world.note("operator: no erasure is left to do")

    async def _pending(self) -> int | None:
        """Return how many erasures wait for the log to be rewritten, None = nobody answers."""

        async def count(process: Process) -> int:
            return len(process.engine.erasures())

        try:
            found = await self.world.ask(count)
        except Unreachable:
            return None
        self.world.met["erasures carried out"] += found > 0
        return found

    def heal(self) -> None:
        """End every fault."""
        self.world.note("operator: heals")
        self.world.weather.clear()
        self.world.wall.go_on()
        process = self.world.process
        if process is not None:
            process.disk.calls_left = None


async def kill(operator: Operator) -> None:
    """End the process; what it wrote is in the cache."""
    operator.world.kill(power=False)


async def lose_power(operator: Operator) -> None:
    """End the machine; what was not synced may be gone, whole or in part."""
    operator.world.kill(power=True)


async def die_in_a_call(operator: Operator) -> None:
    """End the process or the machine in the middle of a later change of the disk."""
    process = operator.world.process
    if process is not None:
        process.disk.calls_left = 1 + operator.dice.few(12)


async def restart(operator: Operator) -> None:
    """Stop the process properly; the supervisor starts it again."""
    await operator.world.stop()


def spell(of: Spell, seconds_max: float) -> Callable[[Operator], Awaitable[None]]:
    """Return an action that makes a spell begin."""

    async def begin(operator: Operator) -> None:
        operator.world.weather.begin(of, operator.dice.between(0.0, seconds_max))

    return begin


async def move_the_clock(operator: Operator) -> None:
    """Set the wall clock forward or back, by some hours or by an hour, a day or a year; stop it, set it right."""
    wall, dice = operator.world.wall, operator.dice
    draw = dice.below(8)
    if draw == 0:
        wall.stop()
    elif draw == 1:
        wall.jump(int(dice.between(0.0, 30 * _HOUR_MS)))
    elif draw == 2:
        wall.jump(-int(dice.between(0.0, 3 * _HOUR_MS)))
    elif draw <= 5:
        name = dice.choice(tuple(LEAPS))
        operator.world.met[f"leap: {name}"] += 1
        wall.jump(LEAPS[name])
    elif draw == 6:
        wall.set_right()
    else:
        wall.go_on()


async def be_quiet(operator: Operator) -> None:
    """Let nobody do anything for some minutes, so that sessions end and ticks are due."""
    seconds = operator.dice.choice((70.0, 200.0, 2_400.0))
    operator.world.quiet_until_s = operator.world.loop.time() + seconds
    await asyncio.sleep(seconds)


async def damage_a_snapshot(operator: Operator) -> None:
    """Flip a bit in a file of a snapshot, take a file away, or leave half a snapshot behind; perhaps all goes down."""
    folder = operator.world.data.snapshots
    names = snapshots.names(folder)
    if not names:
        return
    name = names[operator.dice.few(len(names))]  # the newest more often: a start tries it first
    operator.world.damaged.add(name)
    files = sorted((folder / name).iterdir())
    if not files:
        return
    path = operator.dice.choice(files)
    draw = operator.dice.below(3)
    if draw == 0:
        path.unlink()
    elif draw == 1:
        half = folder / f".writing-{name}"
        half.mkdir(exist_ok=True)
        (half / path.name).write_bytes(path.read_bytes())
    else:
        content = bytearray(path.read_bytes())
        if content:
            content[operator.dice.below(len(content))] ^= 1 << operator.dice.below(8)
            path.write_bytes(content)
    if operator.dice.chance(0.5):
        operator.world.kill(power=True)


async def reconfigure(operator: Operator) -> None:
    """Change the configuration file, and perhaps ask the server to take it, which may need another state."""
    operator.world.configure(operator.dice.choice(operator.world.conditions.texts))
    if operator.dice.chance(0.8):
        await _order(operator, compact=False)


async def compact(operator: Operator) -> None:
    """Ask for a state without the slots of items that are gone."""
    await _order(operator, compact=True)


async def _order(operator: Operator, *, compact: bool) -> None:
    async def order(process: Process) -> str:
        return (await process.running.rebuilder.order(compact=compact)).change

    try:
        change = await operator.world.ask(order)
    except (Unreachable, RebuildRunning) as error:
        change = type(error).__name__
    operator.world.note(f"  change: {change}")
    operator.world.met[f"change: {change}"] += 1


async def seal_the_log(operator: Operator) -> None:
    """Make history of old segments, while everything goes on."""

    async def seal(process: Process) -> int:
        report = None if process.running.sealer is None else await process.running.sealer.seal(hurried=True)
        return -1 if report is None else report.sealed_events

    try:
        sealed = await operator.world.ask(seal)
    except Unreachable:
        return
    operator.world.note(f"  {sealed} events sealed")
    operator.world.met["events sealed" if sealed > 0 else "sealing broken off"] += sealed != 0


async def rewrite(operator: Operator) -> None:
    """Have a user forgotten, and begin to write the log anew without all that are to be."""
    user = f"u{operator.dice.few(USERS)}"  # those of whom there is most

    async def begin(process: Process) -> None:
        await process.erase(user)
        if process.running.eraser is not None:
            process.running.eraser.begin(hurried=True)

    operator.world.met["erase"] += 1
    try:
        await operator.world.ask(begin)
    except (Unreachable, ErasureRunning, AppendFailed, Overloaded) as error:
        operator.world.note(f"  no rewrite: {type(error).__name__}")


class Turn(NamedTuple):
    """One thing that may happen to the machine."""

    weight: float
    run: Callable[[Operator], Awaitable[None]]


TURNS: Mapping[str, Turn] = {
    "kill": Turn(3.0, kill),
    "power loss": Turn(3.0, lose_power),
    "die in a call": Turn(3.0, die_in_a_call),
    "restart": Turn(2.0, restart),
    "disk full": Turn(2.0, spell(Spell.FULL, 4.0)),
    "slow disk": Turn(2.0, spell(Spell.SLOW, 6.0)),
    "failing sync": Turn(2.0, spell(Spell.SYNC, 1.0)),
    "failing write": Turn(1.0, spell(Spell.WRITE, 1.0)),
    "failing reads": Turn(1.0, spell(Spell.READ, 3.0)),
    "failing names": Turn(1.0, spell(Spell.NAMES, 2.0)),
    "clock": Turn(2.0, move_the_clock),
    "quiet": Turn(1.0, be_quiet),
    "configure": Turn(3.0, reconfigure),
    "compact": Turn(0.7, compact),
    "seal": Turn(4.0, seal_the_log),
    "rewrite": Turn(1.0, rewrite),
    "damaged snapshot": Turn(1.0, damage_a_snapshot),
}
