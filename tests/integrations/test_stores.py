"""Online stores on real servers keep the promises of their Protocol."""

import asyncio
import itertools

import pytest
import uvloop
from redis.asyncio import Redis

from midstream.core.durations import Duration
from midstream.core.errors import StoreUnavailable
from midstream.engine.stores.online_store import StoreRefused, StoreRows
from midstream.integrations.cassandra.store import CassandraStore, CassandraStoreOptions
from midstream.integrations.postgresql import store as postgresql_store
from midstream.integrations.postgresql.store import PostgresqlStore, PostgresqlStoreOptions
from midstream.integrations.redis.store import RedisStore, RedisStoreOptions
from midstream.testing.online_store_conformance import check_online_store
from tests.integrations.test_servers import cassandra_session
from tests.support.patience import wait_on_loop
from tests.support.store_shops import postgresql_session

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
numbers = itertools.count()


def run(work):
    """Run on the event loop that a server has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def closed_after(store, work):
    """Do some work with a store and close it, also where the work failed."""
    try:
        await work()
    finally:
        await store.close()


def test_redis_and_valkey_keep_the_promises_of_a_store(redis):
    """A hash a row, and a script as the fence."""
    options = RedisStoreOptions(url=f"redis://{redis.address}", give_up=Duration("20s"))
    table = f"rows{next(numbers)}"
    run(check_online_store(lambda columns: RedisStore(options, table, columns)))


def test_redis_leaves_keys_that_are_not_midstreams(redis):
    """Whatever lies where a row would: it keeps its content, is counted, and no other row waits for it."""
    prefix = f"shop{next(numbers)}:"
    store = RedisStore(RedisStoreOptions(url=f"redis://{redis.address}", prefix=prefix), "users", {"score": "number"})
    ids = ("text", "list", "hash", "words", "shops", "own", "new")

    async def work():
        await store.open()
        await store.write(StoreRows(("own",), {"score": [1.0]}), 1)
        async with Redis.from_url(f"redis://{redis.address}") as client:
            await client.set(f"{prefix}users:text", "kept")
            await client.rpush(f"{prefix}users:list", "kept")
            await client.hset(f"{prefix}users:hash", mapping={"name": "kept"})
            await client.hset(f"{prefix}users:words", mapping={"version": "2nd"})
            await client.hset(f"{prefix}users:shops", mapping={"version": "1", "score": "7"})
            await store.write(StoreRows(ids, {"score": [2.0] * 7}), 2)
            await store.delete(ids[:6], 3)
            assert await scanned(store) == {"new"}
            assert await client.get(f"{prefix}users:text") == b"kept"
            assert await client.lrange(f"{prefix}users:list", 0, -1) == [b"kept"]
            assert await client.hgetall(f"{prefix}users:hash") == {b"name": b"kept"}
            assert await client.hgetall(f"{prefix}users:words") == {b"version": b"2nd"}
            assert await client.hgetall(f"{prefix}users:shops") == {b"version": b"1", b"score": b"7"}
        assert store.left == 10
        assert (await store.read(("shops",), ("score",))).versions == [None]
        assert (await store.read(("own", "new"), ("score",))).columns == {"score": [None, 2.0]}

    run(closed_after(store, work))


async def scanned(store):
    """Return all ids that a store has."""
    found, cursor = set(), ""
    while cursor is not None:
        page = await store.scan(cursor)
        found |= set(page.ids)
        cursor = page.cursor
    return found


async def taken(one, other, ids):
    """Have one store delete all that it finds; return what another one has of its rows afterwards."""
    await one.open()
    await other.open()
    await other.write(StoreRows(ids, {"score": [1.0] * len(ids)}), 10)
    assert await scanned(one) == set()
    keys = [f"b:{each}" for each in ids]
    assert (await one.read(keys, ("score",))).columns == {"score": [None] * len(ids)}
    await one.delete(keys, 20)
    await one.write(StoreRows(keys, {"score": [3.0] * len(ids)}), 30)
    assert one.left == 2 * len(ids)
    rows = await other.read(ids, ("score",))
    await other.delete(ids[:1], 11)
    assert other.left == 0
    return rows.columns["score"]


def test_redis_leaves_the_rows_of_a_table_whose_keys_begin_as_its_own(redis):
    """As those of another shop: a comparison with the state neither sees nor deletes them, and none is overwritten."""
    outer = f"shop{next(numbers)}:"

    def store(prefix, table, log="a"):
        options = RedisStoreOptions(url=f"redis://{redis.address}", prefix=prefix, give_up=Duration("20s"))
        return RedisStore(options, table, {"score": "number"}, log)

    async def work():
        one, other = store(outer, "users"), store(f"{outer}users:", "b")
        try:
            assert await taken(one, other, ("ann", "bob")) == [1.0, 1.0]
        finally:
            await one.close()
            await other.close()

    run(work())


def test_redis_leaves_the_rows_of_another_log_in_the_same_table(redis):
    """Two shops were given one table: neither deletes or replaces what the other one wrote, and both can count it."""
    options = RedisStoreOptions(url=f"redis://{redis.address}", give_up=Duration("20s"))
    table = f"rows{next(numbers)}"
    one, other = (RedisStore(options, table, {"score": "number"}, log) for log in ("a", "b"))

    async def work():
        try:
            await one.open()
            await other.open()
            await one.write(StoreRows(("ann",), {"score": [1.0]}), 1)
            await one.delete(("bob",), 1)
            await other.write(StoreRows(("ann", "bob", "eve"), {"score": [2.0] * 3}), 9)
            await other.delete(("ann",), 10)
            assert (other.left, one.left) == (3, 0)
            assert await scanned(one) == {"ann"}
            assert (await one.read(("ann", "bob", "eve"), ("score",))).columns == {"score": [1.0, None, None]}
            assert await scanned(other) == {"eve"}
        finally:
            await one.close()
            await other.close()

    run(work())


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_a_cursor_of_a_redis_that_was_started_anew_is_refused(servers, name):
    """It would pass by keys: the order of a scan is of one process."""
    server = servers(name)
    store = RedisStore(RedisStoreOptions(url=f"redis://{server.address}"), f"rows{next(numbers)}", {"score": "number"})
    rows = StoreRows([f"u{each}" for each in range(5_000)], {"score": [1.0] * 5_000})

    async def work():
        await store.open()
        await store.write(rows, 1)
        page = await store.scan("")
        assert page.cursor
        assert (await store.scan(page.cursor)).ids
        await asyncio.to_thread(server.down)
        await asyncio.to_thread(server.up)
        with pytest.raises(StoreUnavailable, match="started anew"):
            await store.scan(page.cursor)

    run(closed_after(store, work))


@pytest.mark.parametrize("way", ["postgresql", "pgbouncer"])
def test_postgresql_keeps_the_promises_of_a_store(way, request):
    """A guarded upsert, with prepared statements and, through PgBouncer in transaction mode, without any."""
    server = request.getfixturevalue(way)
    url = f"postgresql://postgres@{server.address}/postgres"
    options = PostgresqlStoreOptions(url=url, pooler=way == "pgbouncer")
    table = f"rows{next(numbers)}"
    run(check_online_store(lambda columns: PostgresqlStore(options, table, columns)))


def test_postgresql_leaves_a_table_that_is_not_midstreams(postgresql):
    """A table of the shop keeps its columns and its soft-deleted rows, and the error names it."""
    options = PostgresqlStoreOptions(url=f"postgresql://postgres@{postgresql.address}/postgres")
    table = f"rows{next(numbers)}"
    with postgresql_session(postgresql.address) as session:
        session.execute(f"CREATE TABLE {table} (id text PRIMARY KEY, version bigint, deleted_at timestamptz)")
        session.execute(f"INSERT INTO {table} VALUES ('ann', 1, now() - interval '99 days')")  # noqa: S608  of this test

        async def refused():
            store = PostgresqlStore(options, table, {"score": "number"})
            try:
                with pytest.raises(StoreRefused, match=f"{table}.* was not created by midstream"):
                    await store.open()
            finally:
                await store.close()

        run(refused())
        assert session.execute(f"SELECT * FROM {table}").fetchall()[0][:2] == ("ann", 1)  # noqa: S608  of this test
        assert len(session.execute(f"SELECT * FROM {table}").description) == 3  # noqa: S608  as above


def test_postgresql_removes_old_fences_beside_the_writing(postgresql, monkeypatch):
    """In pieces, and those that are young stay; a column that was retired does not have the table altered again."""
    monkeypatch.setattr(postgresql_store, "REMOVED_MAX", 2)
    options = PostgresqlStoreOptions(url=f"postgresql://postgres@{postgresql.address}/postgres")
    table = f"rows{next(numbers)}"

    async def opened(columns, look):
        store = PostgresqlStore(options, table, columns)
        await store.open()
        try:
            await look(store)
        finally:
            await store.close()

    async def delete(store):
        await store.delete([f"u{each}" for each in range(6)], 1)

    with postgresql_session(postgresql.address) as session:
        count = f"SELECT count(*) FROM {table}"  # noqa: S608  of this test

        async def removed(_):
            await wait_on_loop(lambda: session.execute(count).fetchone()[0] == 1)

        run(opened({"score": "number", "retired": "text"}, delete))
        session.execute(f"UPDATE {table} SET deleted_at = now() - interval '11 days' WHERE id <> 'u3'")  # noqa: S608  as above
        monkeypatch.setattr(PostgresqlStore, "_missing", lambda _: pytest.fail("nothing is missing"))
        run(opened({"score": "number"}, removed))
        plan = f"EXPLAIN SELECT id FROM {table} WHERE deleted_at < now() - interval '10 days'"  # noqa: S608  as above
        session.execute("SET enable_seqscan = off")
        assert f"{table}_deleted_at_idx" in str(session.execute(plan).fetchall())


@pytest.fixture
def keyspace(cassandra):
    """A keyspace of the tests' own."""
    with cassandra_session(cassandra.address) as session:
        session.execute(
            "CREATE KEYSPACE IF NOT EXISTS shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
    return f"cassandra://{cassandra.address}/shop"


def test_cassandra_keeps_the_promises_of_a_store(keyspace):
    """Versions as timestamps of all cells of a row."""
    options, table = CassandraStoreOptions(url=keyspace, give_up=Duration("20s")), f"rows{next(numbers)}"
    run(check_online_store(lambda columns: CassandraStore(options, table, columns)))


def test_cassandra_leaves_a_table_that_is_not_midstreams(cassandra, keyspace):
    """A table of the shop gets no column, and the error names it."""
    options, table = CassandraStoreOptions(url=keyspace, give_up=Duration("20s")), f"rows{next(numbers)}"
    with cassandra_session(cassandra.address) as session:
        session.execute(f"CREATE TABLE shop.{table} (id text PRIMARY KEY, version bigint)")

        async def refused():
            store = CassandraStore(options, table, {"score": "number"})
            try:
                with pytest.raises(StoreRefused, match=f"{table} was not created by midstream"):
                    await store.open()
            finally:
                await store.close()

        run(refused())
        columns = "SELECT column_name FROM system_schema.columns WHERE keyspace_name = 'shop' AND table_name = %s"
        assert {each[0] for each in session.execute(columns, (table,))} == {"id", "version"}
