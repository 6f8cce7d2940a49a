"""Acts are found in the log and taken back: by id, and the newest of a user with an item."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from midstream.app.config.schema import ItemsSection, Placement
from midstream.core.errors import ActUnknown, Overloaded, RequestInvalid
from midstream.engine.lists.event_pages import EventListing
from midstream.engine.retractions import first_copies, retractor
from midstream.engine.retractions.act_search import ActQuestion
from midstream.engine.types import Ask
from midstream.state.control.retractions import RETRACTIONS_MAX
from tests.support.rig import SMALL, Rig

CONFIG = replace(SMALL, items=ItemsSection(attributes={"category": "category"}))


def detail_of(engine, user_id: str = "ann") -> dict[str, Any]:
    """Return what is known of a user."""
    found = engine.user(user_id)
    assert found is not None
    return dict(found)


def act(kind, item, user="ann", event_id=None, **more):
    """Return an act as a client sends it."""
    return {"type": kind, "item_id": item, "user_id": user, **({"event_id": event_id} if event_id else {}), **more}


def counts(rig, user="ann"):
    """Return the counts of a user that are not 0."""
    return {name: count for name, count in rig.engine.user(user)["counts"].items() if count}


def test_by_its_id_an_act_is_taken_back_once() -> None:
    """The state goes without it from the answer on; a second time is said to be one, and appends nothing."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp", event_id="e1"), act("cart", "lamp", event_id="e2")))
        found = await engine.retractor.by_id("e2", "ann")
        assert (found.retracted, found.already_retracted) == (1, 0)
        assert [(each.type, each.item_id, each.event_id) for each in found.events] == [("cart", "lamp", "e2")]
        assert found.log_position == engine.token(engine.fold.log_position)
        assert counts(rig) == {"view": 1}
        end = engine.log.end
        again = await engine.retractor.by_id("e2")
        assert (again.retracted, again.already_retracted, again.events) == (0, 1, found.events)
        assert engine.log.end == end
        listed = (await engine.lists.events(EventListing("ann"))).events
        assert [(each["event_id"], each.get("retracted")) for each in listed] == [("e2", True), ("e1", None)]
        sent_again = await engine.record(rig.batch(act("cart", "lamp", event_id="e2")))
        assert sent_again.outcome.tolist() == [1]
        assert counts(rig) == {"view": 1}

    Rig(config=CONFIG).run(work)


def test_the_next_answer_does_not_go_by_it() -> None:
    """An item that the user bought or saw too often is served again, and the session is without it."""
    placement = Placement(exclude={"purchase": "30d", "impression": 2}, slate_size=5, repeats="any")

    async def work(rig: Rig) -> None:
        engine, ask = rig.engine, Ask(user_id="ann")
        await engine.record(rig.batch(*(act("view", name, user=f"u{n}") for n in range(3) for name in ("a", "b", "c"))))
        seen = [act("impression", "b", event_id=f"s{n}") for n in range(2)]
        await engine.record(rig.batch(act("purchase", "a", event_id="p1"), *seen))
        assert {each.id for each in (await engine.recommend(ask)).items} == {"c"}
        await engine.retractor.by_id("p1")
        assert {each.id for each in (await engine.recommend(ask)).items} == {"a", "c"}
        await engine.retractor.by_id("s1")
        assert {each.id for each in (await engine.recommend(ask)).items} == {"a", "b", "c"}
        detail = detail_of(engine)
        assert (detail["recent"], detail["sessions"], detail["impressions"][0]["count"]) == ([], [[]], 1)

    Rig(config=replace(CONFIG, placements=(placement,))).run(work)


def test_all_rows_of_an_order_go_by_its_id() -> None:
    """And one of them by its own."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        order = {"type": "purchase", "event_id": "o1", "user_id": "ann"}
        await engine.record(rig.batch(order | {"items": [{"item_id": each} for each in ("a", "b", "c")]}))
        await engine.record(rig.batch(order | {"event_id": "o11", "items": [{"item_id": "a"}]}))
        one = await engine.retractor.by_id("o1#1")
        assert [each.item_id for each in one.events] == ["b"]
        rest = await engine.retractor.by_id("o1")
        assert (rest.retracted, rest.already_retracted) == (2, 1)
        assert counts(rig) == {"purchase": 1}

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize("event_id, user_id", [("none", None), ("e1", "bob"), ("e1", "nobody"), ("i1", None)])
def test_what_is_not_found_is_said_in_four_parts(event_id, user_id) -> None:
    """An id that nobody sent, an act of another user, and an event that is no act."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp", event_id="e1"), act("view", "lamp", user="bob")))
        await engine.record(rig.batch({"type": "item", "item_id": "lamp", "event_id": "i1", "operation": "put"}))
        with pytest.raises(ActUnknown) as caught:
            await engine.retractor.by_id(event_id, user_id)
        (fault,) = caught.value.faults
        assert fault.where == "event_id"
        assert event_id in fault.came
        assert "24 h" in fault.right
        assert fault.page == "/docs/http.md"
        assert counts(rig) == {"view": 1}

    Rig(config=CONFIG).run(work)


def test_the_newest_act_is_found_without_an_id() -> None:
    """Of several the last, whether or not it was taken back; by its time another one."""

    async def work(rig: Rig) -> None:
        engine, asked = rig.engine, ActQuestion("ann", "view", "lamp")
        for _ in range(3):
            await engine.record(rig.batch(act("view", "lamp"), act("view", "lamp", user="bob"), act("cart", "lamp")))
            rig.now_ms += 1_000
        times = [each["time"] for each in detail_of(engine)["recent"] if each["action"] == "view"]
        found = await engine.retractor.newest(asked)
        assert (found.retracted, found.events[0].time) == (1, times[-1])
        again = await engine.retractor.newest(asked)
        assert (again.retracted, again.already_retracted, again.events[0].time) == (0, 1, times[-1])
        older = await engine.retractor.newest(ActQuestion("ann", "view", "lamp", times[0]))
        assert (older.retracted, older.events[0].time) == (1, times[0])
        assert counts(rig) == {"view": 1, "cart": 3}
        assert counts(rig, "bob") == {"view": 3}
        with pytest.raises(ActUnknown):
            await engine.retractor.newest(ActQuestion("ann", "view", "lamp", times[0] + 1))
        with pytest.raises(ActUnknown):
            await engine.retractor.newest(ActQuestion("eve", "view", "lamp"))
        with pytest.raises(RequestInvalid, match="Nearest"):
            await engine.retractor.newest(ActQuestion("ann", "vew", "lamp"))

    Rig(config=CONFIG).run(work)


def test_an_impression_is_found_too() -> None:
    """The item is seen once less."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp"), act("impression", "lamp"), act("impression", "lamp")))
        found = await engine.retractor.newest(ActQuestion("ann", "impression", "lamp"))
        assert (found.retracted, found.events[0].type) == (1, "impression")
        assert detail_of(engine)["impressions"][0]["count"] == 1

    Rig(config=CONFIG).run(work)


def test_an_act_is_the_users_under_every_id() -> None:
    """That of an id that was merged, by the name of the user; and none of a user who was erased."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp", user="anon", event_id="e1"), act("cart", "lamp")))
        merge = {"type": "user", "user_id": "ann", "operation": "merge", "attributes": {"from": "anon"}}
        await engine.record(rig.batch(merge))
        assert (await engine.retractor.by_id("e1", "ann")).retracted == 1
        assert (await engine.retractor.newest(ActQuestion("anon", "view", "lamp"))).already_retracted == 1
        assert counts(rig) == {"cart": 1}
        await engine.erase("ann")
        with pytest.raises(ActUnknown):
            await engine.retractor.by_id("e1")
        with pytest.raises(ActUnknown):
            await engine.retractor.newest(ActQuestion("ann", "cart", "lamp"))

    Rig(config=CONFIG).run(work)


def test_an_old_id_is_looked_for_among_the_newest_events(monkeypatch) -> None:
    """After a day its second is not remembered; further back than the maximum it is not found."""
    monkeypatch.setattr(first_copies, "PIECE_EVENTS", 3)

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp", event_id="e1")))
        rig.now_ms += 2 * 86_400_000
        await engine.record(rig.batch(*(act("view", f"i{n}", user="bob") for n in range(7))))
        assert engine.fold.event_ids.second_of("e1") is None
        monkeypatch.setattr(first_copies, "SEARCHED_MAX", 7)
        with pytest.raises(ActUnknown):
            await engine.retractor.by_id("e1")
        assert (await engine.retractor.by_id("e1", "ann")).retracted == 1
        monkeypatch.setattr(first_copies, "SEARCHED_MAX", 30)
        assert (await engine.retractor.by_id("e1")).already_retracted == 1
        order = {"type": "purchase", "event_id": "o1", "user_id": "ann"}
        await engine.record(rig.batch(order | {"items": [{"item_id": f"i{n}"} for n in range(5)]}))
        rig.now_ms += 2 * 86_400_000
        await engine.record(rig.batch(act("view", "lamp", user="bob")))
        assert (await engine.retractor.by_id("o1")).retracted == 5

    Rig(config=CONFIG).run(work)


def test_two_requests_at_once_take_it_back_once() -> None:
    """Both are acknowledged, and the act counts once less."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp", event_id="e1"), act("view", "lamp", event_id="e2")))
        await asyncio.gather(*(engine.retractor.by_id("e1") for _ in range(3)))
        assert counts(rig) == {"view": 1}

    Rig(config=CONFIG).run(work)


def test_searches_and_waiting_acts_have_a_maximum(monkeypatch) -> None:
    """Beyond it a request is refused, and nothing is appended."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(act("view", "lamp", event_id="e1")))
        monkeypatch.setattr(retractor, "SEARCHES_MAX", 0)
        with pytest.raises(Overloaded, match="searches"):
            await engine.retractor.by_id("e1")
        monkeypatch.undo()
        monkeypatch.setattr(retractor, "RETRACTIONS_MAX", 0)
        with pytest.raises(Overloaded, match="rebuild"):
            await engine.retractor.by_id("e1")
        assert counts(rig) == {"view": 1}
        assert RETRACTIONS_MAX > 0

    Rig(config=CONFIG).run(work)
