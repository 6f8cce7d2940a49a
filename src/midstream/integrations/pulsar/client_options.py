"""Options of a connection to Pulsar: its brokers, its admin interface, and how they and the client prove who they are.

A token is never an option: the option names the variable of the environment that holds it, and it is read when a client
is made.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from midstream.core.errors import MidstreamError
from midstream.integrations.pulsar.library import pulsar

OPERATION_S_MAX = 10
"""Of one operation of the client."""


class TokenMissing(MidstreamError):
    """A variable of the environment that an option names for a secret is not set."""


@dataclass(frozen=True, slots=True)
class PulsarClientOptions:
    """Addresses of a cluster and the client's credentials."""

    service_url: str
    """``pulsar://host:6650`` or ``pulsar+ssl://host:6651``."""
    admin_url: str
    """``http://host:8080`` or ``https://host:8443``: what is kept of a topic is asked there."""
    token_env: str = ""
    """Variable with the token (JWT) that client and admin requests carry; empty = none."""
    ca_file: str = ""
    """Certificates of authorities, PEM; empty = those that ``certifi`` has."""
    certificate_file: str = ""
    """Certificate of the client, PEM; empty = the client shows none."""
    key_file: str = ""
    """Key of ``certificate_file``, PEM."""


def token_of(options: PulsarClientOptions, environ: Mapping[str, str]) -> str:
    """Return the token, empty where none is named.

    Raises:
        TokenMissing: The variable is not set.
    """
    if options.token_env and options.token_env not in environ:
        message = f"the variable {options.token_env} is not set in the environment; it would hold a token for Pulsar"
        raise TokenMissing(message)
    return environ[options.token_env] if options.token_env else ""


def make_client(options: PulsarClientOptions, token: str) -> Any:  # noqa: ANN401  of the library
    """Return a client of the library; it connects when it is used.

    The library's own log goes nowhere: it writes to standard output, and what fails is raised as well.
    """
    library = pulsar()
    authentication = None
    if token:
        authentication = library.AuthenticationToken(token)
    elif options.certificate_file:
        authentication = library.AuthenticationTLS(options.certificate_file, options.key_file)
    return library.Client(
        options.service_url,
        authentication=authentication,
        operation_timeout_seconds=OPERATION_S_MAX,
        tls_trust_certs_file_path=options.ca_file or None,
        tls_validate_hostname=True,
        logger=library.FileLogger(library.LoggerLevel.Error, os.devnull),
    )
