"""Login at a broker, of inputs, outputs and a shared log: halves that belong together, and no secret in the file.

What is refused for being a secret, or for where a secret may stand, is never repeated.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

from midstream.core.errors import Fault
from midstream.core.paths import step

SECRET = re.compile(r"pass(word|phrase)|secret|\.pem$|jaas", re.IGNORECASE)
"""Names of settings of client libraries that hold secrets."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_VARIABLE_RIGHT = 'The name of a variable of the environment, such as "SHOP_KAFKA_PASSWORD".'


class CertificateFiles(Protocol):
    """Files of an encrypted connection to any broker."""

    @property
    def ca_file(self) -> str:
        """Certificates of authorities, PEM; empty = those of the system, or of the client library."""
        ...

    @property
    def certificate_file(self) -> str:
        """Certificate of the client, PEM; empty = it shows none."""
        ...

    @property
    def key_file(self) -> str:
        """Key of it, PEM."""
        ...


class KafkaLogin(CertificateFiles, Protocol):
    """Options of a connection to Kafka, in whichever table they stand."""

    @property
    def servers(self) -> str:
        """Addresses with commas between."""
        ...

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        ...

    @property
    def key_password_env(self) -> str:
        """Variable with the password of the key; empty = it has none."""
        ...

    @property
    def sasl(self) -> Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]:
        """Mechanism of the login; empty = none."""
        ...

    @property
    def username(self) -> str:
        """Of the login."""
        ...

    @property
    def password_env(self) -> str:
        """Variable with the password."""
        ...

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        """Further settings of the library."""
        ...


class PulsarLogin(CertificateFiles, Protocol):
    """Options of a connection to Pulsar, in whichever table they stand."""

    @property
    def service_url(self) -> str:
        """Address of brokers."""
        ...

    @property
    def admin_url(self) -> str:
        """Address of the admin interface."""
        ...

    @property
    def token_env(self) -> str:
        """Variable with the token; empty = there is none."""
        ...


def kafka_login_faults(login: KafkaLogin, where: str, page: str) -> Iterator[Fault]:
    """Yield options of a login of which the other half is missing, and secrets."""
    halves = (
        ("key_file", "certificate_file"),
        ("key_password_env", "key_file"),
        ("username", "sasl"),
        ("password_env", "sasl"),
        ("sasl", "username"),
    )
    yield from pair_faults(login, where, page, halves)
    for name in ("ca_file", "certificate_file"):
        if getattr(login, name) and not login.tls:
            yield Fault(f"{where}.{name}", "It came without tls = true.", "tls = true beside it, or neither.", page)
    if login.sasl and not login.password_env:
        right = 'password_env = "NAME" of the variable of the environment that holds the password.'
        yield Fault(f"{where}.password_env", "A login without a password came.", right, page)
    yield from variable_faults(login, where, page)
    yield from userinfo_faults(login, where, page, ("servers",))
    for name in login.settings:
        if SECRET.search(name):
            right = 'password_env or key_password_env = "NAME" of the variable of the environment that holds it.'
            yield Fault(f"{where}.settings{step(name)}", "A secret came in the file.", right, page)


def pulsar_login_faults(login: PulsarLogin, where: str, page: str) -> Iterator[Fault]:
    """Yield addresses of another scheme, options of which the other half is missing, and secrets."""
    yield from pair_faults(login, where, page, (("key_file", "certificate_file"),))
    yield from variable_faults(login, where, page)
    yield from userinfo_faults(login, where, page, ("service_url", "admin_url"))
    for name, schemes in (("service_url", ("pulsar://", "pulsar+ssl://")), ("admin_url", ("http://", "https://"))):
        if "@" not in getattr(login, name) and not getattr(login, name).startswith(schemes):
            right = f"{schemes[0]}host:port or {schemes[1]}host:port."
            yield Fault(f"{where}.{name}", f'"{getattr(login, name)}" came.', right, page)


def pair_faults(options: Any, where: str, page: str, pairs: tuple[tuple[str, str], ...]) -> Iterator[Fault]:  # noqa: ANN401  a table of any kind
    """Yield options of which the other half is missing."""
    for name, other in pairs:
        if getattr(options, name) and not getattr(options, other):
            yield Fault(f"{where}.{name}", f"It came without {other}.", f"{other} beside it, or neither.", page)


def variable_faults(options: Any, where: str, page: str) -> Iterator[Fault]:  # noqa: ANN401  as above
    """Yield names of variables that no variable can have, as a secret in their place mostly is."""
    for name in options.__struct_fields__:
        if name.endswith("_env") and getattr(options, name) and not _VARIABLE.fullmatch(getattr(options, name)):
            yield Fault(f"{where}.{name}", "What came is no name of a variable.", _VARIABLE_RIGHT, page)


def userinfo_faults(options: Any, where: str, page: str, names: tuple[str, ...]) -> Iterator[Fault]:  # noqa: ANN401  as above
    """Yield addresses with a name or a password in them: addresses are shown to everyone who may see the health."""
    for name in names:
        if "@" in getattr(options, name):
            came = "A name or a password came in the address."
            right = "The address alone; a secret is named by the variable of the environment that holds it."
            yield Fault(f"{where}.{name}", came, right, page)
