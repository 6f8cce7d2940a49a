"""Fair turns: whoever sends much waits behind its own requests, and nobody else does."""

import asyncio
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
