"""Whole engines in simulated worlds: whatever happens, what was promised is kept, and all is well again soon after.

A failure names its seed and the command that runs it again; thousands of seeds are run by
``python -m tests.support.fuzz --seeds 1..5000``.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import cache

import pytest

from tests.support.dice import Dice
from tests.support.fuzz.client_actions import ACTS
from tests.support.fuzz.faults import LEAPS, TURNS
from tests.support.fuzz.run import run, shrunk
from tests.support.fuzz.weather import Spell
from tests.support.patience import PATIENCE_S
from tests.support.virtual_loop import Stuck, VirtualLoop, only_virtual

GROUP = 20
MET = {
    "change: plans",
    "change: state",
    "conflicts",
    "duplicates",
    "erasures carried out",
    "events: AppendFailed",
    "events: DiskFull",
    "events: Overloaded",
    "events: Unreachable",
    "events sealed",
    *(f"leap: {name}" for name in LEAPS),
    "letters recorded",
    "letters refused",
    "no start",
    "own writes not seen in time",
    "rejected",
    "rewritten",
    "slate: empty",
    "slate: floor",
    "slate: full",
    "slate: Overloaded",
    "slates: outcome_elsewhere",
    "slates: outcome_joined",
    "slates: outcome_unattributed",
    "slates: outcome_waiting_evicted",
    "slates: outcomes wait",
    "slates: slate_evicted",
    "slates: slate_expired",
    "slates: slate_forgotten",
    "sealing broken off",
    "start after a torn write",
    "start from a snapshot",
    "start past a damaged snapshot",
    "start with the configuration before",
    "stream: broken off behind a piece",
    "stream: whole",
    "swapped",
    "swapped features",
    "values as of then",
}
"""What a run may meet beside the actions of the tables."""


@cache
def verdict_of(seed):
    """Run a seed once, whichever test asks first."""
    return run(seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", [1, *(pytest.param(first, marks=pytest.mark.long) for first in range(21, 121, GROUP))]
)
def test_every_promise_is_kept(first):
    """Acknowledged is durable and applied once, state follows from the log, answers from state, bounds hold."""
    for seed in range(first, first + GROUP):
        verdict = verdict_of(seed)
        if verdict.failure:
            verdict = shrunk(verdict)
            pytest.fail("\n".join((*verdict.lines, verdict.failure, verdict.command)))


def test_a_seed_decides_everything():
    """The same seed gives the same run, here and in a process whose text hashes differ."""
    mine = [verdict.trace_hash for verdict in (verdict_of(7), verdict_of(8), run(7))]
    assert mine[0] == mine[2]
    assert mine[0] != mine[1]
    command = [sys.executable, "-m", "tests.support.fuzz", "--seeds", "7"]
    environment = {**os.environ, "PYTHONHASHSEED": "3"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert mine[0] in told.stdout


def test_virtual_time():
    """An hour passes at once, timers fire in their order, and work for threads is done on the loop's own."""
    dice = Dice(1)
    loop = VirtualLoop(lambda: dice.between(1.0, 2.0))
    seen: list[str] = []

    async def sleeper(seconds):
        await asyncio.sleep(seconds)
        seen.append(f"{seconds} at {loop.time():.0f}")

    async def main():
        await asyncio.gather(sleeper(3_600), sleeper(5), sleeper(0))
        return await asyncio.to_thread(threading.get_ident)

    began = time.perf_counter()
    with only_virtual(loop):
        assert loop.run_until_complete(main()) == threading.get_ident()
    loop.close()
    assert time.perf_counter() - began < PATIENCE_S
    assert seen == ["0 at 0", "5 at 5", "3600 at 3600"]
    assert 3_601 <= loop.time() <= 3_602


def test_nothing_real_in_a_simulated_run():
    """Sleeps and threads are refused, clocks are the loop's, and who waits for nothing is told so."""
    loop = VirtualLoop(lambda: 0.0)
    with only_virtual(loop):
        assert time.monotonic() == time.time() == 0.0
        with pytest.raises(AssertionError):
            time.sleep(0)
        with pytest.raises(AssertionError):
            threading.Thread(target=print).start()
        with pytest.raises(Stuck):
            loop.run_until_complete(asyncio.Event().wait())
    loop.close()


@pytest.mark.long
def test_everything_is_met():
    """Every action and every fault happens in the first runs, so that what they prove is not about calm weather."""
    met: Counter[str] = Counter()
    for seed in range(1, 61):
        met.update(verdict_of(seed).met)
    struck = {f"struck: {spell.value}" for spell in Spell if spell is not Spell.SLOW}
    assert {*ACTS, *TURNS, *struck, *MET} - {name for name, count in met.items() if count} == set()
