"""All systems that tests start, by name."""

from collections.abc import Mapping

from tests.support.services.cassandra import Cassandra
from tests.support.services.kafka import Kafka
from tests.support.services.oip_servers import KServe, MLServer
from tests.support.services.pgbouncer import PgBouncer
from tests.support.services.postgresql import PostgreSQL
from tests.support.services.pulsar import Pulsar
from tests.support.services.redis import VALKEY, Redis
from tests.support.services.system import System
from tests.support.services.torchserve import TorchServe
from tests.support.services.triton import Triton

SYSTEMS: Mapping[str, System] = {
    each.name: each
    for each in (
        *(Kafka(), Pulsar(), Cassandra(), Redis(), VALKEY, PostgreSQL(), PgBouncer()),
        *(Triton(), KServe(), MLServer(), TorchServe()),
    )
}
BRIEF: Mapping[str, System] = {
    **SYSTEMS,
    **{
        each.name: each
        for each in (Kafka(is_brief=True, session_ms=3_000), Pulsar(is_brief=True), Cassandra(is_brief=True))
    },
}
"""The same for tests of what they do, which start them more than they use them."""
