"""Every operation against a real engine in this process, by the asynchronous client."""

import asyncio
import json
import subprocess
import sys

import httpx
import pytest

from midstream.client import AsyncClient, Client, ClientOptions, EventsRejected, IdUnknown, InvalidRequest
from midstream.core.answers.slates import Slate
from tests.client.conftest import URL
from tests.support.patience import PATIENCE_S

ACTS = [
    {"type": "view", "session_id": session, "item_id": item} for session in ("s1", "s2") for item in ("lamp", "a/b")
]


def test_what_was_recorded_is_in_the_next_answer(in_process):
    """By the typed answer, without a word about log positions."""

    async def work(client):
        answer = await client.record([*ACTS, {"type": "view", "user_id": "ann", "item_id": "lamp"}])
        slate = await client.recommend(user_id="ann", n=5)
        return answer, slate, client.position

    answer, slate, position = in_process(work)
    assert (answer.recorded, answer.log_position) == (5, position)
    assert isinstance(slate, Slate)
    assert slate.read_your_writes is True
    assert "a/b" in [item.id for item in slate.items]


def test_a_stranger_waits_for_nothing(in_process):
    """Only the visitor who wrote; and nobody when it is switched off."""

    async def work(client):
        await client.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        stranger = await client.recommend(user_id="bob")
        client.position = client.position
        return stranger.read_your_writes, (await client.recommend(user_id="bob")).read_your_writes

    assert in_process(work) == (None, True)

    async def off(client):
        await client.record({"type": "view", "user_id": "ann", "item_id": "lamp"})
        return (await client.recommend(user_id="ann")).read_your_writes

    assert in_process(off, options=ClientOptions(read_your_writes=False)) is None


def test_a_position_of_the_future_is_dropped(in_process):
    """As after a restore from a backup: the question is asked without it, and so are the next."""

    async def work(client):
        await client.record(ACTS)
        client.position = client.position[:6] + "AAAB______"
        slate = await client.recommend(session_id="new")
        return slate.read_your_writes, client.position

    assert in_process(work) == (None, None)


def test_questions(in_process):
    """Ranking, pages, many users, similar items, events along with a question; ids with a slash."""

    async def work(client):
        await client.record(ACTS)
        ranked = await client.rank(["a/b", "lamp", "none"], session_id="s3", basket=["lamp"])
        page = await client.page(["default", {"placement": "similar", "n": 1}], session_id="s1", items=["lamp"])
        many = await client.recommend_many(["ann", "bob"], n=1)
        similar = await client.similar("a/b", n=3, session_id="s9")
        along = await client.recommend(
            session_id="s7", events={"type": "view", "session_id": "s7", "item_id": "lamp"}, n=1, context={"budget": 3}
        )
        after = await client.recommend(session_id="s7")
        return ranked, page, many, similar, along, after

    ranked, page, many, similar, along, after = in_process(work)
    assert {item.id for item in ranked.items} | {item.id for item in ranked.removed} == {"a/b", "lamp", "none"}
    assert [row.placement for row in page.slates] == ["default", "similar"]
    assert [row.user_id for row in many.answers] == ["ann", "bob"]
    assert [item.id for item in similar.items] == ["lamp"]
    assert along.events is not None
    assert along.events.recorded == 1
    assert after.read_your_writes is True


def test_items_and_users(in_process):
    """Set, patched, read, changed in numbers, merged, erased; a search-named item is an item."""

    async def work(client):
        await client.put_item("a/b", {"price": 3, "title": "brass"})
        await client.patch_item("a/b", {"price": 4, "title": None}, event_id="c1")
        again = await client.patch_item("a/b", {"price": 4, "title": None}, event_id="c1")
        await client.put_item("search", {"price": 1})
        for dots in (".", ".."):
            await client.put_user(dots, {"language": dots})
            assert (await client.user(dots))["attributes"] == {"language": dots}
        many = await client.change_items(
            [{"item_id": f"i{number}", "attributes": {"price": number}} for number in range(5)]
        )
        await client.put_user("ann", {"language": "en"})
        await client.patch_user("ann", {"country": "de"})
        await client.change_users([{"user_id": "bob", "attributes": {"language": "fr"}}])
        await client.record({"type": "view", "user_id": "anon", "item_id": "a/b"})
        await client.merge("ann", "anon")
        item, named, user = await client.item("a/b"), await client.item("search"), await client.user("ann")
        await client.delete_item("i1")
        items = [row.item_id async for row in client.items(limit=2, fields=["price"])]
        erased = await client.erase("ann")
        with pytest.raises(IdUnknown):
            await client.user("ann")
        return again, many, item, named, user, items, erased

    again, many, item, named, user, items, erased = in_process(work)
    assert (again.recorded, again.duplicates, many.recorded) == (0, 1, 5)
    assert item["attributes"] == {"price": 4}
    assert named["item_id"] == "search"
    assert user["attributes"] == {"language": "en", "country": "de"}
    assert user["merged_ids_count"] == 1
    assert items == ["a/b", "search", "i0", "i2", "i3", "i4"]
    assert erased.ids_count == 2


async def served_record(client, request_id):
    """Return the record of an answer once it is in the log: it is written behind the answer."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await client.served(request_id)
            except IdUnknown:
                await asyncio.sleep(0.01)


def test_lists_and_records(in_process):
    """Each list goes over its pages by itself; a served record and the placements are read."""

    async def work(client):
        await client.record([{"type": "view", "user_id": "ann", "item_id": f"i{number}"} for number in range(5)])
        slate = await client.recommend(user_id="ann")
        events = [row["item_id"] async for row in client.events("ann", limit=2, type=["view"])]
        users = [row.user_id async for row in client.users()]
        placements = await client.placements()
        health = await client.ready()
        served = await served_record(client, slate.request_id)
        with pytest.raises(IdUnknown):
            await client.served("x" * 32)
        return slate, events, users, placements, health, served

    slate, events, users, placements, health, served = in_process(work)
    assert events == ["i4", "i3", "i2", "i1", "i0"]
    assert users == ["ann"]
    assert "similar" in {view.placement for view in placements.placements}
    assert health["ready"] is True
    assert served["query"]["request_id"] == slate.request_id


def test_refusals(in_process):
    """Four parts of the first fault, and the outcome of each event where none was taken."""

    async def work(client):
        with pytest.raises(InvalidRequest) as wrong:
            await client.recommend(n=0)
        with pytest.raises(EventsRejected) as none:
            await client.record({"type": "vieew", "user_id": "ann", "item_id": "lamp"})
        return wrong.value, none.value

    wrong, none = in_process(work)
    assert (wrong.where, wrong.status) == ("/n", 400)
    assert wrong.page == f"{URL}/docs/http.md"
    assert none.answer.rejected[0].pointer.endswith("/type")
    assert 'Nearest: "view"' in str(none)


def test_the_blocking_client_has_the_same_operations():
    """A method that returns, or iterates, in place of a coroutine, with the documentation of the one definition."""
    seen = []

    def answer(request):
        seen.append((request.method, request.url.path, request.headers["authorization"]))
        if request.url.path == "/below/v1/items":
            more = "cursor" not in request.url.params
            row: dict[str, object] = {
                "item_id": "a" if more else "b",
                "available": True,
                "in_catalogue": True,
                "attributes": {},
            }
            return httpx.Response(200, json={"items": [row], "scanned": 1} | ({"next_cursor": "c"} if more else {}))
        return httpx.Response(200, json={"recorded": 1, "duplicates": 0, "rejected": [], "log_position": "P"})

    with Client("http://shop.example/below/", key="ms_1", transport=httpx.MockTransport(answer)) as client:
        assert client.record({"type": "view"}).recorded == 1
        assert [row.item_id for row in client.items()] == ["a", "b"]
        assert client.record.__doc__ == AsyncClient.record.__doc__
    assert seen[0] == ("POST", "/below/v1/events", "Bearer ms_1")


def test_calls_that_wait_repeat_themselves():
    """A connection that breaks in the middle, on an event loop."""
    answers = [
        httpx.ReadError("reset"),
        httpx.Response(503, headers={"retry-after": "0"}),
        httpx.Response(200, json={}),
    ]

    def answer(_request):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def whole():
        options = ClientOptions(pause_s=0.001)
        async with AsyncClient(URL, options=options, transport=httpx.MockTransport(answer)) as client:
            return await client.item("lamp")

    assert asyncio.run(whole()) == {}
    assert answers == []


@pytest.mark.parametrize("url", ["shop.example", "ftp://shop.example", "http://", ""])
def test_an_address_that_is_none(url):
    """Is refused at once, with the right form."""
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Client(url)


def test_the_import_is_light():
    """No engine, kernel or table library."""
    program = "import json, sys, midstream.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    heavy = {"numba", "numpy", "pyarrow", "scipy", "fastapi", "starlette", "uvicorn", "pandas", "polars"}
    assert heavy & set(json.loads(done.stdout)) == set()
