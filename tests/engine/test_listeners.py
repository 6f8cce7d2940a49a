"""Parts beside an engine: each is added once and hears of what it asked for, in the order in which they were added."""

import asyncio
from functools import partial

import pytest

from midstream.engine.listeners import Concern, Listener, Listeners
from midstream.engine.types import FollowerView


def test_each_hears_of_what_it_asked_for_in_order():
    """Nobody else does; a concern without text is none."""
    heard = []

    async def snapshot(name):
        heard.append(name)

    def concern(name):
        return Concern(name, "" if name == "b" else f"{name} is old")

    views = {name: FollowerView(number, name, 0, 0) for number, name in enumerate("pq")}
    listeners = Listeners(*(Listener(name=name, swapped=partial(heard.append, name)) for name in "cab"))
    listeners.add(*(Listener(name=f"{name}-gauges", gauges=partial(heard.append, f"{name}-gauges")) for name in "ba"))
    listeners.add(*(Listener(name=f"{name}-files", snapshot_written=partial(snapshot, name)) for name in "xy"))
    listeners.add(*(Listener(name=f"{name}-health", concern=partial(concern, name)) for name in "ab"))
    listeners.add(*(Listener(name=f"{name}-pool", followers=partial(tuple, [views[name]])) for name in "pq"))
    listeners.tell_commit()
    listeners.tell_swap()
    listeners.set_gauges()
    asyncio.run(listeners.tell_snapshot())
    assert heard == ["c", "a", "b", "b-gauges", "a-gauges", "x", "y"]
    assert listeners.concerns() == {"a": "a is old"}
    assert listeners.followers() == (*views.values(),)


def test_all_hear_of_a_commit_whatever_one_raises():
    """In the order in which they were added; what was raised comes out at the end."""
    heard = []

    def fail():
        heard.append("failing")
        raise LookupError

    listeners = Listeners(Listener(name="first", committed=partial(heard.append, "first")))
    listeners.add(Listener(name="failing", committed=fail))
    listeners.add(Listener(name="last", committed=partial(heard.append, "last")))
    with pytest.raises(LookupError):
        listeners.tell_commit()
    assert heard == ["first", "failing", "last"]


def test_a_name_is_taken_once():
    """Two parts of one name would be one part wired twice."""
    listeners = Listeners(Listener(name="models"))
    with pytest.raises(ValueError, match="second listener 'models'"):
        listeners.add(Listener(name="models"))
    assert listeners.names == ("models",)
