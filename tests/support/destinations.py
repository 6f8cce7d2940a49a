"""A destination of the log in memory, whose calls fail, hang or lose their answer on order, and what all must keep."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from midstream.core.types import EventBatch, LogPosition, TimestampMs
from midstream.engine.outbox.log_destination import (
    DeliveredPosition,
    DestinationFenced,
    DestinationUnavailable,
    LogDestination,
)
from midstream.events.schema import build
from midstream.testing.log_conformance import events_in, sample_batch

Fault = Literal["", "refuse", "lose answer", "hang", "hang after", "half"]
"""``half``, of a store without transactions: some events are there, and the position is not."""


@dataclass
class FakeStore:
    """What a destination's system keeps, whoever is connected to it."""

    is_atomic: bool = True
    events: list[tuple[LogPosition, bytes]] = field(default_factory=list[tuple[LogPosition, bytes]])
    """Each delivered event with its position, in order of arrival."""
    position: DeliveredPosition | None = None
    owner: object = None
    is_up: bool = True
    faults: Iterator[Fault] = field(default_factory=lambda: iter(()))
    """Of the calls to come, one each."""
    calls: int = 0


class FakeDestination:
    """A ``LogDestination`` that stores in a ``FakeStore``."""

    def __init__(self, store: FakeStore) -> None:
        """Connect; nothing is asked yet."""
        self.store = store
        self.is_closed = False
        self._epoch = object()

    async def resume(self) -> DeliveredPosition | None:
        """Take over, and return the position."""
        fault = self._fault()
        if fault in {"refuse", "half"}:
            raise DestinationUnavailable(fault)
        await self._hang(fault == "hang")
        self.store.owner = self._epoch = object()
        await self._hang(fault == "hang after")
        if fault:
            raise DestinationUnavailable(fault)
        return self.store.position

    async def deliver(self, first: LogPosition, batch: EventBatch, upto: DeliveredPosition) -> None:
        """Store events and position, both or, as ordered, a part."""
        fault, store, epoch = self._fault(), self.store, self._epoch
        if fault == "refuse":
            raise DestinationUnavailable(fault)
        await self._hang(fault == "hang")
        if store.owner is not epoch:
            message = "another one delivers"
            raise DestinationFenced(message)
        found = events_in([(first, batch)]) if len(batch) else []
        rows = [(LogPosition(first + place), event) for place, event in enumerate(found)]
        if fault == "half" and not store.is_atomic:
            store.events += rows[: len(rows) // 2]
            raise DestinationUnavailable(fault)
        store.events += rows
        store.position = upto
        await self._hang(fault == "hang after")
        if fault == "lose answer":
            raise DestinationUnavailable(fault)

    async def close(self) -> None:
        """Be closed."""
        self.is_closed = True

    def _fault(self) -> Fault:
        self.store.calls += 1
        if not self.store.is_up:
            message = "the system is down"
            raise DestinationUnavailable(message)
        none: Fault = ""
        return next(self.store.faults, none)

    async def _hang(self, hangs: bool) -> None:
        if hangs:
            await asyncio.Event().wait()


async def check_destination(make: Callable[[], LogDestination], found: Callable[[], Awaitable[list[int]]]) -> None:
    """Check that what ``make`` returns, destinations of one empty system, keep every promise of a ``LogDestination``.

    Args:
        make: Returns a further destination of the same system under the same name.
        found: Returns the log positions of the events that a reader of the system finds, in its order.
    """
    first = make()
    assert await first.resume() is None, "a system that nothing was delivered to has no position"
    await first.deliver(LogPosition(3), build(()), _position(3))
    assert await first.resume() == _position(3), "a position without events is stored"
    await first.deliver(LogPosition(3), sample_batch(3, 2, 10), _position(5))
    await first.deliver(LogPosition(5), sample_batch(5, 40, 10), _position(45))
    second = make()
    assert await second.resume() == _position(45), "the position is that of the last delivery, for another process too"
    await _check_fenced(first)
    assert await second.resume() == _position(45), "a process that was fenced has changed nothing"
    await second.deliver(LogPosition(45), sample_batch(45, 1, 10), _position(46))
    assert await found() == [*range(3, 46)], "each event is there once, in the order of the log"
    await second.deliver(LogPosition(4), build(()), _position(4))
    assert await second.resume() == _position(4), "an operator may move it back"
    await second.deliver(LogPosition(4), sample_batch(4, 1, 10), _position(5))
    assert await found() == [*range(3, 46), 4], "what comes again after that is delivered again"
    await second.close()
    third = make()
    assert await third.resume() == _position(5), "closing loses nothing"
    await third.close()
    await first.close()


async def _check_fenced(destination: LogDestination) -> None:
    try:
        await destination.deliver(LogPosition(45), sample_batch(90, 1, 10), _position(46))
    except DestinationUnavailable:
        return
    message = "a process that was fenced delivered"
    raise AssertionError(message)


def _position(position: int) -> DeliveredPosition:
    return DeliveredPosition("f" * 32, LogPosition(position), TimestampMs(10 if position else 0))
