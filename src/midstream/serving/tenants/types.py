"""Types of tenant management: views, wishes and the protocol of the group of tenants."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Protocol, TypeAlias

import msgspec

from midstream.core.errors import Fault, RequestInvalid
from midstream.serving.http.responses import Receive, Scope, Send

PAGE: Final = "/docs/tenants.md"
PREFIX: Final = "/t/"
"""Start of every path of a tenant; its name follows."""
NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""As a label of a host name: one spelling on every file system, and nothing to escape in a URL."""
RATE_MAX: Final = 1_000_000
RATE_LEAST: Final = 0.001
"""One in 17 minutes; of smaller rates a wait is beyond every number."""
REASON_MAX: Final = 200
"""Characters of the reason of a suspension; what is beyond is left out."""
State: TypeAlias = Literal["opening", "serving", "suspended", "failed", "closing", "closed"]
Rate: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=RATE_MAX)]


class TenantQuota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rates of one tenant, set by the root alone; 0 = no quota."""

    requests_per_second: Rate = 0.0
    """Requests of all routes but health and metrics."""
    events_per_second: Rate = 0.0
    """Events that become durable."""


class TenantView(msgspec.Struct, frozen=True):
    """One tenant as it is listed."""

    name: str
    state: State
    reason: str
    """Why it does not serve; empty while it does."""
    path: str
    created_ms: int
    log_position: int
    """Number of durable events; 0 where it does not serve."""
    quota: TenantQuota


class TenantList(msgspec.Struct, frozen=True):
    """All tenants by name."""

    tenants: Sequence[TenantView]


class DeletedTenant(msgspec.Struct, frozen=True):
    """Answer to a deletion."""

    name: str
    state: Literal["deleted"] = "deleted"


class TenantWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/tenants``."""

    name: str
    configuration: Annotated[str, msgspec.Meta(max_length=1 << 18)] = ""
    """Text of its ``midstream.toml``; empty = every default."""
    quota: TenantQuota = TenantQuota()


class SuspendBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/tenants/{name}/suspend``."""

    reason: str = ""
    """Shown to callers of the tenant, up to 200 characters."""


class CreatedTenant(msgspec.Struct, frozen=True):
    """Answer to the creation of a tenant."""

    tenant: TenantView
    key: str
    """API key of the tenant with the scope ``admin``, shown once."""


class ExportedTenant(msgspec.Struct, frozen=True):
    """Answer to an export."""

    name: str
    file: str
    """Path below the folder of tenants."""
    log_position: int
    files: int
    bytes: int


class RootHealth(msgspec.Struct, frozen=True):
    """Readiness of the server of several tenants."""

    ready: bool
    reason: str
    tenants: Mapping[str, int]
    """Number of tenants by state."""


class TenantApp(Protocol):
    """App of one tenant: it answers in the scope as a server of this tenant alone would have it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...


class Tenants(Protocol):
    """The group of tenants as the routes of the root see it."""

    @property
    def apps(self) -> Mapping[str, TenantApp]:
        """The tenants by name."""
        ...

    def views(self) -> Sequence[TenantView]:
        """Return all tenants by name."""
        ...

    def view(self, name: str) -> TenantView:
        """Return one; ``NotFound`` without it."""
        ...

    def health(self) -> RootHealth:
        """Return whether all tenants that are to serve were opened or failed."""
        ...

    async def metrics_texts(self) -> Mapping[str, bytes]:
        """Return the metrics of the tenants that serve."""
        ...

    async def create(self, wish: TenantWish, who: str) -> CreatedTenant:
        """Make and open one; ``who`` made its key."""
        ...

    async def suspend(self, name: str, reason: str) -> TenantView:
        """Close one until it is resumed."""
        ...

    async def resume(self, name: str) -> TenantView:
        """Open one that is suspended or failed."""
        ...

    async def set_quota(self, name: str, quota: TenantQuota) -> TenantView:
        """Set the rates of one."""
        ...

    async def export(self, name: str) -> ExportedTenant:
        """Copy the folder of one into an archive."""
        ...

    async def delete(self, name: str) -> None:
        """Close one and remove its folder."""
        ...


def require_quota(quota: TenantQuota, where: str) -> TenantQuota:
    """Return rates that may be set.

    Args:
        quota: As somebody wishes it.
        where: Pointer to it, or the options of a command.

    Raises:
        RequestInvalid: One is none; both are named.
    """
    right = f"0 for no quota, or {RATE_LEAST} to {RATE_MAX:,} a second."
    faults = tuple(
        Fault(f"{where}/{name}", f"{rate!r} came.", right, PAGE)
        for name, rate in msgspec.structs.asdict(quota).items()
        if rate != 0 and not RATE_LEAST <= rate <= RATE_MAX  # NaN is not
    )
    if faults:
        raise RequestInvalid(faults)
    return quota


def require_name(name: str, where: str) -> str:
    """Return a name of a tenant.

    Raises:
        RequestInvalid: It is none.
    """
    if NAME.fullmatch(name):
        return name
    right = "1 to 63 small letters, digits and hyphens, with a letter or a digit at both ends, such as red-shop."
    raise RequestInvalid((Fault(where, f"{name[:64]!r} came.", right, PAGE),))
