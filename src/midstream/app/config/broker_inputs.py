"""Options of inputs: topics of brokers whose messages are events, tables of PostgreSQL whose rows are items or users.

Each is a table ``[[inputs]]`` of the configuration.

The mapping is that of ``midstream import``, in the same words. A password is never an option: an option names the
variable of the environment that holds it, so that neither the effective configuration nor a backup has one.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from midstream.app.mapping.columns import ColumnOptions
from midstream.app.mapping.table_columns import row_columns
from midstream.core.durations import Duration
from midstream.core.field_bounds import Between, Length, Name, TextBytes

TOPIC_BYTES_MAX = 249
"""Of a topic of Kafka; the full name of one of Pulsar, tenant and namespace included, is held to the same."""
ADDRESS_BYTES_MAX = 2_048
"""Of all addresses: 30 brokers of 64 letters each."""
MAPPED_MAX = 64
"""Fields of an event, attributes and members of the context included, that one input maps or sets."""
SETTINGS_MAX = 64
"""Of a client library; librdkafka has about 150, most of which nobody changes."""
COLUMN_CHARACTERS_MAX = 63
"""As PostgreSQL has it."""
TABLE_CHARACTERS_MAX = 2 * COLUMN_CHARACTERS_MAX + 1
OPERATION = "midstream_operation"
"""Member of a deleted row."""
RESERVED_COLUMN = "midstream_"
"""Begins members that an input adds to rows."""
MILLISECONDS_DIGITS_MAX = 18
"""Of a time as digits: more than brokers store."""
Format = Literal["json", "ndjson", "arrow"]
Topic = Annotated[str, TextBytes(TOPIC_BYTES_MAX, is_name=True)]
Address = Annotated[str, TextBytes(ADDRESS_BYTES_MAX, is_name=True)]
Mapped = Annotated[dict[str, str], Length(0, MAPPED_MAX)]
Settings = Annotated[dict[str, str | int | float | bool], Length(0, SETTINGS_MAX)]


class InputOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every input has, whatever its broker is."""

    name: Name
    """Of its positions in the state: another name reads the topic from its start again."""
    start: str = "earliest"
    """Where a topic without positions begins: earliest, latest, or a time in ISO 8601 or milliseconds since 1970."""
    map: Mapped = {}
    """Field of an event → field or column of a message, as ``midstream import --map`` has it."""
    set: Mapped = {}
    """Field of an event → the value that all events get."""
    types: Annotated[dict[str, str], Length(0, MAPPED_MAX)] = {}
    """Type in a message → type of the event."""
    time_format: str = "auto"

    @property
    def columns(self) -> ColumnOptions:
        """The mapping, as an import has it."""
        return ColumnOptions(self.map, self.set, self.types, self.time_format)

    @property
    def start_text(self) -> str:
        """``earliest``, ``latest``, or milliseconds since 1970 as digits; ``start`` is a time that can be read."""
        return start_text(self.start) or self.start


class TopicInput(InputOptions, frozen=True, kw_only=True):
    """What every input from a broker has."""

    topic: Topic
    format: Format = "json"
    """``json``: a message is one event, a list, or ``{"events": [...]}``; ``ndjson``: a line is an event; ``arrow``: a
    message is an Arrow IPC stream."""


class KafkaInput(TopicInput, frozen=True, kw_only=True, tag="kafka"):
    """``[[inputs]]`` of ``kind = "kafka"``."""

    servers: Address
    """``host:port`` of some brokers, with commas between."""
    group: Annotated[str, Length(0, TOPIC_BYTES_MAX, "characters")] = ""
    """Under which the broker shows how far the input is; "" = midstream-NAME."""
    client: Literal["confluent", "kafka-python"] = "confluent"
    """The library."""
    tls: bool = False
    ca_file: str = ""
    """Certificates of authorities, PEM; "" = those of the system."""
    certificate_file: str = ""
    """Certificate of the client, PEM."""
    key_file: str = ""
    """Its key, PEM."""
    key_password_env: str = ""
    """Variable of the environment with the password of the key."""
    sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    """Mechanism of the login."""
    username: str = ""
    password_env: str = ""
    """Variable of the environment with the password."""
    settings: Settings = {}
    """Further settings of the library."""

    @property
    def group_name(self) -> str:
        """The group for displays of lag."""
        return self.group or f"midstream-{self.name}"


class PulsarInput(TopicInput, frozen=True, kw_only=True, tag="pulsar"):
    """``[[inputs]]`` of ``kind = "pulsar"``."""

    service_url: Address
    """``pulsar://host:6650`` or ``pulsar+ssl://host:6651``."""
    admin_url: Address
    """``http://host:8080`` or ``https://host:8443``: the oldest message of a topic is asked there."""
    subscription: Annotated[str, Length(0, TOPIC_BYTES_MAX, "characters")] = ""
    """That keeps unread messages, and shows how far the input is; "" = midstream-NAME."""
    token_env: str = ""
    """Variable of the environment with the token (JWT)."""
    ca_file: str = ""
    """Certificates of authorities, PEM."""
    certificate_file: str = ""
    """Certificate of the client, PEM."""
    key_file: str = ""
    """Its key, PEM."""

    @property
    def subscription_name(self) -> str:
        """The subscription of this input."""
        return self.subscription or f"midstream-{self.name}"


class PostgresqlInput(InputOptions, frozen=True, kw_only=True, tag="postgresql"):
    """``[[inputs]]`` of ``kind = "postgresql"``."""

    url: Address
    """``postgresql://user@host:5432/database``, without a password."""
    password_env: str = ""
    """Variable of the environment with the password; empty = libpq looks where it does: PGPASSWORD, ~/.pgpass."""
    tls: bool = False
    """The server shows a certificate for its name."""
    tls_ca: str = ""
    """File of the authority that signed the server's certificate; empty = those of the system."""
    give_up: Annotated[Duration, Between("1s", "10m")] = Duration("30s")
    """After which a statement is given up and its session closed."""
    table: Annotated[str, Length(1, TABLE_CHARACTERS_MAX, "characters")]
    """Table or view, with its schema where it needs one: ``public.products``."""
    key: Annotated[str, Length(1, COLUMN_CHARACTERS_MAX, "characters")]
    """Column of the ids, which alone is unique."""
    type: Literal["item", "user"] = "item"
    """What a row is."""
    updated_at: Annotated[str, Length(1, COLUMN_CHARACTERS_MAX, "characters")] = "updated_at"
    """Column of the time at which a row was written."""
    deleted_at: Annotated[str, Length(0, COLUMN_CHARACTERS_MAX, "characters")] = ""
    """Column that is not NULL where a row stands for one that was deleted; empty = there is none."""
    every: Annotated[Duration, Between("100ms", "1h")] = Duration("1s")
    """Between two looks at the table."""
    skew: Annotated[Duration, Between("1s", "1d")] = Duration("10s")
    """By how much the time of a row may be before the begin of the transaction that writes it."""
    reconcile: Annotated[Duration, Between("10s", "30d")] | None = None
    """Between two comparisons of all keys, by which items that the table does not have are deleted, and those
    come again that the state does not have; the table is the whole catalogue. None = never."""

    @property
    def topic(self) -> str:
        """The table."""
        return self.table

    @property
    def columns(self) -> ColumnOptions:
        """The mapping, as an import of the table has it, with what the consumer says of deleted rows.

        Raises:
            Invalid: It does not fit the key or the type.
        """
        asked = ColumnOptions(self.map, {"type": self.type, **self.set}, self.types, self.time_format)
        found = row_columns(asked, self.key)
        return replace(found, columns={**found.columns, "operation": OPERATION})


AnyInput = KafkaInput | PulsarInput | PostgresqlInput


def start_text(start: str) -> str:
    """Return a start as consumers take it: earliest, latest, or milliseconds as digits; empty = it cannot be read.

    What it returns it takes again, and returns unchanged: digits are milliseconds, never a date without dashes.
    """
    if start in {"earliest", "latest"}:
        return start
    if start.isascii() and start.isdecimal():
        return str(int(start)) if len(start) <= MILLISECONDS_DIGITS_MAX else ""
    try:
        found = datetime.fromisoformat(start)
    except ValueError:
        return ""
    moment = found if found.tzinfo else found.replace(tzinfo=UTC)
    return str(max(0, round(moment.timestamp() * 1_000)))
