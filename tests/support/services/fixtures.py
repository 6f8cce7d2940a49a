"""Fixtures that start a real server when the first test asks for it, and end it with the session.

A test may kill or end its server: the next one that asks finds it ready, with the data that it had. So a test gives its
topics, keys and tables names of its own.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.support.libraries import missing
from tests.support.services import record
from tests.support.services.faults import Unavailable
from tests.support.services.server import Server
from tests.support.services.systems import BRIEF
from tests.support.services.versions import server_version

Servers = Callable[[str], Server]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Return a function from the name of a system to its server, which is ready.

    Where it cannot be had, the test skips and names it, and fails in CI.
    """
    started: dict[str, Server] = {}

    def ready(name: str) -> Server:
        folder = tmp_path_factory.getbasetemp() / "servers" / name
        server = started.setdefault(name, Server(BRIEF[name], folder, is_tied=True))
        try:
            server.up()
        except Unavailable as fault:
            missing(str(fault))
        record.note(name, server_version(server))
        return server

    yield ready
    for each in started.values():
        each.down()


@pytest.fixture
def kafka(servers: Servers) -> Server:
    """A broker of Kafka."""
    return servers("kafka")


@pytest.fixture
def pulsar(servers: Servers) -> Server:
    """A broker of Pulsar."""
    return servers("pulsar")


@pytest.fixture
def cassandra(servers: Servers) -> Server:
    """A node of Cassandra."""
    return servers("cassandra")


@pytest.fixture(params=["redis", "valkey"])
def redis(servers: Servers, request: pytest.FixtureRequest) -> Server:
    """Redis, then Valkey: what is promised of one holds for both."""
    return servers(request.param)


@pytest.fixture
def postgresql(servers: Servers) -> Server:
    """A server of PostgreSQL."""
    return servers("postgresql")


@pytest.fixture
def pgbouncer(servers: Servers) -> Server:
    """A pooler in front of the server of PostgreSQL."""
    servers("postgresql")
    return servers("pgbouncer")
