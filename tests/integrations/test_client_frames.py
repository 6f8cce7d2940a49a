"""Frames of pandas and Polars through the client: each gives the events of its rows, and answers become frames."""

import asyncio

import httpx
import pytest

import midstream
from midstream.client import AsyncClient
from midstream.client.frames import list_table, slate_table
from tests.integrations.test_frames import ROWS, pandas_frames, polars_frames
from tests.support.libraries import library
from tests.support.rig import SMALL

pytestmark = pytest.mark.integration


def with_client(folder, work):
    """Return what a coroutine function returns for a client of an engine in this process."""

    async def whole():
        engine = midstream.asgi(folder, SMALL)
        async with engine, AsyncClient("http://localhost", transport=httpx.ASGITransport(engine)) as client:
            return await work(client)

    return asyncio.run(whole())


def without(frame, column):
    """Return a frame of either library without a column."""
    return frame[[name for name in frame.columns if name != column]]


def plain(event):
    """Return what of an event does not depend on when and how it was sent."""
    return {name: value for name, value in event.items() if name not in {"event_id", "log_time"}}


@pytest.mark.parametrize("frames", [pandas_frames, polars_frames])
def test_a_frame_gives_the_events_of_its_rows(tmp_path, frames):
    """In every way in which the library keeps them; the same frame with the same prefix counts once."""
    made = frames(library(frames.__name__.partition("_")[0]))
    # Without times of their own: acts of long ago are in no user's list.
    made = {name: without(frame, "time") for name, frame in made.items()}
    rows = [{name: value for name, value in row.items() if name != "time"} for row in ROWS]

    async def work(client):
        assert (await client.record(rows)).recorded == len(rows)
        counts = []
        for name, frame in made.items():
            first = await client.record_frame(frame, event_id_prefix=name)
            again = await client.record_frame(frame, event_id_prefix=name)
            counts.append((name, first.recorded, first.rejected, again.recorded, again.duplicates))
        return counts, [[plain(event) async for event in client.events(user)] for user in ("ann", "bob")]

    counts, users = with_client(tmp_path, work)
    assert counts == [(name, 3, 0, 0, 3) for name in made]
    for events in users:
        assert len(events) == len(made) + 1
        assert [event == events[0] for event in events] == [True] * len(events)


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_answers_become_frames(tmp_path, name):
    """A row for each item, a column for each requested attribute, with what the library has for a missing value."""
    frames = library(name)

    async def work(client):
        await client.put_item("lamp", {"price": 3})
        acts = [{"type": "view", "session_id": s, "item_id": i} for s in "pq" for i in ("lamp", "shade", "bulb")]
        await client.record(acts)
        slate = await client.recommend(session_id="new", fields=["price"])
        return slate, [row async for row in client.items()]

    slate, items = with_client(tmp_path, work)

    def frame_of(table):
        return table.to_pandas() if name == "pandas" else frames.from_arrow(table)

    slates, listed = frame_of(slate_table(slate)), frame_of(list_table(items))
    assert list(slates["item_id"]) == [item.id for item in slate.items]
    assert list(slates["score"]) == [item.score for item in slate.items]
    prices = dict(zip(slates["item_id"], slates["field.price"], strict=True))
    assert prices["lamp"] == 3
    assert all(price is None or price != price for item, price in prices.items() if item != "lamp")  # noqa: PLR0124  NaN
    assert list(listed["item_id"]) == [row.item_id for row in items]
    assert list(listed["available"]) == [row.available for row in items]
