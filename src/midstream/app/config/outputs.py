"""Options of outputs: a topic of a broker, which records go there, and how the broker is reached."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from midstream.app.config.bounds import distinct, known
from midstream.app.config.broker_login import kafka_login_faults, pulsar_login_faults
from midstream.core.errors import Fault
from midstream.core.field_bounds import Length, Name
from midstream.core.kinds import Kind

PAGE = "/docs/outputs.md"
OUTPUTS_MAX = 16
"""Each reads the whole log and has a thread and connections of its own."""
TYPES_MAX = 64
Text = Annotated[str, Length(1, 512, "characters")]
Optional = Annotated[str, Length(0, 512, "characters")]
_OF_KAFKA = ("servers", "tls", "key_password_env", "sasl", "username", "password_env", "settings")
_OF_PULSAR = ("service_url", "admin_url", "token_env")
_DEFAULT = "persistent://public/default/"
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


def output_faults(outputs: Sequence[Output], actions: Sequence[str]) -> Iterator[Fault]:
    """Yield what is wrong with ``[[outputs]]``.

    Args:
        outputs: In the order of the file.
        actions: Names of the configured interactions.
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
    topics = ((f"$.outputs[{at}].topic", each) for at, each in enumerate(outputs) if each.kind == "pulsar")
    named = ((where, f"{each.topic.removeprefix(_DEFAULT)} of {each.service_url}") for where, each in topics)
    yield from distinct(named, "A topic of its own: an output to Pulsar is the only producer of its topic.", PAGE)


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
