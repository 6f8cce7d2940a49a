"""Documented answers of lookups are those that the routes give: every field is there, and no other."""

import asyncio

import msgspec

from midstream.client import AsyncClient
from midstream.core.answers.details import ItemDetail, LoggedEvent, UserDetail
from midstream.serving.app import described


def schema_of(path, status="200"):
    """The schema of the answer to a GET, as the document names it."""
    answer = described()["paths"][path]["get"]["responses"][status]["content"]["application/json"]["schema"]
    return described()["components"]["schemas"][answer["$ref"].rpartition("/")[2]]


def test_answers_of_lookups_have_the_documented_fields(in_process):
    """Of an item, a user with acts, impressions and a merge, of logged events, and of a served slate."""

    async def work(client: AsyncClient):
        await client.put_item("lamp", {"price": 3, "category": "lamps"})
        await client.put_user("ann", {"city": "Bonn"})
        acts = [{"type": "view", "user_id": "ann", "session_id": s, "item_id": "lamp", "value": 2} for s in "pq"]
        acts.append({"type": "impression", "user_id": "ann", "item_id": "lamp", "position": 1})
        acts.append({"type": "purchase", "user_id": "anon", "item_id": "lamp", "quantity": 2, "context": {"page": "a"}})
        await client.record(acts)
        await client.merge("ann", "anon")
        slate = await client.recommend(user_id="ann")
        await asyncio.sleep(0.1)  # its record waits for others
        events = [event async for event in client.events("ann")]
        return await client.item("lamp"), await client.user("ann"), events, await client.served(slate.request_id)

    item, user, events, served = in_process(work)
    assert msgspec.convert(item, ItemDetail, strict=True).attributes["price"] == 3
    found = msgspec.convert(user, UserDetail, strict=True)
    assert (found.merged_ids_count, len(found.recent) >= 2) == (1, True)
    kinds = {msgspec.convert(event, LoggedEvent, strict=True).type for event in events}
    assert {"view", "impression", "purchase"} <= kinds
    assert set(item) == set(schema_of("/v1/items/{item_id}")["properties"])
    assert set(user) == set(schema_of("/v1/users/{user_id}")["properties"])
    assert set(served) <= set(schema_of("/v1/requests/{request_id}")["properties"])
    assert set(served) >= set(schema_of("/v1/requests/{request_id}")["required"])
    rows = described()["components"]["schemas"]["EventPage"]["properties"]["events"]["items"]
    assert rows == {"$ref": "#/components/schemas/LoggedEvent"}
