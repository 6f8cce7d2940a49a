"""Listeners of an engine: callbacks of other services by name, registered where they are wired.

A service is added once with all its callbacks, so one statement shows what it listens to, and the engine depends on
none of them. They are called in the order in which they were added.
"""

from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple

from midstream.engine.types import FollowerView, InputView
from midstream.ranking.boundary import Account, boundary

LAGGING: Final = frozenset(("inputs", "outputs", "sinks", "shared_log"))
"""Names of the listeners whose gauges are lags behind a log or a topic. Setting them reads what is in memory."""


class Concern(NamedTuple):
    """Concern for an operator that a listener finds now."""

    name: str
    said: str
    """Empty = there is nothing to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Callbacks of one service. None is not called."""

    name: str
    """Its own: of one name an engine has the newest alone."""
    committed: Callable[[], None] | None = None
    """Called after each durable write, in turns with its being applied."""
    swapped: Callable[[], None] | None = None
    """Called when another state, other plans, or another writing of the log were put in service."""
    snapshot_written: Callable[[], Awaitable[object]] | None = None
    """Called after each snapshot of the state in service."""
    gauges: Callable[[], None] | None = None
    """Called when metrics are scraped: sets its gauges."""
    concern: Callable[[], Concern] | None = None
    """Called when health is read: returns its concern."""
    wait: Callable[[], str] | None = None
    """Called when health is read: returns why this process is not ready, empty = it is."""
    followers: Callable[[], tuple[FollowerView, ...]] | None = None
    """Called when health is read: returns the states of follower processes."""
    inputs: Callable[[], tuple[InputView, ...]] | None = None
    """Called when health is read: returns the states of inputs from brokers."""


class Listeners:
    """All parts beside one engine."""

    def __init__(self, *listeners: Listener) -> None:
        """Begin with some."""
        self._each: tuple[Listener, ...] = ()
        self._committed: tuple[Callable[[], None], ...] = ()
        self.add(*listeners)

    def add(self, *listeners: Listener) -> None:
        """Call these too, after all others; one of a name that is there takes that one's place in the order."""
        by_name = {each.name: each for each in self._each} | {each.name: each for each in listeners}
        self._each = tuple(by_name.values())
        self._committed = tuple(each.committed for each in self._each if each.committed is not None)

    def tell_commit(self) -> None:
        """Call every listener, also after an exception of one; raise it when all were called."""
        heard = self._committed
        if len(heard) == 1:
            heard[0]()
        elif heard:
            with ExitStack() as everyone:
                for each in reversed(heard):
                    everyone.callback(each)

    def tell_swap(self) -> None:
        """Call the listeners of a swap of state or plans."""
        for each in self._each:
            if each.swapped is not None:
                each.swapped()

    async def tell_snapshot(self) -> None:
        """Call the listeners of a snapshot."""
        for each in self._each:
            if each.snapshot_written is not None:
                await each.snapshot_written()

    def set_gauges(self, names: Container[str] | None = None) -> None:
        """Have the listeners of some names set their gauges; None = all of them."""
        for each in self._each:
            if each.gauges is not None and (names is None or each.name in names):
                each.gauges()

    def concerns(self) -> Mapping[str, str]:
        """Return the concerns found now, by topic; one that cannot be told is one."""
        seen, account = list[Concern](), Account()
        for each in self._each:
            if each.concern is not None:
                with boundary(each.name, account):
                    seen.append(each.concern())
        untold = {
            each.component: f"the state of {each.component} cannot be told: {each.reason}" for each in account.failures
        }
        return {**{each.name: each.said for each in seen if each.said}, **untold}

    def waits(self) -> tuple[str, ...]:
        """Return why this process is not ready; empty = it is."""
        said = (each.wait() for each in self._each if each.wait is not None)
        return tuple(each for each in said if each)

    def followers(self) -> tuple[FollowerView, ...]:
        """Return how the processes are that follow this one."""
        return tuple(view for each in self._each if each.followers is not None for view in each.followers())

    def inputs(self) -> tuple[InputView, ...]:
        """Return how the inputs are that read topics of brokers."""
        return tuple(view for each in self._each if each.inputs is not None for view in each.inputs())
