"""What the log thread promises: it goes on whatever becomes of those who asked something of it."""

import asyncio
import threading
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.core.errors import AppendFailed
from midstream.core.types import TimestampMs
from midstream.engine.ingest import writer as writers
from midstream.engine.ingest.writer import LogWriter, QueueEntry, WrittenFrame
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build
from tests.support.ids import KEY
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, view

VIEW = build((Event(1, action="view", item_id="mug"),))


@pytest.mark.parametrize("when", ["before it begins", "while it is done"])
def test_an_errand_that_is_given_up(when):
    """Whoever cancels an errand does not take the log thread with it: a frame is written after it."""
    log, written = MemoryLog(), threading.Event()
    writer = LogWriter(
        log, lambda: TimestampMs(1_000), time.monotonic, lambda _: written.set(), KEY, keeps_event_time=False
    )
    begun, go_on = threading.Event(), threading.Event()

    def work(now):
        begun.set()
        assert go_on.wait(PATIENCE_S)
        return now

    errand = writer.between_frames(work)
    if when == "before it begins":
        assert errand.cancel()
        go_on.set()
    writer.start()
    if when == "while it is done":
        assert begun.wait(PATIENCE_S)
        assert not errand.cancel()
        go_on.set()
        errand.result(PATIENCE_S)
    writer.submit(QueueEntry(VIEW, None))
    assert written.wait(PATIENCE_S)
    writer.close()
    assert log.end == 1
    assert begun.is_set() == (when == "while it is done")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [MemoryError("no memory"), ZeroDivisionError("a bug")])
@pytest.mark.parametrize("queued", [0, 1])
def test_an_errand_that_ends_the_log_thread(error, queued):
    """Nobody waits for what will not be done: the errand has its error, what is queued and what comes is refused."""
    written: list[WrittenFrame] = []
    writer = LogWriter(
        MemoryLog(), lambda: TimestampMs(1_000), time.monotonic, written.append, KEY, keeps_event_time=False
    )
    begun, go_on = threading.Event(), threading.Event()

    def work(_):
        begun.set()
        assert go_on.wait(PATIENCE_S)
        raise error

    errand = writer.between_frames(work)
    writer.start()
    assert begun.wait(PATIENCE_S)
    second = writer.between_frames(lambda log: log)
    writer.submit(*(QueueEntry(VIEW, None) for _ in range(queued)))
    go_on.set()
    assert errand.exception(PATIENCE_S) is error
    assert isinstance(second.exception(PATIENCE_S), AppendFailed)
    writer.close()
    with pytest.raises(AppendFailed, match="ended by a bug"):
        writer.submit(QueueEntry(VIEW, None))
    (told,) = written
    assert (isinstance(told.error, AppendFailed), len(told.entries)) == (True, queued)


def test_an_errand_after_which_the_log_may_take_nothing():
    """It says so with ``AppendFailed``: what is queued and what comes is refused with its reason, without a bug."""
    written: list[WrittenFrame] = []
    writer = LogWriter(
        MemoryLog(), lambda: TimestampMs(1_000), time.monotonic, written.append, KEY, keeps_event_time=False
    )
    begun, go_on = threading.Event(), threading.Event()

    def work(_):
        begun.set()
        assert go_on.wait(PATIENCE_S)
        message = "which log is the log?"
        raise AppendFailed(message)

    errand = writer.between_frames(work)
    writer.start()
    assert begun.wait(PATIENCE_S)
    writer.submit(QueueEntry(VIEW, None))
    go_on.set()
    assert isinstance(errand.exception(PATIENCE_S), AppendFailed)
    writer.close()
    with pytest.raises(AppendFailed, match="which log"):
        writer.submit(QueueEntry(VIEW, None))
    assert [(len(each.entries), str(each.error)) for each in written] == [(1, "which log is the log?")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_was_written_before_is_acknowledged():
    """A frame that was handed back before the errand is not told as one that failed."""
    written: list[WrittenFrame] = []
    log = MemoryLog()
    writer = LogWriter(log, lambda: TimestampMs(1_000), time.monotonic, written.append, KEY, keeps_event_time=False)

    def work(_):
        raise ZeroDivisionError

    writer.submit(QueueEntry(VIEW, None))
    errand = writer.between_frames(work)
    writer.start()
    assert isinstance(errand.exception(PATIENCE_S), ZeroDivisionError)
    writer.close()
    assert [(len(each.entries), each.error is None) for each in written] == [(1, True), (0, False)]
    assert log.end == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_health_says_that_the_log_thread_ended():
    """An engine whose log thread is gone takes nothing, says so, and stops."""

    def broken(_):
        raise MemoryError

    async def work(rig):
        assert rig.engine.health().accepts_events
        with pytest.raises(MemoryError):
            await rig.engine.replace_log(broken)
        async with asyncio.timeout(PATIENCE_S):
            while (health := rig.engine.health()).accepts_events:  # noqa: ASYNC110  the log thread tells
                await asyncio.sleep(0.001)
        assert "ended by a bug" in health.reason
        with pytest.raises(AppendFailed):
            await rig.engine.record(rig.batch(view("mug")))

    Rig().run(work)


@given(st.lists(st.integers(1, 7), max_size=12))
@example([2, 3, 5, 1, 4, 1])
def test_a_frame_takes_as_many_whole_batches_as_may_be(sizes):
    """In their order, five events here; one that is larger has a frame of its own."""
    expected: list[list[int]] = []
    for size in sizes:
        if expected and sum(expected[-1]) + size <= 5:
            expected[-1].append(size)
        else:
            expected.append([size])
    log = MemoryLog()
    writer = LogWriter(log, lambda: TimestampMs(1), time.monotonic, lambda _: None, KEY, keeps_event_time=False)
    for size in sizes:
        writer.submit(QueueEntry(build((Event(1, action="view", item_id="mug"),) * size), None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers, "FRAME_EVENTS_MAX", 5)
        found = [[len(each.batch) for each in writer._take()] for _ in expected]
    assert found == expected
    assert (writer._queued, writer._queued_bytes) == (0, 0)
