"""What watches followers promises, and what a follower says of itself, without processes."""

import asyncio
import errno
import os
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.app.config.reader import parse_config
from midstream.app.config.schema import Config
from midstream.app.opening import service_of
from midstream.app.server import leader
from midstream.app.server.follower import BEHIND_EVENTS_MAX, NEAR_EVENTS, FollowerState, fresh_plans
from midstream.app.server.leader import Followers, encode_config
from midstream.core.errors import ArtifactInvalid
from midstream.core.types import LogPosition
from midstream.engine.replication.shared_board import Board, BoardRow
from midstream.serving.options import ServerOptions
from midstream.state.settings import read_duration
from tests.support.rig import Rig


def place(board=None, epoch=0):
    """A follower's place whose distance a test sets."""
    engine: Any = SimpleNamespace(failure=None, fold=SimpleNamespace(log_position=5))
    following: Any = SimpleNamespace(behind=0)
    order: Any = SimpleNamespace(number=1, epoch=epoch)
    nothing: Any = None
    return FollowerState(order, board or Board.make(), engine, following, nothing, nothing)


@given(st.lists(st.integers(0, 2 * BEHIND_EVENTS_MAX), max_size=30))
def test_a_follower_takes_connections_only_near_the_end(distances):
    """From the first time it is near; not while it is far; in between as before. The board says what it does."""
    one = place()
    accepts = False
    for distance in distances:
        one.following.behind = distance
        accepts = distance <= NEAR_EVENTS or (accepts and distance <= BEHIND_EVENTS_MAX)
        assert one.tick(3) is accepts
        line = one.board.line(1)
        assert (line.connections, line.accepts, line.applied) == (3, accepts, 5)


def test_a_follower_of_what_is_no_longer_in_service_takes_none():
    """Another epoch: no further connections, and what ends its reading then is no failure of this process."""
    one = place()
    assert one.tick(0)
    one.board.renew()
    assert not one.is_current()
    one.end(OSError("the log it read is gone"))
    assert not one.tick(0)
    assert one.board.line(1).is_ready


def test_a_follower_that_cannot_go_on_ends():
    """What ended the reading or the folding ends the process, with that error."""
    one = place()
    one.end(OSError("unreadable"))
    with pytest.raises(OSError, match="unreadable"):
        one.tick(0)
    other = place()
    other.engine.failure = ZeroDivisionError("a table")
    with pytest.raises(ZeroDivisionError):
        other.tick(0)


async def watch(tmp_path, monkeypatch, lives):
    """Watch one follower whose processes live as long as ``lives`` says; return the waits before the next ones.

    A life of None is one that was asked to end because something else is in service.
    """
    loop = asyncio.get_running_loop()
    clock = SimpleNamespace(now=0.0)
    waits: list[float] = []
    rest = list(lives)
    rig = Rig()
    running: Any = SimpleNamespace(engine=rig.engine)
    watched = Followers(running, tmp_path, ServerOptions(followers=1), lambda: False)

    async def live(_number):
        seconds = rest.pop(0)
        clock.now += seconds or 0
        if not rest:
            watched._ends.set()
        return None if seconds is None else "ended"

    async def wait(seconds):
        waits.append(seconds)

    monkeypatch.setattr(watched, "_run", live)
    monkeypatch.setattr(watched, "_pause", wait)
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    await watched._keep(1)
    monkeypatch.undo()
    return rig, watched, waits


def test_restarts_are_spread_and_bounded(tmp_path, monkeypatch):
    """Twice the wait each time up to the maximum, the shortest after a long life, and each is counted and named."""
    lives = [0] * 10 + [leader.LIVED_S + 1, 0, 0]
    rig, watched, waits = asyncio.run(watch(tmp_path, monkeypatch, lives))
    low, high = leader.RESTART_S_MIN, leader.RESTART_S_MAX
    assert waits == [min(low * 2**power, high) for power in range(10)] + [low, 2 * low]
    assert watched.views()[0].restarts == 12
    assert rig.engine.concerns["follower-1"] == "follower 1 ended and is started again"


def test_an_exchange_is_no_failure(tmp_path, monkeypatch):
    """A follower that was asked to end because something else is in service is started at once, and not counted."""
    rig, watched, waits = asyncio.run(watch(tmp_path, monkeypatch, [None, None, 0]))
    assert waits == []
    assert watched.views()[0].restarts == 0
    assert rig.engine.concerns == {}


def test_a_follower_that_ends_while_the_server_stops_is_not_started_again(tmp_path, monkeypatch):
    """The leader drains or answers what is under way: it is no end that counts."""
    rig = Rig()
    running: Any = SimpleNamespace(engine=rig.engine)
    watched = Followers(running, tmp_path, ServerOptions(followers=1), lambda: False)
    begun: list[int] = []

    async def live(number):
        begun.append(number)
        watched._board.say_stop()
        return "ended with exit status 0"

    monkeypatch.setattr(watched, "_run", live)
    asyncio.run(asyncio.wait_for(watched._keep(1), 20))
    assert begun == [1]
    assert watched.views()[0].restarts == 0
    assert rig.engine.concerns == {}


class Pipe:
    """The standard input of a process that reads so many lines, and then nothing more."""

    def __init__(self, lines_max=100):
        self.lines: list[bytes] = []
        self._lines_max = lines_max

    def send(self, line):
        """Return whether the line is taken."""
        is_taken = len(self.lines) < self._lines_max
        self.lines += [line] if is_taken else []
        return is_taken


@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("other", ["plans", "state", "log"])
def test_a_follower_is_told_of_plans_and_exchanged_for_a_state(tmp_path, monkeypatch, other, stuck):
    """Plans in the same state go through its pipe, the newest of several changes alone; one that is stuck is ended."""

    async def change():
        rig = Rig()
        engine = rig.engine
        running: Any = SimpleNamespace(engine=engine)
        watched = Followers(running, tmp_path, ServerOptions(followers=1), lambda: False)
        ended, pipe = [], Pipe(1 if stuck else 100)
        process: Any = SimpleNamespace(
            send=pipe.send, returncode=None, send_signal=lambda _: ended.append(watched._board.epoch)
        )
        watched._children[1] = child = leader._Child(process, 0, watched._board.epoch)
        monkeypatch.setattr(watched, "_order", lambda *_: Told(watched._board.epoch))
        for _ in range(2):
            if other == "state":
                engine.live.fold = Rig().engine.fold
            if other == "log":
                engine.live.log = Rig().engine.log
            watched.renew()
        await asyncio.sleep(0)
        first = pipe.lines, ended, child.epoch, watched._board.epoch
        watched.renew()
        await asyncio.sleep(0)
        return first, pipe.lines, ended

    (lines, ended, epoch, now), later, ended_later = asyncio.run(change())
    told = [msgspec.json.encode(Told(each)) + b"\n" for each in (2, 3)]
    if other == "plans":
        assert (lines[:1], epoch, now) == (told[:1], 2, 2)
        assert (later, ended_later) == ((told[:1], [3]) if stuck else (told, []))
    else:
        assert (lines, ended[:2], epoch) == ([], [1, 2], 0)
        assert (later, ended_later) == ([], [1, 2])


def test_a_follower_whose_pipe_is_gone_keeps_no_other_from_being_told(tmp_path, monkeypatch):
    """It is exchanged, and the one behind it is told."""

    async def change():
        running: Any = SimpleNamespace(engine=Rig().engine)
        watched = Followers(running, tmp_path, ServerOptions(followers=2), lambda: False)
        monkeypatch.setattr(watched, "_order", lambda *_: Told(watched._board.epoch))
        pipes, ended = (Pipe(0), Pipe()), []
        for number, pipe in enumerate(pipes, 1):
            process: Any = SimpleNamespace(
                send=pipe.send, returncode=None, send_signal=lambda _, each=number: ended.append(each)
            )
            watched._children[number] = leader._Child(process, 0, 0)
        watched.renew()
        await asyncio.sleep(0)
        return ended, pipes[1].lines

    assert asyncio.run(change()) == ([1], [msgspec.json.encode(Told(1)) + b"\n"])


def test_a_follower_that_does_not_take_up_what_it_was_told_is_exchanged(tmp_path, monkeypatch):
    """After a time in which it takes no connections; not one that took it up, and is behind later."""

    async def watch_it(accepts):
        loop, clock = asyncio.get_running_loop(), SimpleNamespace(now=100.0)
        monkeypatch.setattr(loop, "time", lambda: clock.now)
        running: Any = SimpleNamespace(engine=Rig().engine)
        watched = Followers(running, tmp_path, ServerOptions(followers=1), lambda: False)
        monkeypatch.setattr(watched, "_order", lambda *_: Told(watched._board.epoch))
        ended = []
        process: Any = SimpleNamespace(send=Pipe().send, returncode=None, send_signal=lambda _: ended.append(1))
        watched._children[1] = leader._Child(process, 0, 0)
        watched.renew()
        watched._order_all()
        for seconds, takes in ((0.1, True), (10.0, accepts), (120.0, False)):
            clock.now += seconds
            watched._board.write(1, BoardRow(0, takes, LogPosition(0), is_ready=True))
            watched._tick(0)
        monkeypatch.undo()
        return ended

    assert asyncio.run(watch_it(accepts=False)) == [1]
    assert asyncio.run(watch_it(accepts=True)) == []


@pytest.mark.parametrize("what", ["following", "folding", "model", "nothing"])
def test_what_cannot_be_taken_up_ends_the_process(what):
    """Its reading or folding ended meanwhile, or a model is not to be had: it is started anew and never left behind."""

    async def reached(_position, _seconds):
        return what in {"model", "nothing"}

    async def load(_versions):
        champions.in_service = {"ranker": "1" if what == "model" else "2"}

    one = place()
    champions: Any = SimpleNamespace(in_service={"ranker": "1"}, follow=load)
    one.champions, one.engine.reached, one.order.plans = champions, reached, 3
    one.board.renew()
    wanted: Any = SimpleNamespace(number=1, epoch=1, plans=3, log_position=9, models={"ranker": "2"})
    if what == "nothing":
        asyncio.run(one.take_up(wanted))
        assert one.is_current()
        return
    one.failure = OSError("unreadable") if what == "following" else None
    one.engine.failure = ZeroDivisionError("a table") if what == "folding" else None
    with pytest.raises((OSError, ZeroDivisionError, ArtifactInvalid)) as caught:
        asyncio.run(one.take_up(wanted))
    one.cannot = caught.value
    assert not one.is_current()
    with pytest.raises(type(caught.value)):
        one.tick(0)


def test_only_plans_that_answer_in_another_way_are_warmed(tmp_path):
    """Not those whose placement is as it was, although each names the configuration that it is of."""

    def plans_of(text):
        config = parse_config(text)
        return service_of(tmp_path, config, config.fold_settings()).plans

    text = '[[placements]]\nname = "a"\n[[placements]]\nname = "b"\n'
    before = plans_of(text)
    assert [each.name for each in fresh_plans(before, plans_of(text + "slate_size = 4\n"))] == ["b"]
    assert [each.name for each in fresh_plans(before, plans_of(text + '[[placements]]\nname = "c"\n'))] == ["c"]


class Told(msgspec.Struct):
    """An order."""

    epoch: int


@pytest.mark.parametrize("step", ["wake", "process"])
def test_a_follower_that_cannot_be_started_is_tried_again(tmp_path, monkeypatch, step):
    """Whatever is not to be had, a descriptor or a process: health says so, the watch goes on, nothing stays open.

    One whose process is not there yet is not one that ended: each start would have it in the log.
    """
    rig, waits = Rig(), []
    running: Any = SimpleNamespace(engine=rig.engine)
    watched = Followers(running, tmp_path, ServerOptions(followers=1), lambda: False)

    def refused(*_):
        states.append(watched.views()[0].state)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    make, close, opened, closed, states = os.eventfd, os.close, [], [], [watched.views()[0].state]

    def eventfd(*given):
        opened.append(make(*given))
        return opened[-1]

    def closing(descriptor):
        closed.append(descriptor)
        close(descriptor)

    async def wait(seconds):
        waits.append(seconds)
        states.append(watched.views()[0].state)
        if len(waits) == 3:
            watched._ends.set()

    monkeypatch.setattr(watched, "_pause", wait)
    monkeypatch.setattr(os, "eventfd", refused if step == "wake" else eventfd)
    monkeypatch.setattr(os, "close", closing)
    monkeypatch.setattr(watched, "_order", lambda *_: SimpleNamespace(epoch=0))
    monkeypatch.setattr(watched, "_process", refused)
    asyncio.run(watched._keep(1))
    monkeypatch.undo()
    assert len(opened) == (0 if step == "wake" else 3)
    assert opened == [each for each in closed if each in opened]
    assert len(waits) == 3
    assert states == ["starting", *["starting", "ended"] * 3]
    expected = "follower 1 could not be started (Too many open files) and is started again"
    assert rig.engine.concerns["follower-1"] == expected


@pytest.mark.parametrize(
    "text", ["", 'placements = [{ name = "a", deadline = "70ms" }]\n[server]\nkeep_alive = "60s"\n']
)
def test_configuration_survives_the_way(text):
    """What a follower reads is what is in service, hash included: it stands in every answer."""
    config = parse_config(text)
    found = msgspec.json.decode(encode_config(config), type=Config, dec_hook=read_duration)
    assert found == config
    assert found.config_hash == config.config_hash
