"""Options of a connection to Kafka, and the settings of each client library that they become.

A password is never an option: the option names the variable of the environment that holds it, and it is read when a
client is made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from midstream.core.errors import MidstreamError

Setting: TypeAlias = str | int | float | bool
SaslMechanism: TypeAlias = Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class SecretMissing(MidstreamError):
    """A variable of the environment that an option names for a secret is not set."""


@dataclass(frozen=True, slots=True)
class KafkaClientOptions:
    """Addresses of brokers, and how they and the client prove who they are."""

    servers: str
    """``host:port`` of some brokers, with commas between; the others are learned from them."""
    tls: bool = False
    """Whether connections are encrypted."""
    ca_file: str = ""
    """Certificates of authorities, PEM; empty = those of the system."""
    certificate_file: str = ""
    """Certificate of the client, PEM; empty = the client shows none."""
    key_file: str = ""
    """Key of ``certificate_file``, PEM."""
    key_password_env: str = ""
    """Variable with the password of ``key_file``; empty = it has none."""
    sasl: SaslMechanism = ""
    """Mechanism of the login; empty = none."""
    username: str = ""
    password_env: str = ""
    """Variable with the password of ``username``."""
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])
    """Further settings of the client library, such as librdkafka's ``socket.keepalive.enable``."""


def librdkafka_settings(options: KafkaClientOptions, environ: Mapping[str, str]) -> dict[str, Setting]:
    """Return the settings of a client of librdkafka; a role adds its own behind them.

    Args:
        options: Of the connection.
        environ: Variables, of which the options name some.

    Raises:
        SecretMissing: A variable is not set.
    """
    found: dict[str, Setting] = {**options.settings, "bootstrap.servers": options.servers}
    if options.tls or options.sasl:
        found["security.protocol"] = f"{'SASL_' if options.sasl else ''}{'SSL' if options.tls else 'PLAINTEXT'}"
    if options.tls:
        texts = {
            "ssl.ca.location": options.ca_file,
            "ssl.certificate.location": options.certificate_file,
            "ssl.key.location": options.key_file,
            "ssl.key.password": secret(options.key_password_env, environ),
        }
        found |= {name: text for name, text in texts.items() if text}
    if options.sasl:
        found |= {
            "sasl.mechanism": options.sasl,
            "sasl.username": options.username,
            "sasl.password": secret(options.password_env, environ),
        }
    return found


def kafka_python_settings(options: KafkaClientOptions, environ: Mapping[str, str]) -> dict[str, Setting | None]:
    """Return the settings of a client of kafka-python.

    Args:
        options: Of the connection; ``settings`` are those of kafka-python here.
        environ: Variables, of which the options name some.

    Raises:
        SecretMissing: A variable is not set.
    """
    protocol = f"{'SASL_' if options.sasl else ''}{'SSL' if options.tls else 'PLAINTEXT'}"
    found: dict[str, Setting | None] = {
        **options.settings,
        "bootstrap_servers": options.servers,
        "security_protocol": protocol,
    }
    if options.tls:
        found |= {
            "ssl_cafile": options.ca_file or None,
            "ssl_certfile": options.certificate_file or None,
            "ssl_keyfile": options.key_file or None,
            "ssl_password": secret(options.key_password_env, environ) or None,
        }
    if options.sasl:
        found |= {
            "sasl_mechanism": options.sasl,
            "sasl_plain_username": options.username,
            "sasl_plain_password": secret(options.password_env, environ),
        }
    return found


def secret(variable: str, environ: Mapping[str, str]) -> str:
    """Return a secret from the environment, empty where no variable is named.

    Raises:
        SecretMissing: The variable is not set.
    """
    if not variable:
        return ""
    if variable not in environ:
        message = f"the variable {variable} is not set in the environment; it would hold a password for Kafka"
        raise SecretMissing(message)
    return environ[variable]
