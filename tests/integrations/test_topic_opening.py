"""Opening of the shared topic in Kafka: what is created, what is read back, what is refused before anything is made."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from midstream.engine.replication.shared_topic import TopicFacts, TopicRefused
from midstream.integrations.kafka import library, shared_topic
from midstream.integrations.kafka.client_options import KafkaClientOptions
from midstream.integrations.kafka.library import confluent_kafka
from midstream.integrations.kafka.shared_topic import SEGMENT_MS_DEFAULT, KafkaSharedTopic, SharedTopicOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY_MS = 86_400_000


def done(value: object) -> "Future[Any]":
    """Return a future with a value."""
    found: Future[Any] = Future()
    found.set_result(value)
    return found


class Cluster:
    """Topics as an admin client of a cluster has them; stands for the module of admin clients too."""

    ResourceType = SimpleNamespace(TOPIC="topic")

    def __init__(self) -> None:
        """Begin without a topic."""
        self.topics: dict[str, Mapping[str, str]] = {}

    def AdminClient(self, _: object, **__: object) -> "Cluster":  # noqa: N802  the library's name
        """Return a client."""
        return self

    def NewTopic(self, name: str, **told: Any) -> Any:  # noqa: N802  the library's name
        """Return a topic to be made."""
        return SimpleNamespace(name=name, **told)

    def ConfigResource(self, _: str, name: str) -> str:  # noqa: N802  the library's name
        """Return what names the configuration of a topic."""
        return name

    def list_topics(self, _: str = "", **__: float) -> Any:
        """Return all topics."""
        one = SimpleNamespace(error=None, partitions={0: SimpleNamespace(replicas=[1])})
        return SimpleNamespace(topics=dict.fromkeys(self.topics, one), brokers={1: ""}, cluster_id="cluster")

    def create_topics(self, topics: list[Any], **_: float) -> "dict[str, Future[Any]]":
        """Make topics."""
        self.topics |= {each.name: each.config for each in topics}
        return {each.name: done(None) for each in topics}

    def describe_topics(self, _: object, **__: float) -> "dict[str, Future[Any]]":
        """Return the identity of each topic."""
        return {name: done(SimpleNamespace(topic_id=f"id-of-{name}")) for name in self.topics}

    def describe_configs(self, asked: list[str], **_: float) -> "dict[str, Future[Any]]":
        """Return the settings of topics."""
        return {
            name: done({key: SimpleNamespace(value=value) for key, value in self.topics[name].items()})
            for name in asked
        }


class SlowCluster(Cluster):
    """A cluster that does not know a topic at the first two looks behind its making."""

    looks = 0

    def list_topics(self, _: str = "", **__: float) -> Any:
        """Return all topics; an error for one that is not known yet."""
        found = super().list_topics()
        if _ and self.looks < 2:
            self.looks += 1
            kinds = confluent_kafka().KafkaError
            found.topics[_] = SimpleNamespace(error=kinds(kinds.UNKNOWN_TOPIC_OR_PART), partitions={})
        return found


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Return a cluster that each new connection meets."""
    return placed(Cluster(), monkeypatch)


def placed(found: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Let each new connection meet a cluster."""
    for module in (library, shared_topic):
        monkeypatch.setattr(module, "confluent_kafka_admin", lambda: found)
    return found


def connected(retention_ms: int | None = None) -> KafkaSharedTopic:
    """Return a connection; nothing listens at its address."""
    client = KafkaClientOptions(servers="127.0.0.1:1")
    return KafkaSharedTopic(SharedTopicOptions(client, "shop-log", retention_ms), {})


def opened(topic: KafkaSharedTopic, known_id: str | None = None) -> TopicFacts:
    """Open a topic and close it."""
    try:
        return topic.open(known_id)
    finally:
        topic.close()


def test_a_topic_with_a_retention_is_made_of_segments_that_go_soon_behind_it(cluster: Cluster) -> None:
    """The broker removes whole segments: with those of 7 days a message of a retention of an hour stays a week."""
    facts = opened(connected(10 * DAY_MS))
    assert (facts.retention_ms, facts.segment_ms, facts.is_new) == (10 * DAY_MS, DAY_MS, True)
    cluster.topics.clear()
    assert opened(connected(3_600_000)).segment_ms == 360_000
    cluster.topics.clear()
    assert opened(connected()).retention_ms is None
    assert "segment.ms" not in cluster.topics["shop-log"]


def test_the_settings_of_a_topic_that_is_there_are_read_back(cluster: Cluster) -> None:
    """A bound of bytes would remove messages before their time, so it is refused."""
    opened(connected(DAY_MS))
    made = dict(cluster.topics["shop-log"])
    del made["segment.ms"]
    cluster.topics["shop-log"] = made
    facts = opened(connected())
    assert (facts.retention_ms, facts.segment_ms, facts.is_new) == (DAY_MS, SEGMENT_MS_DEFAULT, False)
    cluster.topics["shop-log"] = {**made, "retention.bytes": "1000000"}
    with pytest.raises(TopicRefused, match=r"retention\.bytes = 1000000"):
        opened(connected())


def test_a_topic_that_was_copied_is_compared_before_anything_is_made(cluster: Cluster) -> None:
    """Neither a topic, nor a client that appends."""
    topic = connected()
    with pytest.raises(TopicRefused, match="none of this name"):
        opened(topic, "cluster/id-before")
    assert cluster.topics == {}
    opened(connected())
    with pytest.raises(TopicRefused, match="is now cluster/id-of-shop-log"):
        opened(topic, "cluster/id-before")
    assert topic._producer is None
    assert opened(connected(), "cluster/id-of-shop-log").topic_id == "cluster/id-of-shop-log"


def test_a_topic_that_was_just_made_is_asked_for_until_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has made a topic does not name it in each answer at once."""
    cluster = SlowCluster()
    placed(cluster, monkeypatch)
    assert opened(connected()).is_new
    assert cluster.looks == 2
