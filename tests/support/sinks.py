"""A process with one sink, a store that outlives processes and fails on order, and the rows that it should have."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, cast

import msgspec

from midstream.app.config.schema import Config
from midstream.app.wiring import plans
from midstream.core.durations import Duration
from midstream.core.errors import StoreUnavailable
from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.answer.feature_reads import declared_by
from midstream.engine.child_process import nobody
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions
from midstream.engine.sinks.feature_sink import FeatureSink
from midstream.engine.sinks.row_columns import OwnerRowReader, SinkScope, row_columns
from midstream.engine.sinks.row_writer import MakeStore, RowWriter, SinkOptions
from midstream.engine.stores.online_store import ScannedIds, StoredValue, StoreKind, StoreRows
from midstream.events.memory import MemoryLog
from midstream.events.schema import Event, build, event_at
from midstream.features.kinds.kinds import Count
from midstream.state.fold import Fold
from midstream.state.structures.hashing import id_hash
from tests.support.patience import wait_on_loop
from tests.support.rig import SMALL, Rig
from tests.support.stores import MemoryStore

LOG = "a" * 32
START = LogPosition(0)
FEATURES = (
    Count(name="views", scope="user", actions=("view",)),
    Count(name="lately", scope="user", actions=("view",), half_life=(Duration("1h"),)),
    Count(name="item_views", scope="item", actions=("view",)),
)
CONFIG = msgspec.structs.replace(
    SMALL, features=FEATURES, items=msgspec.structs.replace(SMALL.items, attributes={"price": "number"})
)
USERS = ("views", "lately", "user.country", "row.recent_items")
ITEMS = ("item_views", "item.price", "item.available")
Fault = Literal["refuse", "lose", "late"]


def scope_of(columns: tuple[str, ...]) -> SinkScope:
    return "item" if columns == ITEMS else "user"


@dataclass
class Shelf:
    """A store that outlives processes, and what is wrong with its calls."""

    rows: dict[str, tuple[int, Mapping[str, StoredValue] | None]] = field(default_factory=dict[str, Any])
    positions: dict[str, str] = field(default_factory=dict[str, str])
    faults: dict[int, Fault] = field(default_factory=dict[int, Fault])
    """By number of the call."""
    calls: int = 0
    scans: int = 0
    server: int = 0
    """Number of starts: cursors are of one server."""
    is_up: bool = True
    versions: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Of each row, as its content came to be."""


class ShelfStore(MemoryStore):
    """A store whose content is on a shelf."""

    def __init__(self, shelf: Shelf, columns: Mapping[str, StoreKind]) -> None:
        super().__init__(columns)
        self.shelf = shelf
        self.rows, self.positions = shelf.rows, shelf.positions

    async def open(self) -> None:
        await self.call(super().open)

    async def write(self, rows: StoreRows, version: int) -> None:
        before = {each: self.rows.get(each) for each in rows.ids}
        await self.call(lambda: super(ShelfStore, self).write(rows, version))
        for each in rows.ids:
            if self.rows[each] != before[each]:
                self.shelf.versions.setdefault(each, []).append(self.rows[each][0])

    async def delete(self, ids: Sequence[str], version: int) -> None:
        await self.call(lambda: super(ShelfStore, self).delete(ids, version))

    async def scan(self, cursor: str) -> ScannedIds:
        self.shelf.scans += 1
        await self.call(super().open)
        server, _, place = cursor.partition(" ")
        if cursor and server != str(self.shelf.server):
            raise StoreUnavailable("the cursor is of another server")
        page = await super().scan(place)
        return page if page.cursor is None else replace(page, cursor=f"{self.shelf.server} {page.cursor}")

    async def position(self, name: str) -> str | None:
        await self.call(super().open)
        return self.positions.get(name)

    async def set_position(self, name: str, position: str) -> None:
        await self.call(lambda: super(ShelfStore, self).set_position(name, position))

    async def call(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work, or have it fail before or after."""
        self.shelf.calls += 1
        fault = self.shelf.faults.pop(self.shelf.calls, None)
        if not self.shelf.is_up or fault == "refuse":
            self.shelf.server += 1
            raise StoreUnavailable("down")
        await asyncio.sleep(0)
        if fault == "late":
            await asyncio.sleep(0.005)
        await work()
        if fault in {"lose", "late"}:
            raise StoreUnavailable("no answer")


@dataclass
class Reader:
    """A log in memory as readers beside the engine see it."""

    log: MemoryLog
    begin: LogPosition = START
    generation: int = 0

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Read as a segment reader does."""
        assert after <= durable <= self.log.end
        return self.log.read(after, limit)


class RewrittenLog(MemoryLog):
    """A log in memory that was rewritten a number of times."""

    def __init__(self, generation: int) -> None:
        super().__init__()
        self._generation = generation

    @property
    def generation(self) -> int:
        return self._generation


def rewritten(log: MemoryLog, *without: str) -> RewrittenLog:
    """Return the log of the next generation, in which all events that name some users or items are ticks."""
    fresh = RewrittenLog(log.generation + 1)
    for first, batch in log.read(START, log.end):
        for place in range(len(batch)):
            event, tick = event_at(batch, place), Event(Kind.TICK)
            named = {event.user_id, event.item_id} & {*without} or any(each.encode() in event.body for each in without)
            fresh.append(build([tick._replace(log_time_ms=event.log_time_ms) if named else event]))
        assert fresh.end == first + len(batch)
    return fresh


class Process:
    """A process with a log and one sink of it."""

    def __init__(
        self,
        log: MemoryLog,
        store: Shelf | MakeStore,
        columns: tuple[str, ...] = USERS,
        config: Config = CONFIG,
        events_max: int = 7,
        name: str = LOG,
        *,
        is_shared: bool = False,
        **more: Any,
    ) -> None:
        self.rig = Rig(log=log, config=config)
        self.rig.now_ms = max(self.rig.now_ms, log.last_log_time_ms)
        engine = self.rig.engine
        catch_up(engine.fold, log.read, log.end, nobody)
        options = SinkOptions("shop", scope_of(columns), columns, every_s=0.0, **more)
        reader: Any = Reader(log)
        make: MakeStore = partial(ShelfStore, store) if isinstance(store, Shelf) else store
        self.writer = RowWriter(options, engine, make, self.rig.monotonic)
        self.sink = FeatureSink(self.writer, engine.supervise, lambda: reader, self.rig.monotonic, is_shared=is_shared)
        self.relay = LogRelay(
            RelayOptions("sink_shop", name, "now", events_max=events_max, is_shared=is_shared),
            engine,
            lambda: reader,
            self.sink,
        )
        self.sink.passing.back_off_s_max = 0.002

    async def record(self, *events: Mapping[str, object]) -> None:
        await self.rig.engine.record(self.rig.batch(*events))

    def run(self, work: Callable[["Process"], Awaitable[None]]) -> None:
        """Start engine and sink, do the work, stop both."""

        async def inside(_: Rig) -> None:
            self.relay.start()
            self.sink.passing.start()
            try:
                await work(self)
            finally:
                await self.sink.passing.stop()
                await self.relay.stop()

        self.rig.run(inside)

    async def until_even(self) -> None:
        """Wait until nothing is left to write."""
        await wait_on_loop(self.is_even)

    def is_even(self) -> bool:
        """Return whether nothing is left to write."""
        return self.relay.view().lag_events == 0 and self.sink.view().is_complete

    def to_end(self) -> None:
        """Run until nothing is left to write."""
        self.run(lambda _: self.until_even())

    @property
    def concerns(self) -> str:
        return "\n".join(self.rig.engine.concerns.values())


def profile(user: str, country: str) -> dict[str, object]:
    return {"type": "user", "user_id": user, "operation": "patch", "attributes": {"country": country}}


def merge(into: str, other: str) -> dict[str, object]:
    return {"type": "user", "operation": "merge", "user_id": into, "attributes": {"from": other}}


class Past:
    """States of a log at its positions, each from a fold of its own, and the rows that they have."""

    def __init__(self, log: MemoryLog, columns: tuple[str, ...], config: Config = CONFIG) -> None:
        self._log, self._config, self._scope = log, config, scope_of(columns)
        self._folds: dict[int, Fold] = {}
        self._declared = declared_by(plans(config))
        told = row_columns(self._scope, columns, config.features, config.items.attributes)
        self._reader = OwnerRowReader(told)

    def row(self, position: int, each: str) -> dict[str, Any] | None:
        """Return the row of a user or item; None = it is not known."""
        if position not in self._folds:
            self._folds[position] = fold = Fold(self._config.fold_settings())
            catch_up(fold, self._log.read, LogPosition(position), nobody)
        fold, names = self._folds[position], tuple(self._reader.columns.kinds)
        if self._scope == "item":
            index = fold.vocabulary.item_index(each)
            found = None if index < 0 else self._reader.items(fold, self._declared, [index])[0]
        else:
            slot, own = fold.vocabulary.user_index(each), id_hash(each, fold.vocabulary.id_key)
            is_known = slot >= 0 and not fold.users.is_forgotten(slot) and fold.vocabulary.aliases.resolve(own) == own
            found = self._reader.user(fold, self._declared, each, slot) if is_known else None
        return None if found is None else {name: normal(value) for name, value in zip(names, found, strict=True)}


def plain(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the values that do not depend on when a row was read."""
    return (
        None if row is None else {name: value for name, value in row.items() if name not in {"log_time_ms", "lately"}}
    )


def normal(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(cast("list[Any]", value))
    return None if isinstance(value, float) and math.isnan(value) else value


def check(log: MemoryLog, shelf: Shelf, columns: tuple[str, ...], ids: Sequence[str], config: Config = CONFIG) -> None:
    """Check that the store has the state's content, each row as of its own version, and no version went back."""
    past = Past(log, columns, config)
    wanted = {each: plain(row) for each in ids if (row := past.row(log.end, each)) is not None}
    found = {each: plain(values) for each, (_, values) in shelf.rows.items() if values is not None}
    assert found == wanted
    for each, (version, values) in shelf.rows.items():
        if values is not None:
            assert past.row(version, each) == dict(values)
    assert all(each == sorted(each) for each in shelf.versions.values())


def value(shelf: Shelf, each: str, column: str) -> Any:
    """Return a value of a row that is there."""
    row = shelf.rows[each][1]
    assert row is not None
    return row[column]
