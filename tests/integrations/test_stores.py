"""Online stores on real servers keep the promises of their Protocol."""

import asyncio
import itertools

import pytest
import uvloop

from midstream.core.durations import Duration
from midstream.integrations.cassandra.store import CassandraStore, CassandraStoreOptions
from midstream.integrations.postgresql.store import PostgresqlStore, PostgresqlStoreOptions
from midstream.integrations.redis.store import RedisStore, RedisStoreOptions
from midstream.testing.online_store_conformance import check_online_store
from tests.integrations.test_servers import cassandra_session

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
numbers = itertools.count()


def run(work):
    """Run on the event loop that a server has."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def test_redis_and_valkey_keep_the_promises_of_a_store(redis):
    """A hash a row, and a script as the fence."""
    options, table = RedisStoreOptions(url=f"redis://{redis.address}"), f"rows{next(numbers)}"
    run(check_online_store(lambda columns: RedisStore(options, table, columns)))


@pytest.mark.parametrize("way", ["postgresql", "pgbouncer"])
def test_postgresql_keeps_the_promises_of_a_store(way, request):
    """A guarded upsert, with prepared statements and, through PgBouncer in transaction mode, without any."""
    server = request.getfixturevalue(way)
    url = f"postgresql://postgres@{server.address}/postgres"
    options = PostgresqlStoreOptions(url=url, pooler=way == "pgbouncer")
    table = f"rows{next(numbers)}"
    run(check_online_store(lambda columns: PostgresqlStore(options, table, columns)))


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
