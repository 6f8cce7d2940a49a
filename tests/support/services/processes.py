"""Processes by pid and start time: a pid file that a crash left behind names no other process by accident.

Linux only: all is read from ``/proc``.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.services.faults import ServiceFault

KILL_S_MAX = 30.0
"""Until the kernel has taken down what got SIGKILL: its memory is given back first, on a busy machine in seconds."""
_POLL_S = 0.02
_STATE, _PARENT, _STARTED = 0, 1, 19
"""Fields of ``/proc/PID/stat`` behind the name of the program, which may hold anything."""


@dataclass(frozen=True)
class Process:
    """One process, now or in the past."""

    pid: int
    started: int
    """Clock ticks from the machine's start to the process': a pid is given again, a pair of both is not."""

    def is_alive(self) -> bool:
        """Look whether it runs; one that ended and was not waited for does not."""
        fields = _stat(self.pid)
        return bool(fields) and int(fields[_STARTED]) == self.started and fields[_STATE] not in {"Z", "X"}

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.is_alive():
            os.kill(self.pid, number)

    def memory_bytes(self) -> int:
        """Resident memory of it and all that it started."""
        pages = 0
        for each in family(self):
            try:
                pages += int(Path(f"/proc/{each.pid}/statm").read_text("ascii").split()[1])
            except (FileNotFoundError, ProcessLookupError):  # has ended in between
                continue
        return pages * os.sysconf("SC_PAGE_SIZE")


def process_of(pid: int) -> Process | None:
    """Return the process that has a pid now."""
    fields = _stat(pid)
    return Process(pid, int(fields[_STARTED])) if fields else None


def family(root: Process) -> list[Process]:
    """Return a process and all that descend from it, itself first."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[_PARENT]), []).append(Process(int(entry.name), int(fields[_STARTED])))
    found = [root] if root.is_alive() else []
    for each in found:
        found += children.get(each.pid, [])
    return found


def end(root: Process, number: signal.Signals, wait_s: float) -> bool:
    """End a process and all that it started; what goes on behind ``wait_s`` is killed.

    Returns:
        Whether they ended by themselves.

    Raises:
        ServiceFault: Even SIGKILL did not end one.
    """
    if number == signal.SIGKILL:
        root.send(signal.SIGSTOP)  # what it starts between a look at its family and its end would be nobody's
    members = family(root)
    root.send(number)
    if _have_ended(members, wait_s):
        return True
    for each in members:
        each.send(signal.SIGKILL)
    if not _have_ended(members, KILL_S_MAX):
        message = f"process {root.pid} goes on {KILL_S_MAX:.0f} s behind SIGKILL"
        raise ServiceFault(message)
    return False


def _have_ended(members: list[Process], wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while any(each.is_alive() for each in members):
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def _stat(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(") ")[2].split()
