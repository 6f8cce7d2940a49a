"""Faults that probes and backups find: of a shop in process, and of the files that scheduled commands write."""

import errno
from pathlib import Path
from unittest.mock import patch

import pytest

from midstream.app.opening import open_shop
from midstream.app.scheduled import backup_rotation
from midstream.app.scheduled.backup_rotation import BackupOrder, scheduled_backup
from midstream.app.scheduled.probe import ProbeOrder, probe
from midstream.core.errors import Invalid
from midstream.engine.online.freshness_probe import FreshnessProbe
from tests.support.alerts.promtool import promtool
from tests.support.alerts.scrapes import NODE, SHOP, Scrape, collected, scraped
from tests.support.alerts.shop import LIMITS, Shop, opened, story, write
from tests.support.alerts.tape import Tape, firing
from tests.support.served_shop import served_shop

pytestmark = pytest.mark.integration
PROBED = '[probe]\nevery = "1h"\nwithin = "1s"\n'
WELL = Scrape(SHOP)
"""Of a server whose own samples do not matter: it is there."""


@story
async def test_answers_without_the_newest_events(tmp_path: Path) -> Tape:
    """Probes of the process itself are late and refused, each half a minute, and are fresh again."""
    tape = Tape()
    async with opened(tmp_path, PROBED) as shop:
        (found,) = (each for each in shop.running.services if isinstance(each, FreshnessProbe))
        assert (await found.probe()).outcome == "fresh"
        tape.repeat(await shop.scrape(), lasts="5m")
        tape.check()
        await probed_slowly(shop, found)
        tape.repeat(await shop.scrape(), lasts="14m")
        tape.check(firing("MidstreamNotFresh"))
        assert (await found.probe()).outcome == "fresh"
        tape.repeat(await shop.scrape(), lasts="11m")
        tape.check()
    return tape


async def probed_slowly(shop: Shop, found: FreshnessProbe) -> None:
    """Make a probe while a durable write takes two seconds."""
    shop.hands.disk.sync_s = 2.0
    assert (await found.probe()).outcome == "late"
    shop.hands.disk.sync_s = 0.0


def test_a_server_that_a_probe_does_not_reach(tmp_path: Path) -> None:
    """The command of the timer says so in its file; then nobody starts it for half an hour."""
    promtool()
    tape, files = Tape(), tmp_path / "node"
    files.mkdir()
    order = ProbeOrder(within_s=30.0, metrics=files / "midstream-probe.prom")
    shop = tmp_path / "shop"
    shop.mkdir()
    with served_shop(shop, LIMITS) as url:
        assert probe(shop, order).is_fresh
        tape.hold(up := scraped(url), collected(files), lasts="5m")
        tape.check()
    assert not probe(shop, order).is_fresh
    tape.hold(down := scraped(url), collected(files), lasts="5m")
    tape.check(firing("MidstreamDown"), firing("MidstreamProbeFailing", NODE))
    with served_shop(shop, LIMITS) as url:
        assert probe(shop, order).is_fresh
        tape.hold(scraped(url), collected(files), lasts="3m")
        tape.check()
        assert up.is_up
        assert not down.is_up
        last = collected(files)
        tape.hold(scraped(url), last, lasts="9m")
        tape.check()
        tape.hold(scraped(url), Scrape(NODE, last.samples, taken_s=last.taken_s + 540), lasts="9m")
        tape.check(firing("MidstreamProbeMissing", NODE))
        assert probe(shop, order).is_fresh
        tape.hold(scraped(url), collected(files), lasts="2m")
        tape.check()
    tape.hold(lasts="7m")
    tape.check(firing("MidstreamAbsent", instance=""))
    tape.hold(up, collected(files), lasts="2m")
    tape.check()
    tape.play(tmp_path)


def test_backups_that_fail(tmp_path: Path) -> None:
    """A drill finds a copy that cannot be restored; then no copy is made for more than a day."""
    promtool()
    tape, files, shop = Tape(interval_s=60), tmp_path / "node", tmp_path / "shop"
    files.mkdir()
    shop.mkdir()
    write(shop)
    with open_shop(shop) as open_:
        open_.record([{"type": "view", "user_id": f"u{number}", "item_id": "mug"} for number in range(20)])
    order = BackupOrder(keep=2, drill=True, metrics=files / "midstream-backup.prom")
    scheduled_backup(shop, tmp_path / "first", order)
    tape.hold(WELL, collected(files), lasts="5m")
    tape.check()
    no_room = OSError(errno.ENOSPC, "No space left on device")
    with patch.object(backup_rotation, "restore", side_effect=no_room), pytest.raises(Invalid):
        scheduled_backup(shop, tmp_path / "second", order)
    tape.hold(WELL, collected(files), lasts="5m")
    tape.check(firing("MidstreamRestoreDrillFailed", NODE))
    scheduled_backup(shop, tmp_path / "third", order)
    tape.hold(WELL, good := collected(files), lasts="5m")
    tape.check()
    tape.hold(WELL, aged(good, 25 * 3_600.0), lasts="5m")
    tape.check()
    tape.hold(WELL, aged(good, 27 * 3_600.0), lasts="5m")
    tape.check(firing("MidstreamBackupOld", NODE))
    tape.hold(WELL, collected(files), lasts="5m")
    tape.check()
    tape.play(tmp_path)


def aged(scrape: Scrape, seconds: float) -> Scrape:
    """Return what the same files say later."""
    return Scrape(scrape.job, scrape.samples, scrape.is_up, scrape.taken_s + seconds)
