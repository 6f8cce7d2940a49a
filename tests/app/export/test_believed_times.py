"""A log whose time leapt ahead comes back by an export and an import: every event, in its order, at its time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from midstream.app.config.schema import Config
from midstream.app.export.believed_times import BelievedTimes
from midstream.app.export.events import ExportOptions, export_events
from midstream.app.ingest.import_file import import_file
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import Outside, config_of, open_running
from midstream.core.kinds import Kind
from midstream.core.types import TimestampMs
from midstream.engine.engine import EngineOptions
from midstream.engine.types import Ask
from midstream.events.schema import Event, build, event_at
from tests.support.rig import Rig, view

DAY_MS = 86_400_000
MINUTE_MS = 60_000
BEGIN_MS = 1_750_000_000_000
LEAP_MS = 400 * DAY_MS


def events_of(folder: Path) -> list[Event]:
    return [event_at(batch, index) for batch in LogView(folder).batches() for index in range(len(batch))]


def told(event: Event) -> str:
    """Return an event as everybody but the log tells it; a value that was not sent is unequal to itself."""
    return repr(event._replace(log_time_ms=0))


@pytest.mark.parametrize("form", ["ndjson", "parquet"])
def test_an_export_and_an_import_bring_a_log_back(tmp_path: Path, form: str) -> None:
    """What the page on health says to do: nothing is refused, the order is the log's, and log time is behind the clock
    again, so that what comes then is on time.
    """
    now_ms = BEGIN_MS
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    outside = Outside(clock=lambda: TimestampMs(now_ms))

    async def live() -> None:
        nonlocal now_ms
        running = open_running(before, Config(), EngineOptions(), outside)
        await running.start()
        engine = running.engine
        for number in range(30):
            now_ms += MINUTE_MS
            if number in {10, 14}:
                now_ms += LEAP_MS if number == 10 else -LEAP_MS
            is_wrong = 10 <= number < 14
            sent: dict[str, Any] = {} if number % 3 == 0 else {"time": now_ms - 1_000 - is_wrong * LEAP_MS}
            await engine.record(Rig(now_ms=now_ms).batch(view(f"i{number % 4}", event_id=f"e{number}", **sent)))
            if number % 5 == 0:
                await engine.recommend(Ask(user_id="ann"))
                engine.flush_served()
        assert "log time is" in engine.health().reason
        await running.stop()

    asyncio.run(live())
    file = tmp_path / f"all.{form}"
    summary = export_events(before, config_of(before), file, ExportOptions(form, now_ms=now_ms))
    old = events_of(before)
    assert summary.events == len(old)
    assert summary.log_times_set == sum(each.log_time_ms > now_ms for each in old) > 15
    done = import_file(after, Config(), file)
    assert (done.recorded, done.rejected) == (len(old), 0)
    *new, account = events_of(after)
    assert account.kind == Kind.CONTROL
    assert [told(each) for each in new] == [told(each) for each in old]
    right = {each.event_id: each.event_time_ms for each in old if each.event_id and each.event_time_ms}
    late = {each.event_id: each.log_time_ms - right[each.event_id] for each in new if each.event_id in right}
    assert all(0 <= each <= 5 * MINUTE_MS for each in late.values()), late

    async def again() -> str:
        running = open_running(after, Config(), EngineOptions(), outside)
        await running.start()
        assert running.engine.log.last_log_time_ms <= now_ms
        await running.engine.record(Rig(now_ms=now_ms).batch(view("i1", time=now_ms - 5, event_id="next")))
        reason = running.engine.health().reason
        assert running.engine.log.last_log_time_ms == now_ms
        await running.stop()
        return reason

    assert asyncio.run(again()) == ""


def test_times_that_are_believed_stay() -> None:
    """A log without a leap is passed on as it is, and what nobody knows is the time of the event before."""
    times = BelievedTimes(BEGIN_MS)
    batch = build([Event(Kind.TICK, log_time_ms=BEGIN_MS - 7)])
    assert times.of(batch) is batch
    late = BEGIN_MS + DAY_MS
    rows = [
        Event(Kind.TICK, log_time_ms=late),
        Event(Kind.INTERACTION, event_time_ms=BEGIN_MS - 3, log_time_ms=late),
        Event(Kind.INTERACTION, event_time_ms=BEGIN_MS - 9, log_time_ms=late),
        Event(Kind.INTERACTION, event_time_ms=late, log_time_ms=late),
        Event(Kind.TICK, log_time_ms=late + 1),
    ]
    found = [int(each) - BEGIN_MS for each in times.of(build(rows)).rows["log_time_ms"]]
    assert found == [-7, -3, -3, -3, -3]
    assert times.set_count == 5
    assert times.of(build([])).rows.shape == (0,)


def test_a_log_that_began_in_the_future() -> None:
    """Before the first time that is known all is at that time; where none is, at the clock's."""
    late = BEGIN_MS + DAY_MS
    rows = [
        Event(Kind.TICK, log_time_ms=late),
        Event(Kind.INTERACTION, event_time_ms=BEGIN_MS - 9, log_time_ms=late),
        Event(Kind.TICK, log_time_ms=late),
    ]
    found = [int(each) - BEGIN_MS for each in BelievedTimes(BEGIN_MS).of(build(rows)).rows["log_time_ms"]]
    assert found == [-9, -9, -9]
    assert BelievedTimes(BEGIN_MS).of(build(rows[:1])).rows["log_time_ms"].tolist() == [BEGIN_MS]
