"""Scopes of API keys, and the scope that each route needs: one table for every way into the app.

A route that is not in the table is reached by an ``admin`` key alone, so a new one is closed until it is given a scope
here. Hot routes are found by the decoded path and the others by the path as it was sent, as the app finds them: a path
that the two read differently would otherwise be checked as one route and answered as another.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPMethod
from typing import Final

from midstream.core.errors import Fault
from midstream.engine.requests.schema import PAGE
from midstream.serving.http.problems import MethodNotAllowed, RouteUnknown
from midstream.serving.http.responses import Scope, sent_path

EVENTS: Final = "events:write"
RECOMMEND: Final = "recommend"
CATALOGUE: Final = "catalogue"
PLACEMENTS: Final = "placements"
MODELS: Final = "models"
READ: Final = "read"
ERASE: Final = "erase"
ADMIN: Final = "admin"
SCOPES: Final = (EVENTS, RECOMMEND, CATALOGUE, PLACEMENTS, MODELS, READ, ERASE, ADMIN)
BROWSER_SCOPES: Final = frozenset({EVENTS, RECOMMEND})
"""Scopes that a public key may have."""

ANY: Final = ""
"""Any key, whatever its scopes."""
NODES: Final = "nodes"
"""The key of the shop's nodes, which the route itself checks."""
OPEN: Final = "open"
"""No key: a program that supervises the server has none."""
METRICS: Final = "metrics"
"""``read``, or no key where ``open_metrics`` says so."""

_READ_ONLY: Final = {"GET": READ}
ROUTES: Final[Mapping[str, Mapping[str, str]]] = {
    "/v1/events": {"POST": EVENTS},
    "/v1/events/bulk": {"POST": EVENTS},
    "/v1/events/{event_id}": {"DELETE": EVENTS},
    "/v1/recommendations": {"POST": RECOMMEND, "GET": RECOMMEND},
    "/v1/recommendations/batch": {"POST": RECOMMEND},
    "/v1/rank": {"POST": RECOMMEND},
    "/v1/pages": {"POST": RECOMMEND},
    "/v1/items": {"GET": READ, "POST": CATALOGUE, "PUT": CATALOGUE, "PATCH": CATALOGUE},
    "/v1/items/search": {"GET": RECOMMEND},
    "/v1/items/{item_id}": {"PUT": CATALOGUE, "PATCH": CATALOGUE, "DELETE": CATALOGUE, "GET": READ},
    "/v1/items/{item_id}/similar": {"GET": RECOMMEND},
    "/v1/items/{item_id}/users": _READ_ONLY,
    "/v1/users": {"GET": READ, "POST": CATALOGUE, "PUT": CATALOGUE, "PATCH": CATALOGUE},
    "/v1/users/{user_id}": {"PUT": CATALOGUE, "PATCH": CATALOGUE, "DELETE": ERASE, "GET": READ},
    "/v1/users/{user_id}/merge": {"POST": CATALOGUE},
    "/v1/users/{user_id}/events": {"GET": READ, "DELETE": EVENTS},
    "/v1/users/{user_id}/similar": _READ_ONLY,
    "/v1/users/{user_id}/values": _READ_ONLY,
    "/v1/erasures": _READ_ONLY,
    "/v1/erasures/run": {"POST": ERASE},
    "/v1/requests": _READ_ONLY,
    "/v1/requests/{request_id}": _READ_ONLY,
    "/v1/requests/{request_id}/explanation": _READ_ONLY,
    "/v1/audit": {"GET": ADMIN},
    "/v1/keys": {"GET": ADMIN},
    "/v1/keys/{name}": {"POST": ADMIN, "DELETE": ADMIN},
    "/v1/keys/{name}/rotate": {"POST": ADMIN},
    "/v1/placements": _READ_ONLY,
    "/v1/placements/{name}": {"GET": READ, "PUT": PLACEMENTS, "DELETE": PLACEMENTS},
    "/v1/placements/{name}/preview": {"POST": PLACEMENTS},
    "/v1/experiments": _READ_ONLY,
    "/v1/experiments/{name}": {"GET": READ, "POST": PLACEMENTS},
    "/v1/experiments/{name}/report": _READ_ONLY,
    "/v1/experiments/{name}/ramp": {"POST": PLACEMENTS},
    "/v1/experiments/{name}/stop": {"POST": PLACEMENTS},
    "/v1/holdout": {"PUT": PLACEMENTS, "DELETE": PLACEMENTS},
    "/v1/features": _READ_ONLY,
    "/v1/features/as-of": _READ_ONLY,
    "/v1/features/read": {"POST": READ},
    "/v1/features/{name}": {"GET": READ, "POST": CATALOGUE},
    "/v1/dead-letters": _READ_ONLY,
    "/v1/dead-letters/retry": {"POST": ADMIN},
    "/v1/dead-letters/remove": {"POST": ADMIN},
    "/v1/dead-letters/{number}": _READ_ONLY,
    "/v1/rebuild": {"GET": READ, "POST": ADMIN},
    "/v1/inputs": _READ_ONLY,
    "/v1/inputs/{name}": _READ_ONLY,
    "/v1/inputs/{name}/positions": {"POST": ADMIN},
    "/v1/outputs": _READ_ONLY,
    "/v1/outputs/{name}": _READ_ONLY,
    "/v1/outputs/{name}/position": {"POST": ADMIN},
    "/v1/online-metrics": _READ_ONLY,
    "/v1/sinks": _READ_ONLY,
    "/v1/sinks/{name}": _READ_ONLY,
    "/v1/sinks/{name}/backfill": {"POST": ADMIN},
    "/v1/models": _READ_ONLY,
    "/v1/models/{name}": _READ_ONLY,
    "/v1/models/{name}/promote": {"POST": MODELS},
    "/v1/models/{name}/rollback": {"POST": MODELS},
    "/v1/trainings": _READ_ONLY,
    "/v1/trainings/{model}": _READ_ONLY,
    "/v1/trainings/{model}/run": {"POST": MODELS},
    "/v1/snapshots": {"GET": NODES},
    "/v1/snapshots/{folder}/{name}": {"GET": NODES},
    "/health/live": {"GET": OPEN},
    "/health/ready": {"GET": OPEN},
    "/metrics": {"GET": METRICS},
    "/midstream.js": {"GET": OPEN},
    "/demo": _READ_ONLY,
    "/demo/assets/{name}": _READ_ONLY,
    "/docs": {"GET": ANY},
    "/docs/{name:path}": {"GET": ANY},
    "/openapi.json": {"GET": ANY},
    "/": {"GET": OPEN},
    "/console": _READ_ONLY,
    "/console/live": _READ_ONLY,
    "/console/placements": _READ_ONLY,
    "/console/placements/{name}": _READ_ONLY,
    "/console/placements/{name}/change": {"GET": PLACEMENTS},
    "/console/requests": _READ_ONLY,
    "/console/requests/{request_id}": _READ_ONLY,
    "/console/requests/{request_id}/why": _READ_ONLY,
    "/console/catalogue": _READ_ONLY,
    "/console/items/{item_id}": _READ_ONLY,
    "/console/items/{item_id}/features": _READ_ONLY,
    "/console/users/{user_id}": _READ_ONLY,
    "/console/users/{user_id}/features": _READ_ONLY,
    "/console/models": _READ_ONLY,
    "/console/experiments": _READ_ONLY,
    "/console/experiments/{name}": _READ_ONLY,
    "/console/outcomes": _READ_ONLY,
    "/console/keys": {"GET": ADMIN},
    "/console/dead-letters": _READ_ONLY,
    "/console/dead-letters/{number}": _READ_ONLY,
    "/console/operation": _READ_ONLY,
    "/console/assets/{name}": {"GET": OPEN},
    "/console/session": {"GET": OPEN, "PUT": READ, "DELETE": OPEN},
    "/console/{rest:path}": _READ_ONLY,
}
"""Scope by path and method; ``HEAD`` is as ``GET``, and ``OPTIONS`` is for any key."""
TENANT_ROUTES: Final[Mapping[str, Mapping[str, str]]] = {
    "/v1/tenants": {"GET": ADMIN, "POST": ADMIN},
    "/v1/tenants/{name}": {"GET": ADMIN, "DELETE": ADMIN},
    "/v1/tenants/{name}/quota": {"PUT": ADMIN},
    "/v1/tenants/{name}/suspend": {"POST": ADMIN},
    "/v1/tenants/{name}/resume": {"POST": ADMIN},
    "/v1/tenants/{name}/export": {"POST": ADMIN},
    "/openapi.json": {"GET": OPEN},
    "/docs": {"GET": OPEN},
    "/docs/{name:path}": {"GET": OPEN},
    "/": {"GET": OPEN},
    "/console": {"GET": ADMIN},
    "/console/assets/{name}": {"GET": OPEN},
    "/console/session": {"GET": OPEN, "PUT": ADMIN, "DELETE": OPEN},
    "/health/live": {"GET": OPEN},
    "/health/ready": {"GET": OPEN},
    "/metrics": {"GET": METRICS},
}
"""The same for the root of a server of several tenants, which has no shop of its own."""
HOT: Final = frozenset(
    (
        *("/v1/events", "/v1/events/bulk", "/v1/recommendations", "/v1/recommendations/batch", "/v1/rank", "/v1/pages"),
        *("/health/live", "/health/ready", "/metrics"),
    )
)
"""Paths all methods of which the app finds by the decoded path."""
HOT_METHODS: Final = {"/v1/items": frozenset(("PUT", "PATCH")), "/v1/users": frozenset(("PUT", "PATCH"))}
"""Of other paths, the methods that it finds so."""
_PAGES: Final = "/docs/"
_CONSOLE: Final = "/console/"
_NAME_AT: Final = 3
"""Place of the name among the parts of ``/v1/tenants/{name}``."""
_FIELD = re.compile(r"\\{\w+(:path)?\\}")


def _patterns(templates: Iterable[str]) -> Mapping[str, tuple[tuple[re.Pattern[str], str], ...]]:
    """Return pattern and template of paths with fields, by the part before the first field: few are tried for each."""
    found: dict[str, list[tuple[re.Pattern[str], str]]] = {}
    for template in templates:
        text = _FIELD.sub(lambda match: ".*" if match[1] else "[^/]+", re.escape(template))
        found.setdefault(_beginning(template), []).append((re.compile(text), template))
    return {beginning: tuple(each) for beginning, each in found.items()}


def _beginning(path: str) -> str:
    """Return the first two parts of a path: ``/v1/items`` of ``/v1/items/lamp/similar``; ``/docs`` of a page."""
    parts = path.split("/", 3)
    return "/".join(parts[:2] if parts[1] == "docs" else parts[:3])


_PATTERNS = _patterns(each for each in ROUTES if "{" in each)


CHANGING: Final = frozenset((CATALOGUE, PLACEMENTS, MODELS, ERASE, ADMIN))
"""Scopes of routes that change what is served; acts of users are changes too, and have events of their own."""
_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_UNAUDITED: Final = frozenset(("/v1/placements/{name}/preview",))
_TAKES_BACK: Final = frozenset(("/v1/events/{event_id}", "/v1/users/{user_id}/events"))
"""Paths whose ``DELETE`` takes an act back: its event does not say who wanted that."""


def template_of(path: str) -> str | None:
    """Return the template in the table of a path as it was sent, None = it is not there.

    Example:
        >>> template_of("/v1/items/lamp/similar"), template_of("/v1/features/read"), template_of("/v1/nothing")
        ('/v1/items/{item_id}/similar', '/v1/features/read', None)
    """
    if path in ROUTES and "{" not in path:
        return path
    if "/" not in path[1:]:
        return None
    known = _PATTERNS.get(_beginning(path), ())
    unknown = f"{_CONSOLE}{{rest:path}}" if path.startswith(_CONSOLE) else None
    return next((template for pattern, template in known if pattern.fullmatch(path)), unknown)


def scope_needed(scope: Scope) -> str:
    """Return the scope that a request needs: one of ``SCOPES``, ``ANY``, ``NODES``, ``OPEN`` or ``METRICS``.

    Raises:
        RouteUnknown: No route of the table has the path.
        MethodNotAllowed: None has the method.
    """
    method = scope["method"]
    path: str = scope["path"]
    if path in HOT or method in HOT_METHODS.get(path, ()):
        found = ROUTES[path].get(method)
        if found is not None:
            return found
    template = template_of(sent_path(scope))
    if template is None:
        came = f'"{path[:60]}" is no path here.'
        raise RouteUnknown((Fault("path", came, "A path of /docs, or of /openapi.json for programs.", PAGE),))
    if method == HTTPMethod.OPTIONS:
        return ANY
    methods = ROUTES[template]
    found = methods.get("GET" if method == HTTPMethod.HEAD else method)
    if found is None:
        raise MethodNotAllowed(method, {"OPTIONS", *methods, *({"HEAD"} if "GET" in methods else ())})
    return found


def tenant_template(path: str) -> str | None:
    """Return the template in ``TENANT_ROUTES`` of a path as it was sent, None = it is not there.

    Example:
        >>> tenant_template("/v1/tenants/red/suspend"), tenant_template("/v1/events")
        ('/v1/tenants/{name}/suspend', None)
    """
    if path in TENANT_ROUTES and "{" not in path:
        return path
    if path.startswith(_PAGES) and len(path) > len(_PAGES):
        return f"{_PAGES}{{name:path}}"
    parts = path.split("/")
    template = "/".join((*parts[:3], "{name}", *parts[4:]))
    return template if len(parts) > _NAME_AT and parts[_NAME_AT] and template in TENANT_ROUTES else None


def tenant_scope_needed(scope: Scope) -> str:
    """Return the scope that a request to the root of a server of several tenants needs.

    Raises:
        RouteUnknown: No route of the root has the path.
        MethodNotAllowed: None has the method.
    """
    template = tenant_template(sent_path(scope))
    if template is None:
        came = f'"{scope["path"][:60]}" is no path of a server of several tenants.'
        right = "A path of /openapi.json; a path of a tenant begins with /t/NAME/."
        raise RouteUnknown((Fault("path", came, right, "/docs/tenants.md"),))
    method = scope["method"]
    found = TENANT_ROUTES[template].get("GET" if method == HTTPMethod.HEAD else method)
    if found is None:
        raise MethodNotAllowed(method, TENANT_ROUTES[template])
    return found


def audited_route(scope: Scope) -> str | None:
    """Return the template of a request that changes what is served, None = it does not."""
    method = scope["method"]
    if method in _READS or scope["path"] in HOT:
        return None
    template = scope["path"] if method in HOT_METHODS.get(scope["path"], ()) else template_of(sent_path(scope))
    if template is None or template in _UNAUDITED:
        return None
    is_change = ROUTES[template].get(method) in CHANGING or (template in _TAKES_BACK and method == HTTPMethod.DELETE)
    return template if is_change else None
