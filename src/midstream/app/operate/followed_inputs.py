"""Inputs of a folder that a server has open, followed from outside: its progress until the ends of their topics.

The server reads them, and one process has the folder. So a run by hand looks at the server's health now and then. The
end is the one that the server knew at the first look: what comes later is not waited for, as it never ends. Where
positions are no numbers, as Pulsar's, that end has no position: there it is the first look with nothing left to read.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from midstream.app.server_refusals import server_client, unavailable
from midstream.core.errors import NotFound, StoreUnavailable
from midstream.engine.types import InputView, PartitionView

LOOK_S = 0.5
"""Between two looks at the server."""
ANSWER_S_MAX = 10.0
STALLED_S_MAX = 60.0
"""An input that reads, is not at its end, and has moved nowhere for so long is waited for no longer."""
ODD_ANSWERS_MAX = 20
"""Looks in a row whose answer is no health, such as one of a follower whose leader is gone: 10 s."""


class NoHealth(StoreUnavailable):
    """The server answered with something else than its health."""


class ServerHealth(msgspec.Struct, frozen=True):
    """What is read of the server's health."""

    log_position: int
    inputs: tuple[InputView, ...] = ()


@dataclass(slots=True)
class FollowedInput:
    """Progress of one input since the first look."""

    first: InputView
    ends: dict[str, int] = field(default_factory=dict[str, int])
    """By partition: the end of its topic when it became known, where positions are numbers."""
    moved: tuple[float, object] = (0.0, None)
    """When it moved last, and where to."""

    def view(self, now: InputView) -> InputView:
        """Return how it stands, with the events since the first look."""
        return replace(
            now, events=max(0, now.events - self.first.events), rejected=max(0, now.rejected - self.first.rejected)
        )

    def is_at_end(self, now: InputView, now_s: float) -> bool:
        """Return whether it has read what its topic had.

        A lag is no way to know that alone: behind the last message of a topic that is written in transactions there are
        marks, which are no messages, so it may never become 0. The server knows that nothing comes any more.
        """
        where = now.events, now.partitions
        if where != self.moved[1] or now.state != "reading" or now.problem:
            self.moved = now_s, where
        if now.state != "reading" or not now.partitions or any(each.gone for each in now.partitions):
            return False
        have_ends = [self._has_end(each) for each in now.partitions]  # of each, as it keeps where that is
        return all(have_ends) or now.is_idle

    def stalled_s(self, now_s: float) -> float:
        """Return for how long it has moved nowhere while it reads."""
        return now_s - self.moved[0]

    def _has_end(self, each: PartitionView) -> bool:
        if each.lag is None:
            return False
        if not each.position.isdecimal():
            return each.lag == 0
        return int(each.position) >= self.ends.setdefault(each.partition, int(each.position) + each.lag)


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """Result of following."""

    views: tuple[InputView, ...]
    at_end: bool
    log_position: int


async def followed(
    url: str,
    names: Sequence[str],
    ends: asyncio.Event,
    tell: Callable[[Sequence[InputView]], None],
    is_given_up: Callable[[InputView], bool] | None,
) -> FollowedRun:
    """Follow inputs of a server until they are at their ends, or until an event.

    Args:
        url: Of the server.
        names: Of the inputs.
        ends: Set when nobody waits any more.
        tell: Called with the state of each input at each look.
        is_given_up: Says of an input whether it is waited for no longer; None = nothing ends but by the event.

    Raises:
        StoreUnavailable: The server does not answer, or an input has stalled for ``STALLED_S_MAX``.
        NotFound: It has no such input.
    """
    known: dict[str, FollowedInput] = {}
    while True:
        health = await _look(url, ends)
        found = _chosen(health, names, url)
        for name, now in found.items():
            known.setdefault(name, FollowedInput(now))
        views = tuple(known[name].view(now) for name, now in found.items())
        tell(views)
        now_s = time.monotonic()
        at_end = [known[name].is_at_end(now, now_s) for name, now in found.items()]
        given_up = [is_given_up is not None and is_given_up(now) for now in found.values()]
        is_over = is_given_up is not None and all(map(max, at_end, given_up))
        if is_over or ends.is_set():
            return FollowedRun(views, all(at_end), health.log_position)
        for view, is_done in zip(views, map(max, at_end, given_up), strict=True):
            if is_given_up is not None and not is_done and known[view.name].stalled_s(now_s) > STALLED_S_MAX:
                raise _stalled(view, url)
        await _pause(ends)


async def _look(url: str, ends: asyncio.Event) -> ServerHealth:
    """Return a server's health, behind some answers that are none."""
    for _ in range(ODD_ANSWERS_MAX - 1):
        try:
            return await asyncio.to_thread(_health_of, url)
        except NoHealth:
            if ends.is_set():
                raise
            await _pause(ends)
    return await asyncio.to_thread(_health_of, url)


def _stalled(view: InputView, url: str) -> StoreUnavailable:
    lags = [each.lag for each in view.partitions]
    left = "an unknown number of" if not lags or None in lags else f"{sum(filter(None, lags)):,}"
    came = f'{url} reads the input "{view.name}", and that has moved nowhere for {STALLED_S_MAX:.0f} s'
    return StoreUnavailable(f"{came} with {left} messages behind it. Look at the broker, and at midstream docs inputs")


async def _pause(ends: asyncio.Event) -> None:
    waiting = asyncio.ensure_future(ends.wait())
    await asyncio.wait((waiting,), timeout=LOOK_S)
    waiting.cancel()


def _health_of(url: str) -> ServerHealth:
    """Return a server's health, also of one that is not ready.

    Raises:
        NoHealth: It answered with something else.
        StoreUnavailable: It does not answer.
    """
    with server_client(url, ANSWER_S_MAX) as client:
        answer = client.get("/health/ready")
    try:
        return msgspec.json.decode(answer.content, type=ServerHealth)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NoHealth(str(unavailable(answer, url))) from error


def _chosen(health: ServerHealth, names: Sequence[str], url: str) -> Mapping[str, InputView]:
    by_name = {each.name: each for each in health.inputs}
    for name in names:
        if name not in by_name:
            message = f'{url} has the folder open and has no input "{name}" yet: start it again, so that it reads it'
            raise NotFound(message)
    return {name: by_name[name] for name in names}
