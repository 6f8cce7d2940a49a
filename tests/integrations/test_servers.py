"""Real servers keep what they have acknowledged through a crash, as their own clients see it.

So what adapters are tested with is the system itself, and a kill in a test of theirs takes nothing from it.
"""

import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.libraries import library
from tests.support.services.processes import family
from tests.support.services.systems import SYSTEMS

pytestmark = [pytest.mark.integration, pytest.mark.service, pytest.mark.slow]
NAME = "kept"
VALUES = [f"value {at}".encode() for at in range(200)]
WAIT_S = 60
READS_MAX = 3
LOOPBACK = "0100007F"


def write_kafka(address, then):
    """Produce with an idempotent producer."""
    confluent, admin = library("confluent_kafka"), library("confluent_kafka.admin")
    operator = admin.AdminClient({"bootstrap.servers": address})
    operator.create_topics([admin.NewTopic(NAME, 1, 1)], operation_timeout=WAIT_S)[NAME].result(WAIT_S)
    producer = confluent.Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for each in VALUES:
        producer.produce(NAME, each)
    assert producer.flush(WAIT_S) == 0
    then()


def read_kafka(address):
    """Read a partition from its beginning."""
    confluent = library("confluent_kafka")
    consumer = confluent.Consumer(
        {"bootstrap.servers": address, "group.id": NAME, "auto.offset.reset": "error", "enable.partition.eof": True}
    )
    consumer.assign([confluent.TopicPartition(NAME, 0, 0)])
    *messages, end = consumer.consume(len(VALUES) + 1, WAIT_S)
    consumer.close()
    assert end.error().code() == confluent.KafkaError._PARTITION_EOF
    return [each.value() for each in messages]


def write_pulsar(address, then):
    """Send one by one."""
    client = library("pulsar").Client(f"pulsar://{address}", operation_timeout_seconds=WAIT_S)
    producer = client.create_producer(NAME)
    for each in VALUES:
        producer.send(each)
    then()


def opened_reader(module, client):
    """Return a reader; a broker that was killed a moment ago may lose a first look at a topic, and is asked again."""
    for _ in range(READS_MAX - 1):
        try:
            return client.create_reader(NAME, module.MessageId.earliest)
        except module.Timeout:
            continue
    return client.create_reader(NAME, module.MessageId.earliest)


def read_pulsar(address):
    """Read from the earliest message to the last."""
    module = library("pulsar")
    client = module.Client(f"pulsar://{address}", operation_timeout_seconds=WAIT_S)
    reader = opened_reader(module, client)
    found = []
    while reader.has_message_available():
        found.append(reader.read_next(WAIT_S * 1_000).data())
    client.close()
    return found


@contextmanager
def cassandra_session(address):
    """A session of Cassandra's driver that knows one node."""
    driver, policies = library("cassandra.cluster"), library("cassandra.policies")
    host, _, port = address.partition(":")
    policy = policies.WhiteListRoundRobinPolicy([host])
    profile = driver.ExecutionProfile(load_balancing_policy=policy, request_timeout=WAIT_S)
    profiles = {driver.EXEC_PROFILE_DEFAULT: profile}
    cluster = driver.Cluster([host], int(port), protocol_version=4, connect_timeout=WAIT_S, execution_profiles=profiles)
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()


def write_cassandra(address, then):
    """Insert one by one with a prepared statement."""
    with cassandra_session(address) as session:
        session.execute("CREATE KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        session.execute("CREATE TABLE kept.rows (part int, at int, value blob, PRIMARY KEY (part, at))")
        insert = session.prepare("INSERT INTO kept.rows (part, at, value) VALUES (0, ?, ?)")
        for at, each in enumerate(VALUES):
            session.execute(insert, (at, each))
        then()


def read_cassandra(address):
    """Read a partition in order."""
    with cassandra_session(address) as session:
        return [bytes(each.value) for each in session.execute("SELECT value FROM kept.rows WHERE part = 0")]


def redis_client(address):
    host, _, port = address.partition(":")
    return library("redis").Redis(host, int(port), socket_timeout=WAIT_S)


def write_redis(address, then):
    """Push to a list one by one."""
    with redis_client(address) as client:
        for each in VALUES:
            client.rpush(NAME, each)
        then()


def read_redis(address):
    """Read the list whole."""
    with redis_client(address) as client:
        return client.lrange(NAME, 0, -1)


def postgresql_session(address):
    host, _, port = address.partition(":")
    return library("psycopg").connect(host=host, port=port, user="postgres", dbname="postgres", autocommit=True)


def write_postgresql(address, then):
    """Insert one by one."""
    with postgresql_session(address) as session:
        session.execute("CREATE TABLE kept (at serial PRIMARY KEY, value bytea)")
        for each in VALUES:
            session.execute("INSERT INTO kept (value) VALUES (%s)", (each,))
        then()


def read_postgresql(address):
    """Read in order."""
    with postgresql_session(address) as session:
        return [bytes(value) for (value,) in session.execute("SELECT value FROM kept ORDER BY at")]


CLIENTS: dict[str, tuple[Callable[[str, Callable[[], None]], None], Callable[[str], Any]]] = {
    "kafka": (write_kafka, read_kafka),
    "pulsar": (write_pulsar, read_pulsar),
    "cassandra": (write_cassandra, read_cassandra),
    "redis": (write_redis, read_redis),
    "valkey": (write_redis, read_redis),
    "postgresql": (write_postgresql, read_postgresql),
}


def listening(process):
    """Return the addresses on which a process waits for connections, as the kernel writes them."""
    sockets = set()
    for each in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in between
            sockets.add(str(each.readlink()))
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{process.pid}/net/{table}").read_text("ascii").splitlines()[1:]
    ]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_server_keeps_what_it_acknowledged(servers, name):
    """Killed behind the last answer and started again it has all, at the same address; ended it leaves no process.

    It listens on loopback alone.
    """
    write, read = CLIENTS[name]
    began = time.monotonic()
    server = servers(name)
    started_s, address = time.monotonic() - began, server.address
    process = server.status().process
    memory_mb, addresses = process.memory_bytes() / 1e6, listening(process)
    assert len(addresses) == len(server.ports)
    assert {each[-8:] for each in addresses} == {LOOPBACK}
    write(address, server.kill)
    assert server.status().state == "stopped"
    began = time.monotonic()
    server.up()
    again_s = time.monotonic() - began
    assert server.address == address
    assert read(address) == VALUES
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
    clients = [postgresql_session(pgbouncer.address) for _ in range(6)]
    for each in clients:
        each.prepare_threshold = None
    sessions = {client.execute("SELECT pg_backend_pid() + %s", (0,)).fetchone() for client in clients * 10}
    assert 1 <= len(sessions) <= 2
    for each in clients:
        each.close()
