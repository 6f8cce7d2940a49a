"""Orders to a folder of tenants: through the server that has it open, else on its files under its lock."""

import secrets
import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from midstream.app.machine_user import machine_user
from midstream.app.opening import DATA_NAME
from midstream.app.operate.backup import back_up
from midstream.app.server_address import server_of
from midstream.app.server_refusals import problem_of, refusal_of, server_answer
from midstream.app.tenants.creation import make_tenant
from midstream.app.tenants.folders import TenantFile, TenantFolders
from midstream.core.errors import ConfigInvalid, Fault, MidstreamError, NotFound, RequestInvalid
from midstream.engine.folder import DataFolder
from midstream.engine.log_opening import locked
from midstream.events.disk import RealDisk
from midstream.events.file_modes import make_folder
from midstream.serving.http.problems import TenantConflict
from midstream.serving.tenants.audit_file import TenantChange, recorded_change
from midstream.serving.tenants.types import (
    PAGE,
    PREFIX,
    REASON_MAX,
    CreatedTenant,
    ExportedTenant,
    State,
    TenantQuota,
    TenantView,
    TenantWish,
    require_name,
    require_quota,
)

if TYPE_CHECKING:
    import httpx

_NO_ROUTE = "urn:midstream:route-unknown"
"""Kind of the answer of a server that has no tenants."""
ANSWER_S_MAX = 600.0
"""A deletion writes the last snapshot before, and removes all files."""


class _Listed(msgspec.Struct, frozen=True):
    tenants: list[TenantView]


class TenantOrders:
    """Orders to the tenants of one folder."""

    def __init__(self, folder: Path) -> None:
        """Find the server of the folder, if there is one.

        Raises:
            ServerMismatch: Another server answers at its address.
        """
        self._folders = TenantFolders(folder)
        self._url = server_of(DataFolder(self._folders.data))

    def list(self) -> list[TenantView]:
        """Return all tenants by name; of a folder without a server what their files say."""
        told = self._asked("GET", "/v1/tenants")
        if told is not None:
            return msgspec.json.decode(told, type=_Listed).tenants
        return [self._listed(name) for name in self._folders.names()]

    def create(self, wish: TenantWish) -> CreatedTenant:
        """Make a tenant with a key of its own.

        Raises:
            TenantConflict: The name is taken.
            Invalid: The name or the configuration cannot be used; nothing was made.
        """
        require_name(wish.name, "NAME")
        require_quota(wish.quota, "--quota")
        told = self._asked("POST", "/v1/tenants", wish)
        if told is not None:
            return msgspec.json.decode(told, type=CreatedTenant)
        with self._changing("POST", "/v1/tenants", wish.name):
            if wish.name in self._folders.names():
                came = f'"{wish.name}" is the name of a tenant.'
                raise TenantConflict((Fault("NAME", came, "Another name.", PAGE),))
            key = make_tenant(self._folders, wish, _who(), is_sent=False)
        return CreatedTenant(self._closed(wish.name), key)

    def suspend(self, name: str, reason: str) -> TenantView:
        """Close a tenant until it is resumed; ``reason`` is shown to its callers."""
        path = f"/v1/tenants/{self._sent(name)}/suspend"
        return self._set(
            name, ("POST", path, {"reason": reason}), {"is_suspended": True, "reason": reason[:REASON_MAX]}
        )

    def resume(self, name: str) -> TenantView:
        """Let a tenant serve again."""
        path = f"/v1/tenants/{self._sent(name)}/resume"
        return self._set(name, ("POST", path, {}), {"is_suspended": False, "reason": ""})

    def set_quota(self, name: str, quota: TenantQuota) -> TenantView:
        """Set the rates of a tenant.

        Raises:
            RequestInvalid: A rate is none.
        """
        require_quota(quota, "--quota")
        path = f"/v1/tenants/{self._sent(name)}/quota"
        return self._set(name, ("PUT", path, quota), {"quota": quota})

    def export(self, name: str, target: Path | None) -> ExportedTenant:
        """Copy the folder of a tenant into an archive, also while it serves.

        Args:
            name: Of the tenant.
            target: A folder or a ``.tar`` that is not there; None = a file below ``exports``.
        """
        self._require_there(name)
        if target is None:
            make_folder(self._folders.exports)
            target = self._folders.exports / f"{name}-{_now_ms()}.tar"
        with self._recorded("POST", "/v1/tenants/{name}/export", name):
            found = back_up(self._folders.of(name), target)
        return ExportedTenant(name, str(target), found.log_position, found.files, found.bytes)

    def delete(self, name: str, confirmed: str) -> None:
        """Remove a tenant with all it has, for good.

        Raises:
            NotFound: There is none.
            Invalid: ``confirmed`` is another name.
        """
        self._require_there(name)
        if confirmed != name:
            right = f"--confirm {name}: all events, models and keys of the tenant are removed for good."
            raise TenantConflict((Fault("--confirm", f"{confirmed[:64]!r} came.", right, PAGE),))
        if self._asked("DELETE", f"/v1/tenants/{self._sent(name)}?confirm={self._sent(name)}") is not None:
            return
        with self._changing("DELETE", "/v1/tenants/{name}", name):
            data = DataFolder(self._folders.of(name) / DATA_NAME)
            with locked(data, RealDisk()):  # a server of this shop alone may have it
                self._folders.discard(name, _now_ms())
            self._folders.empty_trash()

    def _set(self, name: str, asked: tuple[str, str, object], changed: Mapping[str, object]) -> TenantView:
        """Have the server change a tenant, else write the change into its file."""
        self._require_there(name)
        method, path, body = asked
        told = self._asked(method, path, body)
        if told is not None:
            return msgspec.json.decode(told, type=TenantView)
        with self._changing(method, f"/v1/tenants/{{name}}/{path.rpartition('/')[2]}", name):
            content: dict[str, Any] = msgspec.structs.asdict(self._folders.read(name)) | dict(changed)
            self._folders.write(name, TenantFile(**content))
        return self._closed(name)

    @contextmanager
    def _changing(self, method: str, route: str, name: str) -> Generator[None]:
        """Hold the lock of the folder in the block, and record the change before it and behind it."""
        with locked(DataFolder(self._folders.data), RealDisk()), self._recorded(method, route, name):
            yield

    def _recorded(self, method: str, route: str, name: str) -> AbstractContextManager[None]:
        begun = TenantChange(secrets.token_hex(8), _now_ms(), _who(), "", method, route, name)
        return recorded_change(self._folders.audit, begun, _now_ms)

    def _asked(self, method: str, path: str, body: object = None) -> bytes | None:
        """Return the answer of the server, None = there is none."""
        content = b"" if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}

        def send(client: "httpx.Client") -> "httpx.Response":
            return client.request(method, path, content=content, headers=headers)

        return server_answer(self._url, ANSWER_S_MAX, send, _refusal)

    def _listed(self, name: str) -> TenantView:
        """Return a tenant for the list: one whose file cannot be read hides no other."""
        try:
            return self._closed(name)
        except (ConfigInvalid, OSError) as error:
            return TenantView(name, "failed", str(error), f"{PREFIX}{name}/", 0, 0, TenantQuota())

    def _closed(self, name: str) -> TenantView:
        file = self._folders.read(name)
        state: State = "suspended" if file.is_suspended else "closed"
        reason = file.reason if file.is_suspended else "no server has the folder open"
        return TenantView(name, state, reason, f"{PREFIX}{name}/", file.created_ms, 0, file.quota)

    def _require_there(self, name: str) -> None:
        if name not in self._folders.names():
            message = f"There is no tenant {name[:64]}; midstream tenants list shows them"
            raise NotFound(message)

    def _sent(self, name: str) -> str:
        return quote(name, safe="")


def _refusal(answer: "httpx.Response", url: str) -> MidstreamError:
    """Return what the server refuses as what it is here."""
    problem = problem_of(answer)
    if problem is not None and problem.type == _NO_ROUTE:
        came = f"The server at {url} serves one shop, and no tenants."
        right = "A folder of tenants by --folder, or one made by midstream serve --tenants FOLDER."
        return RequestInvalid((Fault("--folder", came, right, PAGE),))
    if problem is not None and answer.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(problem.detail)
    return refusal_of(answer, url)


def _who() -> str:
    return f"cli:{machine_user()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
