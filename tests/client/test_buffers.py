"""Buffers: batches by count, by age and on demand, bounded, in order, each event with its outcome."""

import asyncio
import json
import threading
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.client import (
    BufferEnded,
    BufferFull,
    BufferOptions,
    Client,
    ClientOptions,
    RequestTooLarge,
    event_batches,
)
from midstream.client.event_batches import BatchQueue
from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.problems import Problem
from tests.client.conftest import URL

NEVER_S = 3_600.0
TAKEN = EventsAnswer(0, 0, ())


def view(number):
    """An act."""
    return {"type": "view", "user_id": "ann", "item_id": f"i{number}", "event_id": f"e{number}"}


@given(st.lists(st.sampled_from(["add", "send", "flush"]), max_size=60), st.integers(1, 4))
def test_events_leave_once_in_order_and_within_bounds(steps, batch_max):
    """Whatever is added, sent and flushed in which order."""
    queue: BatchQueue[None] = BatchQueue(
        BufferOptions(batch_max=batch_max, events_max=8, age_s_max=NEVER_S), lambda: "made"
    )
    added: list[str] = []
    sent: list[str] = []
    for step in steps:
        if step == "add" and queue.has_room:
            queue.add(view(len(added)), 0.0, None)
            added.append(f"e{len(added)}")
        elif step == "flush":
            queue.flush()
        elif step == "send" and queue.due_in_s(0.0) == 0:
            batch = queue.take()
            assert len(batch) <= batch_max
            sent += [outcome.event_id for outcome in queue.settle(batch, TAKEN)]
    queue.flush()
    while queue.due_in_s(0.0) == 0:
        sent += [outcome.event_id for outcome in queue.settle(queue.take(), TAKEN)]
    assert sent == added
    assert queue.settled == queue.flush() == len(added)


def test_a_batch_is_due_by_count_age_or_flush():
    """And nothing else."""
    queue: BatchQueue[None] = BatchQueue(BufferOptions(batch_max=2, age_s_max=5.0), lambda: "made")
    assert queue.due_in_s(0.0) is None
    queue.add(view(0), 10.0, None)
    assert [queue.due_in_s(now) for now in (10.0, 12.0, 15.0, 16.0)] == [5.0, 3.0, 0.0, 0.0]
    queue.add(view(1), 11.0, None)
    assert queue.due_in_s(11.0) == 0.0
    queue.take()
    queue.settle([], TAKEN)
    queue.add(view(2), 20.0, None)
    queue.flush()
    assert queue.due_in_s(20.0) == 0.0


class Sink:
    """A server that takes events, rejects item i3 and knows e1 already."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False

    def __call__(self, request):
        self.gate.wait(60)
        if self.fails:
            raise httpx.ReadError("reset")
        events = json.loads(request.content)
        self.batches.append([each["event_id"] for each in events])
        places = {each["event_id"]: place for place, each in enumerate(events)}
        results, rejected = [], []
        if "e1" in places:
            results.append({"index": places["e1"], "outcome": "duplicate"})
        if "e3" in places:
            results.append({"index": places["e3"], "outcome": "rejected"})
            rejected = [{"index": places["e3"], "pointer": "/item_id", "came": "c", "right": "r", "page": "p"}]
        taken = {"recorded": len(events), "duplicates": 0, "rejected": rejected, "results": results}
        return httpx.Response(200, json=taken)


@pytest.fixture
def sink():
    """Such a server."""
    return Sink()


@pytest.fixture
def client(sink):
    """A client of it that gives up at once."""
    with Client(URL, options=ClientOptions(attempts_max=1), transport=httpx.MockTransport(sink)) as found:
        yield found


def test_each_event_has_its_outcome(client, sink):
    """After close nothing waits; full batches left before it."""
    with client.buffer(BufferOptions(batch_max=2, age_s_max=NEVER_S)) as buffer:
        waiters = [buffer.add(view(number)) for number in range(5)]
    outcomes = [waiter.result(0) for waiter in waiters]
    assert [each.outcome for each in outcomes] == ["recorded", "duplicate", "recorded", "rejected", "recorded"]
    assert outcomes[3].rejection is not None
    assert sink.batches == [["e0", "e1"], ["e2", "e3"], ["e4"]]
    assert buffer.counts == {"recorded": 3, "duplicate": 1, "rejected": 1}
    with pytest.raises(ValueError, match="closed"):
        buffer.add(view(9))


def test_age_and_flush_send(client, sink):
    """Without a full batch."""
    with client.buffer(BufferOptions(age_s_max=0.01)) as buffer:
        assert buffer.add(view(0)).result(60).outcome == "recorded"
    with client.buffer(BufferOptions(age_s_max=NEVER_S)) as buffer:
        waiter = buffer.add(view(2))
        buffer.flush()
        assert waiter.result(0).outcome == "recorded"
        assert sink.batches == [["e0"], ["e2"]]


def test_a_failed_batch_is_said_and_the_next_one_sent(client, sink):
    """No event disappears, and the thread lives on."""
    with client.buffer(BufferOptions(age_s_max=NEVER_S)) as buffer:
        sink.fails = True
        lost = buffer.add(view(0))
        buffer.flush()
        sink.fails = False
        kept = buffer.add(view(2))
    assert (lost.result(0).outcome, kept.result(0).outcome) == ("failed", "recorded")
    assert "ReadError" in str(lost.result(0).error)


def test_a_full_buffer_waits_and_then_refuses(client, sink):
    """Those under way count."""
    sink.gate.clear()
    with client.buffer(BufferOptions(batch_max=1, events_max=2, room_s_max=0.05)) as buffer:
        buffer.add(view(0))
        buffer.add(view(2))
        began = time.monotonic()
        with pytest.raises(BufferFull):
            buffer.add(view(4))
        assert time.monotonic() - began >= 0.05
        sink.gate.set()
    assert buffer.counts == {"recorded": 2}


def test_on_an_event_loop(in_process):
    """Against an engine: every event recorded once, in order, and seen by the next answer."""

    async def work(client):
        async with client.buffer(BufferOptions(batch_max=3, age_s_max=0.01)) as buffer:
            waiters = [await buffer.add(view(number)) for number in range(7)]
            again = await buffer.add(view(0))
            await buffer.flush()
            slate = await client.recommend(user_id="ann")
        with pytest.raises(ValueError, match="closed"):
            await buffer.add(view(9))
        events = [row["event_id"] async for row in client.events("ann")]
        return [(await each).outcome for each in (*waiters, again)], slate, events, buffer.counts

    outcomes, slate, events, counts = in_process(work)
    assert outcomes == ["recorded"] * 7 + ["duplicate"]
    assert slate.read_your_writes is True
    assert events == [f"e{number}" for number in reversed(range(7))]
    assert counts == {"recorded": 7, "duplicate": 1}


def test_a_full_buffer_refuses_on_an_event_loop(in_process):
    """After its wait."""

    async def work(client):
        buffer = client.buffer(BufferOptions(batch_max=1, events_max=1, room_s_max=0.01, age_s_max=NEVER_S))
        with pytest.raises(ValueError, match="async with"):
            await buffer.add(view(0))
        held = asyncio.Event()

        async def record(_events):
            await held.wait()
            return TAKEN

        client.record = record
        async with buffer:
            await buffer.add(view(0))
            with pytest.raises(BufferFull):
                await buffer.add(view(1))
            held.set()
        return buffer.counts

    assert in_process(work) == {"recorded": 1}


class Unencodable:
    """A value without a form in JSON."""


@pytest.mark.parametrize("value", [Unencodable(), "\ud800"])
def test_an_event_that_cannot_be_sent_is_refused_when_it_is_added(client, sink, value):
    """To its caller; the events before and after it are sent."""
    with client.buffer(BufferOptions(age_s_max=NEVER_S)) as buffer:
        waiters = [buffer.add(view(0))]
        with pytest.raises((TypeError, ValueError)):
            buffer.add(view(5) | {"context": {"a": value}})
        waiters.append(buffer.add(view(2)))
    assert [each.result(0).outcome for each in waiters] == ["recorded", "recorded"]
    assert sink.batches == [["e0", "e2"]]


def test_a_later_change_of_an_event_is_not_sent():
    """The queue holds a copy down to its last level."""
    queue: BatchQueue[None] = BatchQueue(BufferOptions(), lambda: "made")
    context = {"a": 1}
    queue.add(view(0) | {"context": context}, 0.0, None)
    context["a"] = 2
    assert queue.take()[0].event["context"] == {"a": 1}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_buffer_of_a_closed_client_fails_what_it_holds(sink):
    """Nobody waits for ever, and the counts say what was not sent."""
    closed = Client(URL, transport=httpx.MockTransport(sink))
    buffer = closed.buffer(BufferOptions(batch_max=2, age_s_max=NEVER_S))
    closed.close()
    waiters = [buffer.add(view(0))]
    flusher = threading.Thread(target=buffer.flush, daemon=True)
    flusher.start()
    flusher.join(20)
    assert not flusher.is_alive()
    outcome = waiters[0].result(20)
    assert (outcome.event_id, outcome.outcome) == ("e0", "failed")
    assert isinstance(outcome.error, BufferEnded)
    assert "closed" in str(outcome.error)
    with pytest.raises(ValueError, match="closed"):
        buffer.add(view(2))
    buffer.close()
    assert buffer.counts == {"failed": 1}


def test_a_buffer_of_a_closed_client_fails_what_it_holds_on_an_event_loop(in_process):
    """As with threads."""

    async def work(client):
        async with client.buffer(BufferOptions(age_s_max=NEVER_S)) as buffer:
            await client.close()
            waiter = await buffer.add(view(0))
            with pytest.raises(TypeError):
                await buffer.add(view(1) | {"value": Unencodable()})
            async with asyncio.timeout(20):
                await buffer.flush()
            with pytest.raises(ValueError, match="closed"):
                await buffer.add(view(2))
        return waiter.result(), buffer.counts

    outcome, counts = in_process(work)
    assert isinstance(outcome.error, BufferEnded)
    assert counts == {"failed": 1}


def test_a_cancelled_close_lets_the_sender_go_on(in_process):
    """The event under way keeps its outcome, and closing again waits for it."""

    async def work(client):
        held = asyncio.Event()

        async def record(_events):
            await held.wait()
            return TAKEN

        client.record = record
        async with client.buffer(BufferOptions(age_s_max=0.0)) as buffer:
            waiter = await buffer.add(view(0))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await buffer.close()
            held.set()
            await buffer.close()
        return waiter.result().outcome, buffer.counts

    assert in_process(work) == ("recorded", {"recorded": 1})


def test_an_oversize_event_fails_alone(in_process):
    """Of ten, by the limit of a real server; and batches stay below it."""

    async def work(client):
        large = {"context": {"a": "x" * 300_000}}
        async with client.buffer(BufferOptions(batch_max=10, age_s_max=NEVER_S)) as buffer:
            waiters = [await buffer.add(view(number) | (large if number == 3 else {})) for number in range(10)]
        return [each.result() for each in waiters]

    outcomes = in_process(work)
    assert [each.outcome for each in outcomes] == ["recorded"] * 3 + ["failed"] + ["recorded"] * 6
    assert isinstance(outcomes[3].error, RequestTooLarge)


def test_a_batch_holds_what_a_request_may(monkeypatch):
    """Up to the last byte, brackets and commas included."""
    queue: BatchQueue[None] = BatchQueue(BufferOptions(), lambda: "made")
    one = len(json.dumps(view(0), separators=(",", ":")))
    for bound, expected in ((2 * one + 3, [2, 2, 1]), (2 * one + 2, [1, 1, 1, 1, 1])):
        monkeypatch.setattr(event_batches, "BYTES_MAX", bound)
        for number in range(5):
            queue.add(view(number), 0.0, None)
        sizes = []
        while queue.flush() > queue.settled:
            batch = queue.take()
            sizes.append(len(batch))
            queue.settle(batch, TAKEN)
        assert sizes == expected


@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 12))
def test_a_batch_that_is_too_large_is_halved_in_its_place(taken_max, count, batch_max):
    """Until the server takes it: every event once, in order, at once, and only a single one may fail."""
    queue: BatchQueue[None] = BatchQueue(BufferOptions(batch_max=batch_max, age_s_max=NEVER_S), lambda: "made")
    refusal = RequestTooLarge(Problem("t", "Large", 413, "d"), URL)
    for number in range(count):
        queue.add(view(number), 0.0, None)
    sent = []
    added = queue.flush()
    while queue.settled < added:
        assert queue.due_in_s(0.0) == 0.0
        batch = queue.take()
        outcomes = queue.settle(batch, refusal if len(batch) > taken_max else TAKEN)
        sent += [(each.event_id, each.outcome) for each in outcomes]
    assert sent == [(f"e{number}", "recorded") for number in range(count)]
    queue.add(view(0), 0.0, None)
    assert [each.outcome for each in queue.settle(queue.take(), refusal)] == ["failed"]
