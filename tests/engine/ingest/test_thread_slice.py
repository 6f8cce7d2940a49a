"""What a thread's slice promises: it is that thread's alone, and changes nothing else of it."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from midstream.core.errors import AppendFailed
from midstream.core.types import TimestampMs
from midstream.engine.ingest import thread_slice
from midstream.engine.ingest import writer as writer_module
from midstream.engine.ingest.thread_slice import LOG_SLICE_NS, shorten_slice, slice_of
from midstream.engine.ingest.writer import LogWriter, QueueEntry, WrittenFrame
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build
from tests.support.ids import KEY
from tests.support.patience import PATIENCE_S

_RELEASE = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
HAS_SLICES = _RELEASE >= (6, 12) and platform.machine() in {"x86_64", "aarch64"}
"""Whether this kernel lets a thread choose; where it does not all of this holds with nothing changed."""


def in_a_thread(work: Callable[[], object]) -> object:
    """Return what a function returns in a thread of its own."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(PATIENCE_S)
    return found[0]


def test_the_log_thread_has_a_short_slice():
    """It runs at once when a sync is over, also where the event loop has the only core."""
    before, found = slice_of(0), list[int]()
    writer = LogWriter(
        MemoryLog(),
        lambda: TimestampMs(0),
        time.monotonic,
        lambda _: found.append(slice_of(0)),
        KEY,
        keeps_event_time=False,
    )
    writer.start()
    writer.submit(QueueEntry(build((Event(1, action="view", item_id="mug"),)), None))
    writer.close()
    assert found == [LOG_SLICE_NS if HAS_SLICES else before]
    assert slice_of(0) == before


def test_a_slice_is_of_one_thread():
    """No other thread has it, and none that is started afterwards by another one."""
    before = slice_of(0)
    assert in_a_thread(lambda: (shorten_slice(200_000), slice_of(0))) == (HAS_SLICES, 200_000 if HAS_SLICES else before)
    assert slice_of(0) == before
    assert in_a_thread(lambda: slice_of(0)) == before


@pytest.mark.parametrize(
    "policy, has_it", [("SCHED_OTHER", HAS_SLICES), ("SCHED_BATCH", HAS_SLICES), ("SCHED_IDLE", False)]
)
def test_rank_and_policy_stay(policy, has_it):
    """A server that was started behind others stays there, and one that has idle time alone is left as it is."""
    program = (
        "import os, sys; from midstream.engine.ingest.thread_slice import shorten_slice; os.nice(5); "
        "os.sched_setscheduler(0, getattr(os, sys.argv[1]), os.sched_param(0)); found = shorten_slice(100_000); "
        "print(found, os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == getattr(os, sys.argv[1]))"
    )
    ran = subprocess.run([sys.executable, "-c", program, policy], check=True, capture_output=True, text=True)
    rank = os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert ran.stdout.split() == [str(has_it), str(min(rank, 19)), "True"]


def test_an_unknown_machine_or_number_changes_nothing(monkeypatch):
    """Where the numbers of the calls are not known none is made; a slice that the kernel does not take is none."""
    assert in_a_thread(lambda: (shorten_slice(1), slice_of(0) >= LOG_SLICE_NS or not HAS_SLICES)) == (False, True)
    monkeypatch.setattr(thread_slice, "_CALLS", {})
    assert not shorten_slice(LOG_SLICE_NS)
    assert slice_of(0) == 0


def test_a_program_without_access_to_the_c_library_changes_nothing(monkeypatch):
    """A slice is a favour: without it the log thread works on."""

    def refuses(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", refuses)
    assert not shorten_slice(LOG_SLICE_NS)
    assert slice_of(0) == 0


def test_a_fault_at_the_thread_s_start_is_told_to_whoever_waits(monkeypatch):
    """As any other one of the log thread: nothing is accepted any more, and nobody waits for ever."""

    def fails(_: int) -> bool:
        raise RuntimeError

    monkeypatch.setattr(writer_module, "shorten_slice", fails)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    delivered: list[WrittenFrame] = []
    writer = LogWriter(
        MemoryLog(), lambda: TimestampMs(0), time.monotonic, delivered.append, KEY, keeps_event_time=False
    )
    writer.submit(QueueEntry(build((Event(1, action="view", item_id="mug"),)), None))
    writer.start()
    writer.close()
    assert [type(each.error) for each in delivered] == [AppendFailed]
