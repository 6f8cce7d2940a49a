"""A topic on a real Kafka."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from midstream.engine.inputs.broker_consumer import BrokerConsumer
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.consumer import KafkaTopicOptions
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S
from tests.support.services.server import Server

MESSAGE_BYTES_MAX = 20_000_000
MakeConsumer = Callable[[KafkaTopicOptions, Mapping[str, str]], BrokerConsumer]


class KafkaTopic:
    """A ``Topic`` on Kafka."""

    def __init__(self, server: Server, name: str, partitions: int, make: MakeConsumer, **config: str) -> None:
        """Make it."""
        self.server, self.name = server, name
        self._make, self._partitions, self._config = make, partitions, config
        self._confluent, self._admin = library("confluent_kafka"), library("confluent_kafka.admin")
        self.operator = self._admin.AdminClient({"bootstrap.servers": server.address})
        self._create()

    def _create(self) -> None:
        config = {"max.message.bytes": str(MESSAGE_BYTES_MAX), **self._config}
        new = self._admin.NewTopic(self.name, self._partitions, 1, config=config)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.operator.create_topics([new], operation_timeout=PATIENCE_S)[self.name].result(PATIENCE_S)
            except self._confluent.KafkaException as error:  # that which was deleted goes bit by bit
                if "EXISTS" not in error.args[0].name() or time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return

    def options(self, start: str = "earliest") -> KafkaTopicOptions:
        """Return the options of a consumer."""
        return KafkaTopicOptions(KafkaClientOptions(self.server.address), self.name, f"group of {self.name}", start)

    def consumer(self, start: str = "earliest") -> BrokerConsumer:
        """Return another consumer."""
        return self._make(self.options(start), {})

    def producer(self, **settings: Any) -> Any:
        """Return a producer that acknowledges what is in the log."""
        own = {"bootstrap.servers": self.server.address, "message.max.bytes": MESSAGE_BYTES_MAX, "linger.ms": 20}
        return self._confluent.Producer({**own, "enable.idempotence": True, **settings})

    def send(self, partition: int, values: Sequence[bytes | None], headers: Mapping[str, str] | None = None) -> None:
        """Produce."""
        producer = self.producer()
        for value in values:
            producer.produce(self.name, value, partition=partition, headers=dict(headers or {}))
        assert producer.flush(PATIENCE_S) == 0

    def now_ms(self) -> int:
        """Return the time of the machine, which the broker shares."""
        time.sleep(0.02)
        now_ms = int(time.time() * 1_000)
        time.sleep(0.02)
        return now_ms

    def grow(self, partitions: int) -> None:
        """Add partitions."""
        asked = self.operator.create_partitions([self._admin.NewPartitions(self.name, partitions)])
        asked[self.name].result(PATIENCE_S)
        self._partitions = partitions

    def cut(self, partition: int) -> None:
        """Delete records up to the end."""
        whole = self._confluent.TopicPartition(self.name, partition, self._confluent.OFFSET_END)
        for each in self.operator.delete_records([whole]).values():
            each.result(PATIENCE_S)

    def remake(self) -> None:
        """Delete and make it."""
        self.operator.delete_topics([self.name], operation_timeout=PATIENCE_S)[self.name].result(PATIENCE_S)
        self._create()

    def _group(self) -> Any:
        settings = {"bootstrap.servers": self.server.address, "group.id": f"group of {self.name}"}
        return self._confluent.Consumer({**settings, "enable.auto.commit": False})

    def shown(self) -> Mapping[str, str]:
        """Return the offsets that the group has committed."""
        group = self._group()
        wanted = [self._confluent.TopicPartition(self.name, number) for number in range(self._partitions)]
        found = group.committed(wanted, timeout=PATIENCE_S)
        group.close()
        return {str(each.partition): str(each.offset) for each in found if each.offset >= 0}

    def rewind(self) -> None:
        """Commit offset 0."""
        group = self._group()
        at = [self._confluent.TopicPartition(self.name, number, 0) for number in range(self._partitions)]
        group.commit(offsets=at, asynchronous=False)
        group.close()

    def down(self) -> None:
        """Kill the broker."""
        self.server.kill()

    def up(self) -> None:
        """Start it."""
        self.server.up()
