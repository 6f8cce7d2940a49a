"""The engine as a policy: in this process on a log in memory, or a server over HTTP.

In process the world's clock is the engine's: a season of weeks takes half a minute, and sessions, windows and decays
are as in a live shop. A server has its own clock, so over HTTP events have no time and everything happens now. It
exists before a season and after it, so each season has people and items of its own there.
"""

import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import cast

import msgspec
import numpy as np
from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Config
from midstream.app.opening import accept_of
from midstream.app.wiring import plans
from midstream.core.errors import Fault, Invalid
from midstream.core.types import TimestampMs
from midstream.engine.engine import Engine, EngineOptions
from midstream.engine.ingest.admitted_batch import Parts
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.live import Host
from midstream.engine.tokens import RequestIds
from midstream.engine.types import Ask
from midstream.events.json.decode import decode_objects, parts_of_objects
from midstream.events.memory import MemoryLog
from midstream.events.wire import Accept
from midstream.monitoring.metrics import Metrics
from midstream.simulation.audience import VisitedPage
from midstream.simulation.connection import Connection
from midstream.simulation.policies import Events, FilledPage, Policy
from midstream.simulation.season import START_MS
from midstream.simulation.shop import SimulatedShop
from midstream.state.fold import Fold

EVENTS_A_REQUEST = 200
"""Of the opening catalogue: 40 kB."""
NAME = "midstream"


@dataclass(frozen=True, slots=True)
class EngineQuestion:
    """What is asked for on each page."""

    placement: str = "default"
    n: int = 10


@dataclass(slots=True, eq=False)
class _InProcess:
    shop: SimulatedShop
    engine: Engine
    ingest: IngestService
    accept: Accept
    question: EngineQuestion
    clock: list[int]
    row: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.row = {item_id: row for row, item_id in enumerate(self.shop.item_ids)}

    async def fill(self, page: VisitedPage) -> FilledPage:
        self.clock[0] = page.time_ms
        ask = Ask(self.question.placement, page.person.user_id, page.session_id, self.question.n)
        answer = await self.engine.recommend(ask)
        rows = np.array([self.row[each.id] for each in answer.items], dtype=np.int64)
        return FilledPage(rows, answer.request_id)

    async def learn(self, events: Events) -> None:
        """Record events; a shop never sends what is not well formed."""
        self.clock[0] = max(self.clock[0], _time_of(events[-1]))
        decoded = decode_objects(events, msgspec.structs.replace(self.accept, now_ms=self.clock[0]))
        await self.ingest.record_all((self.ingest.admit(decoded, Parts(lambda: parts_of_objects(events))),))


@asynccontextmanager
async def engine_in_process(
    shop: SimulatedShop, config: Config, folder: Path | None, question: EngineQuestion
) -> AsyncGenerator[Policy]:
    """Open an engine on an empty log in memory, the opening catalogue in it, and close it afterwards.

    Args:
        shop: Whose catalogue it is given.
        config: Placements and all that decides the state.
        folder: Where components of one's own are; None = there are none.
        question: Placement and size of slates.
    """
    clock = [START_MS]
    numbers = itertools.count(1)
    host = Host(
        clock=lambda: TimestampMs(clock[0]),
        monotonic=monotonic,
        request_ids=RequestIds(bytes(32), lambda size: next(numbers).to_bytes(size, "little")),
    )
    metrics = Metrics(CollectorRegistry())
    metrics.set_versions(version("midstream"), config.config_hash, config.fold_settings().version())
    found = plans(config) if folder is None else plans(config, folder)
    engine = Engine(
        MemoryLog(), Fold(config.fold_settings()), found, host, metrics, EngineOptions(keeps_event_time=True)
    )
    policy = _InProcess(shop, engine, IngestService(engine), accept_of(config), question, clock)
    await engine.start()
    try:
        await policy.learn(opening(shop))
        yield Policy(NAME, policy.fill, policy.learn)
    finally:
        await engine.stop()


@dataclass(slots=True, eq=False)
class _OverHttp:
    shop: SimulatedShop
    connection: Connection
    question: EngineQuestion
    run: str
    """Before every id, so that a second season on the same server meets other people in another shop."""
    row: dict[str, int] = field(default_factory=dict[str, int])
    token: str | None = None
    put_count: int = 0
    """Products that are in the server's catalogue: the first ones."""

    def __post_init__(self) -> None:
        self.row = {self.run + item_id: row for row, item_id in enumerate(self.shop.item_ids)}

    async def fill(self, page: VisitedPage) -> FilledPage:
        asked: dict[str, object] = {
            "placement": self.question.placement,
            "n": self.question.n,
            "session_id": self.run + page.session_id,
        }
        if page.person.user_id is not None:
            asked["user_id"] = self.run + page.person.user_id
        if self.token is not None:
            asked["min_log_position"] = self.token
        slate = await self.connection.ask(asked)
        for each in slate.items:
            if self.row.get(each.id, page.on_sale) >= page.on_sale:
                came = f'The server shows "{each.id}", which is not for sale in this shop.'
                right = "A server without items of its own, such as one whose folder is thrown away."
                raise Invalid((Fault("--url", came, right, "/docs/cli.md"),))
        return FilledPage(np.array([self.row[each.id] for each in slate.items], dtype=np.int64), slate.request_id)

    async def learn(self, events: Events) -> None:
        for part in range(0, len(events), EVENTS_A_REQUEST):
            sent = [self._now(event) for event in events[part : part + EVENTS_A_REQUEST]]
            self.put_count += sum(event["type"] == "item" for event in sent)
            self.token = (await self.connection.tell(sent)).log_position

    async def close_shop(self) -> None:
        """Take the shop's products out of the server's catalogue: the next season sells others."""
        gone = [f"{self.run}{item_id}" for item_id in self.shop.item_ids[: self.put_count]]
        for part in range(0, len(gone), EVENTS_A_REQUEST):
            ids = gone[part : part + EVENTS_A_REQUEST]
            await self.connection.tell([{"type": "item", "operation": "delete", "item_id": each} for each in ids])

    def _now(self, event: Mapping[str, object]) -> dict[str, object]:
        """Return an event without its time, of a person and items of this run."""
        kept = {name: value for name, value in event.items() if name != "time"}
        kept.update({name: f"{self.run}{kept[name]}" for name in ("user_id", "session_id", "item_id") if name in kept})
        if "items" in kept:
            tiles = cast("Sequence[Mapping[str, object]]", kept["items"])
            kept["items"] = [{**tile, "item_id": f"{self.run}{tile['item_id']}"} for tile in tiles]
        return kept


@asynccontextmanager
async def engine_over_http(shop: SimulatedShop, url: str, run: str, question: EngineQuestion) -> AsyncGenerator[Policy]:
    """Use a server whose catalogue the shop is put into, and taken out of afterwards; events stay.

    Args:
        shop: Whose catalogue it is given.
        url: Of the server. It must have no other items: they would be shown too.
        run: Before every id, another one for each season.
        question: Placement and size of slates.

    Raises:
        Invalid: It showed what is not for sale in the shop.
        StoreUnavailable: It does not answer as a server of ours does.
    """
    policy = _OverHttp(shop, Connection(url), question, run)
    try:
        await policy.learn(opening(shop))
        yield Policy(NAME, policy.fill, policy.learn)
    finally:
        await policy.connection.close()
        # Another one: in the first there may be an answer for which nobody waited to the end.
        policy.connection = Connection(url)
        try:
            await policy.close_shop()
        finally:
            await policy.connection.close()


def opening(shop: SimulatedShop) -> Sequence[Mapping[str, object]]:
    """Return the events that put what is for sale on the first day into a catalogue."""
    return [shop.put_event(product) for product in range(shop.on_sale(START_MS))]


def _time_of(event: Mapping[str, object]) -> int:
    time_ms = event["time"]
    return time_ms if isinstance(time_ms, int) else 0
