"""Server runner: uvicorn on uvloop and httptools, with bounds on connections, and a graceful stop.

Reference: measured on one core, uvicorn takes 28 µs of CPU a request where granian takes 47 to 68.
"""

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING, Self, TypeAlias, cast

import uvicorn
import uvloop

from midstream.core.errors import AddressUnavailable, ConfigInvalid, Fault
from midstream.engine.answer.user_ids import UserIds
from midstream.engine.ingest.ingest_service import IngestService
from midstream.engine.listeners import Listener
from midstream.events.wire import Accept
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact, Facts
from midstream.serving.access.audit_trail import AuditTrail
from midstream.serving.access.forwarded_client import proxy_faults, with_forwarded_client
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.key_ring import KeyWatch
from midstream.serving.access.measured_app import Measured
from midstream.serving.app import NO_UPKEEP, Maintenance, asgi
from midstream.serving.http.connection_admission import place_limits
from midstream.serving.http.connection_sharing import Share, SharingServer
from midstream.serving.http.connections import bounded_protocol
from midstream.serving.http.draining import AT_ONCE, DrainingServer
from midstream.serving.http.hosts import host_faults
from midstream.serving.http.read_limits import read_limits
from midstream.serving.http.target import noting_targets
from midstream.serving.operation import ALONE, OtherProcesses
from midstream.serving.options import ServerOptions, require_safe_address
from midstream.serving.request_origin import ANSWER_HEADERS, RequestOrigin

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.rebuild.rebuilder import Rebuilder

SWITCH_S = 0.0002
"""How long the log thread waits for a busy loop to let go of the interpreter, twice a commit; 5 ms is Python's own."""
SEND_BYTES = 262_144
"""Kernel buffer of a connection's unread answers, twice: as much as a body has, where the default would be up to 4
MiB. Every accepted connection has it from the listener."""
GC_ALLOCATIONS = 20_000
"""New containers between two looks for cycles: a request makes about 100 and leaves none, so one look in 200."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenedEngine:
    """A started engine and the services that serving needs."""

    engine: "Engine"
    accept: Callable[[], Accept]
    ingest: IngestService | None = None
    """None = one without dead letters."""
    upkeep: Maintenance = NO_UPKEEP
    """Services that change configuration and history while it runs."""
    company: "FollowerGroup | None" = None
    """Other processes that serve the same port; None = there are none."""


@dataclass(frozen=True, slots=True, eq=False)
class FollowerGroup:
    """The other processes of a server, in the process that owns the log."""

    elsewhere: OtherProcesses
    """Functions of the other processes."""
    joining: Callable[[Measured, socket.socket], AbstractAsyncContextManager[Share]]
    """Brings them to the port on entering and ends them on leaving; gives this process's part in it."""


class StopAtStart(KeyboardInterrupt):
    """A signal asked to stop while the start was under way: no failure of a component that is at work then."""


Opening: TypeAlias = "Callable[[StopSignals], AbstractAsyncContextManager[OpenedEngine]]"
"""Starts an engine on entering and stops it on leaving; what takes long before is done in ``StopSignals.at_start``."""


def serve(
    opening: Opening,
    options: ServerOptions,
    on_ready: Callable[[str], None],
    keys: KeyWatch | None = None,
) -> None:
    """Serve until a signal requests a stop, then stop gracefully; a signal during the start ends that.

    Args:
        opening: Starts an engine on entering and stops it on leaving. It is entered before the port is bound, so every
            connection gets an answer, and left after the last answer was sent.
        options: Address, sizes, waits.
        on_ready: Called with the URL once requests are accepted.
        keys: Of the folder; None = no key is ever asked for.

    Raises:
        ConfigInvalid: The host can be reached from outside and nothing protects the server, or the port is invalid.
        AddressUnavailable: The address cannot be bound.
    """
    require_safe_address(options, has_keys=keys is not None and keys.asks)

    def ready(url: str) -> None:
        settle()
        on_ready(url)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_stopped(opening, options, ready, keys))


Drains: TypeAlias = "Callable[[Callable[[], str]], None]"
"""Takes what says why a server takes no further requests; that returns an empty text while it does."""
FrontOpening: TypeAlias = "Callable[[StopSignals], AbstractAsyncContextManager[tuple[Measured, Drains]]]"
"""Opens a front of several shops on entering and closes it on leaving."""


def serve_front(opening: FrontOpening, options: ServerOptions, on_ready: Callable[[str], None]) -> None:
    """Serve a front that asks for keys and guards its apps against cross-site requests itself, until a signal.

    Raises:
        ConfigInvalid: The port is invalid, or a host name is none.
        AddressUnavailable: The address cannot be bound.
    """
    require_safe_address(options, has_keys=True)
    _require_names(options)

    async def serve_until_signal() -> None:
        with StopSignals() as signals, _hangup_ignored(), suppress(StopAtStart):
            async with opening(signals) as (front, drains):
                with signals.noted(log_fact), _listening(options) as listener:
                    settle()
                    on_ready(_url_of(*listener.getsockname()[:2]))
                    server = DrainingServer(_uvicorn_config(front, options), options.drain.ms / 1_000)
                    drains(server.wait)
                    await signals.ending(server).serve([listener])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_signal())


async def serve_until_stopped(
    opening: Opening,
    options: ServerOptions,
    on_ready: Callable[[str], None],
    keys: KeyWatch | None = None,
) -> None:
    """Serve on the running event loop; see ``serve``. Without a main thread no signal is heard: cancel the task."""
    require_safe_address(options, has_keys=keys is not None and keys.asks)
    _require_names(options)
    with StopSignals() as signals, suppress(StopAtStart):
        async with opening(signals) as opened:
            await _serve_opened(opened, options, signals, on_ready, keys)


async def _serve_opened(
    opened: OpenedEngine,
    options: ServerOptions,
    signals: "StopSignals",
    on_ready: Callable[[str], None],
    keys: KeyWatch | None,
) -> None:
    company = opened.company
    elsewhere = ALONE if company is None else company.elsewhere
    made = asgi(opened.engine, opened.accept, options, opened.ingest, opened.upkeep, elsewhere)
    app = AuditTrail(made, opened.engine.record)
    front: Measured = app
    if keys is not None:
        opened.engine.listeners.add(keys.listener)
        front = KeyGate(app, keys, options, UserIds(lambda: opened.engine.fold))
    with (
        signals.noted(opened.engine.facts.note),
        _listening(options) as listener,
        _hangup_rereads(opened.upkeep.rebuilder),
    ):
        on_ready(_url_of(*listener.getsockname()[:2]))
        config, drain_s = _uvicorn_config(RequestOrigin(front, options), options), options.drain.ms / 1_000
        listeners = opened.engine.listeners
        if company is None:
            server = DrainingServer(config, drain_s)
            listeners.add(Listener(name="drain", wait=server.wait))
            await signals.ending(server).serve([listener])
            return
        async with company.joining(app, listener) as share:
            sharing = SharingServer(config, share, drain_s)
            listeners.add(Listener(name="drain", wait=sharing.wait))
            await signals.ending(sharing).serve()


async def serve_share(app: Measured, options: ServerOptions, share: Share, facts: Facts) -> None:
    """Serve one process's part of a port until a signal requests a stop, or the share's tick fails.

    It drains as long as the process that owns the port does, since a supervisor may signal all of them; not at
    ``AT_ONCE``. Behind it all these signals are ignored: what is left to be done is short, and is to be done.
    """
    settle()
    with StopSignals((AT_ONCE,), is_last=True) as signals, signals.noted(facts.note):
        sharing = SharingServer(_uvicorn_config(RequestOrigin(app, options), options), share, options.drain.ms / 1_000)
        await signals.ending(sharing).serve()


def _require_names(options: ServerOptions) -> None:
    """Refuse invalid names of hosts and origins, and invalid networks of proxies.

    Raises:
        ConfigInvalid: All of them are named.
    """
    if faults := (*host_faults(options, "--allow-host", "allow_origins"), *proxy_faults(options)):
        raise ConfigInvalid(faults)


def _url_of(host: str, port: int) -> str:
    """Return the URL of a server for this machine; one that listens at all addresses (0.0.0.0, ::) has loopback."""
    if ip_address(host.partition("%")[0]).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _uvicorn_config(app: Measured, options: ServerOptions) -> uvicorn.Config:
    """Return the configuration of a port; the app is protected against cross-site requests."""
    return uvicorn.Config(
        with_forwarded_client(app, options),
        http=noting_targets(bounded_protocol(read_limits(options), app, place_limits(options))),
        headers=list(ANSWER_HEADERS),
        ws="none",
        interface="asgi3",  # it would take an app whose call is no coroutine function for one of an older interface
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # it would read the scheme as well, and believe names
        server_header=False,
        timeout_keep_alive=options.keep_alive.ms // 1_000,
        timeout_graceful_shutdown=options.stop_wait_max.ms // 1_000,
    )


def settle() -> None:
    """Freeze the objects of the start for the garbage collector (a pass takes 0.1 s), and shorten thread switches.

    Nothing is collected before: of 370,000 objects 3,000 are garbage, less than a megabyte.
    """
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    sys.setswitchinterval(SWITCH_S)


def _listening(options: ServerOptions) -> socket.socket:
    """Return a socket that takes connections from now on; they wait in its backlog until the loop accepts them."""
    try:
        return _bound(options)
    except OSError as error:
        came = f"{options.host}:{options.port} cannot be listened on: {error.strerror or error}."
        right = "An address of this machine and a free port; port 0 takes any."
        raise AddressUnavailable((Fault("--host, --port", came, right, "/docs/cli.md"),)) from error


def _bound(options: ServerOptions) -> socket.socket:
    family, kind, number, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        listener.bind(address)
        listener.listen(options.connections_max)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _hangup_rereads(rebuilder: "Rebuilder | None") -> Generator[None]:
    """On SIGHUP read the configuration again, as ``POST /v1/rebuild`` does; the result is in health."""
    if rebuilder is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    heeding: set[asyncio.Task[None]] = set()

    def heard() -> None:
        task = loop.create_task(rebuilder.heed(), name="midstream-hangup")
        heeding.add(task)
        task.add_done_callback(heeding.discard)

    loop.add_signal_handler(signal.SIGHUP, heard)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


@contextmanager
def _hangup_ignored() -> Generator[None]:
    """On SIGHUP log that it was ignored: each shop of a front reads its configuration again by a route of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, log_fact, Fact("hangup_ignored"))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


class StopSignals:
    """SIGINT and SIGTERM from before an engine is opened: each ends the server gracefully, whenever it comes.

    uvicorn handles signals only while it serves, and raises them again once it has stopped. One that comes before that,
    while an address is announced or followers start, is given to the server as one that comes later is, so it drains as
    it does then; one that is raised again is swallowed, as a requested stop is no failure. A start that folds a long
    log is ended at once, as nothing is served yet that would have to end first. Outside the main thread no signal is
    handled.
    """

    def __init__(self, further: Sequence[signal.Signals] = (), *, is_last: bool = False) -> None:
        """Have no server yet; hear further signals too. ``is_last``: the process ends behind this, and ignores them."""
        self._signals = signal.SIGINT, signal.SIGTERM, *further
        self._is_last = is_last
        self._server: uvicorn.Server | None = None
        self._is_at_start = False
        self._came: list[int] = []
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Begin to hear."""
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._heard) for each in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers, or ignore the signals from now on."""
        for each, before in self._before.items():
            handler = signal.SIG_IGN if self._is_last else before
            signal.signal(each, cast("Callable[[int, FrameType | None], object]", handler))

    @contextmanager
    def at_start(self) -> Generator[None]:
        """End what is in the block by a signal: it writes nothing that a crash at that point would not leave whole.

        Raises:
            StopAtStart: A signal came.
        """
        try:
            self._begin_start()
            yield
        except StopAtStart:
            self._note(log_fact)
            raise
        finally:
            self._is_at_start = False

    def _begin_start(self) -> None:
        self._is_at_start = True
        if self._came:
            raise StopAtStart

    @contextmanager
    def noted(self, note: Callable[[Fact], None]) -> Generator[None]:
        """Note the signals that came behind the block: a handler might interrupt another note."""
        try:
            yield
        finally:
            self._note(note)

    def ending(self, server: uvicorn.Server) -> uvicorn.Server:
        """Return the server, which is told of the signals that came already, and of each that comes."""
        self._server = server  # first: one that comes in between is told twice, which ends a drain, rather than never
        for number in tuple(self._came):
            server.handle_exit(number, None)
        return server

    def _note(self, note: Callable[[Fact], None]) -> None:
        for number in dict.fromkeys(self._came):
            note(Fact("stop_asked", fields={"signal": signal.Signals(number).name}))

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)
        if self._server is not None:
            self._server.handle_exit(number, frame)
        if self._is_at_start:
            self._is_at_start = False  # a second one interrupts nothing that the first one lets go of
            raise StopAtStart
