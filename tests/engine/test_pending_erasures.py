"""Merging and erasing through a real engine: what is asked, before and after a restart."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from midstream.app.config.schema import Config, UsersSection
from midstream.app.opening import open_shop
from midstream.core.errors import ErasuresFull, RequestInvalid
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.engine.engine import EngineOptions
from midstream.engine.types import Ask, Outcome
from midstream.events.schema import event_at
from midstream.state.settings import StateLimits
from tests.support.ids import hash_of
from tests.support.rig import SMALL, START_MS, Rig, view

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


def small(erased_max):
    """Return a configuration with so many places for erasures."""
    limits = StateLimits(users_max=900, items_max=9, click_items_max=9, erased_max=erased_max)
    return msgspec.structs.replace(SMALL, limits=limits)


def test_after_a_day_an_old_act_of_an_erased_user_is_one_of_somebody_new():
    """Late copies are refused for 24 h of log time, and no longer, whether the log was rewritten meanwhile or not."""

    async def work(rig):
        async def outcome(number):
            late = rig.batch(view("lamp", user="ann", time=START_MS, event_id=f"late-{number}"))
            return (await rig.engine.record(late)).outcome.tolist()

        await rig.engine.erase("ann")
        rig.now_ms += DAY_MS
        await rig.engine.record(rig.batch(view("lamp", user="bob")))
        assert await outcome(1) == [Outcome.REFUSED]
        rig.now_ms += 1
        await rig.engine.record(rig.batch(view("rug", user="bob")))
        assert await outcome(2) == [Outcome.RECORDED]

    Rig().run(work)


def test_as_many_erasures_wait_as_are_remembered():
    """Then no more are taken, so none is lost from sight; an id that is none is refused."""

    async def work(rig):
        await rig.engine.record(rig.batch(*(view("lamp", user=each) for each in ("ann", "bob", "cy"))))
        for user in ("ann", "bob"):
            await rig.engine.erase(user)
        with pytest.raises(ErasuresFull, match="2 erased ids") as raised:
            await rig.engine.erase("cy")
        assert raised.value.retry_after_s == 86_400  # nothing rewrites a log in memory
        for wrong in ("", "x" * 129, "a\x00"):
            with pytest.raises(RequestInvalid):
                await rig.engine.erase(wrong)
        assert rig.engine.log.end == 5

    Rig(config=small(2)).run(work)


@pytest.mark.parametrize("merges", [False, True])
def test_ids_that_nobody_has_leave_places_to_users(merges):
    """Half of the places are users', whoever makes ids up, merges them, and erases those."""

    async def work(rig):
        engine = rig.engine
        await engine.record(rig.batch(*(view("lamp", user=f"user-{number}") for number in range(60))))
        refused = 0
        for number in range(120):
            if merges:
                await engine.record(rig.batch(merge(f"nobody-{number}", f"made-up-{number}")))
            try:
                await engine.erase(f"nobody-{number}")
            except ErasuresFull:
                refused += 1
        assert refused == 120 - (25 if merges else 50)
        for number in range(50):
            due = await engine.erase(f"user-{number}")
            assert due.ids_count == 1
            assert engine.user(f"user-{number}") is None
        with pytest.raises(ErasuresFull, match="100 erased ids wait"):
            await engine.erase("user-50")
        with pytest.raises(ErasuresFull, match="not known"):
            await engine.erase("nobody-at-all")
        assert sum(each.ids_count for each in engine.erasures()) == 100
        assert engine.fold.counts()["erasure_forgotten"] == 0

    Rig(config=small(100)).run(work)


def test_an_id_takes_one_place_however_often_it_is_erased():
    """Its first erase says how long it waits, its last what is hidden; others keep their places and stay in sight."""

    async def work(rig):
        engine = rig.engine
        await engine.record(rig.batch(*(view("lamp", user=each) for each in ("ann", "bob", "cy"))))
        first = await engine.erase("bob")
        last = first
        for _ in range(30):
            rig.now_ms += 60_000
            await engine.record(rig.batch(view("lamp", user="ann")))
            last = await engine.erase("ann")
        assert last.log_position == engine.log.end - 1
        waiting = engine.erasures()
        assert [each.log_position for each in waiting] == [
            first.log_position,
            first.log_position + 2,
            last.log_position,
        ]
        hides = engine.fold.vocabulary.erasures.hides
        assert hides(hash_of("ann"), LogPosition(last.log_position - 1))
        await engine.erase("cy")
        for user in ("ann", "bob", "cy"):
            assert hides(hash_of(user), LogPosition(0))
            late = await engine.record(rig.batch(view("lamp", user=user, time=START_MS)))
            assert late.outcome.tolist() == [Outcome.REFUSED]
        await engine.record(rig.batch(view("lamp", user="dee")))
        with pytest.raises(ErasuresFull):
            await engine.erase("dee")

    Rig(config=small(3)).run(work)


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
