"""All outputs of a server: started and stopped together, found by name, moved by an operator, shown in metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from midstream.core.errors import Fault, Invalid, NotFound, RewriteFailed
from midstream.core.nearest import nearest
from midstream.core.types import LogPosition
from midstream.engine.lease import Lease
from midstream.engine.listeners import Listener
from midstream.engine.outbox.log_relay import LogRelay
from midstream.monitoring.metrics import Metrics

PAGE = "/docs/outputs.md"
TOLD_S_MAX = 30.0
"""How long a rewrite of the log waits for a topic that has not all erasures yet: a broker is back sooner, or for long
away."""


@dataclass(frozen=True, slots=True)
class OutputView:
    """State of an output."""

    name: str
    topic: str
    records: str
    state: Literal["starting", "delivering", "idle", "standing_by", "failing", "stopped"]
    problem: str
    """Why it stopped or fails; empty while all is well."""
    log_position: LogPosition | None
    """Where the topic stands; None = the broker was not reached yet."""
    lag_events: int
    """Applied events behind it; -1 = not known."""
    lag_ms: int
    """The log time between; -1 = not known."""
    delivered: int
    """Events that it passed by since the start, with a record or without."""
    owner: str = ""
    """Node of a shared log that delivers; empty = none, or the log is that of one node."""


@dataclass(frozen=True, slots=True)
class RelayedOutput:
    """One output."""

    topic: str
    records: str
    relay: LogRelay
    has_erasures: bool = False
    """Whether each erasure of a user is a record of it."""


class OutputGroup:
    """Outputs of one engine. A service that runs beside it."""

    def __init__(self, outputs: Mapping[str, RelayedOutput], metrics: Metrics) -> None:
        """Hold outputs by name, none of them started."""
        self._outputs = outputs
        self._metrics = metrics

    def share(self, lease: Callable[[str], Lease]) -> None:
        """Have each deliver while this node has its lease alone; before the start."""
        for name, each in self._outputs.items():
            each.relay.lease = lease(f"output {name}")

    @property
    def listener(self) -> Listener:
        """What the engine calls for metrics."""
        return Listener(name="outputs", gauges=self._set_gauges)

    @property
    def forgets(self) -> Mapping[str, Callable[[Sequence[str]], Awaitable[int]]]:
        """Waits for the topics that are told of erasures, before the log is rewritten without the users' ids."""
        told = {name: each for name, each in self._outputs.items() if each.has_erasures}
        return {f"output {name}": partial(_told, name, each) for name, each in told.items()}

    def start(self) -> None:
        """Begin on the running event loop."""
        for each in self._outputs.values():
            each.relay.start()

    async def stop(self) -> None:
        """End all at once, each after the delivery under way or after its maximum."""
        await asyncio.gather(*(each.relay.stop() for each in self._outputs.values()))

    def views(self) -> tuple[OutputView, ...]:
        """Return how each of them stands."""
        return tuple(self.view(name) for name in self._outputs)

    def view(self, name: str) -> OutputView:
        """Return how one stands.

        Raises:
            NotFound: There is none of that name.
        """
        output = self._named(name)
        seen = output.relay.view()
        return OutputView(
            name=name,
            topic=output.topic,
            records=output.records,
            state=seen.state,
            problem=seen.reason,
            log_position=seen.position,
            lag_events=seen.lag_events,
            lag_ms=seen.lag_ms,
            delivered=seen.delivered,
            owner=seen.owner,
        )

    async def move(self, name: str, to: LogPosition | Literal["now", "beginning"]) -> OutputView:
        """Have one go on from elsewhere; the position is durable in the broker on return.

        Raises:
            NotFound: There is none of that name.
            Invalid: The log has no such position.
            DestinationUnavailable: The broker did not answer.
        """
        relay = self._named(name).relay
        begin, end = await relay.bounds()
        place = {"now": end, "beginning": begin}.get(to, to) if isinstance(to, str) else to
        if not isinstance(place, str) and begin <= place <= end:
            await relay.move(place)
            return self.view(name)
        right = f"A log position from {begin} to {end}, now, or beginning."
        raise Invalid((Fault("/to", f"{to} came.", right, PAGE),))

    def _named(self, name: str) -> RelayedOutput:
        if name not in self._outputs:
            message = f'"{name[:64]}" is no output of midstream.toml.{nearest(name, self._outputs)}'
            raise NotFound(message)
        return self._outputs[name]

    def _set_gauges(self) -> None:
        for each in self.views():
            is_stopped = each.state == "stopped"
            self._metrics.set_output(each.name, each.lag_events, each.lag_ms, each.delivered, is_stopped=is_stopped)


async def _told(name: str, output: RelayedOutput, _: Sequence[str]) -> int:
    """Wait until a topic has the erasures; return 0, as nothing is removed there.

    Raises:
        RewriteFailed: It has not, and the log stays as it is.
    """
    if not await output.relay.reaches_end(TOLD_S_MAX):
        why = output.relay.view().reason or "it is behind"
        message = (
            f"the output {name} has not delivered the erasures yet ({why}); the log keeps the ids of the users "
            "until it has, or until the output is taken out of the configuration"
        )
        raise RewriteFailed(message)
    return 0
