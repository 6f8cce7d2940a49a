"""A slate is continued by a cursor: at once, after other events, in order; nobody makes one up or uses another's."""

import asyncio

import pytest
from msgspec.structs import replace

from midstream.app.config.schema import Placement
from midstream.core.errors import RequestInvalid
from midstream.core.types import LogPosition
from midstream.engine.answer.cursors import Cursor, parse_cursor
from midstream.engine.ingest import served_buffer
from midstream.engine.types import Answer, Ask
from midstream.ranking.record.served import ServedRecord
from tests.support.patience import PATIENCE_S
from tests.support.rig import SMALL, Rig, view

CONFIG = replace(
    SMALL,
    placements=(Placement(slate_size=4, repeats="any", exclude={"purchase": 1}), Placement(name="other")),
)
ITEMS = [view(f"i{each:02}", user="eve", event_id=str(each)) for each in range(15)]


def ids(answer):
    """Return the items of an answer."""
    return [item.id for item in answer.items]


def cursor_of(answer: Answer) -> str:
    """Return the cursor of an answer that has one."""
    assert answer.cursor is not None
    return answer.cursor


def record_of(rig: Rig, answer: Answer) -> ServedRecord:
    """Return the served record of an answer whose record is there."""
    record = rig.engine.served(answer.request_id)
    assert record is not None
    return record


async def pages_of(rig, first, between=None, **more):
    """Return an answer and all that continue it."""
    found = [first]
    while found[-1].cursor is not None:
        if between is not None:
            await between()
        found.append(await rig.engine.recommend(Ask("", cursor=found[-1].cursor, **more)))
    return found


def test_pages_hold_all_items_once_and_each_has_a_record_of_its_own() -> None:
    """Positions go on, the record says what it continues, and the last page has no cursor."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        pages = await pages_of(rig, await rig.engine.recommend(Ask(user_id="ann", cursor=True)))
        items = [item for page in pages for item in page.items]
        assert sorted(item.id for item in items) == [f"i{each:02}" for each in range(15)]
        assert [item.position for item in items] == list(range(15))
        assert [len(page.items) for page in pages] == [4, 4, 4, 3]
        rig.engine.flush_served()
        await rig.engine.reached(LogPosition(len(ITEMS) + 4), PATIENCE_S)
        records = [record_of(rig, page) for page in pages]
        first = pages[0].request_id
        assert [each.query.continues for each in records] == ["", first, first, first]
        assert [each.query.user_id for each in records] == ["ann"] * 4
        assert [each.query.first_position for each in records] == [0, 4, 8, 12]
        plain = await rig.engine.recommend(Ask(user_id="ann"))
        assert plain.cursor is None

    Rig(config=CONFIG).run(work)


def test_what_became_ineligible_in_between_is_left_out_and_what_is_new_does_not_push_in() -> None:
    """Bought on the way, and clicked by everybody: the order stays."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann", cursor=True))
        rig.engine.flush_served()
        await rig.engine.reached(LogPosition(len(ITEMS) + 1), PATIENCE_S)
        order = [item.id for block in record_of(rig, first).order for item in block]
        bought = order[5]
        await rig.engine.record(rig.batch({**view(bought, event_id="b"), "type": "purchase"}))
        await rig.engine.record(rig.batch(*[view(f"n{each}", event_id=f"n{each}") for each in range(9)]))
        pages = await pages_of(rig, first)
        assert [item for page in pages[1:] for item in ids(page)] == [each for each in order if each != bought]

    Rig(config=CONFIG).run(work)


@pytest.mark.parametrize(
    "change, where",
    [
        ({"user_id": "bob"}, "/user_id"),
        ({"session_id": "s"}, "/session_id"),
        ({"placement": "other"}, "/placement"),
        ({"n": 5}, "/n"),
        ({"exclude": ("i01",)}, "/exclude"),
        ({"filter": "item.available"}, "/filter"),
        ({"context": {"a": 1}}, "/context"),
    ],
)
def test_a_question_that_is_another_is_refused(change, where) -> None:
    """What it repeats must be as it was; four parts say so."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann", cursor=True))
        same = await rig.engine.recommend(Ask("default", user_id="ann", n=4, cursor=cursor_of(first)))
        assert len(same.items) == 4
        with pytest.raises(RequestInvalid) as caught:
            await rig.engine.recommend(replace(Ask("", cursor=cursor_of(first)), **change))
        (fault,) = caught.value.faults
        assert (fault.where, fault.page) == (where, "/docs/http.md")

    Rig(config=CONFIG).run(work)


def test_a_cursor_that_nobody_gave_is_refused() -> None:
    """Changed in any character, cut, of another shop, or of a slate that is not kept any more."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        token = cursor_of(await rig.engine.recommend(Ask(user_id="ann", cursor=True)))
        assert len(token) == 48
        forged = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(0, 48, 5)]
        request_id = parse_cursor(token, rig.engine.host.request_ids).request_id
        unknown = Cursor(rig.engine.host.request_ids.make()[0], 1, 4).token(rig.engine.host.request_ids)
        for each in [*forged, token[:-4], "x", request_id, unknown]:
            with pytest.raises(RequestInvalid) as caught:
                await rig.engine.recommend(Ask("", cursor=each, deadline_ms=20))
            assert [fault.where for fault in caught.value.faults] == ["/cursor"]
            if each != unknown:
                with pytest.raises(RequestInvalid):
                    rig.engine.check(Ask("", cursor=each))

    Rig(config=CONFIG).run(work)


def test_a_slate_that_made_room_for_newer_ones_cannot_be_continued() -> None:
    """It says so; a new question begins anew."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann", cursor=True))
        for _ in range(4):
            await rig.engine.recommend(Ask(user_id="bob"))
        rig.engine.flush_served()
        await rig.engine.reached(LogPosition(len(ITEMS) + 5), PATIENCE_S)
        with pytest.raises(RequestInvalid, match="not kept any more"):
            await rig.engine.recommend(Ask("", cursor=cursor_of(first), deadline_ms=20))

    limits = replace(CONFIG.limits, requests_max=3)
    Rig(config=replace(CONFIG, limits=limits)).run(work)


def test_an_erased_user_cannot_be_read_on_about() -> None:
    """The slate is nobody's then."""

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        first = await rig.engine.recommend(Ask(user_id="ann", cursor=True))
        await rig.engine.erase("ann")
        with pytest.raises(RequestInvalid, match="not kept any more"):
            await rig.engine.recommend(Ask("", cursor=cursor_of(first), deadline_ms=20))

    Rig(config=CONFIG).run(work)


def test_the_page_after_a_slate_waits_for_its_record(monkeypatch) -> None:
    """Asked at once, while the record still waits for company."""
    monkeypatch.setattr(served_buffer, "LINGER_S", 1_000.0)

    async def work(rig: Rig) -> None:
        await rig.engine.record(rig.batch(*ITEMS))
        firsts = await asyncio.gather(*(rig.engine.recommend(Ask(cursor=True)) for _ in range(20)))
        seconds = await asyncio.gather(*(rig.engine.recommend(Ask("", cursor=cursor_of(each))) for each in firsts))
        assert all(len(each.items) == 4 for each in seconds)

    Rig(config=replace(CONFIG, limits=replace(SMALL.limits, requests_max=99))).run(work)
