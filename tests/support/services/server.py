"""Servers that run: started in a folder, found again by pid, asked whether they are ready, ended or killed."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.services.faults import ServiceFault
from tests.support.services.processes import Process, end, family, process_of
from tests.support.services.replies import Ill, NotReady
from tests.support.services.sockets import foreign_sockets
from tests.support.services.system import Site, System

READY_S_MAX = 480.0
"""A server on Java compiles for most of its start, on a machine that does other things too."""
ILL_S_MAX = 60.0
"""Until a server that was ready before and answers no more is ended and started again."""
STOP_S_MAX = 60.0
"""Until a server that was asked to end is killed."""
ORPHANS_S_MAX = 3.0
"""Until what a killed server has started is killed too: PostgreSQL's sessions see it at once, Triton's models never."""
LOG_LINES = 30
"""Of its log, in the fault of a server that does not start."""
PORT_S_MAX = 10.0
"""Until a port of the time before is free: what a crash left behind ends by itself, in seconds on a busy machine. Then
another port is taken, which neither clients nor a pooler in front would find."""
STARTS_MAX = 3
"""Of a server that ends because one of its ports is in use: it was free before the start, and may be so again. The last
start is on other ports."""
_IN_USE = "address already in use"
"""In the log of such a server, whichever it is."""
_POLL_S = 0.2
_PORTS = range(20_000, 32_000)
"""Below those that connections are given: one that tries again and again to reach a server that is down could be given
its port, and be connected with itself."""
_PORT_STEP = 61
"""Between the first ports that processes of neighbouring ids try."""
State = Literal["ready", "does not answer", "stopped", "ended by itself"]


@dataclass(frozen=True)
class Status:
    """One look at a server."""

    state: State
    process: Process | None
    ports: Mapping[str, int]


@dataclass
class Server:
    """One server in a folder, whichever process started it."""

    system: System
    folder: Path
    host: str = "127.0.0.1"
    is_tied: bool = False
    """Whether it ends with the thread that starts it, however that ends: a test run that is killed leaves nothing."""
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def ports(self) -> Mapping[str, int]:
        """Its ports by name; none before its first start."""
        path = self.folder / "ports.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def _taken_ports(self) -> set[int]:
        """Return the ports that servers in folders beside it had: one that is down is to find its own free again.

        Pulsar keeps the port of its bookie in its data, and listens there whatever it is told later.
        """
        others = (each for each in self.folder.parent.glob("*/ports.json") if each.parent != self.folder)
        return {port for each in others for port in json.loads(each.read_text("utf-8")).values()}

    @property
    def address(self) -> str:
        """Host and port for clients."""
        return f"{self.host}:{self.ports[self.system.port_names[0]]}"

    @property
    def log(self) -> Path:
        """What it has printed since its last start; that of the start before has ``.1`` at its end."""
        return self.folder / "log"

    def up(self) -> None:
        """Start it unless it runs, and wait until it answers.

        Raises:
            Unavailable: It cannot be had on this machine.
            ServiceFault: It ended, or does not answer in time.
        """
        with self._alone():
            self.thaw()
            if (running := self._process()) is not None and self._amiss(running, ILL_S_MAX, []) is not None:
                self._end_process(running, self.system.stop_signal, STOP_S_MAX)
            seen: list[str] = []
            for number in range(1, STARTS_MAX + 1):
                process = self._process() or self._start(is_moved=number == STARTS_MAX)
                fault = self._amiss(process, READY_S_MAX, seen)
                if fault is None:
                    return
                self._end_process(process, self.system.stop_signal, STOP_S_MAX)
                is_in_use = _IN_USE in self.log.read_text("utf-8", "replace").lower()
                if number == STARTS_MAX or not (isinstance(fault, Ill) or is_in_use):
                    raise self._fault("\n".join([str(fault), *dict.fromkeys(seen)]))

    def down(self) -> bool:
        """End it in order, also one that is frozen, and what does not end in time with force; its data stays.

        Returns:
            Whether it ran.
        """
        return self._end(self.system.stop_signal, STOP_S_MAX)

    def kill(self) -> None:
        """End it as a crash does: nothing is written any more."""
        self._end(signal.SIGKILL, ORPHANS_S_MAX)

    def freeze(self) -> None:
        """Stop it from running, as a machine without time does: connections stay open, and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it run on."""
        self._send(signal.SIGCONT)

    def status(self) -> Status:
        """Look at it."""
        process = self._process()
        if process is not None:
            return Status("does not answer" if self._ask() else "ready", process, self.ports)
        return Status("ended by itself" if self._pid_file.exists() else "stopped", None, self.ports)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Keep other processes from starting or ending it meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _process(self) -> Process | None:
        """Return the process that was started last, while it runs."""
        try:
            pid, started = self._pid_file.read_text("ascii").split()
        except FileNotFoundError:
            return None
        process = Process(int(pid), int(started))
        return process if process.is_alive() else None

    def _site(self, ports: Mapping[str, int]) -> Site:
        return Site(self.folder, self.system.package.find(), self.host, ports)

    def _amiss(self, process: Process, wait_s: float, seen: list[str]) -> Exception | None:
        """Wait until it answers; note sockets of others on its ports. Return why it will not, None = it does."""
        until = time.monotonic() + wait_s
        while (fault := self._ask()) is not None:
            seen += map(str, foreign_sockets(process, self.ports.values()))
            if not process.is_alive():
                return NotReady("ended by itself")
            if isinstance(fault, Ill):
                return fault
            if time.monotonic() > until:
                return NotReady(f"does not answer within {wait_s:.0f} s: {fault!r}")
            time.sleep(_POLL_S)
        return None

    def _start(self, *, is_moved: bool) -> Process:
        self._forget()
        before, names = self.ports, self.system.port_names
        ports = None if is_moved else former_ports(self.host, before, names)
        ports = ports or fresh_ports(self.host, names, self._taken_ports() | {*before.values()})
        site = self._site(ports)
        command = [*(["setpriv", "--pdeathsig", "KILL"] if self.is_tied else []), *self.system.command(site)]
        site.data.mkdir(exist_ok=True)
        (self.folder / "ports.json").write_text(json.dumps(dict(site.ports)), "utf-8")
        self.system.prepare(site)
        if self.log.exists():
            self.log.rename(self.log.with_name("log.1"))
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = process_of(self._child.pid)
        if process is None:
            raise self._fault("ended at once")
        self._pid_file.write_text(f"{process.pid} {process.started}\n", "ascii")
        return process

    def _send(self, number: signal.Signals) -> None:
        if process := self._process():
            for each in family(process):
                each.send(number)

    def _end(self, number: signal.Signals, wait_s: float) -> bool:
        if not self.folder.exists():
            return False
        with self._alone():
            process = self._process()
            if process is not None:
                self.thaw()
            self._end_process(process, number, wait_s)
        return process is not None

    def _end_process(self, process: Process | None, number: signal.Signals, wait_s: float) -> None:
        if process is not None and process.is_alive():
            end(process, number, wait_s)
        self._forget()

    def _forget(self) -> None:
        """Forget a process that has ended."""
        self._pid_file.unlink(missing_ok=True)
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _ask(self) -> Exception | None:
        """Ask it as a client does; return what is amiss."""
        try:
            self.system.ask(self._site(self.ports))
        except (OSError, NotReady) as fault:
            return fault
        return None

    def _fault(self, what: str) -> ServiceFault:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        return ServiceFault("\n".join([f"{self.system.name} {what}; the end of {self.log}:", *lines]))


def former_ports(host: str, before: Mapping[str, int], names: Iterable[str]) -> dict[str, int] | None:
    """Return the ports of the time before, so that clients find them again; None = there are none, or one is held."""
    until = time.monotonic() + PORT_S_MAX
    while set(before) == set(names):
        if all(_is_free(host, port) for port in before.values()):
            return dict(before)
        if time.monotonic() > until:
            break
        time.sleep(_POLL_S)
    return None


def fresh_ports(host: str, names: Iterable[str], avoided: Collection[int]) -> dict[str, int]:
    """Return a port for each name that is free and none of some."""
    first = os.getpid() * _PORT_STEP % len(_PORTS)
    free = (port for port in [*_PORTS[first:], *_PORTS[:first]] if port not in avoided and _is_free(host, port))
    return {name: next(free) for name in names}


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError:
            return False
    return True
