"""Compilation of all recorded kernels before they are called, in as many processes as there are cores.

Kernels are handed out one by one, a kernel after those that it calls, so that none is compiled twice; of those that are
due the one comes first on which the longest chain waits. Whatever goes wrong here (a process is killed, the disk is
full, the list is older than the kernels) costs time and nothing else: a kernel without machine code on disk is
compiled by the process that calls it.

A start that serves does not wait for kernels that only optional ones need: those are marked as pending, and are made
behind it (``machine_code.behind``).

A file beside the folders of machine code says that all of it was done, so that a later start only looks for that.
"""

import fcntl
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import IO, cast

from midstream.events.file_modes import PRIVATE
from midstream.events.kernel import Kernel, cache_folder
from midstream.events.machine_code.recorded import RECORDED, RecordedKernel, needed_at_once, recording

WORKERS_MAX = 8
"""Each holds 400 MB, and one chain of kernels that call each other takes an eighth of the whole."""
STALL_S_MAX = 300.0
"""Without a kernel done: the longest takes 5 s of a core, of which a busy machine may leave a tenth."""
WAIT_S_MAX = 900.0
"""For another process that compiles: seven times what it takes where one core is had alone."""
_WAIT_S = 0.5
"""Between two looks whether another process is done, or whether this one is to end."""
_LOCK_NAME = "compiling.lock"
Told = Callable[[int, int], None]
"""Receives how many kernels are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What was compiled."""

    kernels: int = 0
    """Done by this call; 0 where all were there."""
    present: int = 0
    """Kernels that were there before."""
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    """Kernels that were not compiled here, with the reason."""
    folder: Path = field(default_factory=Path)
    """Which holds the folders of machine code."""
    left: int = 0
    """Kernels that were left to ``machine_code.behind``."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to compile."""

    workers: int = 0
    """Processes; 0 = one a core, at most ``WORKERS_MAX``."""
    leaves_optional: bool = False
    """What only optional kernels need is left out, and those are pending from then on."""
    rank: int = 0
    """Added to the niceness of the processes."""
    ends: Event = field(default_factory=Event)
    """Once it is set, nothing more is compiled."""


@dataclass(slots=True, eq=False)
class _Worker:
    process: "subprocess.Popen[bytes]"
    asks: IO[bytes]
    """Where numbers are written."""
    says: IO[bytes]
    """Where lines come from."""
    kernel: int | None = None


@dataclass(slots=True)
class _Round:
    """Kernels that are waiting, under way and done."""

    wanted: dict[int, RecordedKernel]
    told: Told
    waiting: set[int] = field(init=False)
    done: set[int] = field(default_factory=set[int])
    failures: list[str] = field(default_factory=list[str])
    chain_ms: dict[int, int] = field(init=False)
    """CPU time from the start of a kernel to the end of the last one that waits for it."""

    def __post_init__(self) -> None:
        self.waiting = set(self.wanted)
        self.chain_ms = {number: each.cost_ms for number, each in self.wanted.items()}
        for number in sorted(self.wanted, reverse=True):  # callees stand before their callers
            for callee in self.wanted[number].needs:
                if callee in self.wanted:
                    longest = self.wanted[callee].cost_ms + self.chain_ms[number]
                    self.chain_ms[callee] = max(self.chain_ms[callee], longest)

    def next(self) -> int | None:
        """Take a kernel all of whose callees are done; None = each of them waits for one that is under way."""
        due = [each for each in self.waiting if self._is_due(each)]
        if not due:
            return None
        chosen = max(due, key=lambda each: (self.chain_ms[each], -each))
        self.waiting.discard(chosen)
        return chosen

    def _is_due(self, number: int) -> bool:
        return all(each in self.done or each not in self.wanted for each in self.wanted[number].needs)

    def end(self, number: int, reason: str) -> None:
        """Note that a kernel is compiled, or why not."""
        self.done.add(number)
        if reason:
            self.failures.append(f"{self.wanted[number].module}.{self.wanted[number].name}: {reason}")
        self.told(len(self.done), len(self.wanted))


def compile_ahead(told: Told, manner: Manner | None = None) -> Compiled:
    """Compile what has no machine code on disk yet; return when it has, or cannot have.

    Another process that does so at the same time is waited for, not doubled.

    Args:
        told: Receives the progress.
        manner: None = everything, by as many processes as there are cores.
    """
    manner = manner or Manner()
    folders = _folders()
    if not folders:
        return Compiled(failures=("there is no folder to keep machine code in",))
    parent = next(iter(folders.values())).parent
    mark = parent / f"complete-{_hash(folders)}"
    count = sum(each.source in folders for each in recording().kernels)
    if mark.exists():
        return Compiled(present=count, folder=parent)
    missing = _missing(folders)
    present = Compiled(present=count - len(missing), folder=parent)
    if not missing:
        _touch(mark)
        return present
    at_once = needed_at_once() if manner.leaves_optional else missing.keys()
    if not missing.keys() & at_once:  # whoever compiles the others is not waited for
        return replace(present, left=_leave(missing))
    with ExitStack() as stack:
        try:
            stack.enter_context(_alone(parent / _LOCK_NAME, manner.ends))
        except OSError as error:  # what is compiled now may not be kept, and need not be
            is_held = isinstance(error, BlockingIOError) and manner.leaves_optional
            left = _leave(missing) if is_held else 0  # where nothing can be kept, nothing comes behind either
            return Compiled(failures=(f"{parent}: {error}",), folder=parent, left=left)
        missing = _missing(folders)
        wanted = {number: each for number, each in missing.items() if number in at_once}
        began = time.monotonic()
        turn = _Round(wanted, told)
        if wanted:
            _run(turn, manner)
        if not turn.failures and not turn.waiting and not _missing(folders):
            _touch(mark)
        done, seconds = len(turn.done) - len(turn.failures), time.monotonic() - began
        left = _leave(missing) if len(missing) > len(wanted) else 0
        return Compiled(done, count - len(missing), seconds, tuple(turn.failures), parent, left)


def _leave(missing: Mapping[int, RecordedKernel]) -> int:
    """Have the optional kernels wait for ``machine_code.behind``; return how many kernels are left to it."""
    for each in optional_kernels():
        each.is_pending = True
    return len(missing.keys() - needed_at_once())


def _touch(mark: Path) -> None:
    with suppress(OSError):  # a later start looks for each kernel then
        mark.touch(PRIVATE)


def missing() -> frozenset[str]:
    """Return the recorded kernels without machine code on disk, each with its module."""
    return frozenset(f"{each.module}.{each.name}" for each in _missing(_folders()).values())


def optional_kernels() -> list[Kernel[..., object]]:
    """Return the optional kernels of the recording that are there."""
    named = [each for each in recording().kernels if each.is_optional and each.source.is_file()]
    found = [getattr(import_module(each.module), each.name, None) for each in named]
    return [each for each in found if isinstance(each, Kernel)]


def _folders() -> dict[Path, Path]:
    """Return where the machine code of each module is kept, without those of which none can be."""
    sources = {each.source for each in recording().kernels}
    there = [source for source in sources if source.is_file()]
    return {source: folder for source in there if (folder := cache_folder(source)) is not None}


def _hash(folders: dict[Path, Path]) -> str:
    """Return a name for the list and for all code that it stands for."""
    digest = sha256(RECORDED.read_bytes())
    for folder in sorted(folders.values()):
        digest.update(folder.name.encode() + b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def _alone(path: Path, ends: Event) -> Generator[None]:
    """Hold a lock that ends with this process.

    Raises:
        OSError: It cannot be had: nothing can be written there, or another process has it for too long.
    """
    lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    until = time.monotonic() + WAIT_S_MAX
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until or ends.wait(_WAIT_S):
                    raise
        yield
    finally:
        os.close(lock)


def _missing(folders: dict[Path, Path]) -> dict[int, RecordedKernel]:
    """Return the kernels that have less files than recorded versions, by their places in the list."""
    files = {folder: [each.name for each in folder.iterdir()] for folder in set(folders.values())}
    found: dict[int, RecordedKernel] = {}
    for number, each in enumerate(recording().kernels):
        if each.source not in folders:
            continue
        begins = f"{each.source.stem}.{each.name}-"
        names = files[folders[each.source]]
        if sum(name.startswith(begins) and name.endswith(".nbc") for name in names) < len(each.signatures):
            found[number] = each
    return found


def _run(turn: _Round, manner: Manner) -> None:
    """Hand kernels out until none is left, or no process is, or it is to end."""
    count = min(manner.workers or len(os.sched_getaffinity(0)), WORKERS_MAX, len(turn.wanted))
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        workers = [stack.enter_context(_worker(manner.rank)) for _ in range(count)]
        for each in workers:
            selector.register(each.says, selectors.EVENT_READ, each)
        _hand_out(turn, workers)
        heard = time.monotonic()
        while len(turn.done) < len(turn.wanted) and selector.get_map() and not manner.ends.is_set():
            ready = selector.select(_WAIT_S)
            if ready:
                heard = time.monotonic()
            elif time.monotonic() - heard > STALL_S_MAX:
                return
            for key, _ in ready:
                if not _heard(turn, key.data):
                    selector.unregister(key.fileobj)
                    workers.remove(key.data)
            _hand_out(turn, workers)


@contextmanager
def _worker(rank: int) -> Generator[_Worker]:
    # -P: nothing of the current folder is imported.
    command = [sys.executable, "-P", "-m", "midstream.events.machine_code.worker", str(rank)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  # our own program
    try:
        yield _Worker(process, cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout))
    finally:
        process.kill()  # what it has written is whole: files take their names when they are
        process.communicate()


def _hand_out(turn: _Round, workers: Sequence[_Worker]) -> None:
    for each in workers:
        if each.kernel is not None or (number := turn.next()) is None:
            continue
        each.kernel = number
        try:
            each.asks.write(b"%d\n" % number)
            each.asks.flush()
        except OSError:  # it has ended, as its output will say
            continue


def _heard(turn: _Round, worker: _Worker) -> bool:
    """Read what a process says; return whether it goes on."""
    line = worker.says.readline()
    number, worker.kernel = worker.kernel, None
    if number is not None:
        reason = line.decode(errors="replace").partition(" ")[2].strip() if line else "its process ended"
        turn.end(number, reason)
    return bool(line)
