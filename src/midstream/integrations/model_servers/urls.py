"""Address of a model server, whose scheme says what carries the calls."""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import urlsplit

from midstream.engine.stores.address import address_of

SCHEMES = ("http", "https", "grpc", "grpcs")
PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
_URLS_MAX = 1_024
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Parts of an address such as ``http://triton:8000``."""

    scheme: str
    host: str
    """An address of IPv6 has its brackets."""
    port: int
    path: str = ""
    """Before all others, such as that of a gateway; of HTTP alone."""

    @property
    def is_grpc(self) -> bool:
        """Whether calls go over gRPC."""
        return self.scheme in {"grpc", "grpcs"}

    @property
    def is_secure(self) -> bool:
        """Whether calls go over TLS."""
        return self.scheme in {"https", "grpcs"}

    @property
    def shown(self) -> str:
        """Host and port, for errors."""
        return f"{self.host}:{self.port}"

    @property
    def text(self) -> str:
        """The address without a slash at its end."""
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"

    def at_port(self, port: int) -> "ServerUrl":
        """Return the address of another port of the host."""
        return replace(self, port=port, path="")


@lru_cache(maxsize=_URLS_MAX)
def url_of(text: str) -> ServerUrl:
    """Return the parts of an address.

    Raises:
        ValueError: It is another one; the text says what came, and never a password.
    """
    scheme, separator, rest = text.partition("://")
    if "@" in text:  # before all that is repeated, as what is in front of it may be a password
        message = "It has a password in it." if ":" in (rest or text).partition("@")[0] else "It has a user in it."
        raise ValueError(message)
    if not separator:
        message = "No scheme came."
        raise ValueError(message)
    if scheme not in SCHEMES:
        message = f'An address of the scheme "{scheme[:20]}" came.'
        raise ValueError(message)
    address = address_of(text, scheme, PORTS[scheme])
    if len(address.hosts) > 1:
        message = f"{len(address.hosts)} hosts came."
        raise ValueError(message)
    path = urlsplit(text).path.rstrip("/")
    if not (text.isascii() and text.isprintable()) or " " in text:
        message = "It has characters that no address has."
        raise ValueError(message)
    if path and scheme in {"grpc", "grpcs"}:
        message = f'"{path[:40]}" came behind the port.'
        raise ValueError(message)
    if ":" not in address.hosts[0] and not _HOST.fullmatch(address.hosts[0]):
        message = "It has characters that no name of a host has."
        raise ValueError(message)
    host = f"[{address.hosts[0]}]" if ":" in address.hosts[0] else address.hosts[0]
    return ServerUrl(scheme, host, address.port, path)
