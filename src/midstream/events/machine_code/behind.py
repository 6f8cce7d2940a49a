"""Compilation of optional kernels beside a process that serves: a thread hands them to processes behind it in rank.

Until a kernel is loaded, its callers take their other way. One that cannot be compiled stays pending: another way
serves, and to compile it where it is called would hold that process for half a minute.
"""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace

from midstream.events.kernel import Kernel
from midstream.events.machine_code.ahead import Compiled, Manner, compile_ahead, missing, optional_kernels
from midstream.events.machine_code.recorded import recording
from midstream.events.machine_code.type_text import decoded

RANK = 10
"""Added to the niceness of the processes: a tenth of the share of one that serves."""


class CompilationBehind:
    """Service that compiles what a start has left, and has it used from then on."""

    def __init__(self, told: Callable[[Compiled], None]) -> None:
        """Wait for ``start``; ``told`` is called on its event loop when all is done that can be."""
        self._told = told
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Return whether it compiles, or waits for another process that does."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin, if any kernel is pending."""
        if any(each.is_pending for each in optional_kernels()):
            arguments = (asyncio.get_running_loop(),)
            self._thread = threading.Thread(target=self._run, args=arguments, name="midstream-compile", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """End the processes, and wait for the thread; the next start continues."""
        self._ends.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        compiled = Compiled()
        failures: list[str] = []
        with _noted("compilation", failures):
            compiled = compile_ahead(lambda _done, _total: None, Manner(rank=RANK, ends=self._ends))
        with _noted("machine code", failures):
            without = missing()
            kept = (each for each in optional_kernels() if name_of(each) not in without)
            failures += take_up(each for each in kept if not self._ends.is_set())
        if not self._ends.is_set():
            with suppress(RuntimeError):  # the loop was closed without a stop
                loop.call_soon_threadsafe(self._told, replace(compiled, failures=(*compiled.failures, *failures)))


def take_up(kernels: Iterable[Kernel[..., object]]) -> list[str]:
    """Load kernels that have machine code, and have their callers use them; return which were not, and why."""
    failures: list[str] = []
    for each in kernels:
        with _noted(name_of(each), failures):
            _load(each)
            each.is_pending = False
    return failures


@contextmanager
def _noted(what: str, failures: list[str]) -> Generator[None]:
    """Note an exception as a failure: a kernel that is not taken up has another way, and the others go on."""
    from midstream.events.machine_code.cache import FAULTS

    try:
        yield
    except FAULTS as error:
        failures.append(f"{what}: {type(error).__name__}: {error}")


def name_of(kernel: Kernel[..., object]) -> str:
    """Return a kernel's name with its module."""
    return f"{kernel.py_func.__module__}.{kernel.py_func.__name__}"


def _load(kernel: Kernel[..., object]) -> None:
    """Load the recorded versions of a kernel, so that its first call does not wait for that."""
    for told in recording().kernels:
        if f"{told.module}.{told.name}" == name_of(kernel):
            for signature in told.signatures:
                kernel.compile_for(tuple(decoded(recording().types[each]) for each in signature))
