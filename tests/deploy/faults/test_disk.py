"""Faults of the disk and of the log, in a shop in process: what its scrapes say makes exactly these alerts fire."""

from pathlib import Path

import pytest

from tests.support.alerts.shop import opened, story
from tests.support.alerts.tape import Tape, firing

pytestmark = pytest.mark.integration


@story
async def test_a_disk_that_is_nearly_full(tmp_path: Path) -> Tape:
    """Room of the disk of the data folder, as the kernel says it."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.free_share = 0.04
        tape.hold(await shop.scrape(), lasts="6m")
        tape.check(firing("MidstreamDiskFull"))
        shop.hands.free_share = 0.9
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_disk_that_fills_up(tmp_path: Path) -> Tape:
    """It loses a tenth in an hour, and gets room again."""
    tape = Tape(interval_s=60)
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="10m")
        tape.check()
        shares = [0.45, 0.43, 0.41, 0.39, 0.37]
        for shop.hands.free_share in shares:
            tape.hold(await shop.scrape(), lasts="12m")
        tape.check(firing("MidstreamDiskFillsUp"))
        shop.hands.free_share = 0.9
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check()
    return tape


@story
async def test_a_disk_without_room_for_events(tmp_path: Path) -> Tape:
    """One commit is refused, and nobody sends another event: the first failure counts. Then there is room again."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.disk.is_full = True
        assert await shop.act() == {507}
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check(firing("MidstreamAppendFailures", cause="disk_full"), firing("MidstreamEventsRefused"))
        shop.hands.disk.is_full = False
        assert await shop.act() == {200}
        tape.hold(await shop.scrape(), lasts="6m")
        tape.check()
    return tape


@story
async def test_a_disk_that_breaks(tmp_path: Path) -> Tape:
    """The log takes nothing after one sync that failed; slates that were answered are in no log. A restart mends it."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.disk.is_broken = True
        assert await shop.act() == {503}
        assert await shop.ask() == {200}
        shop.running.engine.flush_served()
        tape.hold(await shop.scrape(), lasts="2m")
        tape.check(
            firing("MidstreamAppendFailures", cause="append_failed"),
            firing("MidstreamEventsRefused"),
            firing("MidstreamServedLost"),
        )
    async with opened(tmp_path) as shop:
        tape.hold(await shop.scrape(), lasts="16m")
        tape.check()
    return tape


@story
async def test_a_disk_that_is_slow(tmp_path: Path) -> Tape:
    """Each durable write takes as long as a disk that stalls."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        shop.hands.disk.sync_s = 0.05
        await shop.act()
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        shop.hands.disk.sync_s = 0.3
        await shop.act()
        tape.repeat(await shop.scrape(), lasts="26m")
        tape.check(firing("MidstreamSlowSyncs"))
        shop.hands.disk.sync_s = 0.0
        await shop.act()
        tape.repeat(await shop.scrape(), lasts="11m")
        tape.check()
    return tape
