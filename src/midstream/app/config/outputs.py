"""Options of outputs: a topic of a broker, which records go there, and how the broker is reached."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from midstream.app.config.bounds import distinct, known
from midstream.app.config.broker_login import kafka_login_faults
from midstream.core.errors import Fault
from midstream.core.field_bounds import Length, Name
from midstream.core.kinds import Kind

PAGE = "/docs/outputs.md"
OUTPUTS_MAX = 16
"""Each reads the whole log and has a thread and connections of its own."""
TYPES_MAX = 64
Text = Annotated[str, Length(1, 512, "characters")]


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"begin": "from"}):
    """``[[outputs]]``: records of the log that are delivered to a topic."""

    name: Name
    """Of its position in the broker: an output of another name begins anew."""
    kind: Literal["kafka"] = "kafka"
    servers: Text
    """``host:9092`` of some brokers, with commas between."""
    topic: Text
    records: Literal["served", "outcomes", "events"] = "events"
    """Slates with what they were made of, what followed them, or each event of the log."""
    types: Annotated[tuple[str, ...], Length(0, TYPES_MAX)] = ()
    """Of events and outcomes only these types, such as ["purchase", "impression"]; none = all."""
    placements: Annotated[tuple[str, ...], Length(0, TYPES_MAX)] = ()
    """Of served slates and outcomes only those of these placements; none = all."""
    begin: Literal["now", "beginning"] = "now"
    """Where a topic that has no position yet begins: behind the newest event, or at the oldest one."""
    tls: bool = False
    """Whether connections are encrypted."""
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
        yield from kafka_login_faults(output, where, PAGE)


def _unread(output: Output, where: str) -> Iterator[Fault]:
    """Yield options that the kind of records does not read."""
    if output.records == "served" and output.types:
        yield Fault(f"{where}.types", "Served slates are of one type.", "records = events or outcomes.", PAGE)
    if output.records == "events" and output.placements:
        yield Fault(f"{where}.placements", "Events are of no placement.", "records = served or outcomes.", PAGE)
