"""Lists page by page: every row once, in order, whatever happens between two pages; bounded, and refused by name."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from midstream.app.config.schema import ItemsSection
from midstream.core.errors import NotFound, Overloaded, RequestInvalid
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.lists import item_pages, log_walk
from midstream.engine.lists.audit_pages import AuditListing, AuditRecord, audit_event
from midstream.engine.lists.event_pages import EventListing
from midstream.engine.lists.item_pages import ItemListing
from midstream.engine.lists.lists import PAGES_MAX
from midstream.engine.lists.log_walk import piece_before, position_after
from midstream.engine.lists.request_pages import RequestListing
from midstream.engine.lists.user_pages import UserListing
from midstream.engine.types import Ask
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, START_MS, Rig, view

CONFIG = replace(SMALL, items=ItemsSection(attributes={"price": "number", "category": "category"}))


def item(name, **attributes):
    """Return a change of the catalogue as a client sends it."""
    return {"type": "item", "item_id": name, "operation": "put", "attributes": attributes}


async def all_pages(make, limit, between=None):
    """Return the pages of a list, from the first to the last."""
    found = [await make(None, limit)]
    while found[-1].next_cursor is not None:
        assert len(found) < 100
        if between is not None:
            await between(len(found))
        found.append(await make(found[-1].next_cursor, limit))
    return found


def test_items_come_once_in_their_order_while_others_are_added(monkeypatch) -> None:
    """A filter, two columns, turns of three items; what is appended meanwhile comes at the end, deleted items never."""
    monkeypatch.setattr(item_pages, "_TURN_ITEMS", 3)

    async def work(rig: Rig) -> None:
        engine, listing = rig.engine, ItemListing("item.price < 50", ("price",))
        await engine.record(rig.batch(*[item(f"i{n:02}", price=n, note="x") for n in range(40)]))
        await engine.record(rig.batch({"type": "item", "item_id": "i07", "operation": "delete"}))

        async def add(page: int) -> None:
            await engine.record(rig.batch(item(f"n{page:02}", price=page), item(f"dear{page}", price=90)))

        pages = await all_pages(lambda *more: engine.lists.items(listing, *more), 15, add)
        rows = [row for page in pages for row in page.items]
        assert [row.item_id for row in rows] == [f"i{n:02}" for n in range(40) if n != 7] + ["n01", "n02"]
        assert rows[3].attributes == {"price": 3}
        assert [len(page.items) for page in pages] == [15, 15, 11]
        everything = await engine.lists.items(ItemListing())
        assert everything.items[0].attributes == {"price": 0, "note": "x"}
        assert len(everything.items) == 43

    Rig(config=CONFIG).run(work)


def test_a_page_without_a_match_has_a_cursor_all_the_same(monkeypatch) -> None:
    """The scan of a page is bounded; the next one goes on behind it."""
    monkeypatch.setattr(item_pages, "SCANNED_ITEMS_MAX", 10)
    monkeypatch.setattr(item_pages, "_TURN_ITEMS", 5)

    async def work(rig: Rig) -> None:
        engine, listing = rig.engine, ItemListing("item.price == 25")
        await engine.record(rig.batch(*[item(f"i{n:02}", price=n) for n in range(40)]))
        pages = await all_pages(lambda *more: engine.lists.items(listing, *more), 100)
        assert [[row.item_id for row in page.items] for page in pages] == [[], [], ["i25"], []]
        assert [page.scanned for page in pages] == [10, 10, 10, 10]

    Rig(config=CONFIG).run(work)


def test_a_cursor_of_items_is_refused_once_they_are_numbered_anew() -> None:
    """Another state with the same items in another order was swapped in; the same order keeps the cursor."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(*[item(f"i{n}") for n in range(9)]))
        page = await engine.lists.items(ItemListing(), None, 4)
        others = {}
        for name, order in (("same", range(9)), ("other", reversed(range(9)))):
            fold = others[name] = type(engine.fold)(engine.fold.settings)
            batch = rig.batch(*[item(f"i{n}") for n in order])
            rows = batch.rows.copy()
            rows["log_time_ms"] = rig.now_ms
            fold.apply(LogPosition(0), EventBatch(rows, batch.text))
        engine.swap(others["same"], engine.plans)
        again = await engine.lists.items(ItemListing(), page.next_cursor, 2)
        assert [row.item_id for row in again.items] == ["i4", "i5"]
        engine.swap(others["other"], engine.plans)
        with pytest.raises(RequestInvalid, match="numbered the items anew"):
            await engine.lists.items(ItemListing(), page.next_cursor, 2)

    Rig(config=CONFIG).run(work)


def test_cursors_belong_to_a_list_and_its_filters() -> None:
    """Forged, cut, of another list, with another filter: 400 with the place in the request."""

    async def work(rig: Rig) -> None:
        lists = rig.engine.lists
        await rig.engine.record(rig.batch(*[view(f"i{n}", f"u{n}") for n in range(9)]))
        cursor = (await lists.items(ItemListing(), None, 4)).next_cursor
        assert cursor is not None
        slate = (await rig.engine.recommend(Ask(n=1, cursor=True))).cursor
        for wrong in (cursor[:-1] + ("A" if cursor[-1] != "A" else "B"), cursor[4:], "x", slate):
            with pytest.raises(RequestInvalid) as caught:
                await lists.items(ItemListing(), wrong, 4)
            assert [fault.where for fault in caught.value.faults] == ["cursor"]
        with pytest.raises(RequestInvalid, match="other filters"):
            await lists.items(ItemListing("item.available"), cursor, 4)
        with pytest.raises(RequestInvalid, match="another list"):
            await lists.users(UserListing(), cursor, 4)
        with pytest.raises(RequestInvalid, match="0 came"):
            await lists.items(ItemListing(), None, 0)
        with pytest.raises(RequestInvalid) as caught:
            await lists.items(ItemListing('context.device == "x"'))
        assert caught.value.faults[0].where == "filter"

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_users_come_once_each_the_one_seen_last_first(monkeypatch, limit) -> None:
    """Acts of one log time on both sides of a page's end, merged ids, profiles alone, erased and deleted users."""
    monkeypatch.setattr(log_walk, "SCANNED_MAX", 9)

    async def work(rig: Rig) -> None:
        engine = rig.engine
        for step in range(4):
            rig.now_ms += 1_000
            users = [f"u{n}" for n in range(step, 9)] * 2
            await engine.record(rig.batch(*[view(f"i{k}", user) for k, user in enumerate(users)]))
        rig.now_ms += 1_000
        await engine.record(rig.batch(view("i1", "anon"), view("i2", "gone"), view("i3", "erased")))
        rig.now_ms += 1_000
        profile = {"type": "user", "user_id": "quiet", "operation": "put", "attributes": {"country": "de"}}
        merge = {"type": "user", "user_id": "u3", "operation": "merge", "attributes": {"from": "anon"}}
        await engine.record(rig.batch(profile, merge, {"type": "user", "user_id": "gone", "operation": "delete"}))
        probe = {"type": "user", "user_id": "midstream-probe-follower-1", "attributes": {"country": "de"}}
        await engine.record(rig.batch(probe))
        await engine.erase("erased")
        pages = await all_pages(lambda *more: engine.lists.users(UserListing(), *more), limit)
        rows = [row for page in pages for row in page.users]
        names = [row.user_id for row in rows]
        assert len(set(names)) == len(names)
        assert set(names) == {"quiet", "anon", *(f"u{n}" for n in range(9))} - {"u3"}
        seen = [row.last_seen for row in rows if row.last_seen is not None]
        assert seen == sorted(seen, reverse=True)
        assert {row.user_id: row.counts["view"] for row in rows}["anon"] == 9
        where = UserListing('user.country == "de"', ("country",))
        (only,) = [row for page in await all_pages(lambda *m: engine.lists.users(where, *m), 5) for row in page.users]
        assert (only.user_id, only.attributes, only.last_seen) == ("quiet", {"country": "de"}, None)

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_events_of_a_user_are_read_from_the_log_newest_first(monkeypatch, limit) -> None:
    """Under all of its ids, by type and time; the scan begins at the last visit and ends at the first."""
    monkeypatch.setattr(log_walk, "SCANNED_MAX", 25)

    async def work(rig: Rig) -> None:
        engine = rig.engine
        for step in range(12):
            rig.now_ms += 60_000
            own = view(f"i{step}", "ann" if step % 2 else "anon", event_id=f"e{step}")
            await engine.record(rig.batch(own, *[view("other", f"x{n}") for n in range(10)]))
        bought = {"type": "purchase", "user_id": "ann", "item_id": "i3", "event_id": "b", "value": 2.5}
        await engine.record(rig.batch(bought))
        merge = {"type": "user", "user_id": "ann", "operation": "merge", "attributes": {"from": "anon"}}
        await engine.record(rig.batch(merge))
        for _ in range(4):
            rig.now_ms += 60_000
            await engine.record(rig.batch(*[view("other", f"y{n}") for n in range(20)]))

        async def events(**more):
            listing = EventListing("ann", **more)
            pages = await all_pages(lambda *rest: engine.lists.events(listing, *rest), limit)
            return [event for page in pages for event in page.events]

        found = await events()
        assert [each["event_id"] for each in found] == ["b", *(f"e{n}" for n in reversed(range(12)))]
        assert found[0] == bought | {"log_time": START_MS + 12 * 60_000}
        assert [each["event_id"] for each in await events(types=("purchase",))] == ["b"]
        assert [each["operation"] for each in await events(types=("user",))] == ["merge"]
        since, until = START_MS + 4 * 60_000, START_MS + 6 * 60_000
        assert [each["event_id"] for each in await events(since_ms=since, until_ms=until)] == ["e5", "e4", "e3"]
        first = await engine.lists.events(EventListing("ann"), None, 1)
        assert first.scanned == 2  # not the eighty that others did since
        with pytest.raises(NotFound):
            await engine.lists.events(EventListing("nobody"))
        with pytest.raises(RequestInvalid, match='Nearest: "view"'):
            await engine.lists.events(EventListing("ann", ("vieew",)))

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_served_slates_are_listed_without_those_of_erased_users(limit) -> None:
    """By user, by placement and by time, the newest first; what was blanked or will be is not there."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(*[view(f"i{n}", "eve") for n in range(5)]))
        made = []
        for step, user in enumerate(["ann", "bob", None, "ann", "gone"]):
            rig.now_ms += 60_000
            placement = "similar" if step == 3 else "default"
            ask = Ask(placement, user_id=user, items=("i1",))
            made.append(await engine.recommend(ask))
            engine.flush_served()
            await engine.reached(LogPosition(6 + step), PATIENCE_S)
        await engine.record(rig.batch(view("i1", "gone")))
        await engine.erase("gone")

        async def requests(**more):
            listing = RequestListing(**more)
            pages = await all_pages(lambda *rest: engine.lists.requests(listing, *rest), limit)
            return [row for page in pages for row in page.requests]

        ids = [answer.request_id for answer in made]
        found = await requests()
        assert [row.request_id for row in found] == [ids[n] for n in (3, 2, 1, 0)]
        assert found[0].items == tuple(each.id for each in made[3].items)
        assert (found[0].placement, found[0].user_id, found[0].time) == ("similar", "ann", START_MS + 4 * 60_000)
        assert [row.request_id for row in await requests(user_id="ann")] == [ids[3], ids[0]]
        assert [row.request_id for row in await requests(placement="default")] == [ids[2], ids[1], ids[0]]
        times = {"since_ms": START_MS + 120_000, "until_ms": START_MS + 180_000}
        assert [row.request_id for row in await requests(**times)] == [ids[2], ids[1]]
        with pytest.raises(RequestInvalid, match="before since"):
            await requests(since_ms=2, until_ms=1)

    Rig(config=CONFIG).run(work)


def test_few_pages_are_made_at_once_and_other_turns_come_between() -> None:
    """The next one is refused, and a page gives its turn away while it is made."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        await engine.record(rig.batch(*[view(f"i{n % 50}", f"u{n % 50}") for n in range(300)]))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        found = await asyncio.gather(
            *[engine.lists.users(UserListing(), None, 1_000) for _ in range(PAGES_MAX + 1)], return_exceptions=True
        )
        counting.cancel()
        assert [type(each) for each in found].count(Overloaded) == 1
        assert turns >= 2
        assert len((await engine.lists.users(UserListing())).users) == 50

    Rig(config=CONFIG).run(work)


class CutLog:
    """A log whose oldest events retention cut."""

    def __init__(self, log, begin):
        self.log, self.begin = log, begin

    def read(self, after, limit):
        """Refuse what is gone."""
        from midstream.core.errors import EventsGone

        if after < self.begin:
            raise EventsGone
        return self.log.read(after, limit)


def test_the_walk_ends_where_retention_cut() -> None:
    """To the very event, and a time is found among those that are kept."""

    async def work(rig: Rig) -> None:
        for n in range(40):
            rig.now_ms = START_MS + n
            await rig.engine.record(rig.batch(view(f"i{n}")))
        log: Any = CutLog(rig.log, 13)
        found = [first async for first, _ in log_walk.walk_back(log, 40, 16)]
        assert found[0] == 24
        assert found[-1] == 13
        assert piece_before(log, 13, 16) is None
        assert await position_after(log, START_MS + 19, 40) == 20
        assert await position_after(log, START_MS - 1, 40) == 13
        assert not log_walk.continues(40, 13)

    Rig(config=CONFIG).run(work)


def test_audit_has_every_change_once_the_newest_first() -> None:
    """Over pages, by caller and by route; two equal changes are two, and other control events are none."""

    async def work(rig: Rig) -> None:
        engine = rig.engine
        for number in range(7):
            await engine.record(rig.batch(view(f"i{number}")))
            record = AuditRecord(f"id{number}", f"key:{number % 2}", "10.0.0.1", "PUT", "/v1/items/{item_id}", "lamp")
            await engine.record(audit_event(record))

        async def page(cursor, limit, **asked):
            return await engine.lists.audit(AuditListing(**asked), cursor, limit)

        pages = await all_pages(page, 3)
        assert [row.who for each in pages for row in each.changes] == ["key:0", "key:1"] * 3 + ["key:0"]
        (only,) = await all_pages(lambda cursor, limit: page(cursor, limit, who="key:1"), 50)
        assert [row.target for row in only.changes] == ["lamp"] * 3
        (none,) = await all_pages(lambda cursor, limit: page(cursor, limit, route="/v1/rebuild"), 50)
        assert not none.changes
        with pytest.raises(RequestInvalid):
            await page(pages[0].next_cursor, 3, who="key:1")

    Rig(config=CONFIG).run(work)
