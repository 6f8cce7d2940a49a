"""Group of the tenants of one server: opened one after another, created, suspended, exported and deleted while it runs.

Each change holds the lock of its tenant alone, so a slow export of one delays no other. Child processes of all tenants
(snapshots, history, rebuilds) have one turn, and trainings another: as many at once as a server of one shop has.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from midstream.app.opening import DATA_NAME, Outside
from midstream.app.operate.backup import back_up
from midstream.app.tenants.creation import make_tenant
from midstream.app.tenants.folders import TENANTS_MAX, TenantFolders, remove
from midstream.app.tenants.tenant import STOPPING, OpeningStopped, SharedParts, Tenant
from midstream.core.errors import ConfigInvalid, Fault, FolderLocked, NotFound, Overloaded
from midstream.engine.folder import DataFolder
from midstream.engine.ingest.fold_scheduler import FoldShare
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk
from midstream.events.file_modes import make_folder
from midstream.monitoring.fact_logger import log_fact
from midstream.monitoring.facts import Fact, FieldValue
from midstream.serving.http.problems import TenantConflict
from midstream.serving.options import ServerOptions
from midstream.serving.tenants.fair_turns import FairTurns
from midstream.serving.tenants.types import (
    PAGE,
    CreatedTenant,
    ExportedTenant,
    RootHealth,
    TenantQuota,
    TenantView,
    TenantWish,
)

CLOSINGS_MAX: Final = 8
"""Tenants that are closed at once when the server stops: each may wait for its requests."""
OPENING_S_MAX: Final = 10.0
"""From the stop of the server to the end of an opening that is given up: it ends within 10,000 events of the log, and
reads a snapshot of 3 GiB to its end. Behind it the process ends without that thread, which has acknowledged nothing."""


@dataclass(slots=True, eq=False)
class TenantGroup:
    """All tenants of one server."""

    folders: TenantFolders
    options: ServerOptions
    apps: dict[str, Tenant] = field(default_factory=dict[str, Tenant])
    _turns: FairTurns = field(default_factory=lambda: FairTurns(time.perf_counter))
    _removing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while files of the trash are removed."""
    _child_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _training_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _fold_share: FoldShare = field(default_factory=lambda: FoldShare(is_shared=True))
    _url: str = ""
    _opening: asyncio.Task[None] | None = None
    _is_stopping: bool = False

    # Life of the group

    def start(self) -> None:
        """Begin to open all tenants, one after another, on the running event loop.

        Raises:
            ConfigInvalid: There are more than may be.
        """
        for name in self.folders.names():
            self.apps[name] = self._tenant(name)
        self._opening = asyncio.create_task(self._open_all(tuple(self.apps.values())), name="midstream-tenants")

    async def opened(self) -> None:
        """Wait until each tenant of the start serves, is suspended or has failed."""
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def stop(self) -> None:
        """Close all tenants, some at once: the last snapshot of each is written by a child, one child at a time.

        An opening that is under way is given up, and waited for up to ``OPENING_S_MAX``. Where one cannot be closed,
        the others are; the first error is raised behind them.
        """
        self._is_stopping = True
        tenants = tuple(self.apps.values())
        for each in tenants:
            each.give_up()
        until = time.monotonic() + OPENING_S_MAX
        if self._opening is not None:
            await asyncio.wait((self._opening,), timeout=OPENING_S_MAX)
        turns = asyncio.Semaphore(CLOSINGS_MAX)
        ends = await asyncio.gather(*(self._close(each, turns, until) for each in tenants), return_exceptions=True)
        errors = [(each.name, error) for each, error in zip(tenants, ends, strict=True) if error is not None]
        for name, error in errors:
            reason = f"{type(error).__name__}: {error}"
            log_fact(Fact("tenant_not_closed", "error", {"tenant": name, "reason": reason}, name))
        if errors:
            raise errors[0][1]

    async def _close(self, tenant: Tenant, turns: asyncio.Semaphore, until: float) -> None:
        """Close a tenant; one that is being opened has until then to give up."""
        async with turns:
            if tenant.state == "opening":
                try:
                    await asyncio.wait_for(tenant.changing.acquire(), max(0.1, until - time.monotonic()))
                except TimeoutError as error:
                    message = f"its opening did not end in {OPENING_S_MAX:g} s; the process ends without it"
                    raise OpeningStopped(message) from error
            else:
                await tenant.changing.acquire()
            try:
                await tenant.close("closing", STOPPING, self._wait_s_max)
            finally:
                tenant.changing.release()

    def publish(self, url: str) -> None:
        """Write down where each shop is found; ``url`` is that of the server."""
        self._url = url
        for each in self.apps.values():
            each.publish(url)

    async def _open_all(self, tenants: Sequence[Tenant]) -> None:
        await self._empty_trash()
        for each in tenants:
            async with each.changing:
                if each.state == "opening" and self.apps.get(each.name) is each and not self._is_stopping:
                    await self._open(each)
        gc.freeze()

    async def _empty_trash(self) -> None:
        """Remove what deletions before this start left; what cannot be removed is logged, and stays."""
        async with self._removing:
            try:
                failures = await asyncio.to_thread(self.folders.empty_trash)
            except OSError as error:
                failures = {self.folders.trash: error}
        for path, cause in failures.items():
            _log_left(path, cause)

    async def _open(self, tenant: Tenant) -> None:
        """Open a tenant unless its file says that it is suspended. Hold its lock."""
        try:
            tenant.file = self.folders.read(tenant.name)
        except (ConfigInvalid, OSError) as error:
            tenant.state, tenant.reason = "failed", str(error)
            log_fact(_opened_fact(tenant, 0.0))
            return
        if tenant.file.is_suspended:
            tenant.state, tenant.reason = "suspended", tenant.file.reason
            return
        began = time.monotonic()
        await tenant.open()
        if self._is_stopping and tenant.state != "serving":
            return
        if self._url:
            tenant.publish(self._url)
        log_fact(_opened_fact(tenant, time.monotonic() - began))

    # Views

    def views(self) -> Sequence[TenantView]:
        """Return all tenants by name."""
        return [self.apps[name].view() for name in sorted(self.apps)]

    def view(self, name: str) -> TenantView:
        """Return one.

        Raises:
            NotFound: There is none.
        """
        return self._known(name).view()

    def health(self) -> RootHealth:
        """Return whether the start is over; a failed tenant is named, and hinders no other."""
        states = Counter(each.state for each in self.apps.values())
        failed = [name for name, each in sorted(self.apps.items()) if each.state == "failed"]
        waits = self._waits()
        reason = f"failed to open: {', '.join(failed)}" if failed else ""
        return RootHealth(not waits, waits or reason, {str(state): count for state, count in states.items()})

    def _waits(self) -> str:
        """Return why the start is not over; empty once it is."""
        if self._opening is None or not self._opening.done():
            return "tenants are being opened"
        if self._opening.cancelled():
            return "the start was broken off"
        error = self._opening.exception()
        return "" if error is None else f"the start ended by {type(error).__name__}: {error}"

    async def metrics_texts(self) -> Mapping[str, bytes]:
        """Return the metrics of the tenants that serve."""
        texts = {name: await app.metrics_text() for name, app in sorted(self.apps.items())}
        return {name: text for name, text in texts.items() if text}

    # Changes

    async def create(self, wish: TenantWish, who: str) -> CreatedTenant:
        """Make a tenant with a key of its own, which ``who`` made, and open it.

        Raises:
            TenantConflict: The name is taken.
            Overloaded: There are as many as may be.
            ConfigInvalid: The configuration cannot be used; nothing was made.
        """
        if wish.name in self.apps or self.folders.of(wish.name).exists():
            came = f'"{wish.name}" is the name of a tenant, or of a folder that was put there while the server runs.'
            right = "Another name; a folder that was put there is served after a restart."
            raise TenantConflict((Fault("/name", came, right, PAGE),))
        if len(self.apps) >= TENANTS_MAX:
            message = f"There are {TENANTS_MAX:,} tenants; delete those that are not needed."
            raise Overloaded(message)
        tenant = self.apps[wish.name] = self._tenant(wish.name)
        async with tenant.changing:
            is_made = False
            try:
                key = await asyncio.to_thread(make_tenant, self.folders, wish, who, is_sent=True)
                is_made = True
            finally:
                if not is_made:
                    self.apps.pop(wish.name)
            await self._open(tenant)
        return CreatedTenant(tenant.view(), key)

    async def suspend(self, name: str, reason: str) -> TenantView:
        """Close a tenant until it is resumed, also beyond a restart.

        Raises:
            NotFound: There is none.
        """
        tenant = self._known(name)
        async with tenant.changing:
            self._require_there(tenant)
            self._change_file(tenant, is_suspended=True, reason=reason)
            await tenant.close("suspended", reason, self._wait_s_max)
        return tenant.view()

    async def resume(self, name: str) -> TenantView:
        """Open a tenant that is suspended or failed; one that serves goes on.

        Raises:
            NotFound: There is none.
        """
        tenant = self._known(name)
        async with tenant.changing:
            self._require_there(tenant)
            if tenant.state != "serving":
                self._change_file(tenant, is_suspended=False, reason="")
                await self._open(tenant)
        return tenant.view()

    async def set_quota(self, name: str, quota: TenantQuota) -> TenantView:
        """Set the rates of a tenant, which hold at once.

        Raises:
            NotFound: There is none.
        """
        tenant = self._known(name)
        async with tenant.changing:
            self._require_there(tenant)
            self._change_file(tenant, quota=quota)
        return tenant.view()

    async def export(self, name: str) -> ExportedTenant:
        """Copy the folder of a tenant into an archive below ``exports``, also while it serves.

        Raises:
            NotFound: There is none.
            MidstreamError: It has no data, or its log cannot be trusted.
        """
        tenant = self._known(name)
        async with tenant.changing:
            self._require_there(tenant)
            make_folder(self.folders.exports)
            target = self.folders.exports / f"{name}-{_now_ms()}.tar"
            found = await asyncio.to_thread(back_up, tenant.folder, target)
        file = str(target.relative_to(self.folders.root))
        return ExportedTenant(name, file, found.log_position, found.files, found.bytes)

    async def delete(self, name: str) -> None:
        """Close a tenant and remove its folder for good; its name is free again.

        Files that cannot be removed stay in the trash until the next start, and are logged.

        Raises:
            NotFound: There is none.
            TenantConflict: Another process has its folder open; it stays, and so does the tenant, closed.
        """
        tenant = self._known(name)
        async with tenant.changing:
            self._require_there(tenant)
            is_gone = False
            try:
                await tenant.close("closing", "it is being deleted", self._wait_s_max)
                gone = await asyncio.to_thread(self._discard, name)
                is_gone = True
            except FolderLocked as error:
                right = "End that process before; the folder is where it was."
                raise TenantConflict((Fault("/name", f"{error}.", right, PAGE),)) from error
            finally:
                if not is_gone:
                    tenant.stay_closed("its deletion was not made")
            self.apps.pop(name)
        async with self._removing:
            try:
                await asyncio.to_thread(remove, gone)
            except OSError as error:
                _log_left(gone, error)

    def _discard(self, name: str) -> Path:
        """Take a folder out of service under the lock of its data, which another process may have."""
        data = DataFolder(self.folders.of(name) / DATA_NAME)
        with locked(data, RealDisk()) if data.root.is_dir() else nullcontext():
            return self.folders.discard(name, _now_ms())

    @property
    def _wait_s_max(self) -> float:
        return self.options.stop_wait_max.ms / 1_000

    def _tenant(self, name: str) -> Tenant:
        shared = SharedParts(self._turns, self._outside)
        return Tenant(name, self.folders.of(name), self.options, shared)

    def _outside(self) -> Outside:
        """Return what all engines of the group share: each turn is one of this machine."""
        return Outside(child_turn=self._child_turn, training_turn=self._training_turn, fold_share=self._fold_share)

    def _known(self, name: str) -> Tenant:
        found = self.apps.get(name)
        if found is None:
            message = f"There is no tenant {name}; GET /v1/tenants lists them"
            raise NotFound(message)
        return found

    def _require_there(self, tenant: Tenant) -> None:
        """Refuse a tenant that was deleted while its lock was waited for."""
        if self.apps.get(tenant.name) is not tenant:
            self._known(tenant.name)

    def _change_file(self, tenant: Tenant, **changed: object) -> None:
        """Change some settings of a tenant and keep the others of its file, also before it was opened.

        Raises:
            ConfigInvalid: The file is there and holds no settings; it stays as it is.
            OSError: The disk.
        """
        file = msgspec.structs.replace(self.folders.read(tenant.name), **changed)
        self.folders.write(tenant.name, file)
        tenant.file = file


def _opened_fact(tenant: Tenant, seconds: float) -> Fact:
    """Return what is logged of a tenant that was opened or failed."""
    fields: dict[str, FieldValue] = {"tenant": tenant.name, "state": tenant.state, "seconds": round(seconds, 1)}
    if tenant.state == "failed":
        return Fact("tenant_failed", "error", {**fields, "reason": tenant.reason}, tenant.name)
    return Fact("tenant_opened", fields=fields)


def _log_left(path: Path, error: OSError) -> None:
    """Log what stays in the trash, which the next start tries again."""
    log_fact(Fact("tenant_files_left", "warning", {"path": str(path), "reason": str(error)}, path.name))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
