"""Shared log of a configuration: the topic of Kafka that ``[log]`` names, and what the engine and health see of it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from midstream.app.broker_clients import kafka_client
from midstream.app.config.log_section import LogSection
from midstream.core.durations import format_duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.protocols import EventLog
from midstream.core.types import Clock
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.writer import WrittenFrame
from midstream.engine.instance import Instance
from midstream.engine.listeners import Concern, Listener
from midstream.engine.models.log_promotions import LogPromotions
from midstream.engine.replication.replicated_writer import ReplicatedWriter, SharedLog
from midstream.engine.replication.shared_log_opening import Join, NodeKeys, open_shared
from midstream.engine.replication.topic_position import PAGE
from midstream.integrations.kafka.shared_topic import KafkaSharedTopic, SharedTopicOptions
from midstream.monitoring.metrics import Metrics
from midstream.state.structures.hashing import IdKey

PROCESS_BYTES = 16
LAG_SHOWN_MS = 10_000
"""From here on health names how far this node is behind the topic."""


@dataclass(slots=True, eq=False)
class NodeLog:
    """The shared log of this node, and its writer once the engine made one."""

    shared: SharedLog
    writers: list[ReplicatedWriter] = field(default_factory=list[ReplicatedWriter])
    """One at most."""

    @property
    def writer(self) -> Callable[..., ReplicatedWriter]:
        """Maker of the writer, for ``Host``."""
        return self._make

    @property
    def lag_ms(self) -> int | None:
        """How far the node is behind the topic, in log time; None = nothing is known yet."""
        return self.writers[0].lag_ms if self.writers else None

    @property
    def is_unreachable(self) -> bool:
        """Whether the broker was asked and does not answer."""
        return bool(self.writers) and self.writers[0].is_unreachable

    @property
    def ended(self) -> str:
        """Why the node takes nothing more from the topic; empty while it does."""
        return self.writers[0].ended if self.writers else ""

    def joined_to(self, running: Instance) -> Instance:
        """Return an instance with the writer of this log, whose health, receipts and models follow it."""
        running.engine.listeners.add(
            Listener(name="shared_log", concern=self.concern, gauges=partial(self.set_gauges, running.engine.metrics))
        )
        if running.eraser is not None:
            running.eraser.said_of_topic = self.said_of_erasures
        following = LogPromotions(running.engine, running.champions)
        return replace(running, shared_log=self.writers[0], services=(*running.services, following))

    def concern(self) -> Concern:
        """Return what an operator should look at: an end, no connection, a lag, an old position, foreign messages."""
        return Concern("shared_log", _said_of(self.writers[0], self.shared.topic.name) if self.writers else "")

    def set_gauges(self, metrics: Metrics) -> None:
        """Set the metrics of this log, from what health says."""
        for writer in self.writers:
            metrics.set_shared_log(
                self.shared.topic.name,
                writer.lag_ms,
                writer.messages,
                is_connected=not writer.is_unreachable,
                has_ended=bool(writer.ended),
            )

    def said_of_erasures(self) -> str:
        """Return what stays of erased events outside the data folder, for a receipt."""
        facts = self.writers[0].facts if self.writers else self.shared.facts
        topic = self.shared.topic.name
        if facts is None:
            return f"how long {topic} keeps the messages of erased events is unknown: the broker did not answer yet"
        if facts.retention_ms is None:
            return f"{topic} keeps its messages for ever, those of erased events too"
        kept = format_duration(facts.retention_ms + facts.segment_ms)
        return f"{topic} keeps the messages of erased events until {kept} and some minutes after their append"

    def _make(
        self,
        *told: *tuple[EventLog, Clock, Callable[[], float], Callable[[WrittenFrame], None], IdKey],
        keeps_event_time: bool,
    ) -> ReplicatedWriter:
        writer = ReplicatedWriter(self.shared, *told, keeps_event_time=keeps_event_time)
        self.writers[:] = [writer]
        return writer


def _said_of(writer: ReplicatedWriter, topic: str) -> str:
    """Return the gravest trouble of a writer; empty = there is none."""
    behind_ms = writer.lag_ms or 0
    troubles = (
        f"the copy of {topic} ended: {writer.ended}" if writer.ended else "",
        f"{topic} is not read now: {writer.trouble}" if writer.trouble else "",
        f"this node is {behind_ms / 1_000:.0f} s of log time behind {topic}" if behind_ms > LAG_SHOWN_MS else "",
        writer.position_trouble and f"{writer.position_trouble}; a start reads the topic again from an older place",
        f"{writer.skipped_messages} messages of {topic} hold no events of this log; something else writes to the topic"
        if writer.skipped_messages
        else "",
    )
    return next(filter(None, troubles), "")


def node_log(
    log: LogSection,
    data: DataFolder,
    entropy: Callable[[int], bytes],
    environ: Mapping[str, str],
    join: Join | None = None,
) -> NodeLog | None:
    """Return the shared log that ``[log]`` names, opened and checked; None = the log is this node's own.

    Raises:
        TopicRefused: Topic, key or folder do not belong together.
        TopicUnavailable: The broker does not answer, and this folder never copied the topic.
        ConfigInvalid: The folder copies a topic, and the configuration names none.
        ExtraMissing: ``confluent-kafka`` is not installed.
    """
    if log.kind == "segments":
        if data.topic_position.exists():
            came = f'It is "segments", and {data.topic_position} says that this folder copies a shared topic.'
            right = 'kind = "kafka": events appended here alone would be in no other node.'
            raise ConfigInvalid((Fault("midstream.toml: $.log.kind", came, right, PAGE),))
        return None
    topic = KafkaSharedTopic(topic_options(log), environ)
    keys = NodeKeys(data.key(entropy), entropy(PROCESS_BYTES))
    with ExitStack() as undo:
        undo.callback(topic.close)
        found = NodeLog(open_shared(topic, data, keys, join))
        undo.pop_all()
    return found


def topic_options(log: LogSection) -> SharedTopicOptions:
    """Return the options of the topic of a section of ``kind = "kafka"``."""
    return SharedTopicOptions(kafka_client(log), log.topic, log.retention_ms, log.replicas)
