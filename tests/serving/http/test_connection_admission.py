"""Who may hold a connection: bounds for all and for each, room made by who is spare, and a reserve."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.serving.http.connection_admission import PlaceLimits, Places, place_limits
from midstream.serving.options import ServerOptions


class Held:
    """A connection that is spare since a moment, or busy."""

    def __init__(self, address, spare_since=None):
        """Belong to a client."""
        self.address = address
        self.spare_since = spare_since
        self.is_closed = False

    def close(self):
        """Remember it."""
        self.is_closed = True


def places_of(total, per_client, reserved):
    """Return places and what they count."""
    counts: Counter[str] = Counter()
    return Places(PlaceLimits(total, per_client, reserved), lambda reason: counts.update((reason,))), counts


@pytest.mark.parametrize(
    "given_options, wanted",
    [
        ({}, PlaceLimits(984, 900, 16)),
        ({"connections_max": 64}, PlaceLimits(48, 48, 16)),
        (
            {"connections_max": 100, "connections_per_client_max": 10, "connections_reserved": 0},
            PlaceLimits(100, 10, 0),
        ),
        ({"connections_max": 1, "connections_reserved": 0}, PlaceLimits(1, 1, 0)),
    ],
)
def test_the_maxima_come_from_the_configuration(given_options, wanted):
    """No client of the default can hold all places, and the reserve is within the maximum of descriptors."""
    limits = place_limits(ServerOptions(**given_options))
    assert limits == wanted
    assert limits.total + limits.reserved == ServerOptions(**given_options).connections_max
    assert ServerOptions().keep_alive == Duration("120s")


def test_who_comes_has_the_place_of_the_greediest_who_is_spare_for_longest():
    """One that is busy keeps its place, whoever holds it."""
    places, counts = places_of(4, 4, 1)
    greedy = [Held("a", 3.0), Held("a", 2.0), Held("a")]
    modest = Held("b", 1.0)
    assert all(places.enter(each) for each in (*greedy, modest))
    assert places.enter(Held("c"))
    assert [each.is_closed for each in (*greedy, modest)] == [False, True, False, False]
    assert counts == {"full": 1}
    assert places.enter(Held("c"))
    assert [each.is_closed for each in (*greedy, modest)] == [True, True, False, False]
    assert places.enter(Held("c"))  # who holds more has none that is spare
    assert modest.is_closed


def test_one_client_takes_no_place_from_others():
    """At its own maximum it has the place of one of its own, or none."""
    places, counts = places_of(4, 2, 1)
    other = Held("b", 0.0)
    mine = [Held("a"), Held("a", 5.0)]
    assert all(places.enter(each) for each in (other, *mine))
    assert places.enter(Held("a"))
    assert (mine[1].is_closed, other.is_closed) == (True, False)
    assert counts == {"client_full": 1}
    assert not places.enter(Held("a"))
    assert places.enter(Held("c"))


def test_without_a_place_the_newest_is_heard():
    """Except that one which is being answered stays; who leaves or finds a place is not heard any more."""
    places, counts = places_of(1, 1, 2)
    busy = Held("a")
    assert places.enter(busy)
    first, second, third, fourth = Held("b"), Held("b", 1.0), Held("c", 2.0), Held("c", 3.0)
    assert not places.enter(first)
    assert not places.enter(second)
    assert not places.enter(third)
    assert (first.is_closed, second.is_closed) == (False, True)
    third.spare_since = None
    assert not places.enter(fourth)
    assert fourth.is_closed
    assert counts == {"not_heard": 2}
    assert not places.place_after_all(third)
    places.leave(busy)
    assert places.place_after_all(third)
    assert not places.place_after_all(third)
    assert len(places) == 2
    places.leave(third)
    places.leave(first)
    assert len(places) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3)), max_size=60))
def test_the_maxima_hold_whatever_comes_and_goes(steps):
    """No more than the total, of no client more than its own, and who is closed is not counted."""
    places, _ = places_of(4, 3, 2)
    there: list[Held] = []
    for now, (address, is_busy, leaving) in enumerate(steps):
        if leaving == 0 and there:
            places.leave(there.pop(0))
        held = Held(address, None if is_busy else float(now))
        places.enter(held)
        there = [each for each in (*there, held) if not each.is_closed]
        assert len(places) == len(there) <= 6
    for each in there:
        places.leave(each)
    assert len(places) == 0
