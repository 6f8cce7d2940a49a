"""Options of a server: address, sizes, waits."""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import ConfigInvalid, Fault
from midstream.monitoring.facts import Level, LogFormat

PAGE = "/docs/http.md"
PORT_MAX = 65_535
"""A port is 16 bits wide."""
UNPRIVILEGED_PORT_MIN = 1_024
"""Below are those of known services, which most systems let none but root listen on (RFC 6335, 6)."""


class ServerOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[server]`` part of the configuration. Every wait and every size has its maximum here."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)] = 8765
    """0 = any free port."""
    followers: int = 0
    """Further processes that answer on the same port, each with a state of its own; 0 = this one alone."""
    insecure: bool = False
    """Bind to more than loopback although no key is asked for."""
    privileged: bool = False
    """Bind to a port below 1,024, such as that of web pages, which nobody gets by a slip."""
    allow_hosts: tuple[str, ...] = ()
    """Further names under which the server may be asked, such as that of a proxy in front of it."""
    allow_origins: tuple[str, ...] = ()
    """Origins, such as ``https://shop.example``, whose pages may ask; what is in front of it answers preflights."""
    body_bytes_max: int = 262_144
    """256 KiB: 500 events of 500 bytes. Nothing is read beyond it."""
    body_wait_max: Duration = Duration("10s")
    """A slow phone sends 256 KiB at 200 kbit/s in 10 s; whoever is slower would hold the connection for nothing."""
    head_wait_max: Duration = Duration("10s")
    """From a connection's first byte until its first request's headers are complete."""
    head_bytes_max: int = 32_768
    """Request line and headers: four times what browsers send."""
    commit_wait_max: Duration = Duration("10s")
    """How long an answer waits until its events are durable and applied; a disk that takes longer is broken."""
    connections_max: int = 1_000
    """Open connections: 1,000 x 256 KiB = 256 MiB, if every one of them sends its largest body at once."""
    connections_per_client_max: int = 0
    """Of those, from one address; 0 = nine tenths. One client alone, such as a load test, can hold nearly all, and the
    others still find places."""
    connections_reserved: int = 16
    """Of those, for a request about health or metrics when there is no other place: a few probes and an operator."""
    answers_max: int = 256
    """Answers being made at once, which wait for something: 5,000 a second x 50 ms."""
    answers_waiting_max: int = 100
    """Questions that wait for a place among those: 5,000 a second x 15 ms, by when some will have left."""
    answer_wait_max: Duration = Duration("15ms")
    """A question that waited so long for its turn is refused while more are asked than can be answered. Three tenths of
    a deadline of 50 ms: what comes meanwhile waits as long again, unseen, and refusals take their time as well."""
    quota_per_second: float = 0.0
    """Requests a second that one caller may send; 0 = as many as there are."""
    quota_burst: int = 0
    """Requests at once that one caller may send; 0 = those of a second."""
    quota_header: str = ""
    """Header that tells callers apart, set by what stands in front; empty, or where it is missing, their address."""
    quota_callers_max: int = 10_000
    """Callers remembered, 200 bytes each; one that was not seen for longest begins anew."""
    bulk_decodes_max: int = 64
    """Large bodies waiting for the one decoding thread: 64 x about 5 ms = 0.3 s of work."""
    bulk_streams_max: int = 4
    """Streams read at once, each with a thread and up to 100 MiB: bytes that wait, a message, and what it becomes."""
    bulk_bytes_max: int = 17_179_869_184
    """16 GiB of one stream, as it is once unpacked: 100 M events of 170 bytes."""
    bulk_message_bytes_max: int = 16_777_216
    """16 MiB, unpacked, of a message of an Arrow stream, which is held as a whole: 100,000 events of 160 bytes."""
    bulk_wait_max: Duration = Duration("1h")
    """From a stream's first byte to its last: 100 M events at 30,000 a second."""
    keep_alive: Duration = Duration("120s")
    """Longer than the idle time of any usual client's pool, so that it is the client who closes."""
    stop_wait_max: Duration = Duration("30s")
    """How long requests in flight may take after the order to stop."""
    log_level: Level = "info"
    """From which level on lines go to standard error."""
    log_format: LogFormat = "auto"
    """How they look: text on a terminal and JSON elsewhere, or one of both."""


def require_safe_address(options: ServerOptions) -> None:
    """Refuse an address that others can reach while no key is asked for, and a port that nobody meant.

    Raises:
        ConfigInvalid: The host is not loopback and ``insecure`` was not said, or the port is none, or one of known
            services and ``privileged`` was not said; all of it is named.
    """
    if faults := tuple(address_faults(options)):
        raise ConfigInvalid(faults)


def address_faults(options: ServerOptions) -> Iterator[Fault]:
    """Yield what is wrong with where a server is to listen, as the options of the command are called."""
    if not (options.insecure or is_loopback(options.host)):
        came = f'"{options.host}" can be reached from outside, and no key protects the server.'
        right = "127.0.0.1, ::1 or localhost; or --insecure, when something in front of it keeps strangers out."
        yield Fault("--host", came, right, PAGE)
    if not 0 <= options.port <= PORT_MAX:
        yield Fault("--port", f"{options.port} is no port.", f"0 to {PORT_MAX:,}; 0 takes any that is free.", PAGE)
    elif 0 < options.port < UNPRIVILEGED_PORT_MIN and not options.privileged:
        came = f"{options.port} is a port of known services, which only root or a granted process may have."
        right = f"{UNPRIVILEGED_PORT_MIN:,} or more, such as 8765; or --privileged, when that is what is meant."
        yield Fault("--port", came, right, PAGE)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
