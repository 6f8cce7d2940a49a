"""A leap forward is believed when it has stood; a clock that goes back, or by seconds, is followed."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.opening import Outside, open_running, open_shop
from midstream.app.steady_clock import LEAP_MS_MAX, STANDS_S, SteadyClock
from midstream.engine.engine import EngineOptions
from tests.support.events import START_MS
from tests.support.rig import SMALL, Rig, view

HOUR_MS = 3_600_000
LEAPS = [HOUR_MS, 24 * HOUR_MS, 365 * 24 * HOUR_MS]


class Machine:
    """A wall clock that is wrong by something, and the time since the start."""

    def __init__(self) -> None:
        self.since_s = 10.0
        self.wrong_by_ms = 0
        self.clock = SteadyClock(lambda: self.right_ms + self.wrong_by_ms, lambda: self.since_s)

    @property
    def right_ms(self) -> int:
        return START_MS + int(self.since_s * 1_000)


@pytest.mark.parametrize("leap_ms", LEAPS)
def test_a_leap_forward_for_a_while_is_not_followed(leap_ms: int) -> None:
    """Time goes on from before it, and with the clock when that is right again."""
    machine = Machine()
    machine.wrong_by_ms = leap_ms
    for _ in range(59):
        assert machine.clock() == machine.right_ms
        assert machine.clock.leap_ms == leap_ms
        machine.since_s += 60
    machine.wrong_by_ms = 0
    assert machine.clock() == machine.right_ms
    assert machine.clock.leap_ms == 0


@pytest.mark.parametrize("leap_ms", LEAPS)
def test_a_leap_that_stands_is_believed(leap_ms: int) -> None:
    """After an hour, as a machine that was stopped needs it."""
    machine = Machine()
    machine.wrong_by_ms = leap_ms
    machine.clock()
    machine.since_s += STANDS_S
    assert machine.clock() == machine.right_ms + leap_ms
    assert machine.clock.leap_ms == 0
    machine.since_s += 1
    assert machine.clock() == machine.right_ms + leap_ms


@pytest.mark.parametrize("leap_ms", LEAPS)
def test_a_clock_that_goes_back_is_followed_and_may_come_back(leap_ms: int) -> None:
    """Coming back is no leap."""
    machine = Machine()
    machine.wrong_by_ms = -leap_ms
    assert machine.clock() == machine.right_ms - leap_ms
    machine.since_s += 5
    machine.wrong_by_ms = 0
    assert machine.clock() == machine.right_ms
    assert machine.clock.leap_ms == 0


def test_there_and_back_and_there_again_is_a_leap_each_time() -> None:
    """The hour begins anew, so a clock that flickers is never believed."""
    machine = Machine()
    for _ in range(20):
        machine.wrong_by_ms = LEAPS[-1]
        assert machine.clock() == machine.right_ms
        machine.since_s += STANDS_S / 2
        machine.wrong_by_ms = 0
        assert machine.clock() == machine.right_ms
        machine.since_s += STANDS_S / 2


@given(st.lists(st.integers(-LEAP_MS_MAX // 4, LEAP_MS_MAX // 4), max_size=30))
def test_a_clock_that_is_set_a_little_is_followed(steps: list[int]) -> None:
    """As NTP sets it."""
    machine = Machine()
    for step in steps:
        machine.wrong_by_ms = step
        machine.since_s += 1
        assert machine.clock() == machine.right_ms + step


def test_a_server_follows_it(tmp_path: Path) -> None:
    """A year for some minutes moves no log time; health says it, and what comes is on time."""
    assert isinstance(Outside().clock, SteadyClock)
    machine = Machine()

    async def main() -> None:
        outside = Outside(clock=machine.clock, monotonic=lambda: machine.since_s)
        running = open_running(tmp_path, SMALL, EngineOptions(logs_served=False), outside)
        await running.start()
        engine = running.engine
        await engine.record(Rig().batch(view("mug", event_id="1")))
        machine.wrong_by_ms = LEAPS[-1]
        machine.since_s += 60
        await engine.record(Rig().batch(view("mug", event_id="2")))
        assert engine.log.last_log_time_ms == machine.right_ms
        assert running.service.accept.now_ms == 0
        reason = engine.health().reason
        assert reason.startswith("the clock leapt forward by 31536000 s")
        machine.wrong_by_ms = 0
        assert engine.health().reason == ""
        machine.wrong_by_ms = LEAPS[-1]
        machine.clock()
        machine.since_s += STANDS_S
        await engine.record(Rig().batch(view("mug", event_id="3")))
        assert engine.log.last_log_time_ms == machine.right_ms + LEAPS[-1]
        assert "clock" not in engine.health().reason
        await running.stop()

    asyncio.run(main())


def test_followers_and_embedding_ask_the_one_clock(tmp_path: Path) -> None:
    """Terms on which events are taken have the time that stamps them."""
    with open_shop(tmp_path, SMALL) as shop:
        shop.running.engine.host.clock._offset_ms -= 2 * LEAP_MS_MAX  # type: ignore[attr-defined]
        assert shop._accept().now_ms == pytest.approx(shop.running.engine.clock(), abs=60_000)
        assert "the clock leapt forward" in shop.running.engine.health().reason
