"""Fair turns: whoever sends much waits behind its own requests, and nobody else does."""

import asyncio
import os
from time import perf_counter

from midstream.serving.tenants.fair_turns import FairTurns


def begun(arrivals, waiting_max=1_000):
    """Let requests arrive at once, in this order; return the order in which they began, and those refused."""
    order, refused = [], []

    async def request(turns, tenant, number):
        if await turns.turn(tenant, waiting_max):
            order.append((tenant, number))
        else:
            refused.append((tenant, number))

    async def main():
        turns = FairTurns(perf_counter)
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


class Loop:
    """Clock that the answers of a test move."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_a_request_that_comes_during_an_answer_has_the_next_turn():
    """Of 50 questions that wait before it, only the one that is being answered is in front of it."""
    clock, order = Loop(), []

    async def request(turns, tenant, seconds):
        assert await turns.turn(tenant, 1_000)
        order.append(tenant)
        clock.seconds += seconds

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
        clock.seconds += seconds

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
        clock.seconds += 0.001

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
            clock.seconds += 0.001
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
