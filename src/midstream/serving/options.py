"""Options of a server: address, sizes, waits."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.core.field_bounds import Between
from midstream.engine.replication.shared_board import PROCESSES_MAX
from midstream.monitoring.facts import Level, LogFormat

PAGE = "/docs/http.md"
PORT_MAX = 65_535
"""A port is 16 bits wide."""
UNPRIVILEGED_PORT_MIN = 1_024
"""Below are those of known services, which most systems let none but root listen on (RFC 6335, 6)."""
PROXIES_MAX = 64
"""Networks of proxies; each costs 0.5 µs for an address that is looked up."""
Wait = Annotated[Duration, Between("1ms", "1h")]
"""With 0 no request would be answered."""


class ServerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[server]`` part of the configuration. Every wait and every size has its maximum here."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs an API key, or insecure = true."""
    port: Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)] = 8765
    """0 = any free port."""
    followers: Annotated[int, msgspec.Meta(ge=0, le=PROCESSES_MAX - 1)] = 0
    """Further processes that answer on the same port, each with a state of its own in memory; 0 = one process."""
    insecure: bool = False
    """Listen on more than loopback, because something in front keeps strangers out."""
    privileged: bool = False
    """Listen on a port below 1,024, such as 80."""
    allow_hosts: tuple[str, ...] = ()
    """Further host names that requests may have, such as that of a proxy in front of the server."""
    trusted_proxies: Annotated[tuple[str, ...], msgspec.Meta(max_length=PROXIES_MAX)] = ()
    """Networks of proxies in front, such as 127.0.0.1/32: their X-Forwarded-For names the client; empty = none."""
    open_metrics: bool = False
    """Answer /metrics without an API key where keys are asked for: a monitor then needs none."""
    allow_origins: tuple[str, ...] = ()
    """Origins of pages that may send requests, such as https://shop.example (docs/http.md)."""
    demo_shop: bool = False
    """Answer /demo with a shop that shows the browser client on this catalogue; its visitors' acts are events."""
    body_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 24)] = 262_144
    """Largest body of a request: 256 KiB are 500 events of 500 bytes. Nothing is read beyond it."""
    body_wait_max: Wait = Duration("10s")
    """Longest wait for a body. A slow phone sends 256 KiB at 200 kbit/s in 10 s."""
    head_wait_max: Wait = Duration("10s")
    """Longest wait from a connection's first byte until its first request's headers are complete."""
    head_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 20)] = 32_768
    """Largest request line with headers: four times what browsers send."""
    commit_wait_max: Wait = Duration("10s")
    """Longest wait for events to be durable and applied; a disk that takes longer is broken."""
    connections_max: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 1_000
    """Open connections: 1,000 x 256 KiB = 256 MiB, if every one of them sends its largest body at once."""
    connections_per_client_max: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Of those, from one address; 0 = nine tenths, so that one client alone cannot take all places."""
    connections_reserved: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 16
    """Of those, for requests about health and metrics when there is no other place."""
    answers_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 256
    """Answers being made at once, where they wait for something: 5,000 a second x 50 ms."""
    answers_waiting_max: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 100
    """Questions that wait for a place among those: 5,000 a second x 15 ms. Further ones are refused."""
    answer_wait_max: Annotated[Duration, Between("1ms", "1m")] = Duration("15ms")
    """A request that waited so long for its turn is refused while more arrive than can be answered.

    Three tenths of a deadline of 50 ms: later requests wait as long again, unseen, and refusals take their time as
    well.
    """
    quota_per_second: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    """Requests a second that one caller may send; 0 = no quota."""
    quota_burst: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Requests at once that one caller may send; 0 = those of a second."""
    quota_header: str = ""
    """Header that identifies callers, set by a proxy in front; empty, or where it is missing, their address."""
    quota_callers_max: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Callers with a quota, 200 bytes each; the least recently seen one begins anew."""
    bulk_decodes_max: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 64
    """Large bodies that wait for the one decoding thread: 64 x about 5 ms = 0.3 s of work."""
    bulk_streams_max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Streams (POST /v1/events/bulk) that are read at once, each with a thread and up to 100 MiB."""
    bulk_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 44)] = 17_179_869_184
    """Largest stream, unpacked: 16 GiB are 100 M events of 170 bytes."""
    bulk_message_bytes_max: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 28)] = 16_777_216
    """Largest message (a record batch) of an Arrow stream, unpacked: 16 MiB are 100,000 events of 160 bytes."""
    bulk_wait_max: Annotated[Duration, Between("1ms", "1d")] = Duration("1h")
    """Longest wait for a whole stream, 100 M events at 30,000 a second; body_wait_max is that for its next bytes."""
    keep_alive: Annotated[Duration, Between("1s", "1h")] = Duration("120s")
    """An idle connection is closed after this: longer than the idle time of any usual client's pool."""
    drain: Annotated[Duration, Between("0s", "10m")] = Duration("0s")
    """After an order to stop health says not ready, and requests are taken for so long: longer than the interval of a
    balancer, so that none is refused."""
    stop_wait_max: Annotated[Duration, Between("1s", "1h")] = Duration("30s")
    """Time for requests in flight when the server stops."""
    log_level: Level = "info"
    """Least level of what is logged to standard error: debug, info, warning, error.
    At debug lines may hold ids and texts of users (docs/logs.md)."""
    log_format: LogFormat = "auto"
    """text, json, or auto: text on a terminal and JSON lines elsewhere."""


def require_safe_address(options: ServerOptions, *, has_keys: bool = False) -> None:
    """Refuse an address that others can reach while there are no API keys, and a port of a known service.

    Raises:
        ConfigInvalid: Without a key or ``insecure`` the host is not loopback or proxies are trusted, or the port is
            invalid, or one of known services without ``privileged``; all faults are named.
    """
    if faults := tuple(address_faults(options, has_keys=has_keys)):
        raise ConfigInvalid(faults)


def address_faults(options: ServerOptions, *, has_keys: bool = False) -> Iterator[Fault]:
    """Yield the faults of the address to listen on, with the names of the command's options."""
    if not (has_keys or options.insecure or is_loopback(options.host)):
        came = f'"{options.host}" can be reached from outside, and no key protects the server.'
        right = (
            "127.0.0.1, ::1 or localhost; or a key, after which every caller needs one: midstream keys create NAME "
            "--scope SCOPE; or --insecure, when something in front of it keeps strangers out."
        )
        yield Fault("--host", came, right, PAGE)
    if options.trusted_proxies and not (has_keys or options.insecure):
        came = "Clients of a proxy are let in, and no key protects the server."
        right = (
            "A key, after which every caller needs one: midstream keys create NAME --scope SCOPE; or --insecure, when "
            "the proxy keeps strangers out."
        )
        yield Fault("$.server.trusted_proxies", came, right, PAGE)
    if not 0 <= options.port <= PORT_MAX:
        yield Fault("--port", f"{options.port} is no port.", f"0 to {PORT_MAX:,}; 0 takes any that is free.", PAGE)
    elif 0 < options.port < UNPRIVILEGED_PORT_MIN and not options.privileged:
        came = f"{options.port} is a port of known services, which only root or a granted process may have."
        right = f"{UNPRIVILEGED_PORT_MIN:,} or more, such as 8765; or --privileged, when that is what is meant."
        yield Fault("--port", came, right, PAGE)


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
