"""Server of a folder of tenants: the port is open at once, and each tenant answers as soon as its shop is opened."""

import os
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry

from midstream.app.config.schema import Config
from midstream.app.opening import config_of
from midstream.app.server.keys import watch_keys
from midstream.app.server_address import Address, publish, withdraw
from midstream.app.tenants.folders import TenantFolders
from midstream.app.tenants.group import TenantGroup
from midstream.core.errors import ConfigInvalid, Fault
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact
from midstream.monitoring.metrics import Metrics
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.scopes import tenant_scope_needed
from midstream.serving.access.visitors import NoUsers
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import RequestOrigin
from midstream.serving.run import Drains, StopSignals, serve_front
from midstream.serving.tenants.audit_file import AuditFile
from midstream.serving.tenants.dispatcher import TenantDispatcher
from midstream.serving.tenants.root_app import RootApp, RootParts
from midstream.serving.tenants.types import PAGE


def root_config(folder: Path) -> Config:
    """Return the configuration of the root, which has ``[server]`` alone.

    Raises:
        ConfigInvalid: Something of it cannot be used; every fault is named.
    """
    config = config_of(folder)
    faults: list[Fault] = []
    if config != Config(server=config.server):
        came = "It has parts beside [server]."
        right = f"Those parts in {folder / 'tenants' / 'NAME' / 'midstream.toml'}: each tenant is a shop of its own."
        faults.append(Fault("midstream.toml", came, right, PAGE))
    if config.server.followers:
        came = f"{config.server.followers} came, and a server of several tenants is one process."
        faults.append(Fault("$.server.followers", came, "0; or a server of its own for a large shop.", PAGE))
    if faults:
        raise ConfigInvalid(tuple(faults))
    return config


def serve_tenants(folder: Path, options: ServerOptions, on_ready: Callable[[str, int], None]) -> None:
    """Serve all tenants of a folder until a signal requests a stop.

    Args:
        folder: Holds ``tenants``; made if it does not exist.
        options: Address, sizes, waits.
        on_ready: Called with the URL and the number of tenants once requests are accepted.

    Raises:
        FolderLocked: Another process serves it.
        ConfigInvalid: The keys cannot be read, or the port is invalid.
        AddressUnavailable: The address cannot be bound.
    """
    log_fact(Fact("starting", fields={"version": version("midstream"), "folder": str(folder.resolve())}))
    folders = TenantFolders(folder)
    log_id = secrets.token_hex(8)
    with locked(DataFolder(folders.data), RealDisk()):
        KeyFile(folders.data).require()
        root = TenantServer(folders, options, log_id)

        def ready(url: str) -> None:
            group = root.group
            publish(folders.data, Address(url, log_id, root.pid))
            group.publish(url)
            on_ready(url, len(group.apps))

        try:
            serve_front(root.opening, options, ready)
        finally:
            withdraw(folders.data)
    log_fact(Fact("stopped", fields={"recorded": 0}))


class TenantServer:
    """Front and tenants of one port, for the event loop that serves it."""

    def __init__(self, folders: TenantFolders, options: ServerOptions, log_id: str) -> None:
        """Keep what to serve; nothing is opened before ``opening`` is entered."""
        self.group = TenantGroup(folders, options)
        self._options = options
        self._log_id = log_id
        self.pid = os.getpid()
        self.root: RootApp | None = None
        """Its routes, once it is opened."""

    def opening(
        self, _signals: StopSignals | None = None
    ) -> AbstractAsyncContextManager[tuple[TenantDispatcher, Drains]]:
        """Return the front: entering begins to open the tenants, leaving closes them."""
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[tuple[TenantDispatcher, Drains]]:
        folders, options = self.group.folders, self._options
        metrics, arrivals = Metrics(CollectorRegistry()), LoopArrivals(time.perf_counter)
        limits = BodyLimits(options.body_bytes_max, options.body_wait_max.ms / 1_000)
        keys = watch_keys(DataFolder(folders.data), is_closed=True)
        audit, file = AuditFile(folders.audit, keys.wall_ms), KeyFile(folders.data)
        parts = RootParts(limits, audit, self._log_id, lambda: keys.flaw, file, keys.wall_ms)
        root = self.root = RootApp(self.group, metrics, arrivals, parts)
        gate = KeyGate(root, keys, options, NoUsers(), tenant_scope_needed)
        front = TenantDispatcher(self.group, RequestOrigin(gate, options), metrics, arrivals)
        self.group.start()

        def drains(wait: Callable[[], str]) -> None:
            root.drains = wait

        try:
            yield front, drains
        finally:
            await self.group.stop()
