"""Every alert has a fault that was made, and a tape of scrapes says what it is to say."""

import re
from pathlib import Path

import pytest

from tests.support.alerts.scrapes import SHOP, Scrape, read
from tests.support.alerts.shop import Shop, opened, story
from tests.support.alerts.tape import SEVERITY, Tape, firing

FOLDER = Path(__file__).parent
NOT_PROVOKED: dict[str, str] = {}
"""Alerts whose fault is not made in this folder, and why."""
TEXT = """# TYPE midstream_part_benched gauge
midstream_part_benched{{placement="home",part="near"}} {benched}
# TYPE midstream_served_lost_total counter
midstream_served_lost_total {lost}
"""


def test_each_alert_has_its_fault() -> None:
    """One that is named by ``firing`` fires in that test, since a tape is played with exactly the named ones."""
    texts = [path.read_text("utf-8") for path in FOLDER.glob("test_*.py") if path != Path(__file__)]
    found = {name for text in texts for name in re.findall(r'firing\(\s*"(\w+)"', text)}
    assert set(SEVERITY) - found == NOT_PROVOKED.keys()
    assert found <= SEVERITY.keys()


def told(benched: int = 0, lost: int = 0, name: str = "midstream_part_benched") -> Scrape:
    """Return a scrape of two metrics."""
    return read(TEXT.format(benched=benched, lost=lost).replace("midstream_part_benched", name))


def tape_of(*, name: str = "midstream_part_benched", alert: str = "MidstreamPartBenched") -> Tape:
    """Return a tape on which a part is left out for a quarter of an hour."""
    tape = Tape(interval_s=60)
    tape.hold(told(), lasts="5m")
    tape.check()
    tape.hold(told(benched=1, name=name), lasts="15m")
    tape.check(firing(alert, placement="home", part="near"))
    tape.hold(told(), lasts="2m")
    tape.check()
    return tape


@pytest.mark.integration
def test_a_metric_of_another_name_is_found(tmp_path: Path) -> None:
    """And so are another alert, another label, and one that fires before or after."""
    tape_of().play(tmp_path)
    for wrong in (tape_of(name="midstream_part_left_out"), tape_of(alert="MidstreamQueueFull")):
        with pytest.raises(AssertionError, match="FAILED"):
            wrong.play(tmp_path)
    for held in ((1, 1, 0), (0, 1, 1), (0, 0, 0)):
        tape = Tape(interval_s=60)
        for place, benched in enumerate(held):
            tape.hold(told(benched=benched), lasts="15m")
            tape.check(*[firing("MidstreamPartBenched", placement="home", part="near")][: place == 1])
        with pytest.raises(AssertionError, match="FAILED"):
            tape.play(tmp_path)


def values(tape: Tape, metric: str) -> list[str]:
    """Return what a tape has of one metric."""
    (found,) = (each.values for name, each in tape._series.items() if name.startswith(metric))
    return found


def test_counters_grow_as_between_two_scrapes() -> None:
    """Again and again where that is said, from where they were; a restart begins anew; what is gone is stale."""
    tape = Tape(interval_s=60)
    tape.hold(told(lost=2), lasts="2m")
    tape.repeat(told(lost=5), lasts="3m")
    tape.hold(told(lost=6), lasts="1m")
    tape.hold(told(lost=1), lasts="1m")
    tape.hold(Scrape(SHOP, is_up=False), lasts="2m")
    expected = ["2.0", "2.0", "5.0", "8.0", "11.0", "12.0", "1.0", "stale", "_"]
    assert values(tape, "midstream_served_lost_total") == expected
    assert values(tape, "up") == ["1.0"] * 7 + ["0.0"] * 2


@pytest.mark.integration
@story
async def test_a_shop_without_a_fault_is_quiet(tmp_path: Path) -> Tape:
    """Under a little load no alert is even pending, for hours."""
    tape = Tape()
    async with opened(tmp_path) as shop:
        for lasts in ("10m", "20m", "30m"):
            await used(shop)
            tape.repeat(await shop.scrape(), lasts=lasts)
            tape.check()
    return tape


async def used(shop: Shop) -> None:
    """Act and ask."""
    assert await shop.act(10) == {200}
    assert await shop.ask(10) == {200}
