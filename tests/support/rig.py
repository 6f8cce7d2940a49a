"""An engine on a log in memory or any other, with a clock that a test moves, run for the length of one coroutine."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Config
from midstream.app.opening import accept_of
from midstream.app.wiring import plans
from midstream.core.protocols import EventLog
from midstream.core.types import EventBatch, TimestampMs
from midstream.engine.engine import Engine, EngineOptions
from midstream.engine.live import Host
from midstream.engine.tokens import RequestIds
from midstream.events.json.decode import decode_objects
from midstream.events.memory import MemoryLog
from midstream.monitoring.metrics import Metrics
from midstream.state.fold import Fold
from midstream.state.settings import StateLimits

T = TypeVar("T")
START_MS = 1_750_000_000_000
SMALL = Config(
    limits=StateLimits(users_max=100, items_max=200, click_items_max=100, sessions_max=100, event_ids_max=1_000)
)


@dataclass(slots=True)
class Rig:
    """An engine and what it was made of."""

    log: EventLog = field(default_factory=MemoryLog)
    config: Config = SMALL
    options: EngineOptions = field(default_factory=EngineOptions)
    now_ms: int = START_MS
    monotonic: Callable[[], float] = time.monotonic
    worked_s: Callable[[], float] | None = None
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        """Wire the engine; request ids and seeds count up."""
        numbers = itertools.count(1)
        host = Host(
            clock=lambda: TimestampMs(self.now_ms),
            monotonic=self.monotonic,
            request_ids=RequestIds(b"k" * 32, lambda size: next(numbers).to_bytes(size, "little")),
            worked_s=self.worked_s,
        )
        metrics = Metrics(CollectorRegistry())
        fold = Fold(self.config.fold_settings())
        self.engine = Engine(self.log, fold, plans(self.config), host, metrics, self.options)

    def run(self, work: Callable[["Rig"], Awaitable[T]]) -> T:
        """Start the engine, do the work, stop the engine."""

        async def main() -> T:
            await self.engine.start()
            try:
                return await work(self)
            finally:
                await self.engine.stop()

        return asyncio.run(main())

    def batch(self, *events: Mapping[str, object]) -> EventBatch:
        """Return events of the form on the wire as a batch.

        Raises:
            ValueError: One of them is not well formed.
        """
        decoded = decode_objects(events, msgspec.structs.replace(accept_of(self.config), now_ms=self.now_ms))
        if decoded.rejected:
            raise ValueError(decoded.rejected[0].fault)
        return decoded.batch


def view(item: str, user: str = "ann", **more: object) -> dict[str, object]:
    """Return a view of an item as a client sends it."""
    return {"type": "view", "user_id": user, "item_id": item, **more}
