"""Real servers keep what they have acknowledged through a crash, as their own clients see it.

So what adapters are tested with is the system itself, and a kill in a test of theirs takes nothing from it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.support.libraries import library
from tests.support.services.processes import family
from tests.support.services.systems import SYSTEMS

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
NAME = "kept"
VALUES = [f"value {at}".encode() for at in range(200)]
WAIT_S = 120


def kafka(address: str, values: Sequence[bytes]) -> list[bytes]:
    """Produce with an idempotent producer; read from the beginning of the partition."""
    confluent, admin = library("confluent_kafka"), library("confluent_kafka.admin")
    server = {"bootstrap.servers": address}
    if values:
        operator = admin.AdminClient(server)
        operator.create_topics([admin.NewTopic(NAME, 1, 1)], operation_timeout=WAIT_S)[NAME].result(WAIT_S)
        producer = confluent.Producer({**server, "enable.idempotence": True})
        for each in values:
            producer.produce(NAME, each)
        assert producer.flush(WAIT_S) == 0
    consumer = confluent.Consumer({**server, "group.id": NAME, "auto.offset.reset": "error"})
    consumer.assign([confluent.TopicPartition(NAME, 0, 0)])
    messages = consumer.consume(len(VALUES), WAIT_S)
    consumer.close()
    assert not [each.error() for each in messages if each.error()]
    return [each.value() for each in messages]


def pulsar(address: str, values: Sequence[bytes]) -> list[bytes]:
    """Send one by one; read with a reader from the earliest message."""
    module = library("pulsar")
    client = module.Client(f"pulsar://{address}", operation_timeout_seconds=WAIT_S)
    topic = f"persistent://public/default/{NAME}"
    if values:
        producer = client.create_producer(topic)
        for each in values:
            producer.send(each)
    reader = client.create_reader(topic, module.MessageId.earliest)
    found = []
    while reader.has_message_available():
        found.append(reader.read_next(WAIT_S * 1_000).data())
    client.close()
    return found


def cassandra(address: str, values: Sequence[bytes]) -> list[bytes]:
    """Insert with a prepared statement; read a partition."""
    cluster_module = library("cassandra.cluster")
    host, _, port = address.partition(":")
    profile = cluster_module.ExecutionProfile(
        load_balancing_policy=library("cassandra.policies").WhiteListRoundRobinPolicy([host]), request_timeout=WAIT_S
    )
    cluster = cluster_module.Cluster(
        [host],
        int(port),
        protocol_version=4,
        connect_timeout=WAIT_S,
        execution_profiles={cluster_module.EXEC_PROFILE_DEFAULT: profile},
    )
    session = cluster.connect()
    if values:
        session.execute("CREATE KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        session.execute("CREATE TABLE kept.rows (part int, at int, value blob, PRIMARY KEY (part, at))")
        insert = session.prepare("INSERT INTO kept.rows (part, at, value) VALUES (0, ?, ?)")
        for at, each in enumerate(values):
            session.execute(insert, (at, each))
    rows = session.execute("SELECT value FROM kept.rows WHERE part = 0")
    found = [bytes(each.value) for each in rows]
    cluster.shutdown()
    return found


def redis(address: str, values: Sequence[bytes]) -> list[bytes]:
    """Push to a list; read it whole."""
    host, _, port = address.partition(":")
    with library("redis").Redis(host, int(port), socket_timeout=WAIT_S) as client:
        if values:
            client.rpush(NAME, *values)
        return list(client.lrange(NAME, 0, -1))


def postgresql(address: str, values: Sequence[bytes]) -> list[bytes]:
    """Insert in one transaction; read in order."""
    host, _, port = address.partition(":")
    with library("psycopg").connect(host=host, port=port, user="postgres", dbname="postgres") as session:
        if values:
            session.execute("CREATE TABLE kept (at serial PRIMARY KEY, value bytea)")
            session.cursor().executemany("INSERT INTO kept (value) VALUES (%s)", [(each,) for each in values])
            session.commit()
        return [bytes(value) for (value,) in session.execute("SELECT value FROM kept ORDER BY at")]


CLIENTS: dict[str, Callable[[str, Sequence[bytes]], Any]] = {
    "kafka": kafka,
    "pulsar": pulsar,
    "cassandra": cassandra,
    "redis": redis,
    "valkey": redis,
    "postgresql": postgresql,
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_server_keeps_what_it_acknowledged(servers, name):
    """Killed at once and started again it has all of it, at the same address; ended it leaves no process."""
    began = time.monotonic()
    server = servers(name)
    started_s, address = time.monotonic() - began, server.address
    assert CLIENTS[name](address, VALUES) == VALUES
    memory_mb = server.status().process.memory_bytes() / 1e6
    server.kill()
    assert server.status().state == "stopped"
    began = time.monotonic()
    server.up()
    again_s = time.monotonic() - began
    assert server.address == address
    assert CLIENTS[name](address, ()) == VALUES
    members = family(server.status().process)
    began = time.monotonic()
    assert server.down()
    assert not [each for each in members if each.is_alive()]
    print(
        f"{name} {SYSTEMS[name].package.version}: ready after {started_s:.1f} s, {memory_mb:.0f} MB, again after"
        f" {again_s:.1f} s, stopped in {time.monotonic() - began:.1f} s"
    )


def test_a_pooler_lends_a_session_to_a_transaction(pgbouncer):
    """So more clients than sessions are served, each by one that others had before; no statement is prepared."""
    host, _, port = pgbouncer.address.partition(":")
    connect = library("psycopg").connect
    clients = [
        connect(host=host, port=port, dbname="postgres", user="postgres", prepare_threshold=None, autocommit=True)
        for _ in range(6)
    ]
    sessions = {client.execute("SELECT pg_backend_pid() + %s", (0,)).fetchone() for client in clients * 10}
    assert 1 <= len(sessions) <= 2
    for each in clients:
        each.close()
