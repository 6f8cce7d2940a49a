"""Address of a store: its URL without a password, and the password from the environment."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from midstream.engine.stores.online_store import StoreRefused

HOSTS_MAX = 16
"""Contact points of a cluster: a client finds the others by itself."""
PORT_MAX = 65_535
_HTTP_PORTS = {"http": 80, "https": 443}
_NO_USER = re.compile(r"[:/?#\[\]@]")
"""Characters that a name of a user has as %XX, in what stands before the last @."""
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Parts of a URL such as ``postgresql://reader@db.shop:5432/stock``."""

    hosts: Sequence[str]
    port: int
    user: str
    path: str
    """Database or keyspace, without the slash; empty = none."""

    @property
    def shown(self) -> str:
        """Hosts and port, for errors."""
        return f"{','.join(self.hosts)}:{self.port}"


def address_of(url: str, scheme: str, port: int) -> StoreAddress:
    """Return the parts of a URL.

    Args:
        url: Such as ``redis://cache:6379/0``; several hosts have commas between and one port behind the last.
        scheme: The right one.
        port: Where the URL has none.

    Raises:
        ValueError: The URL is another; the text says what came, and never a password.
    """
    scheme_came, separator, rest = url.partition("://")
    # Before all else: of a password with a / or # in it a parser makes a host, a port or a path.
    if _NO_USER.search((rest if separator else scheme_came).rpartition("@")[0]):
        message = "It has a password in it."
        raise ValueError(message)
    try:
        parts = urlsplit(url)
    except ValueError:
        message = "It is no address."
        raise ValueError(message) from None
    if parts.scheme != scheme:
        message = f'An address of the scheme "{parts.scheme}" came.'
        raise ValueError(message)
    if parts.query or parts.fragment:
        message = "It has something behind a ? or #."
        raise ValueError(message)
    _, _, places = parts.netloc.rpartition("@")
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?", places)
    hosts = tuple(each.strip("[]") for each in found[1].split(",")) if found else ()
    number = int((found and found[2]) or port)
    if not 1 <= len(hosts) <= HOSTS_MAX or not all(hosts) or not 1 <= number <= PORT_MAX:
        message = "It has no right host and port."  # without them: "me:secret" of who forgot the host stands there
        raise ValueError(message)
    return StoreAddress(hosts, number, unquote(parts.username or ""), unquote(parts.path.removeprefix("/")))


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Parts of an address such as ``https://gateway:443/shop``, for errors without what may be a secret."""

    origin: str
    """Scheme, host and port."""
    path: str
    """Empty = none."""


def http_address_of(url: str) -> HttpAddress:
    """Return the parts of an address of HTTP: one host, and nobody's name.

    Raises:
        ValueError: It is another one; the text says what came, and never a user or a password.
    """
    scheme = url.partition("://")[0]
    address = address_of(url, scheme if scheme in _HTTP_PORTS else "http", _HTTP_PORTS.get(scheme, 80))
    if address.user:
        message = "It has a user in it."
        raise ValueError(message)
    if len(address.hosts) > 1:
        message = f"{len(address.hosts)} hosts came."
        raise ValueError(message)
    host = f"[{address.hosts[0]}]" if ":" in address.hosts[0] else address.hosts[0]
    return HttpAddress(f"{scheme}://{host}:{address.port}", address.path)


def is_environment_name(name: str) -> bool:
    """Return whether a text can be the name of a variable of the environment."""
    return bool(_ENVIRONMENT_NAME.fullmatch(name))


def password_from(name: str) -> str | None:
    """Return the password in a variable of the environment; None = no password is configured.

    Raises:
        StoreRefused: The variable is not set.
    """
    if not name:
        return None
    found = os.environ.get(name)
    if not found:
        message = f"the environment has no {name}, which password_env names"
        raise StoreRefused(message)
    return found
