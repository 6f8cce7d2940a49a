"""Parts beside an engine: each hears of what it asked for, in the order in which they were added."""

import asyncio
from functools import partial

import pytest

from midstream.engine.listeners import Concern, Listener, Listeners
from midstream.engine.types import FollowerView


def test_each_hears_of_what_it_asked_for_in_order():
    """Nobody else does; a concern without text is none."""
    heard: list[str] = []

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


def test_a_concern_that_cannot_be_told_is_one():
    """Health is read on, with all others."""

    def fail():
        message = "no figure"
        raise TypeError(message)

    listeners = Listeners(Listener(name="drift", concern=fail))
    listeners.add(Listener(name="disk", concern=lambda: Concern("disk", "full")))
    assert listeners.concerns() == {"drift": "the state of drift cannot be told: TypeError: no figure", "disk": "full"}


def test_all_hear_of_a_commit_whatever_one_raises():
    """In the order in which they were added; what was raised comes out at the end."""
    heard: list[str] = []

    def fail():
        heard.append("failing")
        raise LookupError

    listeners = Listeners(Listener(name="first", committed=partial(heard.append, "first")))
    listeners.add(Listener(name="failing", committed=fail))
    listeners.add(Listener(name="last", committed=partial(heard.append, "last")))
    with pytest.raises(LookupError):
        listeners.tell_commit()
    assert heard == ["first", "failing", "last"]


def test_the_newest_of_a_name_takes_the_place_of_the_one_before():
    """A part that is wired twice, such as a second server of one engine, is called once."""
    heard: list[str] = []
    listeners = Listeners(*(Listener(name=name, gauges=partial(heard.append, name)) for name in "ab"))
    listeners.add(Listener(name="a", gauges=partial(heard.append, "newest")))
    listeners.set_gauges()
    assert heard == ["newest", "b"]
