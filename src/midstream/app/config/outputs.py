"""Options of outputs: a topic of a broker, which records go there, and how the broker is reached."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from midstream.app.config.bounds import distinct, known
from midstream.app.config.broker_inputs import AnyInput, KafkaInput, PostgresqlInput, PulsarInput
from midstream.app.config.broker_login import kafka_login_faults, pulsar_login_faults
from midstream.app.config.log_section import LogSection
from midstream.core.errors import Fault
from midstream.core.field_bounds import Length, Name
from midstream.core.kinds import Kind
from midstream.integrations.kafka.node_board import SUFFIX
from midstream.integrations.pulsar.positions import full_name

PAGE = "/docs/outputs.md"
OUTPUTS_MAX = 16
"""Each reads the whole log and has a thread and connections of its own."""
TYPES_MAX = 64
Text = Annotated[str, Length(1, 512, "characters")]
Optional = Annotated[str, Length(0, 512, "characters")]
_OF_KAFKA = ("servers", "tls", "key_password_env", "sasl", "username", "password_env", "settings")
_OF_PULSAR = ("service_url", "admin_url", "token_env")
_PULSAR_TOPIC = re.compile(r"(persistent://[^/\s]+/[^/\s]+/)?[^/\s]+")
_PARTITION = re.compile(r"-partition-\d+\Z")
_PORT = re.compile(r":\d+\Z")
_ADDRESSES = {
    "servers": "Addresses of brokers, host:9092.",
    "service_url": "pulsar://host:6650 or pulsar+ssl://host:6651.",
    "admin_url": "http://host:8080 or https://host:8443.",
}


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"begin": "from"}):
    """``[[outputs]]``: records of the log that are delivered to a topic."""

    name: Name
    """Of its position in the broker: an output of another name begins anew."""
    kind: Literal["kafka", "pulsar"] = "kafka"
    servers: Optional = ""
    """Of Kafka: ``host:9092`` of some brokers, with commas between."""
    service_url: Optional = ""
    """Of Pulsar: ``pulsar://host:6650`` or ``pulsar+ssl://host:6651``."""
    admin_url: Optional = ""
    """Of Pulsar: ``http://host:8080`` or ``https://host:8443``; what a topic keeps is asked there."""
    topic: Text
    records: Literal["served", "outcomes", "events"] = "events"
    """Slates with what they were made of, what followed them, or each event of the log."""
    types: Annotated[tuple[str, ...], Length(0, TYPES_MAX)] = ()
    """Of events and outcomes only these types, such as ["purchase", "impression"]; none = all."""
    placements: Annotated[tuple[str, ...], Length(0, TYPES_MAX)] = ()
    """Of served slates and outcomes only those of these placements; none = all."""
    begin: Literal["now", "beginning"] = "now"
    """Where a topic that has no position yet begins: behind the newest event, or at the oldest one."""
    token_env: str = ""
    """Of Pulsar: variable of the environment with the token (JWT)."""
    tls: bool = False
    """Of Kafka: whether connections are encrypted."""
    ca_file: str = ""
    """Certificates of authorities, PEM; empty = those of the system."""
    certificate_file: str = ""
    """Certificate that the client shows, PEM."""
    key_file: str = ""
    """Key of it, PEM."""
    key_password_env: str = ""
    """Variable of the environment with the password of the key."""
    sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """Mechanism of the login."""
    username: str = ""
    password_env: str = ""
    """Variable with the password of ``username``."""
    settings: dict[str, str | int | float | bool] = {}
    """Further settings of librdkafka, such as { "compression.type" = "zstd" }."""


def output_faults(
    outputs: Sequence[Output], actions: Sequence[str], inputs: Sequence[AnyInput] = ()
) -> Iterator[Fault]:
    """Yield what is wrong with ``[[outputs]]``.

    Args:
        outputs: In the order of the file.
        actions: Names of the configured interactions.
        inputs: What is read.
    """
    yield from distinct(((f"$.outputs[{number}].name", each.name) for number, each in enumerate(outputs)), page=PAGE)
    names = (*actions, *(kind.name.lower() for kind in Kind if kind is not Kind.INTERACTION))
    for number, output in enumerate(outputs):
        where = f"$.outputs[{number}]"
        for place, name in enumerate(output.types):
            if name not in names:
                yield from known(f"{where}.types[{place}]", name, names, "a type of events", "One of them", PAGE)
        yield from _unread(output, where)
        yield from _broker_faults(output, where)
    yield from _topic_faults(outputs, inputs)


def _topic_faults(outputs: Sequence[Output], inputs: Sequence[AnyInput]) -> Iterator[Fault]:
    """Yield topics that no output can have, that two outputs to Pulsar have, and that an input reads."""
    read = [(each.name, _topic_of(each)) for each in inputs if isinstance(each, (KafkaInput, PulsarInput))]
    written: list[tuple[str, _Topic]] = []
    for number, output in enumerate(outputs):
        where = f"$.outputs[{number}].topic"
        if output.kind == "pulsar" and not _PULSAR_TOPIC.fullmatch(output.topic):
            right = 'A bare name or "persistent://tenant/namespace/name": records and position have to be stored.'
            yield Fault(where, f'"{output.topic}" came.', right, PAGE)
            continue
        topic = _topic_of(output)
        if output.kind == "pulsar" and topic.name != full_name(output.topic):
            right = "The topic itself: an output writes to all its partitions."
            yield Fault(where, f'"{output.topic}" is the name of one partition.', right, PAGE)
        for name, other in written:
            if output.kind == "pulsar" and topic.is_same(other):
                came = f'"{output.topic}" is the topic of "{name}" already.'
                right = "A topic of its own: an output to Pulsar is the only producer of its topic."
                yield Fault(where, came, right, PAGE)
        for name, other in read:
            if topic.is_same(other):
                came = f'"{output.topic}" is the topic that the input "{name}" reads.'
                yield Fault(where, came, "A topic that nothing here reads: its records would come in again.", PAGE)
        written.append((output.name, topic))


def log_topic_faults(log: LogSection, outputs: Sequence[Output], inputs: Sequence[AnyInput]) -> Iterator[Fault]:
    """Yield topics of a shared log that an output writes to, or an input reads.

    Nodes skip what is no message of the log, and an input would read the positions that it appends there, without end.
    An address may hide that; an input compares the ids of both topics when it opens its own.
    """
    if log.kind != "kafka":
        return
    own = {
        log.topic: "the topic of the shared log",
        f"{log.topic}{SUFFIX}": "the topic in which nodes report to each other",
    }
    known = [_Topic("kafka", _brokers(log.servers, "9092"), name) for name in own]
    named: list[tuple[str, AnyInput | Output]] = [
        *((f"outputs[{number}]", each) for number, each in enumerate(outputs)),
        *((f"inputs[{number}]", each) for number, each in enumerate(inputs)),
    ]
    for where, each in named:
        if not isinstance(each, PostgresqlInput) and any(_topic_of(each).is_same(topic) for topic in known):
            came = f'"{each.topic}" is {own[each.topic]}.'
            right = "A topic of its own: nothing but the nodes reads and writes that one."
            yield Fault(f"$.{where}.topic", came, right, f"/docs/{where.partition('[')[0]}.md")


@dataclass(frozen=True, slots=True)
class _Topic:
    """A topic of a broker."""

    kind: str
    brokers: frozenset[str]
    """Addresses in lower case: two that share one are of the same cluster."""
    name: str

    def is_same(self, other: "_Topic") -> bool:
        """Return whether both are one topic, as far as the addresses tell."""
        return (self.kind, self.name) == (other.kind, other.name) and bool(self.brokers & other.brokers)


def _topic_of(told: Output | KafkaInput | PulsarInput) -> _Topic:
    """Return the topic of an output or input, that of a partition too, however name and addresses are written."""
    if isinstance(told, KafkaInput) or (isinstance(told, Output) and told.kind == "kafka"):
        return _Topic("kafka", _brokers(told.servers, "9092"), told.topic)
    scheme, _, places = told.service_url.partition("://")
    port = "6651" if scheme == "pulsar+ssl" else "6650"
    return _Topic("pulsar", _brokers(places, port), _PARTITION.sub("", full_name(told.topic)))


def _brokers(addresses: str, port: str) -> frozenset[str]:
    places = (each.strip().rstrip("/").lower() for each in addresses.split(","))
    return frozenset(each if _PORT.search(each) else f"{each}:{port}" for each in places if each)


def _broker_faults(output: Output, where: str) -> Iterator[Fault]:
    """Yield addresses that are missing, options of the other broker, and what is wrong with the login."""
    own, others = (_OF_KAFKA, _OF_PULSAR) if output.kind == "kafka" else (_OF_PULSAR, _OF_KAFKA)
    missing = [name for name in own if name in _ADDRESSES and not getattr(output, name)]
    for name in missing:
        yield Fault(f"{where}.{name}", f'It is missing, with kind = "{output.kind}".', _ADDRESSES[name], PAGE)
    for name in others:
        if getattr(output, name):
            other = "pulsar" if output.kind == "kafka" else "kafka"
            yield Fault(f"{where}.{name}", f'It came with kind = "{output.kind}".', f'kind = "{other}", or not.', PAGE)
    if output.kind == "kafka":
        yield from kafka_login_faults(output, where, PAGE)
    elif not missing:
        yield from pulsar_login_faults(output, where, PAGE)


def _unread(output: Output, where: str) -> Iterator[Fault]:
    """Yield options that the kind of records does not read."""
    if output.records == "served" and output.types:
        yield Fault(f"{where}.types", "Served slates are of one type.", "records = events or outcomes.", PAGE)
    if output.records == "events" and output.placements:
        yield Fault(f"{where}.placements", "Events are of no placement.", "records = served or outcomes.", PAGE)
