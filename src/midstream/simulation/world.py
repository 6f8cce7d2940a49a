"""A seeded world: one shop and its visitors, in time order.

Equal options give equal worlds. More visitors add visits and change none of the others'; a longer run begins with the
shorter one.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

from midstream.simulation.shop import ShopOptions, SimulatedShop, open_shop
from midstream.simulation.visitor import Act, Visit, VisitorOptions, meet


@dataclass(frozen=True, slots=True)
class World:
    """What a seed stands for."""

    shop: ShopOptions
    visitor: VisitorOptions = field(default_factory=VisitorOptions)
    visitor_count: int = 400


def visits(world: World, shop: SimulatedShop) -> Iterator[Visit]:
    """Yield visits without end, in the order in which they begin; of two at the same moment the lower number's first.

    Cost: about 0.1 ms a visit and 200 products.
    """
    seed, start_ms = world.shop.seed, world.shop.start_ms
    people = [meet(number, seed, start_ms, world.visitor) for number in range(world.visitor_count)]
    queue = [(person.next_visit_ms, person.number) for person in people]
    heapq.heapify(queue)
    while queue:
        _, number = queue[0]
        person = people[number]
        yield person.visit(shop)
        heapq.heapreplace(queue, (person.next_visit_ms, number))


def act_event(shop: SimulatedShop, visit: Visit, act: Act) -> dict[str, object]:
    """Return an act as ``POST /v1/events`` takes it."""
    event: dict[str, object] = {"type": act.action, "session_id": visit.session_id}
    if visit.user_id is not None:
        event["user_id"] = visit.user_id
    return {**event, "item_id": shop.item_ids[act.product], "time": act.time_ms}


def act_events(shop: SimulatedShop, some: Sequence[Visit]) -> list[dict[str, object]]:
    """Return all acts of visits as events, oldest first; at the same moment in the order of the visits."""
    every = [(act.time_ms, act_event(shop, visit, act)) for visit in some for act in visit.acts]
    return [event for _, event in sorted(every, key=itemgetter(0))]


def example_events(seed: int, end_ms: int, item_count: int, act_count: int) -> list[dict[str, object]]:
    """Return a small shop's first days: its catalogue, then the first ``act_count`` acts of its visitors.

    Args:
        seed: Which shop it is.
        end_ms: Time of the last act; the catalogue is as old as the shop, some days.
        item_count: All are for sale from the start.
        act_count: Whole visits are made until there are so many acts; the last visit may be cut.
    """
    _, acts = _first_days(seed, 0, item_count, act_count)
    shop, acts = _first_days(seed, end_ms - acts[-1][0], item_count, act_count)
    return [*(shop.put_event(product) for product in range(item_count)), *(event for _, event in acts)]


def _first_days(
    seed: int, start_ms: int, item_count: int, act_count: int
) -> tuple[SimulatedShop, list[tuple[int, dict[str, object]]]]:
    """Return a shop that opens at a time, and its first acts with their times."""
    shop_options = ShopOptions(seed, start_ms, opening_count=item_count, launch_count=0)
    # People who come back within hours: 300 acts take less than the day that events may be late by.
    world = World(shop_options, VisitorOptions(return_ms_mean=4 * 3_600_000), visitor_count=25)
    shop = open_shop(world.shop)
    # Each visit has at least one act, so as many visits as acts are always enough.
    some = list(islice(visits(world, shop), act_count))
    acts = sorted(
        ((act.time_ms, act_event(shop, visit, act)) for visit in some for act in visit.acts), key=itemgetter(0)
    )
    return shop, acts[:act_count]
