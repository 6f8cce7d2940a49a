"""One tenant of a server: a whole shop with its own gate, audit, metrics and routes, opened and closed while it runs.

A request that reaches this object can reach the objects of this shop alone. While the shop is not open, requests are
answered 503 with the reason, and nothing of its folder is held.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from midstream.app.config.schema import Config
from midstream.app.opening import DATA_NAME, Outside, config_of
from midstream.app.server.hosted_engine import require_hosted
from midstream.app.server.keys import watch_keys
from midstream.app.server.opened_engine import open_with_groups, opened_engine
from midstream.app.server_address import Address, publish, withdraw
from midstream.app.tenants.folders import TenantFile
from midstream.core.errors import MidstreamError, Overloaded
from midstream.engine.answer.user_ids import UserIds
from midstream.engine.daemon_thread import DaemonThread
from midstream.engine.folder import DataFolder
from midstream.engine.inputs.input_group import InputGroup
from midstream.engine.instance import Instance
from midstream.engine.outbox.output_group import OutputGroup
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact, FieldValue
from midstream.monitoring.metrics_text import text_in_turns
from midstream.serving.access.audit_trail import AuditTrail
from midstream.serving.access.console_session import LIVE_PATH
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.key_ring import KeyWatch
from midstream.serving.app import asgi
from midstream.serving.http.admission import FREE
from midstream.serving.http.problems import TenantUnavailable, problem_reply
from midstream.serving.http.responses import Message, Receive, Scope, Send, send_reply
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import RequestOrigin
from midstream.serving.tenants.fair_turns import FairTurns
from midstream.serving.tenants.quota import QuotaGate, TenantMeter
from midstream.serving.tenants.refused_pages import refused_reply
from midstream.serving.tenants.types import PREFIX, State, TenantView

_SHOWN: Final = {
    "opening": "It is being opened.",
    "closing": "It is being closed.",
    "failed": "It could not be opened; the operator of this server sees why.",
}
UNBOUNDED: Final = 1 << 30
"""Of health and metrics: a supervisor would take a refusal for a dead process."""
END_S_MAX: Final = 5.0
"""From the cancellation of a request to its end."""
STOPPING: Final = "the server stops"
TOO_MUCH: Final = "More is asked of this tenant than it can answer beside the others."


class OpeningStopped(MidstreamError):
    """An opening was given up, as the server stops; nothing of the folder is held."""


@dataclass(frozen=True, slots=True)
class SharedParts:
    """Parts that all tenants of a process share."""

    turns: FairTurns
    """Of requests."""
    outside: Callable[[], Outside]
    """Returns time, randomness and the turns of folding and of child processes, for one opening."""


@dataclass(slots=True, eq=False)
class InProgress:
    """A request that is being answered."""

    task: asyncio.Task[None] | None
    is_endless: bool
    """Whether it is a stream that ends by its time alone."""
    is_ended: bool = False
    """Whether the shop ended it, and not the server of the port."""

    def end(self) -> None:
        """Cancel it once."""
        if self.task is not None and not self.is_ended:
            self.is_ended = True
            self.task.cancel()

    def take_back(self) -> bool:
        """Return whether the cancellation is the shop's alone: then the task goes on."""
        return self.is_ended and self.task is not None and not self.task.uncancel()


@dataclass(slots=True, eq=False)
class OpenShop:
    """An open shop and its app."""

    running: Instance
    front: RequestOrigin
    waiting_max: int
    """Requests that wait for their turn among tenants."""
    in_progress: set[InProgress] = field(default_factory=set[InProgress])
    _is_idle: asyncio.Event = field(default_factory=asyncio.Event)
    _counted_events: int = 0

    def uncounted_events(self) -> int:
        """Return the events that were recorded since the last call."""
        recorded = self.front.metrics.events_recorded
        found, self._counted_events = recorded - self._counted_events, recorded
        return found

    async def end_requests(self, wait_s_max: float) -> None:
        """Wait until no request is in progress; end those that have no end, and after so long all others."""
        for each in tuple(self.in_progress):
            if each.is_endless:
                each.end()
        await self._idle(wait_s_max)
        for each in tuple(self.in_progress):
            each.end()
        await self._idle(END_S_MAX)

    def begin(self, request: InProgress) -> None:
        """Count a request as in progress."""
        self.in_progress.add(request)
        self._is_idle.clear()

    def end(self, request: InProgress) -> None:
        """Count it no more."""
        self.in_progress.discard(request)
        if not self.in_progress:
            self._is_idle.set()

    async def _idle(self, wait_s_max: float) -> None:
        if self.in_progress:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), wait_s_max)


class Tenant:
    """One tenant, open or not."""

    def __init__(self, name: str, folder: Path, options: ServerOptions, shared: SharedParts) -> None:
        """Keep what to open.

        Args:
            name: Of the tenant.
            folder: Of the shop.
            options: Of the port and the root.
            shared: Parts of the process.
        """
        self.name = name
        self.folder = folder
        self._file = TenantFile()
        self._meter = TenantMeter(self._file.quota, time.monotonic())
        self.state: State = "opening"
        self.reason = ""
        """Why it does not serve, in words for the operator."""
        self.changing = asyncio.Lock()
        """Held from beginning to end by whatever opens, closes or removes it."""
        self._stops = threading.Event()
        self._options = options
        self._outside = shared.outside
        self._turns = shared.turns
        self._shop: OpenShop | None = None

    @property
    def file(self) -> TenantFile:
        """Its settings; new ones hold from the next request on."""
        return self._file

    @file.setter
    def file(self, content: TenantFile) -> None:
        if content.quota != self._file.quota:
            self._meter = TenantMeter(content.quota, time.monotonic())
        self._file = content

    @property
    def running(self) -> Instance | None:
        """Its open shop, None while it does not serve."""
        return None if self._shop is None else self._shop.running

    def view(self) -> TenantView:
        """Return it as it is listed."""
        position = 0 if self._shop is None else self._shop.running.engine.log.end
        path = f"{PREFIX}{self.name}/"
        return TenantView(self.name, self.state, self.reason, path, self.file.created_ms, position, self.file.quota)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request in the scope of the shop."""
        shop = self._shop
        if shop is None or self.state != "serving":
            reason = self.reason if self.state == "suspended" else _SHOWN.get(self.state, "")
            error = TenantUnavailable(f"{self.name} is {self.state}. {reason}")
            await send_reply(scope, send, refused_reply(scope, error))
            return
        request = InProgress(asyncio.current_task(), is_endless=scope["path"] == LIVE_PATH)
        shop.begin(request)
        told = False

        async def telling(message: Message) -> None:
            nonlocal told
            told = True
            await send(message)

        try:
            if await self._turns.turn(self.name, UNBOUNDED if scope["path"] in FREE else shop.waiting_max):
                # Only now: what the others' turns took is no queue of this tenant.
                shop.front.arrivals.take_over(scope)
                await self._turns.steps(self.name, shop.front(scope, receive, telling))
            else:
                shop.front.metrics.refusals.labels("tenant_queue").inc()
                await send_reply(scope, telling, problem_reply(Overloaded(TOO_MUCH)))
        except asyncio.CancelledError:
            if not request.take_back():
                raise
            if not told:
                await send_reply(scope, send, refused_reply(scope, TenantUnavailable(f"{self.name} is {self.state}.")))
            elif request.is_endless:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            shop.end(request)
            self._meter.debit_events(shop.uncounted_events())

    async def open(self) -> None:
        """Open the shop; what prevents it is kept as the reason, and other tenants go on. Hold ``changing``."""
        self.state, self.reason = "opening", ""
        task = asyncio.create_task(self._opened(), name=f"midstream-tenant-{self.name}")
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:  # a folder that is being opened cannot be let go of before
                cancelled = error
        self._take_opened(task)
        if cancelled is not None:
            raise cancelled

    def give_up(self) -> None:
        """Have an opening that is under way end at its next step, and every later one at its first."""
        self._stops.set()

    def _require_going_on(self, *_progress: object) -> None:
        """End the thread of an opening that was given up.

        Raises:
            OpeningStopped: It was.
        """
        if self._stops.is_set():
            raise OpeningStopped(STOPPING)

    def _take_opened(self, task: asyncio.Task[OpenShop]) -> None:
        """Take the result of an opening."""
        error = task.exception()
        if error is None:
            self._shop, self.state = task.result(), "serving"
            return
        if isinstance(error, OpeningStopped):
            self.state, self.reason = "closing", STOPPING
            return
        self.state, self.reason = "failed", f"{type(error).__name__}: {error}"
        if not isinstance(error, MidstreamError | OSError):
            message = f"tenant {self.name} could not be opened"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

    async def _opened(self) -> OpenShop:
        read = await self._read()
        config, keys, running = read.config, read.keys, read.running
        async with AsyncExitStack() as undo:
            await undo.enter_async_context(running)
            options = shop_options(config.server, self._options)
            opened = opened_engine(self.folder, running, read.inputs, read.outputs)
            app = asgi(opened.engine, opened.accept, options, opened.ingest, opened.upkeep)
            engine = opened.engine
            quota = QuotaGate(AuditTrail(app, engine.record), lambda: self._meter, options, time.monotonic)
            engine.listeners.add(keys.listener)
            gate = KeyGate(quota, keys, options, UserIds(lambda: engine.fold))
            shop = OpenShop(running, RequestOrigin(gate, options), options.answers_waiting_max)
            undo.pop_all()
        return shop

    async def _read(self) -> "_ReadShop":
        """Return the keys and the state of the folder, read by a daemon thread: no end of the process waits for it.

        Raises:
            OpeningStopped: It was given up.
        """
        thread = DaemonThread(f"midstream-open-{self.name}")
        try:
            return await thread.call(self._read_here)
        finally:
            thread.end()

    def _read_here(self) -> "_ReadShop":
        self._require_going_on()
        config = config_of(self.folder)
        require_hosted(config.server)
        keys = watch_keys(DataFolder(self.folder / DATA_NAME), identity=config.identity, is_closed=True)
        running, inputs, outputs = open_with_groups(
            self.folder, config, notify=self._require_going_on, outside=self._outside()
        )
        if self._stops.is_set():  # nobody takes it any more
            running.abandon()
            self._require_going_on()
        return _ReadShop(config, keys, running, inputs, outputs)

    def publish(self, url: str) -> None:
        """Write down where commands of this machine find the shop; ``url`` is that of the root."""
        if self._shop is not None:
            live = self._shop.running.engine.liveness
            address = Address(f"{url}{PREFIX}{self.name}", live.log, live.pid)
            try:
                publish(self.folder / DATA_NAME, address)
            except OSError as error:  # it serves; commands of this machine do not find it
                fields: dict[str, FieldValue] = {"tenant": self.name, "reason": str(error)}
                log_fact(Fact("tenant_address_lost", "warning", fields, self.name))

    async def close(self, state: State, reason: str, wait_s_max: float) -> None:
        """Answer the requests in progress, for so long at most, and close the shop. Hold ``changing``.

        Streams without an end are ended at once, and what is not answered in time is ended then.
        """
        shop, self._shop = self._shop, None
        self.state, self.reason = state, reason
        if shop is None:
            return
        try:
            await shop.end_requests(wait_s_max)
            withdraw(self.folder / DATA_NAME)
        finally:
            await shop.running.stop()

    def stay_closed(self, reason: str) -> None:
        """Give a closed tenant the state in which a start would find it. Hold ``changing``."""
        if self._file.is_suspended:
            self.state, self.reason = "suspended", self._file.reason
        else:
            self.state, self.reason = "failed", reason

    async def metrics_text(self) -> bytes:
        """Return the metrics of the shop; empty while it does not serve."""
        if self._shop is None:
            return b""
        engine = self._shop.running.engine
        engine.refresh_metrics()
        return await text_in_turns(engine.metrics.registry)


@dataclass(frozen=True, slots=True)
class _ReadShop:
    """A shop that was read from its folder, and not started yet."""

    config: Config
    keys: KeyWatch
    running: Instance
    inputs: InputGroup
    outputs: OutputGroup


def shop_options(own: ServerOptions, root: ServerOptions) -> ServerOptions:
    """Return how a shop is served: sizes and waits of its own configuration, address and names of the root."""
    hosts = (*root.allow_hosts, *own.allow_hosts)
    return msgspec.structs.replace(own, host=root.host, port=root.port, allow_hosts=hosts, followers=0)
