"""Sockets on given TCP ports and who holds them, read from ``/proc``: why a server could not have its port."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.services.processes import Process, family

_TABLES = ("tcp", "tcp6")
_LOCAL, _REMOTE, _STATE, _INODE = 1, 2, 3, 9
"""Fields of a row of ``/proc/net/tcp``; addresses and state in hexadecimal."""
_STATES = (
    "", "established", "syn sent", "syn received", "fin wait 1", "fin wait 2", "time wait", "closed", "close wait",
    "last ack", "listens", "closing", "new syn received",
)  # fmt: skip
"""By number, as the kernel counts them."""


@dataclass(frozen=True)
class PortSocket:
    """One socket whose own end has a port."""

    port: int
    peer_port: int
    state: str
    inode: int
    """0 where it only waits for late packets, which keeps no server from its port."""

    def __str__(self) -> str:
        """Say it, with the process that holds it."""
        return f"port {self.port} {self.state} (peer's port {self.peer_port}), {_holder(self.inode)}"


def foreign_sockets(process: Process, ports: Collection[int]) -> list[PortSocket]:
    """Return the sockets on some ports that neither a process nor what it started holds.

    One that is open before and behind the look at its own was open meanwhile: it is not one that it just opened or
    closed, or that its end closed.
    """
    found = list(_on(ports))
    if not found:
        return []
    own = {inode for each in family(process) for inode in _inodes(each.pid)}
    still = {each.inode for each in _on(ports)}
    return [each for each in found if each.inode in still - own]


def _on(ports: Collection[int]) -> Iterator[PortSocket]:
    return (each for table in _TABLES for each in _rows(table) if each.port in ports and each.inode)


def _rows(table: str) -> Iterator[PortSocket]:
    path = Path("/proc/net") / table
    for line in path.read_text("ascii").splitlines()[1:] if path.exists() else ():
        fields = line.split()
        local, remote = (int(fields[each].rpartition(":")[2], 16) for each in (_LOCAL, _REMOTE))
        yield PortSocket(local, remote, _STATES[int(fields[_STATE], 16)], int(fields[_INODE]))


def _inodes(pid: int) -> Iterator[int]:
    try:
        for each in Path(f"/proc/{pid}/fd").iterdir():
            target = str(each.readlink())
            if target.startswith("socket:["):
                yield int(target[len("socket:[") : -1])
    except OSError:  # has ended, or is another user's
        return


def _holder(inode: int) -> str:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inode in _inodes(int(entry.name)):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            return f"held by process {entry.name}: {command[:200]}"
    return "held by no process that can be seen"
