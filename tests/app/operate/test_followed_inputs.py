"""Inputs that a server reads are followed to the end that their topics had, and no further."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import httpx
import msgspec
import pytest

from midstream.app.operate import followed_inputs
from midstream.app.operate.followed_inputs import FollowedRun, ServerHealth, followed
from midstream.core.errors import NotFound, StoreUnavailable
from midstream.engine.types import InputState, InputView, PartitionView

URL = "http://127.0.0.1:1"


def view(
    position: int | str, lag: int | None, events: int, state: InputState = "reading", problem: str = ""
) -> InputView:
    """Return how an input of one partition stands."""
    return InputView("clicks", "events", state, (PartitionView("0", str(position), lag),), lag or 0, events, 0, problem)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_inputs, "LOOK_S", 0.01)
    monkeypatch.setattr(followed_inputs, "STALLED_S_MAX", 0.2)


def follow(
    monkeypatch: pytest.MonkeyPatch,
    looks: Sequence[InputView],
    is_given_up: Callable[[InputView], bool] = lambda _: False,
    told: list[InputView] | None = None,
) -> tuple[FollowedRun, list[InputView]]:
    """Return the result of a run that sees some states in turn, then the last one; and what was shown."""
    seen: Iterator[InputView] = iter(looks)
    told = [] if told is None else told
    last = [looks[0]]

    def health(url: str) -> ServerHealth:
        assert url == URL
        last[0] = next(seen, last[0])
        return ServerHealth(7, (last[0], InputView("other", "others", "failing", (), 0, 0, 0)))

    monkeypatch.setattr(followed_inputs, "_health_of", health)

    async def run() -> FollowedRun:
        async with asyncio.timeout(20):
            return await followed(URL, ["clicks"], asyncio.Event(), told.extend, is_given_up)

    return asyncio.run(run()), told


def test_the_end_is_that_of_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes meanwhile is not waited for; events count from there. A lag that is not known yet is no end."""
    looks = [view(10, None, 100), view(10, 5, 100), view(13, 8, 103), view(15, 30, 105), view(16, 30, 106)]
    done, told = follow(monkeypatch, looks)
    assert (done.at_end, done.log_position) == (True, 7)
    assert [each.events for each in told] == [0, 0, 3, 5]
    assert done.views == (told[-1],)


def test_the_end_of_each_partition_is_that_of_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of one behind a partition that is not at its end then."""
    first, second = (
        (PartitionView("0", "0", 5), PartitionView("1", "0", 2)),
        (
            PartitionView("0", "5", 0),
            PartitionView("1", "2", 10),
        ),
    )
    done, told = follow(monkeypatch, [replace(view(0, 7, 0), partitions=each) for each in (first, second)])
    assert (done.at_end, len(told)) == (True, 2)


def test_positions_that_are_no_numbers_end_where_nothing_is_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the ids of Pulsar's messages."""
    done, told = follow(monkeypatch, [view("3:1:-1", 2, 0), view("3:2:-1", 1, 1), view("3:3:-1", 0, 2)])
    assert (done.at_end, [each.events for each in told]) == (True, [0, 1, 2])


def test_an_input_with_nothing_left_to_read_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks of a transaction behind the last message leave a lag for ever; one that fails is at no end."""
    idle = replace(view(10, 1, 0), is_idle=True)
    done, told = follow(monkeypatch, [replace(idle, state="failing"), view(10, 1, 0), idle])
    assert done.at_end
    assert len(told) == 3


@pytest.mark.parametrize("lag, left", [(None, "an unknown number of"), (1_000_000, "1,000,000")])
def test_an_input_that_moves_nowhere_before_its_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, lag: int | None, left: str
) -> None:
    """That it is quiet says nothing of its topic; while it fails it is given up by another clock."""
    told: list[InputView] = []
    looks = [view(10, lag, 0, "failing", "no broker")] * 60 + [view(10, lag, 0)]
    with pytest.raises(StoreUnavailable, match=f'"clicks".* nowhere for 0 s with {left} messages'):
        follow(monkeypatch, looks, told=told)
    assert len(told) > 60


@pytest.mark.parametrize("count, is_over", [(3, False), (99, True)])
def test_an_answer_that_is_no_health_is_one_after_some_looks(
    monkeypatch: pytest.MonkeyPatch, count: int, *, is_over: bool
) -> None:
    """Such as that of a follower whose leader is gone, or of a proxy."""
    bad = [
        httpx.Response(503, json={"type": "x", "title": "t", "status": 503, "detail": "The leader is gone."}),
        httpx.Response(502, content=b"<html>\xff"),
    ]
    good = httpx.Response(503, content=msgspec.json.encode(ServerHealth(7, (view(10, 0, 3),))))
    answers = iter([*(bad[number % 2] for number in range(count)), good])
    client = SimpleNamespace(get=lambda _path: next(answers))
    monkeypatch.setattr(followed_inputs, "server_client", lambda *_: nullcontext(client))
    run = followed(URL, ["clicks"], asyncio.Event(), lambda _: None, lambda _: False)
    if not is_over:
        assert asyncio.run(run).at_end
        return
    with pytest.raises(StoreUnavailable, match=r"answered 50[23]"):
        asyncio.run(run)


def test_one_that_is_given_up_is_not_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is over, and says so."""
    done, _ = follow(monkeypatch, [view(10, 5, 0), view(10, 5, 0, "stopped")], lambda now: now.state == "stopped")
    assert not done.at_end


def test_an_input_that_the_server_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was added to the file behind the server's start."""
    monkeypatch.setattr(followed_inputs, "_health_of", lambda _: ServerHealth(7))
    with pytest.raises(NotFound, match='has no input "clicks" yet'):
        asyncio.run(followed(URL, ["clicks"], asyncio.Event(), lambda _: None, None))
