"""All sinks of a server: started and stopped together, found by name, shown in metrics and health."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from midstream.core.errors import NotFound
from midstream.core.nearest import nearest
from midstream.core.types import LogPosition
from midstream.engine.lease import Lease
from midstream.engine.listeners import Listener
from midstream.engine.outbox.log_relay import LogRelay
from midstream.engine.sinks.feature_sink import FeatureSink

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.erasure.eraser import Forget

BACK_OFF_S_MAX = 2.0
"""Of a pass after an error: a store that is back has rows within five seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class RunningSink:
    """One sink: what follows the log, and what hands it over."""

    sink: FeatureSink
    relay: LogRelay
    store: str
    """Kind of the store."""
    table: str


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """One sink, for operators."""

    name: str
    store: str
    table: str
    scope: str
    state: str
    """Of the following: starting, delivering, idle, standing_by, failing, or stopped until an order comes."""
    problem: str
    """What it waits for, or what failed last; empty = nothing."""
    log_position: LogPosition | None
    """Rows are at least as new as the events before it; None = the store was not reached yet."""
    lag_events: int
    """Events after it; -1 = not known."""
    lag_ms: int
    """Log time between the two, -1 = not known."""
    pass_done: int
    pass_total: int
    """Of the pass over earlier rows: events or items; equal = none is under way."""
    is_complete: bool
    """Whether rows of before following began are there, as the declarations and the state in service have them."""
    rows_written: int
    """Since the start, as ``rows_deleted``."""
    rows_deleted: int
    columns: Mapping[str, str]
    """Kind of each column of the table."""
    half_lives_ms: Mapping[str, tuple[int, ...]]
    """Of the columns that fade: by them and ``log_time_ms`` a reader can age a value."""
    owner: str = ""
    """Node of a shared log that writes; empty = none, or the log is that of one node."""


class SinkGroup:
    """Sinks of one engine. A service that runs beside it."""

    def __init__(self, sinks: Sequence[RunningSink], engine: "Engine") -> None:
        """Hold ``sinks``, none of them started."""
        self._sinks = {each.sink.name: each for each in sinks}
        self._engine = engine
        for each in sinks:
            each.sink.passing.back_off_s_max = BACK_OFF_S_MAX

    def share(self, lease: Callable[[str], Lease]) -> None:
        """Have each write while this node has its lease alone; before the start."""
        for name, each in self._sinks.items():
            each.relay.lease = each.sink.lease = lease(f"sink {name}")

    @property
    def listener(self) -> Listener:
        """What the engine calls for metrics."""
        return Listener(name="sinks", gauges=self._set_gauges)

    @property
    def forgets(self) -> "Mapping[str, Forget]":
        """What deletes rows of erased users, by the name that a receipt has for it."""
        users = (each for each in self._sinks.values() if each.sink.writer.options.scope == "user")
        return {f"sink {each.sink.name}": each.sink.forget for each in users}

    def start(self) -> None:
        """Begin on the running event loop."""
        for each in self._sinks.values():
            each.relay.start()
            each.sink.passing.start()

    async def stop(self) -> None:
        """End all at once; the next start goes on where the stores say."""
        await asyncio.gather(*(self._stop(each) for each in self._sinks.values()))

    def views(self) -> tuple[SinkStatus, ...]:
        """Return how each of them stands."""
        return tuple(map(_status, self._sinks.values()))

    def view(self, name: str) -> SinkStatus:
        """Return how one stands.

        Raises:
            NotFound: There is none of that name.
        """
        return _status(self._named(name))

    async def backfill(self, name: str) -> SinkStatus:
        """Have all rows of one read and written anew, and a sink that stopped follow from here on.

        Raises:
            NotFound: There is none of that name.
            MidstreamError: As ``LogRelay.move`` does.
        """
        found = self._named(name)
        await found.relay.move(self._engine.fold.log_position)
        return _status(found)

    def _named(self, name: str) -> RunningSink:
        if name not in self._sinks:
            message = f'"{name[:64]}" is no sink of midstream.toml.{nearest(name, self._sinks)}'
            raise NotFound(message)
        return self._sinks[name]

    @staticmethod
    async def _stop(each: RunningSink) -> None:
        await each.sink.passing.stop()
        await each.relay.stop()

    def _set_gauges(self) -> None:
        for each in self.views():
            self._engine.metrics.set_sink(
                each.name,
                (each.lag_events, each.lag_ms),
                max(0, each.pass_total - each.pass_done),
                (each.rows_written, each.rows_deleted),
                is_stopped=each.state == "stopped",
            )


def _status(each: RunningSink) -> SinkStatus:
    view, relay = each.sink.view(), each.relay.view()
    return SinkStatus(
        name=view.name,
        store=each.store,
        table=each.table,
        scope=view.scope,
        state=relay.state,
        problem=relay.reason or each.sink.passing.health(),
        log_position=relay.position,
        lag_events=relay.lag_events,
        lag_ms=relay.lag_ms,
        pass_done=view.pass_next,
        pass_total=view.pass_until,
        is_complete=view.is_complete,
        rows_written=view.rows_written,
        rows_deleted=view.rows_deleted,
        columns=view.columns,
        half_lives_ms=view.half_lives,
        owner=relay.owner,
    )
