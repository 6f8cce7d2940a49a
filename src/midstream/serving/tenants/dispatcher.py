"""Dispatcher of a port with several tenants: a path below ``/t/NAME`` is answered by that tenant's own app.

The prefix is cut before anything else reads the path, at the same slash of the decoded path and of the path as it was
sent. From there on a request has references to one tenant's objects alone, so nothing of another is within its reach:
isolation follows from construction, not from a check in each route.
"""

from midstream.core.errors import Fault
from midstream.monitoring.metrics import Metrics
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.http.mounting import below
from midstream.serving.http.problems import RouteUnknown
from midstream.serving.http.responses import ASGI, Receive, Scope, Send, send_reply
from midstream.serving.tenants.refused_pages import refused_reply
from midstream.serving.tenants.types import NAME, PAGE, PREFIX, Tenants


class TenantDispatcher:
    """ASGI app of the port: requests of tenants go to their apps, all others to the root."""

    def __init__(self, tenants: Tenants, root: ASGI, metrics: Metrics, arrivals: LoopArrivals) -> None:
        """Dispatch to ``tenants`` and ``root``; connections of the port are counted in ``metrics``."""
        self._tenants = tenants
        self._root = root
        self.metrics = metrics
        self.arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        if not scope["path"].startswith(PREFIX):
            await self._root(scope, receive, send)
            return
        self.arrivals.begin(scope)
        found = scope
        try:
            name = tenant_name(scope["path"])
            found = below(scope, f"{PREFIX}{name}")
            app = self._tenants.apps.get(name)
            if app is None:
                raise _unknown(name)
        except RouteUnknown as error:
            await send_reply(scope, send, refused_reply(found, error))
            return
        await app(found, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Tenants are opened and closed by their owner."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def tenant_name(path: str) -> str:
    """Return the name of the tenant in a decoded path that begins with the prefix.

    Raises:
        RouteUnknown: What follows the prefix is no name.

    Example:
        >>> tenant_name("/t/red/v1/events"), tenant_name("/t/red")
        ('red', 'red')
    """
    name = path[len(PREFIX) :].partition("/")[0]
    if NAME.fullmatch(name) is None:
        raise _unknown(name)
    return name


def _unknown(name: str) -> RouteUnknown:
    came = f'There is no tenant "{name[:63]}".'
    return RouteUnknown((Fault("path", came, "/t/NAME/ with the name of a tenant of this server.", PAGE),))
