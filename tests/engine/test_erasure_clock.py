"""Erasures are due when they were promised, whatever the clock did before, meanwhile and across restarts."""

import asyncio
from pathlib import Path

import pytest

from midstream.app.opening import Outside, open_running
from midstream.core.kinds import Kind
from midstream.core.types import TimestampMs
from midstream.engine.engine import EngineOptions
from midstream.engine.instance import Instance
from midstream.engine.pending_erasures import DAY_MS, ErasureAges, erase_event
from midstream.events.schema import Event, build
from midstream.state.fold import Fold
from midstream.state.ids.erased_users import REFUSED_MS
from tests.support.events import START_MS, tiny_settings
from tests.support.rig import SMALL, Rig, view

HOUR_MS = 3_600_000
DAYS_MAX = 7
LEAPS = [sign * size for size in (HOUR_MS, DAY_MS, 365 * DAY_MS) for sign in (1, -1)]


class Machine:
    """A clock that leaps, the time that really went by, and a state with erasures."""

    def __init__(self) -> None:
        self.gone_ms = 0
        self.wrong_by_ms = 0
        self.fold = Fold(tiny_settings())
        self.start()

    def start(self) -> None:
        """Begin a process."""
        self.ages = ErasureAges(lambda: self.now_ms, lambda: self.gone_ms / 1_000, DAYS_MAX, self.fold)

    @property
    def now_ms(self) -> TimestampMs:
        return TimestampMs(START_MS + self.gone_ms + self.wrong_by_ms)

    def record(self, event: Event) -> None:
        log_time_ms = max(self.fold.log_time_ms, self.now_ms)
        self.fold.apply(self.fold.log_position, build([event._replace(log_time_ms=log_time_ms)]))

    def erase(self, user: str) -> int:
        """Erase a user; return until when that is to be carried out."""
        self.record(erase_event(user, self.now_ms))
        return self.ages.due(self.fold)[-1].erase_by_ms

    @property
    def waited_ms(self) -> int:
        return self.ages.longest_ms(self.fold)

    def check_promise(self) -> None:
        """No date is further away than was promised."""
        for each in self.ages.due(self.fold):
            assert each.erase_by_ms <= self.now_ms + DAYS_MAX * DAY_MS


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("leap_ms", LEAPS)
def test_a_clock_that_leapt_before_an_erase(leap_ms: int, *, restarts: bool) -> None:
    """The clock stood wrong at one event and is right again: the date is a week away, and it is due within a day."""
    machine = Machine()
    machine.wrong_by_ms = leap_ms
    machine.record(Event(Kind.TICK))
    machine.wrong_by_ms = 0
    assert machine.erase("ann") == machine.now_ms + DAYS_MAX * DAY_MS
    if restarts:
        machine.start()
    machine.check_promise()
    machine.gone_ms += REFUSED_MS + 1
    machine.check_promise()
    assert machine.waited_ms > REFUSED_MS


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("leap_ms", LEAPS)
def test_a_clock_that_leaps_after_an_erase(leap_ms: int, *, restarts: bool) -> None:
    """Forward it may be carried out sooner; back it is due when a day went by, not when the clock comes round."""
    machine = Machine()
    promised = machine.erase("ann")
    machine.wrong_by_ms = leap_ms
    if restarts:
        machine.start()
    machine.check_promise()
    assert machine.ages.due(machine.fold)[0].erase_by_ms <= promised
    machine.gone_ms += REFUSED_MS + 1
    assert machine.waited_ms > REFUSED_MS
    machine.wrong_by_ms = 0
    machine.check_promise()
    assert machine.waited_ms > REFUSED_MS


@pytest.mark.parametrize("leap_ms", LEAPS)
def test_an_erase_while_the_clock_stands_wrong(leap_ms: int) -> None:
    """Asked for in the future or the past, and the clock is put right: due within a day, with or without a start."""
    for restarts in (False, True):
        machine = Machine()
        machine.record(Event(Kind.TICK))
        machine.wrong_by_ms = leap_ms
        assert machine.erase("ann") <= machine.now_ms + DAYS_MAX * DAY_MS
        machine.wrong_by_ms = 0
        if restarts:
            machine.start()
        machine.check_promise()
        machine.gone_ms += REFUSED_MS + 1
        machine.check_promise()
        assert machine.waited_ms > REFUSED_MS


@pytest.mark.parametrize("leap_ms", [HOUR_MS, 20 * HOUR_MS, 5 * DAY_MS])
def test_an_erase_that_log_time_was_ahead_of(leap_ms: int) -> None:
    """Known from its event in a later process: as old as the clock says, not as a log time that the clock reached."""
    machine = Machine()
    machine.wrong_by_ms = leap_ms
    machine.record(Event(Kind.TICK))
    machine.wrong_by_ms = 0
    promised = machine.erase("ann")
    machine.gone_ms += leap_ms + HOUR_MS  # nobody served meanwhile
    machine.start()
    assert machine.waited_ms == leap_ms + HOUR_MS
    assert machine.ages.due(machine.fold)[0].erase_by_ms == promised


def test_without_a_leap_an_erase_is_as_old_as_the_log_says() -> None:
    """Across restarts too, and what was carried out is forgotten."""
    machine = Machine()
    promised = machine.erase("ann")
    for _ in range(3):
        machine.gone_ms += 5 * HOUR_MS
        machine.start()
        assert machine.waited_ms == machine.gone_ms
        assert machine.ages.due(machine.fold)[0].erase_by_ms == promised
    machine.fold.vocabulary.erasures.carry_out(machine.fold.log_time_ms)
    assert machine.ages.due(machine.fold) == []
    assert machine.waited_ms == 0


def test_health_and_the_eraser_go_by_it(tmp_path: Path) -> None:
    """After a leap of 400 days an engine promises a week, begins within a day or so, and warns when it does not."""
    now_ms, gone_s = START_MS, 0.0
    outside = Outside(clock=lambda: TimestampMs(now_ms), monotonic=lambda: gone_s)

    def opened() -> Instance:
        return open_running(tmp_path, SMALL, EngineOptions(logs_served=False), outside)

    async def first() -> None:
        nonlocal now_ms, gone_s
        running = opened()
        await running.start()
        engine, eraser = running.engine, running.eraser
        assert eraser is not None
        now_ms += 400 * DAY_MS
        await engine.record(Rig().batch(view("mug")))
        now_ms -= 400 * DAY_MS
        due = await engine.erase("ann")
        assert due.erase_by_ms == now_ms + DAYS_MAX * DAY_MS
        assert not eraser.is_due()
        now_ms, gone_s = now_ms + 25 * HOUR_MS, gone_s + 25 * 3_600
        assert eraser.is_due()
        assert "erasure" not in engine.health().reason
        now_ms, gone_s = now_ms + 5 * DAY_MS, gone_s + 5 * 86_400
        assert "an erasure is due within a day" in engine.health().reason
        now_ms, gone_s = now_ms + 2 * DAY_MS, gone_s + 2 * 86_400
        assert "an erasure is 1.0 days older than was promised" in engine.health().reason
        await running.stop()

    async def again() -> None:
        running = opened()
        await running.start()
        engine, eraser = running.engine, running.eraser
        assert eraser is not None
        assert engine.erasures()[0].erase_by_ms <= now_ms
        await asyncio.wait_for(asyncio.shield(eraser._task or eraser.begin()), None)  # due at the first look
        assert engine.erasures() == []
        assert "erasure" not in engine.health().reason
        await running.stop()

    asyncio.run(first())
    asyncio.run(again())


def test_health_reads_the_clocks_once_however_many_wait() -> None:
    """Thousands of erasures that wait are no work for whoever asks how the server is: the clocks are read once."""
    machine = Machine()
    for number in range(5):
        machine.erase(f"user {number}")
    machine.gone_ms = HOUR_MS
    asked = 0

    def clock() -> TimestampMs:
        nonlocal asked
        asked += 1
        return machine.now_ms

    ages = ErasureAges(clock, lambda: machine.gone_ms / 1_000, DAYS_MAX, machine.fold)
    asked = 0
    assert ages.longest_ms(machine.fold) == HOUR_MS
    assert len(ages.due(machine.fold)) == 5
    assert asked == 2
