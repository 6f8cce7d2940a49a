"""Section ``[log]``: files of this node alone, or a topic of Kafka that several nodes share."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from midstream.app.config.broker_login import kafka_login_faults
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault
from midstream.core.field_bounds import Length
from midstream.events.segments.segments import SEGMENT_BYTES

PAGE = "/docs/replicas.md"
TEXT_MAX = 1_000
"""Characters of a list of brokers, and of a path."""
TOPIC_MAX = 249
"""Characters of the name of a topic of Kafka."""
REPLICAS_MAX = 16
SETTINGS_MAX = 64
"""Further settings of librdkafka, which has about 150."""
JOIN_MAX = 16
"""Some nodes and a storage."""
_RETENTION = 'A duration such as "30d", longer than a node may be away; "" = for ever.'

Text = Annotated[str, Length(0, TEXT_MAX, "characters")]


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``."""

    kind: Literal["segments", "kafka"] = "segments"
    """``segments``: files of this node alone; ``kafka``: a topic that several nodes share, copied into such files."""
    segment_bytes_max: int = SEGMENT_BYTES
    """Size from which a segment file is sealed and the next one begun."""
    servers: Text = ""
    """``host:port`` of some brokers, with commas between."""
    topic: Annotated[str, Length(0, TOPIC_MAX, "characters")] = ""
    """Topic of one partition; created at the first start."""
    retention: str = ""
    """How long a created topic keeps a message, such as "30d"; "" = for ever."""
    replicas: Annotated[int, msgspec.Meta(ge=0, le=REPLICAS_MAX)] = 0
    """Of a created topic; 0 = three, or as many as there are brokers."""
    tls: bool = False
    """Whether connections are encrypted; the broker's certificate is then verified."""
    ca_file: Text = ""
    """Certificates of authorities, PEM; "" = those of the system."""
    certificate_file: Text = ""
    """Certificate of the client, PEM."""
    key_file: Text = ""
    """Its key, PEM."""
    key_password_env: Text = ""
    """Variable of the environment with the password of the key."""
    sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """Mechanism of the login."""
    username: Text = ""
    """Of the login."""
    password_env: Text = ""
    """Variable of the environment with the password."""
    settings: Annotated[dict[str, str | int | float | bool], Length(0, SETTINGS_MAX)] = {}
    """Further settings of librdkafka."""
    join: Annotated[tuple[Text, ...], Length(0, JOIN_MAX)] = ()
    """Where a node with an empty data folder gets a snapshot: other nodes, a folder, an object storage, such as
    ["http://node-1:8765", "s3://bucket/shop"]; the newest that fits is taken."""

    @property
    def retention_ms(self) -> int | None:
        """Retention of a created topic; None = for ever."""
        return parse_duration_ms(self.retention) if self.retention else None


def log_faults(log: LogSection) -> Iterator[Fault]:
    """Yield the faults of the section whose single values are valid."""
    if log.kind == "segments":
        files = LogSection(segment_bytes_max=log.segment_bytes_max)
        for name in LogSection.__struct_fields__:
            if getattr(log, name) != getattr(files, name):
                yield Fault(f"$.log.{name}", 'It came with kind = "segments".', 'kind = "kafka", or none of it.', PAGE)
        return
    for name, right in (("servers", "Addresses of brokers, host:port."), ("topic", "The name of a topic.")):
        if not getattr(log, name):
            yield Fault(f"$.log.{name}", 'It is missing, with kind = "kafka".', right, PAGE)
    try:
        retention_ms = log.retention_ms
    except ValueError as error:
        yield Fault("$.log.retention", f'"{log.retention}": {error}.', _RETENTION, PAGE)
        return
    if retention_ms is not None and retention_ms <= 0:
        yield Fault("$.log.retention", f'"{log.retention}" came.', _RETENTION, PAGE)
    yield from kafka_login_faults(log, "$.log", PAGE)
