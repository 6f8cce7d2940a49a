"""Tables of events go in and slates come out as tables."""

import io

import httpx
import msgspec
import pyarrow as pa
import pytest

from midstream.client import Client, ClientOptions, EventsRejected, ServerBusy, frames
from midstream.client.frames import FrameParts, arrow_table, list_table, slate_table, sum_of
from midstream.core.answers.events import BulkAnswer, Rejection
from tests.client.conftest import URL


class OldFrame:
    """A frame that knows Arrow by a method alone."""

    def __init__(self, table):
        self._table = table

    def to_arrow(self):
        """The table."""
        return self._table


def events(count):
    """A table of acts."""
    return pa.table({"type": ["view"] * count, "user_id": ["ann"] * count, "item_id": [f"i{n}" for n in range(count)]})


def read(stream):
    """The table of a stream."""
    with pa.ipc.open_stream(io.BytesIO(stream)) as reader:
        return reader.read_all()


def test_parts_are_complete_streams_of_distinct_ids(monkeypatch):
    """Every row once, in order, each part after the rows before it."""
    monkeypatch.setattr(frames, "ROWS_MAX", 3)
    parts = list(FrameParts(events(7), "a"))
    assert [first for first, _ in parts] == [0, 3, 6]
    whole = pa.concat_tables([read(stream) for _, stream in parts])
    assert whole.column("item_id").to_pylist() == [f"i{n}" for n in range(7)]
    assert whole.column("event_id").to_pylist() == [f"a-{n}" for n in range(7)]


def test_ids_of_the_table_stay():
    """Only rows without one, or with an empty one, get one."""
    table = events(3).append_column("event_id", pa.array(["own", None, ""], pa.large_string()))
    ((_, stream),) = FrameParts(table, "a")
    assert read(stream).column("event_id").to_pylist() == ["own", "a-1", "a-2"]


def test_frames_of_other_libraries():
    """By the C stream or by a method; an index of pandas is no field of events."""
    table = events(1).append_column("__index_level_0__", pa.array([7]))
    assert arrow_table(table).column_names == arrow_table(OldFrame(table)).column_names == events(1).column_names
    with pytest.raises(TypeError, match="list has neither"):
        arrow_table([{"type": "view"}])


def test_a_frame_is_recorded_once(in_process, monkeypatch):
    """In parts, with rows of the whole table in its rejections; sent again with its ids it counts as duplicates."""
    monkeypatch.setattr(frames, "ROWS_MAX", 2)
    table = events(5).set_column(0, "type", pa.array(["view", "view", "view", "vieew", "view"]))
    named = table.append_column("event_id", pa.array(list("abcde")))

    async def work(client):
        first = await client.record_frame(named)
        again = await client.record_frame(named)
        slate = await client.recommend(user_id="ann")
        dry = await client.record_frame(events(1), dry_run=True)
        items = [row async for row in client.items()]
        return first, again, slate, dry, items

    first, again, slate, dry, items = in_process(work)
    assert (first.recorded, first.rejected, again.recorded, again.duplicates) == (4, 1, 0, 4)
    assert [(each.index, each.pointer) for each in first.rejections] == [(3, "row 4: /type")]
    assert slate.read_your_writes is True
    assert dry.dry_run
    assert list_table(items).column_names[:2] == ["item_id", "available"]


def test_a_frame_of_which_nothing_was_taken(in_process, monkeypatch):
    """Says so with the counts of all its parts."""
    monkeypatch.setattr(frames, "ROWS_MAX", 2)
    wrong = events(3).set_column(0, "type", pa.array(["vieew"] * 3))

    async def work(client):
        with pytest.raises(EventsRejected) as caught:
            await client.record_frame(wrong)
        return caught.value

    error = in_process(work)
    assert isinstance(error.answer, BulkAnswer)
    assert (error.status, error.answer.recorded, error.answer.rejected) == (422, 0, 3)
    assert [fault.where for fault in error.faults] == ["row 1: /type", "row 2: /type", "row 3: /type"]


def test_a_part_of_which_nothing_was_taken_is_counted(in_process, monkeypatch):
    """And the parts after it are sent."""
    monkeypatch.setattr(frames, "ROWS_MAX", 2)
    table = events(6).set_column(0, "type", pa.array(["view", "view", "vieew", "vieew", "view", "view"]))
    answer = in_process(lambda client: client.record_frame(table))
    assert (answer.recorded, answer.rejected) == (4, 2)
    assert [each.pointer for each in answer.rejections] == ["row 3: /type", "row 4: /type"]


def test_the_same_prefix_counts_once(in_process, monkeypatch):
    """However the parts are cut; a random prefix counts again."""

    async def work(client):
        first = await client.record_frame(events(5), event_id_prefix="day-1")
        monkeypatch.setattr(frames, "ROWS_MAX", 2)
        again = await client.record_frame(events(5), event_id_prefix="day-1")
        other = await client.record_frame(events(5))
        return [(each.recorded, each.duplicates) for each in (first, again, other)]

    assert in_process(work) == [(5, 0), (0, 5), (5, 0)]


@pytest.mark.parametrize("broken", [0, 7])
def test_a_frame_that_breaks_off_says_what_was_recorded(monkeypatch, broken):
    """Of the parts before, and of the stream that broke where its answer has counts."""
    monkeypatch.setattr(frames, "ROWS_MAX", 2)
    counts = {"recorded": broken, "duplicates": 0, "rejected": 0, "rejections": [], "log_position": "P2"}
    problem = {"type": "t", "title": "Busy", "status": 503, "detail": "d"} | (counts if broken else {})
    taken = BulkAnswer(2, 0, 0, (), log_position="P1")
    answers = [httpx.Response(200, content=msgspec.json.encode(taken)), httpx.Response(503, json=problem)]
    options = ClientOptions(attempts_max=1)
    with (
        Client(URL, options=options, transport=httpx.MockTransport(lambda _request: answers.pop(0))) as client,
        pytest.raises(ServerBusy) as caught,
    ):
        client.record_frame(events(6))
    assert caught.value.partial is not None
    assert caught.value.partial.recorded == 2 + broken
    assert client.position == ("P2" if broken else "P1")


def test_slates_become_a_table(in_process):
    """A row for each item, with a column for each requested attribute, null where an item has none."""

    async def work(client):
        await client.put_item("lamp", {"price": 3})
        acts = [{"type": "view", "session_id": s, "item_id": i} for s in "pq" for i in ("lamp", "shade", "bulb")]
        await client.record(acts)
        one = await client.recommend(session_id="new", fields=["price"])
        page = await client.page(["default"], session_id="new")
        return one, [row.slate for row in page.slates]

    one, page = in_process(work)
    table = slate_table(one)
    assert table.column("item_id").to_pylist() == [item.id for item in one.items]
    assert set(table.column("item_id").to_pylist()) == {"lamp", "shade", "bulb"}
    prices = dict(zip(table.column("item_id").to_pylist(), table.column("field.price").to_pylist(), strict=True))
    assert prices == {"lamp": 3, "shade": None, "bulb": None}
    assert slate_table(page).num_rows == len(page[0].items)
    assert slate_table([]).num_rows == 0


def test_counts_of_parts_are_sums():
    """Positions are those of the last part that has one; rejections are bounded."""
    one = BulkAnswer(1, 2, 3, (Rejection(0, "row 1: /type", "c", "r", "p"),), log_position="P")
    total = sum_of([(0, one), (10, one), (20, BulkAnswer(0, 0, 0, ()))])
    assert (total.recorded, total.duplicates, total.rejected, total.log_position) == (2, 4, 6, "P")
    assert [each.pointer for each in total.rejections] == ["row 1: /type", "row 11: /type"]
    many = sum_of([(0, BulkAnswer(0, 0, 200, one.rejections * 100)), (1, one)])
    assert len(many.rejections) == frames.REJECTIONS_MAX
