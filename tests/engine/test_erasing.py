"""Merging and erasing through a real engine: what is asked, before and after a restart."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from midstream.app.config import Config, UsersSection
from midstream.app.running import open_shop
from midstream.core.errors import Overloaded, RequestInvalid
from midstream.core.kinds import Kind
from midstream.engine.engine import EngineOptions
from midstream.engine.types import Ask, Outcome
from midstream.events.schema import event_at
from midstream.state.settings import Limits
from midstream.testing.rig import SMALL, START_MS, Rig, view

DAY_MS = 86_400_000


def merge(into, other):
    """Return a merge as a client sends it."""
    return {"type": "user", "operation": "merge", "user_id": into, "attributes": {"from": other}}


def known(shop, user_id) -> Any:
    """Return what is known of a user who is known."""
    found = shop.user(user_id)
    assert found is not None
    return found


def test_what_is_known_of_a_user_is_shown_under_every_id():
    """Attributes, counts, acts, impressions, leanings, open sessions, and how many ids there are."""
    config = msgspec.structs.replace(
        SMALL, items=msgspec.structs.replace(SMALL.items, attributes={"category": "category"})
    )

    async def work(rig):
        await rig.engine.record(
            rig.batch(
                {"type": "item", "item_id": "lamp", "attributes": {"category": "lamps"}},
                view("lamp", user="anon-7", time=START_MS - 2_000),
                view("bulb", user="ann", session_id="s", time=START_MS - 1_000),
                {"type": "impression", "user_id": "anon-7", "item_id": "rug", "time": START_MS - 3_000},
                {"type": "user", "user_id": "ann", "attributes": {"language": "en"}},
                merge("ann", "anon-7"),
            )
        )
        return rig.engine.user("ann"), rig.engine.user("anon-7")

    ann, anon = Rig(config=config).run(work)
    assert ann == {**anon, "user_id": "ann"}
    assert ann["attributes"] == {"language": "en"}
    assert ann["counts"]["view"] == 2
    assert (ann["first_seen"], ann["last_seen"], ann["merged_ids_count"]) == (START_MS, START_MS, 1)
    acts = [("lamp", START_MS - 2_000), ("bulb", START_MS - 1_000)]
    assert [(act["item_id"], act["time"]) for act in ann["recent"]] == acts
    # An impression of an item that nobody acted on or put into the catalogue is of none that is known.
    assert ann["impressions"] == []
    assert [leaning["value"] for leaning in ann["leanings"]["category"]] == ["lamps"]
    assert ann["sessions"] == [["bulb"], ["lamp"]]


def test_an_erase_is_seen_by_everything_that_is_asked_after_it():
    """User, served record and slate; late copies are refused by name; a new start is one."""
    config = msgspec.structs.replace(SMALL, users=UsersSection(erase_days_max=3))

    async def work(rig):
        engine = rig.engine
        await engine.record(rig.batch(view("lamp"), view("bulb", user="anon-7"), merge("ann", "anon-7")))
        answer = await engine.recommend(Ask(user_id="anon-7"))
        engine.flush_served()
        await engine.record(rig.batch(view("rug", user="bob")))
        assert engine.served(answer.request_id) is not None
        rig.now_ms += 1_000
        due = await engine.erase("anon-7")
        assert (due.ids_count, due.log_time_ms) == (2, rig.now_ms)
        assert due.erase_by_ms == rig.now_ms + 3 * DAY_MS
        assert list(engine.erasures()) == [due]
        assert (engine.user("ann"), engine.user("anon-7")) == (None, None)
        assert engine.user("bob") is not None
        assert engine.served(answer.request_id) is None
        late = rig.batch(*(view("lamp", user=each, time=START_MS) for each in ("ann", "bob", "anon-7")))
        recorded = await engine.record(late)
        assert recorded.outcome.tolist() == [Outcome.REFUSED, Outcome.RECORDED, Outcome.REFUSED]
        assert recorded.erased.tolist() == [0, 2]
        merges = [merge("bob", "anon-7"), merge("ann", "eve"), merge("bob", "eve")]
        recorded = await engine.record(rig.batch(*({**each, "time": START_MS} for each in merges)))
        assert recorded.outcome.tolist() == [Outcome.REFUSED, Outcome.REFUSED, Outcome.RECORDED]
        assert recorded.erased.tolist() == [0, 1]
        recorded = await engine.record(rig.batch(view("lamp"), view("lamp", time=rig.now_ms + 1)))
        assert (recorded.outcome == Outcome.RECORDED).all()
        assert engine.user("ann")["counts"]["view"] == 2
        rig.engine.refresh_metrics()
        assert b"midstream_erasures_pending 1.0" in engine.metrics.text()
        rig.now_ms += 60_000
        rig.engine.refresh_metrics()
        assert b"midstream_erasure_pending_age_seconds 60.0" in engine.metrics.text()
        (_, batch), *_ = rig.engine.log.read(due.log_position, 1)
        assert event_at(batch, 0).kind == Kind.ERASE

    Rig(config=config, options=EngineOptions(erase_days_max=3)).run(work)


def test_as_many_erasures_wait_as_are_remembered():
    """Then no more are taken, so none is lost from sight; an id that is none is refused."""
    config = msgspec.structs.replace(SMALL, limits=Limits(users_max=9, items_max=9, click_items_max=9, erased_max=2))

    async def work(rig):
        for user in ("ann", "bob"):
            await rig.engine.erase(user)
        with pytest.raises(Overloaded, match="2 erased ids"):
            await rig.engine.erase("cy")
        for wrong in ("", "x" * 129, "a\x00"):
            with pytest.raises(RequestInvalid):
                await rig.engine.erase(wrong)
        assert rig.engine.log.end == 2

    Rig(config=config).run(work)


def test_merges_and_erasures_hold_after_a_restart(tmp_path):
    """From the log and from a snapshot that is compared with the live state: aliases, refusals and what is pending."""
    config = Config(limits=SMALL.limits)
    with open_shop(tmp_path, config) as shop:
        shop.record([view("lamp", user="anon-7"), merge("ann", "anon-7"), view("lamp", user="eve")])
        shop.erase("eve")
        assert known(shop, "anon-7")["counts"]["view"] == 1
        snapshotter = shop.running.snapshotter
        assert snapshotter is not None
        asyncio.run_coroutine_threadsafe(snapshotter.write(compare=True), shop._loop).result()
        assert not snapshotter.mismatch
    with open_shop(tmp_path, config) as shop:
        assert shop.running.started.snapshot_position == 4
        assert known(shop, "anon-7")["merged_ids_count"] == 1
        assert shop.user("eve") is None
        assert [each.ids_count for each in shop.running.engine.erasures()] == [1]
        late = shop.record(view("lamp", user="eve", time=shop.running.engine.erasures()[0].log_time_ms))
        assert late.outcome.tolist() == [Outcome.REFUSED]
    for path in (tmp_path / "data" / "snapshots").rglob("*"):
        path.unlink() if path.is_file() else None
    with open_shop(tmp_path, config) as shop:
        assert shop.running.started.snapshot_position == 0
        assert known(shop, "anon-7")["merged_ids_count"] == 1
        assert len(shop.running.engine.erasures()) == 1
        assert json.dumps(known(shop, "ann"))
