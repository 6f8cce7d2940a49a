"""Topics on a real Pulsar that outputs deliver to, in a namespace with deduplication, and what readers find there."""

import os
from collections.abc import Sequence
from typing import Any

import httpx

from midstream.integrations.pulsar.client_options import PulsarClientOptions
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.services.server import Server

NAMESPACE = "public/outputs"
NO_BOOKIE = "Not enough non-faulty bookies available"
END_MS = 1_000
"""A reader that gets nothing for so long, of a topic that says it has nothing more, is at the end."""


def admin_url(server: Server) -> str:
    """Return the address of the admin interface."""
    return f"http://{server.host}:{server.ports['http']}"


def ask(server: Server, method: str, path: str, body: Any = None, *, accepted: Sequence[int] = ()) -> Any:
    """Ask the admin interface, again while it has no bookie at hand, as for some seconds on a busy machine."""
    answers: list[httpx.Response] = []

    def is_told() -> bool:
        url = f"{admin_url(server)}/admin/v2/{path}"
        answers.append(httpx.request(method, url, json=body, timeout=PATIENCE_S))
        return not (answers[-1].is_server_error and NO_BOOKIE in answers[-1].text)

    wait_until(is_told)
    answer = answers[-1]
    assert answer.is_success or answer.status_code in accepted, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.is_success and answer.content else None


def client_options(server: Server) -> PulsarClientOptions:
    """Return the options of a connection."""
    return PulsarClientOptions(f"pulsar://{server.address}", admin_url(server))


def make_topic(server: Server, name: str, partitions: int = 0, *, namespace: str = NAMESPACE) -> str:
    """Make a topic, as whoever runs the broker does, whose messages all stay; return its full name."""
    ask(server, "PUT", f"namespaces/{namespace}", {}, accepted=(409,))
    kept = -1 if namespace == NAMESPACE else 0
    ask(
        server, "POST", f"namespaces/{namespace}/retention", {"retentionTimeInMinutes": kept, "retentionSizeInMB": kept}
    )
    if namespace == NAMESPACE:
        ask(server, "POST", f"namespaces/{namespace}/deduplication", body=True)
    path = f"persistent/{namespace}/{name}"
    if partitions:
        ask(server, "PUT", f"{path}/partitions", partitions)
    else:
        ask(server, "PUT", path)
    return f"persistent://{namespace}/{name}"


def received(server: Server, topic: str) -> list[Any]:
    """Return all messages of a topic, or of a partition, in its order."""
    pulsar = library("pulsar")
    logger = pulsar.FileLogger(pulsar.LoggerLevel.Error, os.devnull)
    client = pulsar.Client(f"pulsar://{server.address}", logger=logger, operation_timeout_seconds=30)
    reader = client.create_reader(topic, pulsar.MessageId.earliest)
    found: list[Any] = []

    def is_end() -> bool:
        try:
            while True:
                found.append(reader.read_next(END_MS))
        except pulsar.Timeout:
            return not reader.has_message_available()

    wait_until(is_end)
    client.close()
    return found


def log_positions(messages: Sequence[Any]) -> list[int]:
    """Return the log position of each message."""
    return [int(each.properties()["log_position"]) for each in messages]
