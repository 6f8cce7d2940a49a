"""What is remembered of the catalogue's newest items is a short list of them, in the order in which they came."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.state.items.arrivals import Arrivals
from midstream.state.items.items import Items
from tests.support.frozen_shop import StillShop


def told(arrivals):
    """The newest items with their times."""
    item_index, log_time_ms = arrivals.newest()
    return list(zip(item_index.tolist(), log_time_ms.tolist(), strict=True))


@given(st.integers(1, 7), st.lists(st.integers(0, 99), max_size=40), st.integers(0, 40))
def test_the_ring_is_the_end_of_a_list(length, items, cut):
    """However many came before; one that was restored in between goes on in the same way, to the same bytes."""
    arrivals = Arrivals(length)
    for number, item in enumerate(items):
        if number == cut:
            held = {name: array.copy() for name, array in arrivals.arrays().items()}
            arrivals = Arrivals(length)
            arrivals.add(1, 1)  # nothing of what was there before shows
            arrivals.restore(held)
        arrivals.add(item, 1_000 * number)
    expected = [(item, 1_000 * number) for number, item in enumerate(items)][::-1][:length]
    assert told(arrivals) == expected
    assert arrivals.arrays()["item"].tolist() == [item for item, _ in expected][::-1]


def test_an_item_arrives_once_when_the_catalogue_names_it():
    """Not when it is acted on, not when it changes, not when it comes back after it was deleted."""
    shop = StillShop()
    shop.act("view", "ann", "clicked", "b")
    shop.put("a")
    shop.put("b")
    first_ms = shop.now_ms
    shop.put("a", price=3.0)
    shop.delete("b")
    shop.put("b")
    item_index, came_ms = shop.fold.items.newest()
    assert shop.ids(item_index.tolist()) == ["b", "a"]
    assert came_ms.tolist() == [first_ms, first_ms - 1_000]


def test_reading_what_is_new_gives_copies():
    """Nobody can write into the state."""
    shop = StillShop()
    shop.put("a")
    items = shop.moment().table(Items)
    items.newest()[0][:] = 7
    assert items.newest()[0].tolist() == [0]
