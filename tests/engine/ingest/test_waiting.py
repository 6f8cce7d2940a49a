"""Whoever waits for a future of others gives up alone, and goes on one turn of the event loop behind its end."""

import asyncio
import time

import pytest

from midstream.engine.ingest.waiting import Deadlines, done_by
from tests.support.patience import PATIENCE_S


def test_whoever_waits_goes_on_one_turn_behind_the_end() -> None:
    """The callbacks of the future, then the task: nothing else that is ready comes in between twice."""

    async def work() -> int:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(done_by(future, None, time.monotonic))
        await asyncio.sleep(0)
        future.set_result("done")
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert await task == "done"
        return turns

    assert asyncio.run(work()) <= 2


@pytest.mark.parametrize("ends", ["cancelled", "late"])
def test_the_future_goes_on_without_who_waits(ends: str) -> None:
    """A request that is given up, or whose time is over, takes nothing from others who wait."""

    async def work() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        other = asyncio.create_task(done_by(future, None, time.monotonic))
        until = time.monotonic() if ends == "late" else None
        task = asyncio.create_task(done_by(future, until, time.monotonic))
        await asyncio.sleep(0)
        if ends == "cancelled":
            task.cancel()
        with pytest.raises(TimeoutError if ends == "late" else asyncio.CancelledError):
            await task
        assert not future.done()
        future.set_result(3)
        assert await other == 3
        assert await done_by(future, None, time.monotonic) == 3

    asyncio.run(work())


def test_a_failure_is_raised() -> None:
    """That of the future, whether it came before or while somebody waits."""

    async def work() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(done_by(future, None, time.monotonic))
        await asyncio.sleep(0)
        future.set_exception(OSError("full"))
        for each in (task, done_by(future, None, time.monotonic)):
            with pytest.raises(OSError, match="full"):
                await each

    asyncio.run(work())


def test_each_wait_ends_by_its_own_deadline_under_one_timer() -> None:
    """A shorter wait that begins later ends first; what was taken out is not touched, and later waits are looked at."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop.time)
        late, early, taken_out, third = (loop.create_future() for _ in range(4))
        deadlines.add(late, 0.06)
        deadlines.add(taken_out, 0.01)
        deadlines.add(early, 0.02)
        del deadlines.until[taken_out]
        began = loop.time()
        await early
        assert not late.done()
        assert not taken_out.done()
        await late
        assert loop.time() - began >= 0.05
        assert not deadlines.until
        deadlines.add(third, 0.01)
        await asyncio.wait_for(third, PATIENCE_S)

    asyncio.run(work())
