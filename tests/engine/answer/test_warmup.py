"""The warm-up compiles all that serving uses, so that no request waits for a compiler."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from midstream.app import wiring
from midstream.app.config.schema import Config
from midstream.core.types import FeatureFrame, Models, Moment, Proposal, Query, Score
from midstream.engine.answer.warmup import WAIT_S_MAX, WarmupResult, warm_up
from midstream.ranking.boundary import LATE
from tests.support.patience import PATIENCE_S
from tests.support.virtual_loop import VirtualLoop

PROBE = Path(__file__).with_name("warmup_probe.py")


@pytest.mark.parametrize("words", [(), ("new",)], ids=["warm", "new_machine"])
def test_nothing_is_compiled_after_the_warm_up(tmp_path, words):
    """A process of its own, because here other tests have compiled kernels already."""
    run = subprocess.run(
        [sys.executable, str(PROBE), str(tmp_path / "shop"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == ""


@dataclass(frozen=True)
class Waiting:
    """Never answers."""

    name: str

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        await asyncio.sleep(3_600)
        return np.ones(len(features.values), np.float32)


@dataclass(frozen=True)
class Spending:
    """Holds the thread for as long as it is told, call by call, and then no more."""

    loop: VirtualLoop
    seconds: tuple[float, ...] = ()
    name: str = "shelf"
    calls: list[float] = field(default_factory=list)

    def retrieve(self, moment: Moment) -> Proposal:
        self.calls.append(self.loop.time())
        if len(self.calls) <= len(self.seconds):
            self.loop.spend(self.seconds[len(self.calls) - 1])
        return Proposal(np.zeros(1, np.int32), np.ones(1, np.float32))


@pytest.fixture(name="loop")
def _loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(lambda: 0.0)
    yield loop
    loop.run_until_complete(asyncio.sleep(10_000.0))
    loop.close()


def tried(loop: VirtualLoop, source: Spending, scorers: tuple[Waiting, ...] = (), copies: int = 1) -> WarmupResult:
    """Ask a plan with components of one's own, several times in each turn."""
    config = Config()
    settings = config.fold_settings()
    made = wiring.plan(config, config.placements[0], settings, Models({}))
    own = frozenset((source.name, *(each.name for each in scorers)))
    plan = replace(made, sources=(source,), scorers=(*scorers, made.scorers[-1]), own=own)
    return loop.run_until_complete(warm_up(settings, (plan,) * copies, loop.time))


def test_all_that_never_answers_is_waited_for_as_long_as_one_request(loop):
    """Three scorers of two plans in all turns together; a part that does not wait is asked all the same."""
    source = Spending(loop)
    trial = tried(loop, source, (Waiting("one"), Waiting("two"), Waiting("three")), copies=2)
    assert 0 < loop.time() <= WAIT_S_MAX
    assert len(source.calls) == 4
    reasons = {each.component: each.reason for each in trial.failures}
    assert reasons.keys() == {"one", "two", "three"}
    assert {each.reason for each in trial.failures if each.component == "three"} == {LATE}
    assert trial.overruns == ()


def test_what_took_long_in_the_first_turn_takes_no_time_from_the_second(loop):
    """It may have been compiled: a scorer that never answers is waited for, and named, all the same."""
    trial = tried(loop, Spending(loop, (60.0,)), (Waiting("one"),))
    late, waited = (each.reason for each in trial.failures if each.component == "one")
    assert late == LATE
    assert waited.startswith("TimeoutError")
    assert trial.overruns == ()


def test_what_does_not_wait_is_asked_however_late_it_is(loop):
    """So that nothing is compiled later: a start may take minutes on a new machine."""
    source = Spending(loop, (60.0,))
    assert tried(loop, source, copies=3).failures == ()
    assert len(source.calls) == 6


@pytest.mark.parametrize(
    "seconds, is_told",
    [((3.0, 3.0, 3.0), True), ((0.0, 3.0, 3.0), True), ((3.0,), False), ((0.0, 3.0, 0.0), False), ((0.02,) * 3, False)],
)
def test_a_part_that_holds_the_thread_whenever_it_is_warm_is_told(loop, seconds, is_told):
    """Once may have been the machine, and the first time may load; half of the deadline of 50 ms is right."""
    trial = tried(loop, Spending(loop, seconds))
    assert [(each.component, each.reason) for each in trial.overruns] == (
        [("shelf", "it took 3000 ms, at most 25 ms are right")] if is_told else []
    )
