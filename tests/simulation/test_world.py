"""A seed stands for one world: what it promises to everything that is tested or shown with it."""

from itertools import islice, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.simulation.shop import ShopOptions, open_shop
from midstream.simulation.visitor import VisitorOptions, meet
from midstream.simulation.world import World, act_events, example_events, visits

START_MS = 1_700_000_000_000
seeds = st.integers(0, 2**32)
some_seeds = settings(max_examples=settings().max_examples // 5)
"""A fifth of the profile's: a world is made by one path of the code whatever its seed is, in a tenth of a second."""


def world(seed=7, **changes) -> World:
    """Return a small world."""
    return World(ShopOptions(seed, START_MS, opening_count=30, launch_count=20), **changes)


def first(some: World, count: int):
    """Return the first visits of a world."""
    return list(islice(visits(some, open_shop(some.shop)), count))


@some_seeds
@given(seeds)
def test_equal_seeds_give_equal_worlds(seed):
    """Every product and every act is decided by the seed."""
    assert first(world(seed), 20) == first(world(seed), 20)
    one, other = open_shop(world(seed).shop), open_shop(world(seed).shop)
    assert one.item_ids == other.item_ids
    assert np.array_equal(one.vector, other.vector)


def test_other_seeds_give_other_worlds():
    """The seed is used: for the shop and for the visitors."""
    assert first(world(1), 5) != first(world(2), 5)
    assert not np.array_equal(open_shop(world(1).shop).vector, open_shop(world(2).shop).vector)


@some_seeds
@given(seeds, st.integers(1, 30))
def test_more_visitors_change_nobody(seed, count):
    """What a visitor does does not depend on how many others there are."""
    few = {each.session_id: each for each in first(world(seed, visitor_count=count), 30)}
    many = {each.session_id: each for each in first(world(seed, visitor_count=count + 10), 200)}
    common = few.keys() & many.keys()
    assert common
    assert all(few[name] == many[name] for name in common)


@some_seeds
@given(seeds)
def test_visits_come_in_time_order(seed):
    """Visits begin one after another, acts of a visit follow each other, session ids are unique."""
    some = first(world(seed), 60)
    begins = [each.acts[0].time_ms for each in some]
    assert begins == sorted(begins)
    assert begins[0] >= START_MS
    assert all([act.time_ms for act in each.acts] == sorted({act.time_ms for act in each.acts}) for each in some)
    assert len({each.session_id for each in some}) == len(some)


@some_seeds
@given(seeds)
def test_only_what_is_on_sale_is_looked_at(seed):
    """No act on a product before its release, and new products are looked at once they are there."""
    some = world(seed)
    shop = open_shop(some.shop)
    acts = [act for visit in first(some, 400) for act in visit.acts]
    released = shop.released_ms[[act.product for act in acts]]
    assert np.all(np.array([act.time_ms for act in acts]) >= released)
    assert np.any(released > START_MS)


def test_tastes_can_be_learned_from_sessions():
    """Products of one session are nearer to each other than products of two: there is something to find."""
    some = world(3)
    shop = open_shop(some.shop)
    sessions = [[act.product for act in each.acts] for each in first(some, 300)]
    inside = [float(shop.vector[a] @ shop.vector[b]) for each in sessions for a, b in pairwise(each)]
    across = [float(shop.vector[a[0]] @ shop.vector[b[0]]) for a, b in pairwise(sessions)]
    assert np.mean(inside) > np.mean(across) + 0.3


@given(seeds)
def test_tastes_drift(seed):
    """With drift a taste moves away from where it began, without drift it stays."""
    shop = open_shop(world().shop)
    for drift in (0.0, 0.3):
        person = meet(5, seed, START_MS, VisitorOptions(drift=drift))
        before = person.taste
        for _ in range(12):
            person.visit(shop)
        kept = float(before @ person.taste)
        assert kept > 0.999999 if drift == 0.0 else kept < 0.999


def test_example_has_what_was_asked_for():
    """So many items, then so many acts, oldest first, each on a known item and with a session."""
    events = example_events(7, START_MS, 40, 300)
    items, acts = events[:40], events[40:]
    assert {each["type"] for each in items} == {"item"}
    assert len(acts) == 300
    assert {each["type"] for each in acts} >= {"view", "cart", "purchase"}
    assert {each["item_id"] for each in acts} <= {each["item_id"] for each in items}
    times = [int(str(each["time"])) for each in events]
    assert times == sorted(times)
    assert times[-1] == START_MS
    assert all(each["session_id"] for each in acts)
    assert any("user_id" not in each for each in acts)


def test_events_of_visits_overlap():
    """Sessions run side by side, as in a real shop: their acts are merged by time."""
    some = world(5)
    shop = open_shop(some.shop)
    sessions = [each["session_id"] for each in act_events(shop, first(some, 400))]
    switches = sum(a != b for a, b in pairwise(sessions))
    assert switches >= len(set(sessions))
