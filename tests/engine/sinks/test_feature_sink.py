"""Sinks: a store has the content of the state in the end, whatever failed or was killed on the way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.app.config.schema import Config
from midstream.app.wiring import plans
from midstream.core.durations import Duration
from midstream.core.errors import RewriteFailed, StoreUnavailable
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.answer.feature_reads import declared_by
from midstream.engine.child_process import nobody
from midstream.engine.ingest.log_reader import catch_up
from midstream.engine.outbox import log_relay
from midstream.engine.outbox.log_relay import LogRelay, RelayOptions
from midstream.engine.sinks import feature_sink, row_writer
from midstream.engine.sinks.feature_sink import FeatureSink
from midstream.engine.sinks.row_columns import RowReader, row_columns
from midstream.engine.sinks.row_writer import RowWriter, SinkOptions
from midstream.engine.stores.online_store import StoredRows, StoredValue, StoreKind, StoreRows
from midstream.events.memory import MemoryLog
from midstream.features.kinds.kinds import Count
from midstream.state.fold import Fold
from midstream.state.settings import EventType
from midstream.state.structures.hashing import id_hash
from tests.support.patience import wait_on_loop
from tests.support.rig import SMALL, Rig, view
from tests.support.stores import MemoryStore

LOG = "a" * 32
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


@dataclass
class Shelf:
    """A store that outlives processes, and what is wrong with its calls."""

    rows: dict[str, tuple[int, Mapping[str, StoredValue] | None]] = field(default_factory=dict[str, Any])
    positions: dict[str, str] = field(default_factory=dict[str, str])
    faults: dict[int, Fault] = field(default_factory=dict[int, Fault])
    """By number of the call."""
    calls: int = 0
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

    async def read(self, ids: Sequence[str], columns: Sequence[str]) -> StoredRows:
        return await super().read(ids, columns)

    async def write(self, rows: StoreRows, version: int) -> None:
        before = {each: self.rows.get(each) for each in rows.ids}
        await self.call(lambda: super(ShelfStore, self).write(rows, version))
        for each in rows.ids:
            if self.rows[each] != before[each]:
                self.shelf.versions.setdefault(each, []).append(self.rows[each][0])

    async def delete(self, ids: Sequence[str], version: int) -> None:
        await self.call(lambda: super(ShelfStore, self).delete(ids, version))

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
    begin: LogPosition = LogPosition(0)
    generation: int = 0

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Read as a segment reader does."""
        assert after <= durable <= self.log.end
        return self.log.read(after, limit)


class Process:
    """A process with a log and one sink of it."""

    def __init__(
        self, log: MemoryLog, shelf: Shelf, columns: tuple[str, ...] = USERS, config: Config = CONFIG, **more: Any
    ) -> None:
        self.rig = Rig(log=log, config=config)
        self.rig.now_ms = max(self.rig.now_ms, log.last_log_time_ms)
        engine = self.rig.engine
        catch_up(engine.fold, log.read, log.end, nobody)
        scope = "item" if columns == ITEMS else "user"
        options = SinkOptions("shop", scope, columns, every_s=0.0, **more)
        reader: Any = Reader(log)
        self.writer = RowWriter(options, engine, lambda kinds: ShelfStore(shelf, kinds), self.rig.monotonic)
        self.sink = FeatureSink(self.writer, engine.supervise, lambda: reader, self.rig.monotonic)
        self.relay = LogRelay(RelayOptions("sink_shop", LOG, "now", events_max=7), engine, lambda: reader, self.sink)
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

        def is_even() -> bool:
            return self.relay.view().lag_events == 0 and self.sink.view().is_complete

        await wait_on_loop(is_even)

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
        self._log, self._config, self._scope = log, config, "item" if columns == ITEMS else "user"
        self._folds: dict[int, Fold] = {}
        self._declared = declared_by(plans(config))
        told = row_columns(self._scope, columns, config.features, config.items.attributes)
        self._reader = RowReader(told)

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
        return tuple(value)
    return None if value != value else value  # NaN


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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a second try."""
    monkeypatch.setattr(log_relay, "BACK_OFF_S_MAX", 0.002)
    monkeypatch.setattr(log_relay, "DELIVER_S_MAX", 0.5)
    monkeypatch.setattr(log_relay, "STOP_S_MAX", 0.2)
    monkeypatch.setattr(feature_sink, "IDLE_S", 0.002)
    monkeypatch.setattr(feature_sink, "PASS_ITEMS", 3)
    monkeypatch.setattr(row_writer, "FLOOR_WAIT_S", 0.001)


PEOPLE = ("ann", "bob", "cem", "anon")


def test_a_new_table_gets_all_rows_and_then_follows() -> None:
    """Users of before the sink was declared are written by a pass, later ones as they act."""
    log, shelf = MemoryLog(), Shelf()
    Process(log, Shelf()).run(lambda each: each.record(*(view("lamp", user) for user in PEOPLE)))
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        assert sorted(shelf.rows) == sorted(PEOPLE)
        await process.record(view("bulb", "dan"), view("bulb", "ann"), profile("ann", "DE"))
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, (*PEOPLE, "dan"))
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["user_country"] == "DE"


def test_items_are_written_with_their_fields() -> None:
    """The pass goes through the catalogue; a click makes another row of the item, a change of the catalogue as well."""
    log, shelf = MemoryLog(), Shelf()

    def item(item_id: str, **attributes: object) -> dict[str, object]:
        return {"type": "item", "item_id": item_id, "operation": "put", "attributes": attributes}

    Process(log, Shelf()).run(lambda each: each.record(*(item(f"i{n}", price=n) for n in range(10))))
    process = Process(log, shelf, ITEMS)

    async def work(_: Process) -> None:
        await process.until_even()
        assert len(shelf.rows) == 10
        await process.record(view("i3"), view("new"), item("i4", price=9, available=False))
        await process.until_even()

    process.run(work)
    check(log, shelf, ITEMS, [*(f"i{n}" for n in range(10)), "new"])
    row = shelf.rows["i4"][1]
    assert row is not None
    assert (row["item_price"], row["item_available"]) == (9.0, 0)


def erase(user: str) -> dict[str, object]:
    return {"type": "erase", "user_id": user}


Step = tuple[str, str, str]
steps = st.lists(
    st.tuples(
        st.sampled_from(["view", "profile", "merge", "erase", "delete"]),
        st.sampled_from(PEOPLE),
        st.sampled_from(PEOPLE),
    ),
    min_size=1,
    max_size=8,
)
faults = st.dictionaries(st.integers(1, 40), st.sampled_from(["refuse", "lose", "late"]), max_size=6)


async def act(process: Process, step: Step) -> None:
    what, user, other = step
    if what == "erase":
        await process.rig.engine.erase(user)
    elif what == "merge":
        await process.record(merge(user, other))
    elif what == "delete":
        await process.record({"type": "user", "user_id": user, "operation": "delete"})
    elif what == "profile":
        await process.record(profile(user, other))
    else:
        await process.record(view(f"of-{other}", user))
    process.rig.now_ms += 60_000


@settings(max_examples=15, deadline=None)
@given(before=steps, after=steps, faults=faults, kill_after=st.integers(0, 30))
def test_a_store_has_the_content_of_the_state_whatever_fails(
    before: list[Step], after: list[Step], faults: dict[int, Fault], kill_after: int
) -> None:
    """Calls are refused, lose their answers, and the process is killed; the next one brings all rows."""
    log, shelf = MemoryLog(), Shelf(faults=dict(faults))

    async def begin(process: Process) -> None:
        for step in before:
            await act(process, step)
        for _ in range(kill_after):
            await asyncio.sleep(0)

    Process(log, shelf).run(begin)

    async def go_on(process: Process) -> None:
        for step in after:
            await act(process, step)
        await process.until_even()

    Process(log, shelf).run(go_on)
    check(log, shelf, USERS, PEOPLE)


def test_an_erasure_by_an_alias_ends_the_row_of_the_user_after_any_failure() -> None:
    """The state has no texts of users, and after the erasure it does not know either whom an alias stood for."""
    log = MemoryLog()
    shelf = Shelf()
    process = Process(log, shelf)

    async def merged(_: Process) -> None:
        await process.record(view("lamp", "anon"), view("lamp", "ann"), merge("ann", "anon"))
        await process.until_even()
        assert [each for each, (_, row) in shelf.rows.items() if row is not None] == ["ann"]
        shelf.is_up = False
        await process.rig.engine.erase("anon")

    process.run(merged)
    shelf.is_up = True
    Process(log, shelf).to_end()
    assert shelf.rows["ann"][1] is None


def test_a_user_who_acts_often_is_read_once() -> None:
    """A batch touches each user once; a row that is new enough is passed by."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(*(view(f"i{n % 5}", "ann", event_id=str(n)) for n in range(100)))
        await process.until_even()

    process.run(work)
    assert process.writer.counts.written == 1  # of the 15 batches of 7 events, which are all in the state at the first
    check(log, shelf, USERS, ("ann",))


def test_a_store_that_was_emptied_gets_all_rows_again() -> None:
    """The position went with the rows, so the next failure shows it, and a pass writes them anew."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(view("lamp", "ann"), view("lamp", "bob"))
        await process.until_even()
        shelf.rows.clear()
        shelf.positions.clear()
        shelf.faults[shelf.calls + 1] = "refuse"
        await process.record(view("bulb", "cem"))
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, ("ann", "bob", "cem"))


def test_a_store_that_is_down_is_named_and_caught_up_with() -> None:
    """Health names the error while it lasts."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        shelf.is_up = False
        await process.record(view("lamp", "ann"))
        await wait_on_loop(lambda: "down" in process.concerns)
        assert process.relay.view().lag_events == 1
        shelf.is_up = True
        await process.until_even()

    process.run(work)
    assert not process.concerns
    check(log, shelf, USERS, ("ann",))


MORE = (*FEATURES, Count(name="clicks", scope="user", actions=("click",)))
OTHER = msgspec.structs.replace(CONFIG, features=MORE)


def test_other_columns_are_written_to_every_row_though_nobody_acts() -> None:
    """No row keeps the content of the declaration before, not even one of the newest position: a tick moves the log."""
    log, shelf = MemoryLog(), Shelf()

    async def work(process: Process) -> None:
        await process.record(view("lamp", "ann"), view("lamp", "bob"), {**view("lamp", "bob"), "type": "click"})
        await process.until_even()

    Process(log, shelf).run(work)
    columns = (*USERS, "clicks")
    Process(log, shelf, columns, OTHER).to_end()
    check(log, shelf, columns, ("ann", "bob"), OTHER)
    assert shelf.rows["bob"][1] is not None
    assert shelf.rows["bob"][1]["clicks"] == 1.0


def test_a_state_that_is_swapped_in_is_noticed() -> None:
    """A rebuild gives other values at the same position: all rows are written anew above it."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)
    weighted = msgspec.structs.replace(
        CONFIG, features=(*FEATURES[1:], msgspec.structs.replace(FEATURES[0], weighted=True))
    )
    weighted = msgspec.structs.replace(
        weighted, events=msgspec.structs.replace(CONFIG.events, types={"view": EventType(weight=5.0)})
    )

    async def work(_: Process) -> None:
        await process.record(view("lamp", "ann"), view("lamp", "bob"))
        await process.until_even()
        fold = Fold(weighted.fold_settings())
        catch_up(fold, log.read, log.end, nobody)
        process.rig.engine.swap(fold, plans(weighted))
        await wait_on_loop(lambda: not process.sink.view().is_complete)
        await process.until_even()

    process.run(work)
    check(log, shelf, USERS, ("ann", "bob"), weighted)
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["views"] == 5.0


def test_features_that_are_gone_stop_a_sink_by_name() -> None:
    """A configuration in service that no longer declares a column is named, and nothing is written."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf, config=msgspec.structs.replace(CONFIG, features=FEATURES[1:]))

    async def work(_: Process) -> None:
        await wait_on_loop(lambda: "columns of views" in process.concerns)

    process.run(work)
    assert not shelf.rows


def test_rows_of_erased_users_are_deleted_before_their_ids_are_gone() -> None:
    """A rewrite asks the sink; one whose store is down holds it up. Ids of users who are there again are left alone."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.record(view("lamp", "ann"), view("lamp", "bob"))
        await process.until_even()
        shelf.is_up = False
        with pytest.raises(RewriteFailed, match="sink shop"):
            await process.sink.forget(["cem"])
        shelf.is_up = True
        assert await process.sink.forget(["cem", "ann", "cem"]) == 1
        assert shelf.rows["cem"] == (2, None)

    process.run(work)
    check(log, shelf, USERS, ("ann", "bob"))


def test_a_refresh_reads_fading_values_anew() -> None:
    """After so much log time all rows are read again, also of those who did nothing."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf, refresh_ms=3_600_000)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(view("lamp", "ann"))
        await process.until_even()
        process.rig.now_ms += 3_600_000
        await process.record(view("lamp", "bob"))
        await wait_on_loop(lambda: shelf.rows["ann"][0] == log.end)

    process.run(work)
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["lately"] == 0.5
    check(log, shelf, USERS, ("ann", "bob"))


def test_an_evicted_user_keeps_the_last_row() -> None:
    """The log does not say who was evicted; the row ages, and is replaced when the user comes back."""
    log, shelf = MemoryLog(), Shelf()
    process = Process(log, shelf)

    async def work(_: Process) -> None:
        await process.until_even()
        await process.record(view("lamp", "ann"))
        await process.until_even()
        await process.record(*(view("lamp", f"u{n}") for n in range(100)))
        await process.until_even()
        assert process.rig.engine.user("ann") is None
        assert shelf.rows["ann"][1] is not None
        await process.record(view("bulb", "ann"))
        await process.until_even()

    process.run(work)
    assert shelf.rows["ann"][1] is not None
    assert shelf.rows["ann"][1]["row_recent_items"] == ("bulb",)
