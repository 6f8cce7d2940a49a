"""Faults of events, state, snapshots and erasures, in a shop in process: each makes exactly its alerts fire."""

import asyncio
from pathlib import Path
from unittest.mock import patch

import pytest

from midstream.engine.ingest import writer
from tests.support.alerts.shop import opened, story
from tests.support.alerts.tape import Tape, firing
from tests.support.patience import wait_on_loop

pytestmark = pytest.mark.integration
DAY_S = 86_400.0


@story
async def test_events_that_are_rejected(tmp_path: Path) -> Tape:
    """A client sends a type that there is not, every other time."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        await shop.act()
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        assert await shop.act() | await shop.act(type="viuw") == {200, 422}
        tape.repeat(await shop.scrape(), lasts="20m")
        tape.check(firing("MidstreamDeadLetters"))
        await shop.act()
        tape.repeat(await shop.scrape(), lasts="16m")
        tape.check()
    return tape


@story
async def test_rejected_events_without_room(tmp_path: Path) -> Tape:
    """One event is rejected, and the disk has no room for its letter."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.disk.is_full = True
        assert await shop.act(type="viuw") == {422}
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check(firing("MidstreamDeadLettersLost"))
        shop.hands.disk.is_full = False
        assert await shop.act(type="viuw") == {422}
        tape.hold(await shop.scrape(), lasts="16m")
        tape.check()
    return tape


@story
async def test_a_queue_that_is_full(tmp_path: Path) -> Tape:
    """The log takes nothing more until what waits is written, again and again."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        with patch.object(writer, "QUEUE_EVENTS_MAX", 0):
            assert await shop.act() == {503}
        tape.repeat(await shop.scrape(), lasts="20m")
        tape.check(firing("MidstreamQueueFull", queue="events"))
        assert await shop.act() == {200}
        tape.repeat(await shop.scrape(), lasts="12m")
        tape.check()
    return tape


@story
async def test_a_fold_that_stands(tmp_path: Path) -> Tape:
    """Twelve thousand events are durable, and none of them is in the state."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        body = {"events": [{"type": "view", "session_id": "s1", "item_id": "i1"}] * 500}
        with patch.object(shop.running.engine._folding, "_take_turn", lambda _: None):
            sent = [asyncio.ensure_future(shop.client.post("/v1/events", json=body)) for _ in range(25)]
            await wait_on_loop(lambda: shop.running.engine.log.end > 12_000)
            tape.hold(await shop.scrape(), lasts="4m")
        tape.check(firing("MidstreamFoldBehind"))
        assert {each.status_code for each in await asyncio.gather(*sent)} == {200}
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_snapshots_that_fail(tmp_path: Path) -> Tape:
    """For an hour no child wrote one, although events came."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        snapshotter = shop.running.snapshotter
        assert snapshotter is not None
        await snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.children_fail = True
        await shop.act()
        await snapshotter.write(compare=True)
        shop.hands.pass_by(2_400.0)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
        shop.hands.pass_by(1_300.0)
        tape.hold(await shop.scrape(), lasts="12m")
        tape.check(firing("MidstreamSnapshotOld"))
        shop.hands.children_fail = False
        await snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@pytest.mark.parametrize("mode", ["at_stop", "off"])
@story
async def test_snapshots_that_nobody_wants(tmp_path: Path, mode: str) -> Tape:
    """A server that is to write none while it serves is not told that none was written."""
    tape = Tape()
    async with opened(tmp_path, f'[snapshots]\nmode = "{mode}"\n') as shop:
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
        shop.hands.pass_by(7_200.0)
        await shop.act()
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_snapshot_that_is_not_due(tmp_path: Path) -> Tape:
    """The first event after two quiet hours waits for the next round."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        snapshotter = shop.running.snapshotter
        assert snapshotter is not None
        await snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
        shop.hands.pass_by(7_200.0)
        assert await snapshotter.write(compare=True) is None
        await shop.act()
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_snapshot_that_differs(tmp_path: Path) -> Tape:
    """A bit of the live state is another one than the log says; a start folds it anew."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        snapshotter = shop.running.snapshotter
        assert snapshotter is not None
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.running.engine.fold.items._arrived_ms[0] ^= 1
        await snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check(firing("MidstreamSnapshotMismatch"))
    async with opened(tmp_path) as shop:
        assert shop.running.snapshotter is not None
        await shop.running.snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="65m")
        tape.check()
    return tape


@story
async def test_an_erasure_that_waits(tmp_path: Path) -> Tape:
    """Rewrites of the log have failed for six days and a half; then there is room for one."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        eraser, snapshotter = shop.running.eraser, shop.running.snapshotter
        assert eraser is not None
        assert snapshotter is not None
        await shop.act(user_id="ann")
        assert (await shop.client.delete("/v1/users/ann")).status_code == 202
        shop.hands.pass_by(5 * DAY_S)
        await snapshotter.write(compare=True)
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.pass_by(1.5 * DAY_S)
        await shop.act()
        await snapshotter.write(compare=True)
        shop.hands.children_fail = True
        await asyncio.wait([eraser.begin()])
        tape.hold(await shop.scrape(), lasts="70m")
        tape.check(firing("MidstreamErasureOverdue"))
        shop.hands.children_fail = False
        await eraser.carry_out()
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape
