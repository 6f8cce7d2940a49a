"""Root app of a server of several tenants: their list, creation, suspension, export and deletion; health and metrics.

Plain ASGI, as these are few routes and machines call most of them. The gate of the root's API keys stands in front; no
key of a tenant is one of the root.
"""

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPMethod, HTTPStatus
from typing import TypeAlias, get_args

import msgspec

from midstream.core.errors import Fault, MidstreamError, RequestInvalid
from midstream.engine.types import Liveness
from midstream.monitoring.by_process import merged_tenants
from midstream.monitoring.metrics import Metrics
from midstream.monitoring.metrics_text import text_in_turns
from midstream.serving.access.callers import caller_of
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.scopes import tenant_scope_needed, tenant_template
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.http.parsing import decode_json, query_fields, single
from midstream.serving.http.problems import Disconnected, RouteUnknown, problem_reply
from midstream.serving.http.responses import (
    NO_STORE,
    Receive,
    Reply,
    Scope,
    Send,
    send_reply,
    sent_path,
)
from midstream.serving.operation import METRICS_TEXT
from midstream.serving.tenants.audit_file import AuditFile
from midstream.serving.tenants.root_pages import RootPages
from midstream.serving.tenants.types import (
    PAGE,
    REASON_MAX,
    DeletedTenant,
    State,
    SuspendBody,
    TenantList,
    TenantQuota,
    Tenants,
    TenantWish,
    require_name,
    require_quota,
)

_wish = msgspec.json.Decoder(TenantWish)
_quota = msgspec.json.Decoder(TenantQuota)
_suspend = msgspec.json.Decoder(SuspendBody)
_ONE = "/v1/tenants/{name}"
_Route: TypeAlias = Callable[[str, Scope, Receive], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class RootParts:
    """Parts of the server that the root works with."""

    limits: BodyLimits
    audit: AuditFile
    log_id: str
    """Identifies this server in ``/health/live``."""
    flaw: Callable[[], str]
    """Returns what an operator has to look at; empty = nothing."""
    keys: KeyFile
    """Of the root."""
    now_ms: Callable[[], int]
    """Wall clock."""


class RootApp:
    """ASGI app of the root. Each change of a tenant is recorded before it and behind it."""

    def __init__(self, tenants: Tenants, metrics: Metrics, arrivals: LoopArrivals, parts: RootParts) -> None:
        """Manage ``tenants``."""
        self._tenants = tenants
        self._audit = parts.audit
        self.metrics = metrics
        self.arrivals = arrivals
        self._limits = parts.limits
        self._flaw = parts.flaw
        self._liveness = Liveness("live", parts.log_id, os.getpid())
        self.drains: Callable[[], str] = str
        """Returns why the server takes no further requests; empty while it does."""
        self._pages = RootPages(lambda: _list_of(tenants), parts.keys, parts.now_ms)
        self._routes: Mapping[tuple[str, str], _Route] = {
            ("GET", "/v1/tenants"): self._list,
            ("POST", "/v1/tenants"): self._create,
            ("GET", "/v1/tenants/{name}"): self._show,
            ("DELETE", "/v1/tenants/{name}"): self._delete,
            ("PUT", "/v1/tenants/{name}/quota"): self._set_quota,
            ("POST", "/v1/tenants/{name}/suspend"): self._suspend,
            ("POST", "/v1/tenants/{name}/resume"): self._resume,
            ("POST", "/v1/tenants/{name}/export"): self._export,
            ("GET", "/health/live"): self._live,
            ("GET", "/health/ready"): self._ready,
            ("GET", "/metrics"): self._metrics_text,
            **self._pages.routes,
        }

    @property
    def routes(self) -> Mapping[str, frozenset[str]]:
        """Methods by template."""
        return {path: frozenset(method for method, each in self._routes if each == path) for _, path in self._routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        self.arrivals.begin(scope)
        method = "GET" if scope["method"] == HTTPMethod.HEAD else scope["method"]
        template = tenant_template(sent_path(scope)) or ""
        try:
            if (method, template) not in self._routes:
                tenant_scope_needed(scope)  # raises the reason
            name = sent_path(scope).split("/")[3] if template.startswith(_ONE) else ""
            reply = await self._routes[method, template](require_name(name, "path") if name else "", scope, receive)
        except Disconnected:
            return
        except MidstreamError as error:
            unknown = self._pages.unknown(scope) if isinstance(error, RouteUnknown) else None
            reply = unknown or problem_reply(error)
        if scope["method"] == HTTPMethod.HEAD:
            reply = Reply(reply.status, b"", reply.media_type, reply.headers)
        await send_reply(scope, send, reply)

    async def _list(self, _name: str, scope: Scope, _receive: Receive) -> Reply:
        query_fields(scope, ())
        return _json(_list_of(self._tenants))

    async def _show(self, name: str, scope: Scope, _receive: Receive) -> Reply:
        query_fields(scope, ())
        return _json(self._tenants.view(name))

    async def _create(self, _name: str, scope: Scope, receive: Receive) -> Reply:
        wish = decode_json(_wish, await read_body(scope, receive, self._limits))
        require_name(wish.name, "/name")
        require_quota(wish.quota, "/quota")
        async with self._recorded(scope, wish.name):
            made = await self._tenants.create(wish, _who(scope))
        return _json(made, HTTPStatus.CREATED)

    async def _set_quota(self, name: str, scope: Scope, receive: Receive) -> Reply:
        quota = decode_json(_quota, await read_body(scope, receive, self._limits))
        require_quota(quota, "")
        self._tenants.view(name)
        async with self._recorded(scope, name):
            return _json(await self._tenants.set_quota(name, quota))

    async def _suspend(self, name: str, scope: Scope, receive: Receive) -> Reply:
        body = decode_json(_suspend, await read_body(scope, receive, self._limits) or b"{}")
        self._tenants.view(name)
        async with self._recorded(scope, name):
            return _json(await self._tenants.suspend(name, body.reason[:REASON_MAX]))

    async def _resume(self, name: str, scope: Scope, _receive: Receive) -> Reply:
        self._tenants.view(name)
        async with self._recorded(scope, name):
            return _json(await self._tenants.resume(name))

    async def _export(self, name: str, scope: Scope, _receive: Receive) -> Reply:
        self._tenants.view(name)
        async with self._recorded(scope, name):
            return _json(await self._tenants.export(name))

    async def _delete(self, name: str, scope: Scope, _receive: Receive) -> Reply:
        self._tenants.view(name)
        confirmed = single(query_fields(scope, ("confirm",)), "confirm")
        if confirmed != name:
            came = "It did not come." if confirmed is None else f'"{confirmed[:64]}" came.'
            right = f"confirm={name}: all events, models and keys of the tenant are removed for good."
            raise RequestInvalid((Fault("confirm", came, right, PAGE),))
        async with self._recorded(scope, name):
            await self._tenants.delete(name)
        return _json(DeletedTenant(name))

    def _recorded(self, scope: Scope, tenant: str) -> AbstractAsyncContextManager[None]:
        """Record a change of a tenant that is made in the block."""
        caller = caller_of(scope)
        address = "" if caller is None else caller.address
        route = tenant_template(sent_path(scope)) or ""
        return self._audit.recorded(_who(scope), address, scope["method"], route, tenant)

    async def _live(self, _name: str, _scope: Scope, _receive: Receive) -> Reply:
        return _json(self._liveness)

    async def _ready(self, _name: str, _scope: Scope, _receive: Receive) -> Reply:
        health = self._tenants.health()
        if waits := self.drains():
            health = msgspec.structs.replace(health, ready=False, reason=waits)
        if flaw := self._flaw():
            reason = f"{health.reason}; {flaw}" if health.reason else flaw
            health = msgspec.structs.replace(health, reason=reason)
        return _json(health, HTTPStatus.OK if health.ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _metrics_text(self, _name: str, _scope: Scope, _receive: Receive) -> Reply:
        health = self._tenants.health()
        for state in get_args(State):
            self.metrics.tenants.labels(state).set(health.tenants.get(state, 0))
        is_ready = health.ready and not self.drains()
        # Its own log is none: whether events are accepted is what each tenant says.
        self.metrics.set_health(ready=is_ready, accepts_events=is_ready)
        own = await text_in_turns(self.metrics.registry)
        text = await merged_tenants(own, await self._tenants.metrics_texts())
        return Reply(HTTPStatus.OK, text, METRICS_TEXT, NO_STORE)


def _list_of(tenants: Tenants) -> TenantList:
    return TenantList(tenants.views())


def _who(scope: Scope) -> str:
    caller = caller_of(scope)
    return "anonymous" if caller is None else caller.who


def _json(document: object, status: int = HTTPStatus.OK) -> Reply:
    return Reply(status, msgspec.json.encode(document), headers=NO_STORE)
