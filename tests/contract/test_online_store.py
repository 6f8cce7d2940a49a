"""Every online store keeps the promises of its Protocol; those of real servers run in tests/integrations."""

import asyncio

import pytest

from midstream.core.errors import ShapeMismatch
from midstream.engine.stores.online_store import TURN_VALUES, StoreKind, StoreRows, check_names, columns_in_turns
from midstream.testing.online_store_conformance import check_online_store
from tests.support.stores import MemoryStore


def clients_of(kind):
    """Make clients of one table, which share its rows."""
    shared = MemoryStore({})

    def make(columns):
        store = kind(columns)
        store.rows, store.positions = shared.rows, shared.positions
        return store

    return make


def run_checks(make):
    asyncio.run(check_online_store(make))


class Refusing(MemoryStore):
    """A store in memory that is unavailable once it is closed, as those with connections are."""

    async def close(self):
        await super().close()
        self.is_up = False


def test_the_store_in_memory_keeps_its_promises():
    """The fake that tests of sinks use is as strict as a server."""
    run_checks(clients_of(Refusing))


def put_unfenced(self, each, version, values):
    self.rows[each] = version, values


def put_equal(self, each, version, values):
    """Compare as text, where 9 is more than 10."""
    if each not in self.rows or str(self.rows[each][0]) < str(version):
        self.rows[each] = version, values


def put_as_float(self, each, version, values):
    if each not in self.rows or float(self.rows[each][0]) < float(version):
        self.rows[each] = version, values


def put_without_fence(self, each, version, values):
    if values is None:
        self.rows.pop(each, None)
    else:
        MemoryStore._put(self, each, version, values)


def put_merged(self, each, version, values):
    """Keep old values where the new ones are missing."""
    if each not in self.rows or self.rows[each][0] < version:
        before = self.rows.get(each, (0, None))[1] or {}
        new = values and {name: before.get(name) if value is None else value for name, value in values.items()}
        self.rows[each] = version, new


def put_folded(self, each, version, values):
    MemoryStore._put(self, each.strip().lower(), version, values)


@pytest.mark.parametrize(
    "put",
    [put_unfenced, put_equal, put_as_float, put_without_fence, put_merged, put_folded],
    ids=lambda each: each.__name__,
)
def test_the_checks_notice_a_wrong_fence(put):
    """Without it, compared as text or as float64, lost by a delete, or with rows that are merged, a store fails."""
    broken = type("Broken", (Refusing,), {"_put": put})
    with pytest.raises((AssertionError, KeyError)):
        run_checks(clients_of(broken))


async def torn(self, rows, version):
    """Write half of a row, give way, write the rest."""
    for number, each in enumerate(rows.ids):
        if self.rows.get(each, (-1,))[0] < version:
            values = {name: rows.columns[name][number] for name in self.columns}
            before = self.rows.get(each, (0, None))[1] or values
            self.rows[each] = version, {**before, "score": values["score"]}
            await asyncio.sleep(0)
            self.rows[each] = version, values


async def raced(self, rows, version):
    """Compare, give way, then write."""
    stored = {each: self.rows.get(each, (-1,))[0] for each in rows.ids}
    await asyncio.sleep(0)
    for number, each in enumerate(rows.ids):
        if stored[each] < version:
            self.rows[each] = version, {name: rows.columns[name][number] for name in self.columns}


@pytest.mark.parametrize("write", [torn, raced], ids=lambda each: each.__name__)
def test_the_checks_notice_rows_that_are_not_atomic(write):
    """A row that is written in two steps, or compared and written in two."""

    class Broken(Refusing):
        async def write(self, rows, version):
            await MemoryStore.write(MemoryStore(self.columns), rows, version)
            await write(self, rows, version)

    with pytest.raises(AssertionError, match="promised"):
        run_checks(clients_of(Broken))


@pytest.mark.parametrize(
    "table, columns",
    [
        ("rows; DROP TABLE x", {}),
        ("Rows", {}),
        ("", {}),
        ("a" * 49, {}),
        ("rows", {"id": "text"}),
        ("rows", {"version": "integer"}),
        ("rows", {'a"b': "text"}),
        ("rows", {f"c{number}": "number" for number in range(257)}),
    ],
)
def test_names_are_identifiers(table, columns):
    """Names stand in statements as they are, so that nothing else is taken for one."""
    with pytest.raises(ShapeMismatch, match="is right"):
        check_names(table, columns)


def test_a_large_batch_is_checked_in_turns_of_the_event_loop():
    """Others have the loop after at most ``TURN_VALUES`` values, and what is found is what one turn would find."""
    rows = StoreRows([f"u{each}" for each in range(1_000)], {"score": [float(each) for each in range(1_000)]})
    known: dict[str, StoreKind] = {"score": "number"}

    async def work():
        turns, task = 0, asyncio.ensure_future(columns_in_turns(rows, known))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 1_000 // TURN_VALUES
        assert task.result() == {"score": rows.columns["score"]}
        with pytest.raises(ShapeMismatch, match="kind number"):
            await columns_in_turns(StoreRows(rows.ids, {"score": [*rows.columns["score"][:-1], "x"]}), known)

    asyncio.run(work())
