"""Online metrics of a running engine: those that the log gives, settled as time goes, with alarms that resolve."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

import midstream
from midstream.app.inspect.online_report import OnlineAsk, online_report
from midstream.app.opening import config_of
from midstream.app.operate.model_registry import registry_of
from midstream.engine.instance import Instance
from midstream.engine.online import figuring as figuring_module
from midstream.engine.online.figuring import OnlineFiguring
from midstream.engine.online.views import NOTHING, OnlineDrift, OnlineView
from midstream.engine.recommender import Recommender
from midstream.engine.types import Answer, Ask
from midstream.events.json.decode import decode_objects
from midstream.events.processes.thread_pace import ThreadPace
from midstream.feedback import live_windows
from midstream.monitoring import served_calibration
from midstream.monitoring.served_calibration import RankerVersion
from midstream.serving.app import Maintenance, asgi
from tests.support.fakes.models import publish_linear, run_folder, write_ranked
from tests.support.fakes.rebuilds import write_config

HOME = '[[placements]]\nname = "home"\nslate_size = 4\n[[placements.sources]]\nkind = "popular"\n'


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Recommender]:
    """An open shop in which three visitors were served, one of whom clicked and bought."""
    write_config(tmp_path, HOME)
    with midstream.open(tmp_path) as opened:
        opened.record([{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"{n}"} for n in range(9)])
        first = opened.recommend("home", session_id="s1", context={"country": "de"})
        opened.recommend("home", session_id="s1", context={"country": "fr"})
        opened.recommend("home", user_id="ann")
        item, named = first.items[0].id, {"session_id": "s1", "request_id": first.request_id}
        opened.record([{"type": "impression", "item_id": item, **named}, {"type": "click", "item_id": item, **named}])
        opened.record({"type": "purchase", "item_id": item, "value": 12.5, **named})
        yield opened


def figuring(shop: Recommender) -> OnlineFiguring:
    """The service of a shop."""
    found = shop.running.online
    assert found is not None
    return found


def look(shop: Recommender) -> OnlineView:
    """Make a round."""
    return shop._wait(figuring(shop).look)


def text_of(shop: Recommender) -> str:
    """Metrics as they are scraped."""
    return shop._call(shop.running.engine.metrics.text).decode()


def test_figures_are_those_of_the_log(shop: Recommender, tmp_path: Path) -> None:
    """By window and label, as ``midstream report`` prints them of the same folder."""
    found = look(shop)
    asked = OnlineAsk(segments=("country",))
    report = online_report(tmp_path, config_of(tmp_path), asked)
    told = {(each.window, each.label, each.value): each for each in found.rows}
    for row in report.rows:
        if row.label == "plan":
            continue
        same = told[{3_600_000: "1h", 86_400_000: "1d"}[row.window_ms], row.label, row.value]
        for name, value in same.so_far.items():
            expected = getattr(row.so_far, name)
            assert value == (None if np.isnan(expected) else pytest.approx(expected)), (row.label, name)
        assert (same.slates, same.open) == (row.so_far.slates, row.open)
    home = told["1h", "placement", "home"]
    assert (home.slates, home.open, home.so_far["click_rate"], home.settled["click_rate"]) == (3, 3, 1.0, None)
    assert {value for _, label, value in told if label == "context.country"} == {"de", "fr", "none"}
    assert (found.unread, found.left_out) == (0, 0)


def test_hours_are_those_of_the_windows(shop: Recommender) -> None:
    """All slates of the last hours lie in the hours, with their outcomes so far; a variant counts for its placement."""
    variants = [{"name": "as-is"}, {"name": "few", "change": {"slate_size": 2}}]
    shop.experiments.start("size", placement="home", variants=variants, author="ann")
    for number in range(8):
        shop.recommend("home", user_id=f"user-{number}")
    shop.record({"type": "view", "user_id": "u", "item_id": "i1"})
    found = look(shop)
    assert [each.placement for each in found.hours] == [None, "home"]
    for each in found.hours:
        sums = [sum(column or ()) for column in (each.slates, each.impressions, each.clicks, each.conversions)]
        assert (sums, sum(each.revenue or ())) == ([11, 1, 1, 1], 12.5)
        assert each.begin % 3_600_000 == 0
        assert 0 <= found.now - each.begin - 3_600_000 * (len(each.slates) - 1) < 3_600_000
    assert found.settle_ms == figuring_module.SETTLE_MS


def test_hours_of_acts_that_are_not_configured_are_null(tmp_path: Path) -> None:
    """No rate of 0 is made of them."""
    write_config(tmp_path, "[events.types]\nview = {}\n" + HOME)
    with midstream.open(tmp_path) as opened:
        opened.record([{"type": "view", "user_id": "u", "item_id": "i", "event_id": "1"}])
        opened.recommend("home", user_id="u")
        opened.record([{"type": "view", "user_id": "u", "item_id": "i", "event_id": "2"}])
        (each, _) = look(opened).hours
    assert (each.slates, each.clicks, each.conversions, each.revenue) == ((1,), None, None, None)


def test_gauges_have_placements_and_no_segments(shop: Recommender) -> None:
    """Before the first round there are none."""
    assert "midstream_online_slates{" not in text_of(shop)
    look(shop)
    said = text_of(shop)
    assert 'midstream_online_slates{label="placement",value="home",window="1h"} 3.0' in said
    assert 'midstream_online_open_slates{label="placement",value="home",window="1h"} 3.0' in said
    assert "midstream_online_click_rate{" not in said  # none is settled
    assert "context.country" not in said
    assert 'midstream_online_behind{why="unread"} 0.0' in said


def test_slates_settle_and_late_outcomes_count(shop: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once their time is over; an outcome that comes after that counts in the next round."""
    assert _home(look(shop)).open == 3
    monkeypatch.setattr(figuring_module, "SETTLE_MS", 0)
    before = _home(look(shop))
    assert (before.open, before.settled["slates"], before.settled["click_rate"]) == (0, 3, 1.0)
    late = shop.recommend("home", user_id="bob")
    shop.record({"type": "impression", "user_id": "bob", "item_id": late.items[0].id, "request_id": late.request_id})
    after = _home(look(shop))
    assert (before.settled["impressions"], after.settled["impressions"]) == (1, 2)
    assert after.settled["click_rate"] == 0.5
    assert 'midstream_online_click_rate{label="placement",value="home",window="1h"} 0.5' in text_of(shop)


def _home(found: OnlineView) -> Any:
    return next(each for each in found.rows if each.label == "placement" and each.window == "1h")


def test_a_round_reads_so_many_records(shop: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slates that are not read yet are in no figure, and said; the next rounds read them."""
    monkeypatch.setattr(live_windows, "RECORDS_MAX", 2)
    first = look(shop)
    assert (first.unread, _home(first).slates) == (1, 2)
    second = look(shop)
    assert (second.unread, _home(second).slates) == (0, 3)


def test_an_alarm_is_a_concern_until_it_is_over(shop: Recommender) -> None:
    """Of health, in words; with no alarm there is none."""
    service = figuring(shop)
    quiet = OnlineDrift("home", "score", "none", 0.1, None, None, alarm=False)
    alarm = OnlineDrift("home", "click", "", -0.4, -0.5, -0.3, alarm=True)
    service.view = msgspec.structs.replace(NOTHING, drift=(quiet,))
    assert service.concern().said == ""
    service.view = msgspec.structs.replace(NOTHING, drift=(quiet, alarm))
    reason = shop._call(shop.running.engine.health).reason
    assert "the click rate of home is -40% against the days before" in reason
    look(shop)
    assert "click rate" not in shop._call(shop.running.engine.health).reason


def test_a_ranker_in_service_is_held_to_its_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it predicts is in the served record, and what follows in the state; of the version in service alone."""
    write_ranked(tmp_path)
    versions = [publish_linear(registry_of(tmp_path)) for _ in range(2)]
    monkeypatch.setattr(figuring_module, "SETTLE_MS", 0)

    async def work(running: Instance) -> None:
        service = running.online
        assert service is not None
        views = [{"type": "view", "user_id": "ann", "item_id": f"item-{number}"} for number in range(5)]
        await running.engine.record(decode_objects(views, running.service.accept).batch)
        await running.champions.promote("ranker", versions[0])
        seen: list[dict[str, str]] = []
        for number in range(40):
            told = await asked(running, f"u{number}")
            if number < 30:
                seen.append({"user_id": f"u{number}", "item_id": told.items[0].id, "request_id": told.request_id})
        events = [{"type": kind, **each} for each in seen for kind in ("impression", "click")]
        await running.engine.record(decode_objects(events, running.service.accept).batch)
        await running.engine.record(decode_objects([{"type": "view", **seen[0]}], running.service.accept).batch)
        few = next(each for each in (await service.look()).drift if each.of == "calibration")
        assert (few.placement, few.model, few.figure) == ("home", f"ranker {versions[0]}", None)
        assert {each.by for each in service._forecasts.values()} == {RankerVersion("ranker", versions[0])}
        monkeypatch.setattr(served_calibration, "UNITS_MIN", 2)
        enough = next(each for each in (await service.look()).drift if each.of == "calibration")
        assert enough.figure == pytest.approx(0.0), "all whose slates were seen acted"
        assert service.miscalibrated_since("ranker", versions[0]) == 0
        service.view = msgspec.structs.replace(
            NOTHING, drift=(msgspec.structs.replace(enough, figure=-0.4, alarm=True),)
        )
        assert service.miscalibrated_since("ranker", versions[0]) == enough.since
        assert service.miscalibrated_since("ranker", versions[1]) == 0
        assert f"acts on what ranker {versions[0]} puts first in home are -40%" in service.concern().said
        await running.champions.promote("ranker", versions[1])
        assert not [each for each in (await service.look()).drift if each.of == "calibration"]

    run_folder(tmp_path, work)


async def asked(running: Instance, user: str) -> Answer:
    """A slate of three for a user, whenever it comes."""
    return await running.engine.recommend(Ask(placement="home", user_id=user, n=3, deadline_ms=10_000))


def test_the_route_has_the_newest_round(shop: Recommender) -> None:
    """Figures as JSON; null where a denominator is 0."""
    look(shop)

    async def asked() -> httpx.Response:
        running = shop.running
        app = asgi(running.engine, lambda: running.service.accept, upkeep=Maintenance(online=running.online))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.get("/v1/online-metrics")

    answer = shop._wait(asked)
    assert answer.status_code == 200
    told = answer.json()
    row = next(each for each in told["rows"] if (each["label"], each["window"]) == ("placement", "1h"))
    assert (row["value"], row["slates"], row["settled"]["click_rate"]) == ("home", 3, None)


def test_a_round_rests_and_ends_with_its_state_or_its_engine(
    shop: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread rests between pieces; where another state is in service, or the engine stops, the view stays."""
    rests = list[str]()
    service = figuring(shop)
    engine, other = service._engine, SimpleNamespace(fold=None)

    class Watched(ThreadPace):
        def rest(self) -> None:
            rests.append(threading.current_thread().name)
            if len(rests) == 5:
                monkeypatch.setattr(service, "_engine", other)

    monkeypatch.setattr(figuring_module, "ThreadPace", Watched)
    assert look(shop) is NOTHING
    assert len(rests) == 5
    assert not any("MainThread" in each for each in rests)
    monkeypatch.setattr(service, "_engine", engine)
    before = look(shop)
    assert _home(before).slates == 3
    assert len(rests) > 100
    shop.recommend("home", user_id="bob")
    shop.record({"type": "view", "user_id": "u", "item_id": "i1"})
    figuring(shop)._is_stopping = True
    assert look(shop) is before
    figuring(shop)._is_stopping = False
    assert _home(look(shop)).slates == 4
