"""Sinks on real servers: one that was stopped under load has the state's content soon after it is back."""

import asyncio
import itertools
import time

import msgspec
import pytest

from midstream.app.sinks import store_of
from midstream.core.durations import Duration
from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.online_store import SCAN_ROWS
from midstream.events.memory import MemoryLog
from midstream.integrations.cassandra.store import CassandraStoreOptions
from midstream.integrations.postgresql.store import PostgresqlStoreOptions
from midstream.integrations.redis.store import RedisStoreOptions
from midstream.testing.online_store_conformance import ids_in
from tests.integrations.test_servers import cassandra_session
from tests.support.patience import wait_on_loop
from tests.support.rig import view
from tests.support.sinks import CONFIG, USERS, Past, Process, normal, plain, rewritten

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
PEOPLE = [f"u{n}" for n in range(80)]
STOPPED_S, LONG_S = 3.0, 30.0
BACK_S_MAX = 60.0
"""Until rows are there after the server is: 5 s are promised on a machine that does nothing else."""
numbers = itertools.count()


def options_of(server):
    """Return the options of a store on a server."""
    if server.system.name == "postgresql":
        return PostgresqlStoreOptions(url=f"postgresql://postgres@{server.address}/postgres", give_up=Duration("5s"))
    if server.system.name == "cassandra":
        with cassandra_session(server.address) as session:
            session.execute(
                "CREATE KEYSPACE IF NOT EXISTS sinks WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
        return CassandraStoreOptions(url=f"cassandra://{server.address}/sinks", give_up=Duration("10s"))
    return RedisStoreOptions(url=f"redis://{server.address}")


async def act(process, until):
    """Have users act until something is so."""
    number = 0
    while not until():
        events = [view(f"i{(number + each) % 50}", PEOPLE[(7 * number + each) % len(PEOPLE)]) for each in range(20)]
        await process.record(*events)
        process.rig.now_ms += 1_000
        await asyncio.sleep(0.02)
        number += 1
    return number


async def opened(store):
    """Return a store that is open; a node under load may take longer than a call waits."""
    until = time.monotonic() + BACK_S_MAX
    while True:
        try:
            await store.open()
        except StoreUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(1)
        else:
            return store


async def stored(make, process):
    """Return the rows of a store, by id."""
    store = await opened(make(process.writer.columns.kinds))
    found = await store.read([*PEOPLE, "gone"], list(store.columns))
    await store.close()
    return {
        each: (version, {name: normal(column[number]) for name, column in found.columns.items()})
        for number, (each, version) in enumerate(zip([*PEOPLE, "gone"], found.versions, strict=True))
        if version is not None
    }


@pytest.mark.parametrize("name", ["redis", "valkey", "postgresql", "cassandra"])
def test_a_store_that_was_stopped_has_the_content_of_the_state_in_the_end(servers, name, request):
    """Each row is that of the state, and as of its own version; a user who was erased meanwhile is gone."""
    server, table = servers(name), f"sink{next(numbers)}"
    options, stopped_s = options_of(server), LONG_S if request.config.getoption("--long") else STOPPED_S
    log = MemoryLog()

    def make(kinds):
        return store_of(options, table, "", kinds)

    process = Process(log, make, events_max=1_000)
    taken = {}

    async def work(_):
        await process.record(view("lamp", "gone"))
        await act(process, lambda: process.relay.view().delivered > 100)
        await asyncio.to_thread(server.down)
        began = time.monotonic()
        await process.rig.engine.erase("gone")
        await act(process, lambda: time.monotonic() - began > stopped_s)
        assert process.relay.view().lag_events > 0
        assert "sink_shop" in process.concerns
        ready = asyncio.create_task(asyncio.to_thread(server.up))
        taken["acts"] = await act(process, ready.done)
        await ready
        back = time.monotonic()
        async with asyncio.timeout(BACK_S_MAX):
            await wait_on_loop(process.is_even)
        taken["back_s"] = time.monotonic() - back
        taken["rows"] = await stored(make, process)

    process.run(work)
    past = Past(log, USERS)
    wanted = {each: plain(row) for each in PEOPLE if (row := past.row(log.end, each)) is not None}
    assert {each: plain(row) for each, (_, row) in taken["rows"].items()} == wanted
    for each, (version, row) in list(taken["rows"].items())[::9]:
        assert past.row(version, each) == row
    print(
        f"{name}: {log.end:,} events, stopped for {stopped_s:.0f} s, equal {taken['back_s']:.1f} s after it was ready"
    )


@pytest.mark.parametrize("name", ["redis", "valkey", "postgresql", "cassandra"])
def test_rows_of_users_who_were_erased_while_the_sink_was_away_are_deleted(servers, name):
    """The log was rewritten twice without it, so the table alone has their ids: more than one page of them."""
    options, table = options_of(servers(name)), f"sink{next(numbers)}"
    log, gone = MemoryLog(), [f"gone {each}" for each in range(SCAN_ROWS + 50)]

    def make(kinds):
        return store_of(options, table, "", kinds)

    async def fill(process):
        for start in range(0, len(gone), 500):
            await process.record(*(view("lamp", each) for each in gone[start : start + 500]))
        await process.record(*(view("lamp", each) for each in PEOPLE))
        await wait_on_loop(process.is_even)

    async def compare(process):
        await wait_on_loop(process.is_even)
        store = await opened(make(process.writer.columns.kinds))
        assert {*await ids_in(store)} == {*PEOPLE}
        await store.close()

    many = msgspec.structs.replace(CONFIG, limits=msgspec.structs.replace(CONFIG.limits, users_max=4_000))
    Process(log, make, config=many, events_max=1_000).run(fill)
    shorter = rewritten(rewritten(log, *gone[::2]), *gone[1::2])
    Process(shorter, make, config=many, events_max=1_000).run(compare)
