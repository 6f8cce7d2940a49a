"""The log in memory has a maximum, and what was closed takes nothing more."""

import pytest

from midstream.core.errors import AppendFailed, DiskFull
from midstream.core.types import LogPosition
from midstream.events.memory import MemoryLog
from midstream.testing.log_conformance import events_in, sample_batch


def test_full_memory_is_a_full_disk():
    """At the maximum an append says that there is no room, keeps nothing, and a smaller one still fits."""
    log = MemoryLog(events_max=10)
    log.append(sample_batch(0, 8, 5))
    for _ in range(2):
        with pytest.raises(DiskFull, match="8 events are in memory and 10 is the most"):
            log.append(sample_batch(8, 3, 6))
    assert (log.end, log.last_log_time_ms) == (8, 5)
    assert log.append(sample_batch(8, 2, 6)) == 10
    assert len(events_in(log.read(LogPosition(0), 100))) == 10


def test_closed_log_takes_nothing_and_can_be_read():
    """Closing ends appending, not reading."""
    log = MemoryLog()
    log.append(sample_batch(0, 2, 0))
    log.close()
    with pytest.raises(AppendFailed, match="closed"):
        log.append(sample_batch(2, 1, 0))
    assert len(events_in(log.read(LogPosition(0), 5))) == 2
    assert log.generation == 0
