"""A spawned process has its pipes and its status, and takes no copy of this process's memory."""

import asyncio
import mmap
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
import uvloop

from midstream.events.processes import spawned_process
from midstream.events.processes.spawned_process import SpawnedProcess, spawn

PAGES, PAGE = 16_384, 4_096
Found = TypeVar("Found")
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Found]], Found]:
    """Run a coroutine on a loop of each kind."""

    def on_loop(found: Awaitable[Found]) -> Found:
        async def main() -> Found:
            return await found

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main())

    return on_loop


def python(program: str) -> tuple[str, ...]:
    """Return the command of a program."""
    return sys.executable, "-S", "-c", program


async def line_of(process: SpawnedProcess) -> bytes:
    """Return its next line."""
    assert process.stdout is not None
    return await process.stdout.readline()


def test_its_memory_is_not_copied(run: Callable[[Awaitable[None]], None]) -> None:
    """Pages that are written behind the start are no faults: a fork of the process makes each of them one."""

    def faults(memory: mmap.mmap) -> int:
        """Write to each page; return how many faults that made."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for page in range(PAGES):
            memory[page * PAGE : page * PAGE + 1] = b"x"
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    async def main() -> None:
        with mmap.mmap(-1, PAGES * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            assert faults(memory) >= PAGES
            process = await spawn(python("input()"))
            found = faults(memory)
            process.kill()
            assert await process.wait() == -signal.SIGKILL
            assert found < PAGES / 10

    run(main())


def test_it_gets_what_is_written_and_its_lines_are_read(run: Callable[[Awaitable[None]], None]) -> None:
    """Also more than a pipe holds; the end of its output, its status and its variables are seen."""
    text = b"x" * 300_000

    async def main() -> None:
        program = "import os, sys; print(len(sys.stdin.read())); print(os.environ['COLOUR']); sys.exit(3)"
        process = await spawn(python(program), variables={"COLOUR": "red"})
        assert process.stdin is not None
        process.stdin.write(text)
        process.stdin.close()
        assert [await line_of(process) for _ in range(3)] == [b"300000\n", b"red\n", b""]
        assert await process.wait() == process.returncode == 3

    run(main())


def test_one_that_ends_before_it_reads_is_no_error(run: Callable[[Awaitable[None]], None]) -> None:
    """What is written to it goes nowhere."""

    async def main() -> None:
        process = await spawn(python("pass"))
        assert await line_of(process) == b""
        assert process.stdin is not None
        process.stdin.write(b"x" * 1_000_000)
        process.stdin.close()
        assert await process.wait() == 0

    run(main())


def test_a_line_that_is_too_long_is_an_error(run: Callable[[Awaitable[None]], None]) -> None:
    """As asyncio's streams have it."""

    async def main() -> None:
        process = await spawn(python("print('x' * 10_000)"), limit=1_000)
        with pytest.raises(ValueError, match="limit"):
            await line_of(process)
        process.kill()
        await process.wait()

    run(main())


@pytest.mark.parametrize("descriptors", ["", "no kernel's", "no Python's"])
def test_its_end_is_waited_for(
    run: Callable[[Awaitable[None]], None], monkeypatch: pytest.MonkeyPatch, descriptors: str
) -> None:
    """By several at once, and where the system has no descriptors of processes; an ended one takes no signal."""
    if descriptors == "no Python's":
        monkeypatch.delattr(os, "pidfd_open")
    if descriptors == "no kernel's":

        def refuse(_pid: int) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", refuse)
        monkeypatch.setattr(spawned_process, "ENDED_S", 0.001)

    async def main() -> None:
        process = await spawn(python("import time; time.sleep(60)"))
        waits = [asyncio.create_task(process.wait()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert process.returncode is None
        assert not any(each.done() for each in waits)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*waits) == [-signal.SIGTERM] * 3
        process.send_signal(signal.SIGTERM)
        process.kill()

    run(main())


@pytest.mark.parametrize("cancels", range(3))
def test_it_is_ended_whatever_is_cancelled_meanwhile(run: Callable[[Awaitable[None]], None], cancels: int) -> None:
    """As a loop does that closes: all of its tasks, those that clean up among them."""

    async def main() -> None:
        process = await spawn(python("import time; time.sleep(60)"))
        ending = asyncio.create_task(process.end())
        for _ in range(cancels):
            await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        await asyncio.wait([ending])
        assert process.returncode == -signal.SIGKILL
        assert process.stdin is not None
        assert process.stdin.is_closing()

    run(main())


async def given_up(passes: int) -> bool:
    """Give a start up after some passes of the loop; return whether it was not over before."""
    starting = asyncio.ensure_future(spawn(python("input()")))
    for _ in range(passes):
        await asyncio.sleep(0)
    starting.cancel()
    try:
        process = await starting
    except asyncio.CancelledError:
        return True
    process.kill()
    await process.wait()
    return False


def test_nothing_stays_open(run: Callable[[Awaitable[None]], None]) -> None:
    """Neither behind a process that ended, nor one that cannot be started, nor a start or a wait that was given up."""

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main() -> None:
        await (await spawn(python("pass"))).wait()  # what the loop opens once
        await asyncio.sleep(0.05)  # transports close a pass later
        before = descriptors()
        process = await spawn(python("input()"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.01)
        process.kill()
        await process.wait()
        with pytest.raises(FileNotFoundError):
            await spawn(("/no/such/program",))
        assert sum([await given_up(passes) for passes in range(6)]) >= 2
        await asyncio.sleep(0.05)
        assert descriptors() == before

    run(main())


def test_it_gets_named_descriptors_and_a_session(run: Callable[[Awaitable[None]], None]) -> None:
    """No others; a signal of the terminal does not reach it."""

    async def main() -> None:
        reads, writes = os.pipe()
        try:
            program = f"import os; os.write({writes}, b'%d %d' % (os.getsid(0), os.getpid()))"
            process = await spawn(python(program), limit=0, descriptors=(writes,), has_own_session=True)
            assert process.stdout is None
            assert await process.wait() == 0
            assert os.read(reads, 100) == b"%d %d" % (process.pid, process.pid)
            other = await spawn(python(f"import os; os.fstat({writes})"), limit=0)
            assert await other.wait() == 1
        finally:
            os.close(reads)
            os.close(writes)

    run(main())


def test_how_it_ended_is_known_whatever_this_process_was_told_of_ends(run: Callable[[Awaitable[None]], None]) -> None:
    """Whoever started this process may ignore SIGCHLD, which is inherited: each end would be a good one."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    async def main() -> None:
        assert await (await spawn(python("raise SystemExit(3)"))).wait() == 3

    try:
        run(main())
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_what_is_sent_to_one_that_has_ended_is_lost(run: Callable[[Awaitable[None]], None]) -> None:
    """Before and after this process has heard of the end."""

    async def main() -> None:
        process = await spawn(python("pass"))
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222  it ends by itself
        for _ in range(5):
            process.send(b"x" * 100)
            await asyncio.sleep(0)
        assert await process.wait() == 0
        assert not process.send(b"x")

    run(main())


def test_nothing_is_sent_to_one_that_has_not_read_what_came_before(run: Callable[[Awaitable[None]], None]) -> None:
    """So nothing piles up; once it has read it gets more."""

    async def main() -> None:
        process = await spawn(python("import sys; sys.stdin.read(1_000_000); print(1, flush=True); sys.stdin.read(1)"))
        assert process.send(b"x" * 1_000_000)
        assert not process.send(b"y")
        assert await line_of(process) == b"1\n"
        while not process.send(b"y"):  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.001)
        assert await process.wait() == 0

    run(main())


def test_a_function_is_called_right_behind_its_start(run: Callable[[Awaitable[None]], None]) -> None:
    """With its id, before any other work of the loop."""
    order: list[int] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(order.append, 0)
        process = await spawn(python("pass"), began=order.append)
        await process.wait()
        assert order == [process.pid, 0]

    run(main())
