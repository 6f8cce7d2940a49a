"""What the log thread promises: it goes on whatever becomes of those who asked something of it."""

import threading
import time

import pytest

from midstream.core.types import TimestampMs
from midstream.engine.writer import Entry, Writer
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build


@pytest.mark.parametrize("when", ["before it begins", "while it is done"])
def test_an_errand_that_is_given_up(when):
    """Whoever cancels an errand does not take the log thread with it: a frame is written after it."""
    log, written = MemoryLog(), threading.Event()
    writer = Writer(log, lambda: TimestampMs(1_000), time.monotonic, lambda _: written.set(), keeps_event_time=False)
    begun, go_on = threading.Event(), threading.Event()

    def work(now):
        begun.set()
        assert go_on.wait(10)
        return now

    errand = writer.between_frames(work)
    if when == "before it begins":
        assert errand.cancel()
        go_on.set()
    writer.start()
    if when == "while it is done":
        assert begun.wait(10)
        assert not errand.cancel()
        go_on.set()
        errand.result(10)
    writer.submit(Entry(build((Event(1, action="view", item_id="mug"),)), None))
    assert written.wait(10)
    writer.close()
    assert log.end == 1
    assert begun.is_set() == (when == "while it is done")
