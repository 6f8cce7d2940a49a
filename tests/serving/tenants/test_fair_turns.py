"""Fair turns: whoever sends much waits behind its own requests, and nobody else does."""

import asyncio
import os
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import pytest

from midstream.serving.tenants.fair_turns import FairTurns


class Loop:
    """Clock that the answers of a test move."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    async def work(self, seconds, waits=0):
        """Make an answer in one step, behind so many waits."""
        for _ in range(waits):
            await asyncio.sleep(0)
        self.seconds += seconds


def begun(arrivals, waiting_max=1_000):
    """Let requests arrive at once, in this order; return the order in which they began, and those refused."""
    clock, order, refused = Loop(), [], []

    async def answer(tenant, number):
        order.append((tenant, number))
        await clock.work(0.001)

    async def request(turns, tenant, number):
        if await turns.turn(tenant, waiting_max):
            await turns.steps(tenant, answer(tenant, number))
        else:
            refused.append((tenant, number))

    async def main():
        turns = FairTurns(clock)
        await asyncio.gather(*(request(turns, tenant, number) for number, tenant in enumerate(arrivals)))
        for _ in range(6):  # the passes of a choice
            await asyncio.sleep(0)
        assert all(turns.waiting(tenant) == 0 for tenant in set(arrivals))
        assert await turns.turn("idle", 0)  # all is forgotten: nobody waits for nothing

    asyncio.run(main())
    return order, refused


def test_a_quiet_tenant_waits_for_a_round_and_not_for_a_flood():
    """Behind 500 requests of another one, its three are among the first ten; each tenant's order is kept."""
    order, refused = begun([*["noisy"] * 500, *["quiet"] * 3])
    assert refused == []
    assert len(order) == 503
    assert max(place for place, each in enumerate(order) if each[0] == "quiet") < 10
    for tenant in ("noisy", "quiet"):
        numbers = [number for name, number in order if name == tenant]
        assert numbers == sorted(numbers)


def test_a_queue_has_a_maximum_of_its_own():
    """What is beyond it is refused at once, of that tenant alone."""
    order, refused = begun([*["noisy"] * 500, *["quiet"] * 3], waiting_max=20)
    assert {tenant for tenant, _ in refused} == {"noisy"}
    assert len([each for each in order if each[0] == "noisy"]) == 21
    assert len([each for each in order if each[0] == "quiet"]) == 3


def test_a_request_whose_client_is_gone_takes_no_turn():
    """Cancelled while it waits, it holds nobody up."""

    async def main():
        turns = FairTurns(perf_counter)
        assert await turns.turn("noisy", 9)
        gone, left = (asyncio.create_task(turns.turn("noisy", 9)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.wait_for(left, 1)

    asyncio.run(main())


def test_a_request_that_comes_during_an_answer_has_the_next_turn():
    """Of 50 questions that wait before it, only the one that is being answered is in front of it."""
    clock, order = Loop(), []

    async def request(turns, tenant, seconds):
        assert await turns.turn(tenant, 1_000)
        order.append(tenant)
        await turns.steps(tenant, clock.work(seconds))

    async def main():
        turns = FairTurns(clock)
        tasks = [asyncio.create_task(request(turns, "noisy", 0.001)) for _ in range(50)]
        tasks.append(asyncio.create_task(request(turns, "quiet", 0.001)))
        await asyncio.gather(*tasks)
        order.append("-")
        tasks = [asyncio.create_task(request(turns, "noisy", 0.001)) for _ in range(50)]
        while order.count("noisy") < 60:  # noqa: ASYNC110  passes of the loop are counted
            await asyncio.sleep(0)
        begun = len(order)
        await request(turns, "quiet", 0.001)
        place = order.index("quiet", begun)
        await asyncio.gather(*tasks)
        return place - begun

    assert asyncio.run(main()) <= 1
    assert order.index("quiet") <= 1


def test_turns_are_shared_by_time_and_not_by_number():
    """A tenant whose answers take four times as long has a fourth of the turns."""
    clock, order = Loop(), []

    async def request(turns, tenant, seconds):
        assert await turns.turn(tenant, 1_000)
        order.append(tenant)
        await turns.steps(tenant, clock.work(seconds))

    async def main():
        turns = FairTurns(clock)
        costs = {"slow": 0.004, "quick": 0.001}
        tasks = [asyncio.create_task(request(turns, name, costs[name])) for _ in range(100) for name in costs]
        await asyncio.gather(*tasks)

    asyncio.run(main())
    first = order[:50]
    assert 8 <= first.count("slow") <= 12


def test_a_tenant_that_was_away_has_no_credit():
    """It does not have all turns until it has caught up with what others had meanwhile."""
    clock, order = Loop(), []

    async def request(turns, tenant):
        assert await turns.turn(tenant, 1_000)
        order.append(tenant)
        await turns.steps(tenant, clock.work(0.001))

    async def main():
        turns = FairTurns(clock)
        tasks = [asyncio.create_task(request(turns, "old")) for _ in range(60)]
        while order.count("old") < 30:  # noqa: ASYNC110  passes of the loop are counted
            await asyncio.sleep(0)
        tasks += [asyncio.create_task(request(turns, "new")) for _ in range(30)]
        await asyncio.gather(*tasks)

    asyncio.run(main())
    beside = order[order.index("new") :][:20]
    assert 8 <= beside.count("new") <= 12


def test_a_queue_that_may_hold_nobody_leaves_none_behind():
    """A refusal makes no queue, which a choice would find empty."""

    async def main():
        turns = FairTurns(perf_counter)
        assert await turns.turn("noisy", 9)
        assert not await turns.turn("other", 0)
        waits = asyncio.create_task(turns.turn("noisy", 9))
        return await asyncio.wait_for(waits, 5)

    assert asyncio.run(main())


def test_what_is_read_during_an_answer_is_seen_before_the_next_choice():
    """A request whose bytes came in the tenth answer of a flood is behind one further one at most, and not three."""
    clock, order = Loop(), []

    async def main():
        loop, turns = asyncio.get_running_loop(), FairTurns(clock)
        reads, writes = os.pipe()
        quiet = []

        async def request(tenant):
            assert await turns.turn(tenant, 1_000)
            order.append(tenant)
            await turns.steps(tenant, clock.work(0.001))
            if len(order) == 10:
                os.write(writes, b"x")

        def came():
            os.read(reads, 1)
            quiet.append(loop.create_task(request("quiet")))

        loop.add_reader(reads, came)
        await request("quiet")  # from then on two tenants ask
        await asyncio.gather(*(request("noisy") for _ in range(40)))
        await asyncio.gather(*quiet)
        loop.remove_reader(reads)
        os.close(reads)
        os.close(writes)

    asyncio.run(main())
    assert order.index("quiet", 1) - 10 <= 1


@pytest.mark.parametrize("waits", [0, 1, 3])
def test_work_behind_a_wait_is_charged_and_takes_turns(waits):
    """Twenty callers whose answers work for 4 ms behind waits have no more of the loop than three whose take 1 ms."""
    clock, used = Loop(), {"noisy": 0.0, "quiet": 0.0}

    async def work(tenant, seconds, waits):
        await clock.work(seconds, waits)
        used[tenant] += seconds

    async def caller(turns, tenant, seconds, waits):
        while clock() < 2:
            assert await turns.turn(tenant, 1_000)
            await turns.steps(tenant, work(tenant, seconds, waits))
            await asyncio.sleep(0)

    async def main():
        turns = FairTurns(clock)
        noisy = (caller(turns, "noisy", 0.004, waits) for _ in range(20))
        await asyncio.gather(*noisy, *(caller(turns, "quiet", 0.001, 0) for _ in range(3)))

    asyncio.run(main())
    assert used["quiet"] == pytest.approx(used["noisy"], rel=0.2)


def test_answers_that_are_woken_at_once_go_on_one_at_a_time():
    """A request that comes beside twenty of them is behind the step that is being made, and not behind all."""
    clock, order = Loop(), []

    async def work(tenant, event):
        await event.wait()
        order.append(tenant)
        clock.seconds += 0.004

    async def request(turns, tenant, event):
        assert await turns.turn(tenant, 99)
        await turns.steps(tenant, work(tenant, event))

    async def main():
        turns, event, now = FairTurns(clock), asyncio.Event(), asyncio.Event()
        now.set()
        await request(turns, "quiet", now)
        tasks = [asyncio.create_task(request(turns, "noisy", event)) for _ in range(20)]
        for _ in range(200):  # passes of the loop: all have begun
            await asyncio.sleep(0)
        order.clear()
        event.set()
        await asyncio.sleep(0)
        await request(turns, "quiet", now)
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(order) == 21
    assert order.index("quiet") <= 2


def test_short_steps_behind_a_wait_take_no_turn():
    """An answer that waited for a disk goes on in the pass in which it is woken, though two tenants ask."""
    clock = Loop()

    async def main():
        turns, passes = FairTurns(clock), []

        async def counted():
            while True:
                passes.append(1)
                await asyncio.sleep(0)

        assert await turns.turn("other", 9)
        assert await turns.turn("one", 9)
        count = asyncio.create_task(counted())
        await asyncio.sleep(0)
        before = len(passes)
        await turns.steps("one", clock.work(0.0001, waits=5))
        count.cancel()
        return len(passes) - before

    assert asyncio.run(main()) <= 6


def test_an_answer_in_steps_is_the_answer_in_its_own_task():
    """Its result, its error, that of what it waits for, its context and its cancellation are those without turns."""
    told = ContextVar("told", default=0)
    found: list[Any] = []

    async def answer(kind):
        told.set(7)
        if kind == "error":
            raise KeyError(kind)
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await future
        found.append((asyncio.current_task(), told.get()))
        try:
            await asyncio.sleep(30 if kind == "cancelled" else 0)
        except asyncio.CancelledError:
            found.append("cleaned")
            raise
        return kind

    async def main():
        turns = FairTurns(perf_counter)

        async def request(kind):
            assert await turns.turn(kind, 9)
            return await turns.steps(kind, answer(kind))

        assert await request("result") == "result"
        assert told.get() == 7
        with pytest.raises(KeyError):
            await request("error")
        assert found == [(asyncio.current_task(), 7)]
        task = asyncio.create_task(request("cancelled"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await request("cancelled")

    asyncio.run(main())
    assert found.count("cleaned") == 2


def test_an_answer_that_is_cancelled_while_it_waits_to_go_on_holds_nobody_up():
    """The cancellation goes to the answer, and the next one has the turn."""
    clock, ended = Loop(), []

    async def work(number):
        try:
            clock.seconds += 0.001
            await asyncio.sleep(0)
            clock.seconds += 0.001
        finally:
            ended.append(number)

    async def main():
        turns = FairTurns(clock)

        async def request(tenant, number):
            assert await turns.turn(tenant, 99)
            await turns.steps(tenant, work(number))

        tasks = [asyncio.create_task(request("noisy" if number else "quiet", number)) for number in range(9)]
        for _ in range(100):  # passes of the loop
            await asyncio.sleep(0)
            if any(each.begun for each in turns._queues.values()):
                break
        for each in [each for each in tasks if not each.done()][:4]:
            each.cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    results = asyncio.run(main())
    assert sum(isinstance(each, asyncio.CancelledError) for each in results) == 4
    assert results.count(None) == 5
