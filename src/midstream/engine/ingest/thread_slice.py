"""Scheduling slice of a thread: how long the kernel lets it run before its turn goes to another one.

A thread that wakes runs at once where its slice is shorter than that of the one that runs, and it has not had more than
its share; else it waits until the other's slice is over, 1.4 ms with two cores and 2.8 from eight on. The log thread
wakes twice a commit, for 0.1 ms each time, beside an event loop that is busy for most of the time. A shorter slice
gives it no larger share of a core and needs no privilege: it has its share in more and shorter turns.

Linux 6.12 and later; elsewhere nothing changes.

Reference: Stoica and Abdel-Wahab, Earliest Eligible Virtual Deadline First, 1995; sched_setattr(2).
"""

import ctypes
import os
import platform
import struct
from typing import NamedTuple

LOG_SLICE_NS = 100_000
"""The shortest that the kernel takes: 0.1 ms, about what the log thread computes between two waits."""
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")
"""Size, policy, flags, niceness, priority; the slice, and two numbers of other policies."""
_SLICED = frozenset({os.SCHED_OTHER, os.SCHED_BATCH})
"""Policies under which a thread has a slice."""


class _Calls(NamedTuple):
    """Numbers of two calls of the system, for which the C library has no names."""

    set_attributes: int
    get_attributes: int


_CALLS = {"x86_64": _Calls(314, 315), "aarch64": _Calls(274, 275)}


def shorten_slice(slice_ns: int) -> bool:
    """Give the calling thread a slice; return whether it has it now. Niceness and policy stay as they are.

    Args:
        slice_ns: 100,000 to 100,000,000.
    """
    calls, system = _CALLS.get(platform.machine()), _system()
    found = _attributes(0)
    if calls is None or system is None or found is None or found[1] not in _SLICED:
        return False
    size, policy, flags, niceness, priority, _, deadline, period = found
    wanted = _ATTRIBUTES.pack(size, policy, flags, niceness, priority, slice_ns, deadline, period)
    system.syscall(calls.set_attributes, 0, wanted, 0)
    return slice_of(0) == slice_ns


def slice_of(thread: int) -> int:
    """Return the slice of a thread of this machine in nanoseconds, 0 = the kernel does not say; 0 is the calling one.

    Args:
        thread: Its number in the kernel, ``threading.Thread.native_id``.
    """
    found = _attributes(thread)
    return 0 if found is None or found[1] not in _SLICED else int(found[5])


def _attributes(thread: int) -> tuple[int, ...] | None:
    """Return the fields of ``_ATTRIBUTES`` of a thread; None where there is no such call, or it is not allowed."""
    calls, system = _CALLS.get(platform.machine()), _system()
    if calls is None or system is None:
        return None
    room = ctypes.create_string_buffer(_ATTRIBUTES.size)
    failed = system.syscall(calls.get_attributes, thread, room, _ATTRIBUTES.size, 0)
    return None if failed else _ATTRIBUTES.unpack(room.raw)


def _system() -> ctypes.CDLL | None:
    """Return the C library; None where the program has it built in and gives no access to it."""
    try:
        system = ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None
    return system if hasattr(system, "syscall") else None
