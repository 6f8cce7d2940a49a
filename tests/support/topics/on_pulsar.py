"""A topic on a real Pulsar."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from midstream.engine.inputs.broker_consumer import BrokerConsumer
from midstream.integrations.pulsar.client_options import PulsarClientOptions
from midstream.integrations.pulsar.consumer import PulsarConsumer, PulsarTopicOptions
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S
from tests.support.services.server import Server


class PulsarTopic:
    """A ``Topic`` on Pulsar."""

    def __init__(self, server: Server, name: str, partitions: int) -> None:
        """Make it; without partitions it is not a partitioned one."""
        self.server, self.name = server, name
        self._partitions = partitions
        self._pulsar = library("pulsar")
        self._create()

    @property
    def admin_url(self) -> str:
        """Address of the admin interface."""
        return f"http://{self.server.host}:{self.server.ports['http']}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the admin interface; the path is one below the namespace."""
        base = f"{self.admin_url}/admin/v2/persistent/public/default"
        answer = httpx.request(method, f"{base}/{path}", json=body, timeout=PATIENCE_S)
        assert not answer.is_error, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def _create(self) -> None:
        if self._partitions:
            self.ask("PUT", f"{self.name}/partitions", self._partitions)
        else:
            self.ask("PUT", self.name)

    def part(self, partition: int) -> str:
        """Return the name of a partition."""
        return f"{self.name}-partition-{partition}" if self._partitions else self.name

    def options(self, start: str = "earliest") -> PulsarTopicOptions:
        """Return the options of a consumer."""
        client = PulsarClientOptions(f"pulsar://{self.server.address}", self.admin_url)
        return PulsarTopicOptions(client, self.name, "midstream", start)

    def consumer(self, start: str = "earliest") -> BrokerConsumer:
        """Return another consumer."""
        return PulsarConsumer(self.options(start), {})

    def client(self) -> Any:
        """Return a client of the library."""
        logger = self._pulsar.FileLogger(self._pulsar.LoggerLevel.Error, os.devnull)
        return self._pulsar.Client(f"pulsar://{self.server.address}", logger=logger, operation_timeout_seconds=30)

    def send(self, partition: int, values: Sequence[bytes | None], headers: Mapping[str, str] | None = None) -> None:
        """Send in batches."""
        client = self.client()
        producer = client.create_producer(
            f"persistent://public/default/{self.part(partition)}",
            batching_enabled=True,
            batching_max_publish_delay_ms=20,
            block_if_queue_full=True,
        )
        failures: list[Any] = []
        for value in values:
            producer.send_async(value, lambda result, _: failures.append(result), properties=dict(headers or {}))
        producer.flush()
        client.close()
        assert set(failures) <= {self._pulsar.Result.Ok}

    def now_ms(self) -> int:
        """Return the time of the machine, which the broker shares."""
        time.sleep(0.02)
        now_ms = int(time.time() * 1_000)
        time.sleep(0.02)
        return now_ms

    def grow(self, partitions: int) -> None:
        """Add partitions."""
        self.ask("POST", f"{self.name}/partitions", partitions)
        self._partitions = partitions

    def cut(self, partition: int) -> None:
        """Expire all messages, and have the ledgers removed that held them: a load of the topic begins another one."""
        part = self.part(partition)
        kept = self.ledgers(partition)
        for each in self.ask("GET", f"{part}/subscriptions"):
            self.ask("POST", f"{part}/subscription/{each}/skip_all")
        until = time.monotonic() + PATIENCE_S
        while set(self.ledgers(partition)) & set(kept):
            self.ask("PUT", f"{part}/unload")
            assert time.monotonic() < until, "ledgers stay"
            time.sleep(0.2)

    def keep(self) -> None:
        """Have all messages kept that come from now on: by a subscription that nobody acknowledges."""
        earliest = {"ledgerId": -1, "entryId": -1, "partitionIndex": -1}
        self.ask("PUT", f"{self.name}/subscription/kept", earliest)

    def ledgers(self, partition: int) -> list[int]:
        """Return the numbers of the ledgers that are kept."""
        return [each["ledgerId"] for each in self.ask("GET", f"{self.part(partition)}/internalStats")["ledgers"]]

    def remake(self) -> None:
        """Delete and make it."""
        self.ask("DELETE", f"{self.name}{'/partitions' if self._partitions else ''}?force=true")
        self._create()

    def shown(self) -> Mapping[str, str]:
        """Return the entries up to which the subscription is acknowledged."""
        found: dict[str, str] = {}
        for number in range(max(1, self._partitions)):
            cursors = self.ask("GET", f"{self.part(number)}/internalStats")["cursors"]
            if "midstream" in cursors and not cursors["midstream"]["markDeletePosition"].endswith(":-1"):
                found[str(number)] = cursors["midstream"]["markDeletePosition"]
        return found

    def rewind(self) -> None:
        """Set the subscription back to the beginning."""
        for number in range(max(1, self._partitions)):
            self.ask("POST", f"{self.part(number)}/subscription/midstream/resetcursor/0")

    def down(self) -> None:
        """Kill the broker."""
        self.server.kill()

    def up(self) -> None:
        """Start it."""
        self.server.up()
