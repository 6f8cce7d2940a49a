"""Memory of log positions: the newest of a visitor, bounded."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.client.positions import Positions, visitors_of

ANN, BOB = ("user_id", "ann"), ("user_id", "bob")
NAMES = st.sampled_from(["a", "b", "c", "d"])


def test_a_visitor_waits_for_its_own_newest_change():
    """And not for that of another."""
    positions = Positions(10)
    positions.note("1", [ANN, ("session_id", "s")])
    positions.note("2", [BOB])
    assert positions.wanted([ANN]) == positions.wanted([("session_id", "s")]) == "1"
    assert positions.wanted([BOB, ANN]) == positions.newest == "2"
    assert positions.wanted([("user_id", "s")]) is None
    assert positions.wanted([]) is None


def test_a_change_without_a_visitor_counts_for_all():
    """Unless a visitor has a newer one."""
    positions = Positions(10)
    positions.note("1", [ANN])
    positions.note("2", [])
    positions.note("3", [BOB])
    assert [positions.wanted([each]) for each in (ANN, BOB, ("user_id", "cy"))] == ["2", "3", "2"]


def test_a_position_that_the_server_does_not_know_is_forgotten():
    """Wherever it stands; others stay."""
    positions = Positions(10)
    positions.note("1", [BOB])
    positions.note("2", [ANN])
    positions.note("2", [])
    positions.forget("2")
    assert (positions.wanted([ANN]), positions.wanted([BOB]), positions.newest) == (None, "1", None)


@given(st.lists(NAMES, max_size=40), st.integers(1, 4))
def test_memory_is_bounded_and_keeps_the_newest(names, visitors_max):
    """As many visitors as allowed, those who wrote last."""
    positions = Positions(visitors_max)
    for number, name in enumerate(names):
        positions.note(str(number), [("user_id", name)])
    newest = list(dict.fromkeys(reversed(names)))
    kept = [name for name in "abcd" if positions.wanted([("user_id", name)]) is not None]
    assert sorted(kept) == sorted(newest[:visitors_max])
    for name in kept:
        last = max(place for place, each in enumerate(names) if each == name)
        assert positions.wanted([("user_id", name)]) == str(last)


def test_only_texts_are_visitors():
    """Null is a field that was not sent."""
    assert visitors_of({"user_id": None, "session_id": "s"}) == [("session_id", "s")]
