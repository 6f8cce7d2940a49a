"""Allowed host names of a server: its own, and the configured ones of a proxy.

A page whose name was made to point at this machine (DNS rebinding) sends that name, never an address. So the allowed
names are an explicit list, and addresses are allowed where the server listens beyond loopback; but not 0.0.0.0 and ::,
which lead to this machine from any page and which browsers do not treat as local.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from midstream.core.errors import Fault
from midstream.serving.options import ServerOptions, is_loopback

PAGE = "/docs/http.md"
LOCALHOST = "localhost"
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.ASCII)
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?")
"""A name or an address in brackets, maybe with a port (RFC 9110, 7.2)."""
_ORIGIN = re.compile(rf"https?://({_NAME.pattern}|\[[0-9a-f:.]{{2,45}}\])(:[0-9]{{1,5}})?", re.ASCII)


class Hosts:
    """Names and addresses of one server. Ports are ignored: a proxy in front may have another one."""

    def __init__(self, options: ServerOptions) -> None:
        """Allow the names of ``options``, and those of this machine's loopback."""
        self._names = {LOCALHOST, *(each.lower() for each in (options.host, *options.allow_hosts))}
        self._is_beyond = not is_loopback(options.host)
        addresses = "any address" if self._is_beyond else "an address of loopback"
        names = " or ".join(each for each in sorted(self._names) if not _is_everywhere(_address(each)))
        self.right = f"{names}, {addresses}; or what --allow-host or [server] allow_hosts says."
        """Which would be allowed, in words."""

    def name_of(self, host: bytes) -> str | None:
        """Return the name or the address of a ``Host`` header in small letters; None = it holds neither."""
        match = _HOST.fullmatch(host)
        return None if match is None else match[1].decode().lower().strip("[]")

    def allows(self, name: str) -> bool:
        """Return whether a request to this name is for this server."""
        address = _address(name)
        if address is None:
            return name in self._names
        if _is_everywhere(address) or (isinstance(address, IPv6Address) and address.ipv4_mapped is not None):
            return False  # a mapped one leads where 127.0.0.1 and 0.0.0.0 do, and browsers differ on what it is
        return self._is_beyond or address.is_loopback or name in self._names


def authority_name(target: bytes) -> bytes:
    """Return host and port of an absolute target in small letters, such as ``http://shop:80/v1``; empty without one."""
    return re.split(rb"[/?#]", target.partition(b"://")[2], maxsplit=1)[0].lower()


def host_faults(options: ServerOptions, hosts_where: str, origins_where: str) -> Iterator[Fault]:
    """Yield the invalid ones of the allowed hosts and origins; ``hosts_where[0]`` is the place of the first one."""
    for number, each in enumerate(options.allow_hosts):
        if _NAME.fullmatch(each.lower()) is None and _address(each) is None:
            right = "A name such as shop.example, or an address, without a port or a *."
            yield Fault(f"{hosts_where}[{number}]", f'"{each[:64]}" is no name of a host.', right, PAGE)
    for number, each in enumerate(options.allow_origins):
        if _ORIGIN.fullmatch(each.lower()) is None:
            right = "Scheme, name and port as a browser sends them: https://shop.example, http://localhost:3000."
            yield Fault(f"{origins_where}[{number}]", f'"{each[:64]}" is no origin.', right, PAGE)


def _is_everywhere(address: IPv4Address | IPv6Address | None) -> bool:
    """Return whether it is 0.0.0.0 or ::, at which a server listens and which no client may use as a name."""
    return address is not None and address.is_unspecified


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
