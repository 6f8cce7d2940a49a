"""Client address behind trusted proxies: the last address of ``X-Forwarded-For`` that is not one of theirs.

Each proxy adds the address of its peer on the right. So from the right every address is as true as the proxy that added
it, up to the first one that is not trusted: that is the client. What stands left of it is the client's own text, and is
never read. A request of any other peer keeps the peer's address, whatever its headers contain. Names of hosts and
origins are judged by ``Host`` and ``Origin`` alone: no other header of a proxy is read.

Reference: Petersson and Nilsson, RFC 7239, 5.2 and 8.1; nginx, ngx_http_realip_module, ``real_ip_recursive``.
"""

import re
from collections.abc import Coroutine, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from midstream.core.errors import Fault
from midstream.serving.access.api_keys import PAGE
from midstream.serving.access.measured_app import Measured
from midstream.serving.http.responses import Receive, Scope, Send
from midstream.serving.options import ServerOptions

FORWARDED_FOR: Final = b"x-forwarded-for"
HOPS_MAX: Final = 16
"""Addresses that are read of a request, 2 µs each; a chain of proxies has two or three."""
PEERS_MAX: Final = 64
"""Peers that are remembered as trusted or not; further ones are looked up again, 3 µs each."""
_HOP: Final = re.compile(
    rb"[ \t]{0,8}(?:"
    rb"\[(?P<bracketed>[0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?"
    rb"|(?P<v4>[0-9.]{7,15})(?::[0-9]{1,5})?"
    rb"|(?P<v6>[0-9A-Fa-f:.]{2,45})"
    rb")[ \t]{0,8}"
)
"""An address, maybe with a port, which some balancers add; an IPv6 address with a port is in brackets."""


class ForwardedClient:
    """ASGI app of a port behind proxies: gives each request the address of its client."""

    def __init__(self, app: Measured, options: ServerOptions) -> None:
        """Front of ``app``; ``options`` have the networks of the proxies."""
        self._app = app
        self.arrivals = app.arrivals
        self.metrics = app.metrics
        self._networks = tuple(ip_network(each) for each in options.trusted_proxies)
        self._peers: dict[str, bool] = {}

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, or take part in the lifespan."""
        peer = scope.get("client")
        if peer and self._is_proxy(str(peer[0])):
            address = self._client(value for name, value in scope["headers"] if name == FORWARDED_FOR)
            if address is not None:
                scope["client"] = (str(address), 0)
        return self._app(scope, receive, send)

    def _client(self, lines: Iterable[bytes]) -> IPv4Address | IPv6Address | None:
        """Return the client by the lines of the header; None = they do not tell, and the peer's address stays.

        Where each address is a trusted proxy's, the first one is the client: a program in their own network.
        """
        address = None
        for number, hop in enumerate(_from_the_right(tuple(lines))):
            address = _address(hop) if number < HOPS_MAX else None
            if address is None or not self._has(address):
                break
        return address

    def _is_proxy(self, peer: str) -> bool:
        known = self._peers.get(peer)
        if known is None:
            known = self._has(_plain(ip_address(peer)))
            if len(self._peers) < PEERS_MAX:
                self._peers[peer] = known
        return known

    def _has(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in each for each in self._networks)


def with_forwarded_client(app: Measured, options: ServerOptions) -> Measured:
    """Return the app of a port with the addresses of clients; without trusted proxies ``app`` itself."""
    return ForwardedClient(app, options) if options.trusted_proxies else app


def proxy_faults(options: ServerOptions) -> Iterator[Fault]:
    """Yield the invalid ones of the trusted proxies."""
    for number, each in enumerate(options.trusted_proxies):
        where = f"$.server.trusted_proxies[{number}]"
        try:
            network = ip_network(each)
        except ValueError:
            right = "The address of a proxy or its network, such as 127.0.0.1 or 10.0.0.0/8."
            yield Fault(where, f'"{each[:64]}" is no network.', right, PAGE)
            continue
        if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
            right = "A network of IPv4 as such, 10.0.0.0/8 for ::ffff:10.0.0.0/104."
            yield Fault(where, f'"{each[:64]}" is of IPv4 in the form of IPv6.', right, PAGE)
        if not network.prefixlen:
            right = "The addresses of the proxies alone: any client of this network may claim any address."
            yield Fault(where, f'"{each[:64]}" has every address.', right, PAGE)


def _from_the_right(lines: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the elements of a list over several lines, the last one first."""
    for line in reversed(lines):
        yield from reversed(line.rsplit(b",", HOPS_MAX))


def _address(hop: bytes) -> IPv4Address | IPv6Address | None:
    """Return the address of an element; None = it has none."""
    match = _HOP.fullmatch(hop)
    if match is None:
        return None
    try:
        return _plain(ip_address(str(match[match.lastgroup or 0], "ascii")))
    except ValueError:
        return None


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that a mapped one stands for: both are the same client."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
