"""Gate against cross-site requests: refuses requests that a browser sends for a page of another site.

Without keys, any client that reaches the port may do everything, and a browser reaches it for any page its user has
open. Three parts of a request reveal that, and each is checked before any route: the host name (a page whose name was
made to point here, DNS rebinding, can only send its own), the site it was sent for (``Origin``, ``Sec-Fetch-Site``),
and the type of its body (a page sends only three types without a preflight, and no preflight is answered).

Reference: Jackson, Barth, Bortz, Shao and Boneh, Protecting browsers from DNS rebinding attacks, CCS 2007 (checking
``Host``); Barth, Jackson and Mitchell, Robust defenses for cross-site request forgery, CCS 2008 (``Origin``); West,
Fetch Metadata Request Headers, W3C, 2021; WHATWG, Fetch, 2.2.2 (which types need no preflight).
"""

from collections.abc import Coroutine, Mapping
from typing import Any

from midstream.core.errors import DOCUMENTATION_PATH, Fault, Invalid, RequestInvalid
from midstream.engine.requests.schema import PAGE
from midstream.events.json.decode import is_ndjson
from midstream.serving.access.gate import KeyGate
from midstream.serving.access.measured_app import Measured
from midstream.serving.access.visitors import PAGE_ORIGIN
from midstream.serving.browser.script import SCRIPT_PATH
from midstream.serving.http.hosts import Hosts, authority_name
from midstream.serving.http.problems import CrossSite, MediaTypeUnsupported, Misdirected, problem_reply
from midstream.serving.http.responses import JSON, Receive, Scope, Send, send_reply, sent_path
from midstream.serving.http.target import ABSOLUTE_TARGET
from midstream.serving.openapi.docs_page import DOCS_PATH
from midstream.serving.options import ServerOptions

ANSWER_HEADERS = (("cross-origin-resource-policy", "same-origin"), ("x-content-type-options", "nosniff"))
"""Of every answer of a port: no page of another origin may take it in as an image, a script or a style."""
OWN_SITE = frozenset((b"same-origin", b"none"))
"""Values of ``Sec-Fetch-Site`` for this server's own pages, and for a typed address."""
TYPES = frozenset((JSON, b"application/merge-patch+json", b"application/vnd.apache.arrow.stream"))
"""Of bodies, beside those of NDJSON. Browsers send none of them to another origin without a preflight."""
KNOWN_MAX = 64
"""Cached valid values of ``Host``: one for each name and port in use."""
_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_ONCE = frozenset((b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"content-type"))
_RIGHT_SITE = (
    "What programs send, this server's own pages, or an address that was typed; there is no CORS. Let the page's own "
    "server ask, or name its origin in [server] allow_origins."
)
_RIGHT_TYPE = (
    "application/json (curl: -H 'content-type: application/json'), application/x-ndjson, or a stream of Arrow."
)


class RequestOrigin:
    """ASGI app of a port: refuses cross-site requests, passes the rest to another app.

    Requests between processes of one server over unix sockets do not pass it: no browser reaches them, and a proxied
    request was admitted by the process that received it.
    """

    def __init__(self, app: Measured, options: ServerOptions) -> None:
        """Front of ``app``; ``options`` have the names of the server."""
        self._app = app
        self.metrics = app.metrics
        self.arrivals = app.arrivals
        """To be told of each request that was read."""
        self._page_origins = app.page_origins if isinstance(app, KeyGate) else frozenset[bytes]
        self._hosts = Hosts(options)
        self._origins = frozenset(each.lower().encode() for each in options.allow_origins)
        self._known: dict[bytes, bytes] = {}
        """``Host`` as it came and was found right → in small letters."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] == "http":
            try:
                self._require_own(scope)
            except (RequestInvalid, Misdirected, CrossSite, MediaTypeUnsupported) as error:
                self._note(scope, error)
                return send_reply(scope, send, problem_reply(error))
        return self._app(scope, receive, send)

    def _note(self, scope: Scope, error: Invalid) -> None:
        """Count a refusal, and end its turn in the queue."""
        self.metrics.foreign_requests.labels(error.faults[0].where).inc()
        self.arrivals.begin(scope)
        self.arrivals.refuse()

    def _require_own(self, scope: Scope) -> None:
        """Refuse by the headers alone. Cost: 1 µs.

        Raises:
            RequestInvalid: The host is missing or ambiguous.
            Misdirected: The host is not one of this server's names.
            CrossSite: A browser sends it for a page of another origin.
            MediaTypeUnsupported: The body's type is one that pages send without a preflight, or is missing.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        sent = dict(headers)
        if len(sent) != len(headers):
            _require_once(headers)
        host = self._known.get(sent.get(b"host", b"")) or self._own_host(sent)
        target: bytes | None = scope.get(ABSOLUTE_TARGET)
        if target is not None and authority_name(target) != host:
            came = f"{_shown(host)} came, and {_shown(target)} as the request's target."
            raise _unclear(came, "A path as the target, or the same host in both.")
        if (b"origin" in sent or b"sec-fetch-site" in sent) and not _loads_script(scope):
            self._require_own_page(scope, sent, host)
        if scope["method"] not in _READS and sent.get(b"content-type") != JSON:
            _require_type(sent)

    def _own_host(self, sent: Mapping[bytes, bytes]) -> bytes:
        """Return the value of ``Host`` in small letters."""
        value = sent.get(b"host")
        if value is None:
            raise _unclear("None came.")
        name = self._hosts.name_of(value)
        if name is None:
            raise _unclear(f"{_shown(value)} came.")
        if not self._hosts.allows(name):
            came = f"{_shown(value)} came, which is no name of this server."
            raise Misdirected((Fault("host", came, self._hosts.right, PAGE),))
        if len(self._known) < KNOWN_MAX:
            self._known[value] = value.lower()
        return value.lower()

    def _require_own_page(self, scope: Scope, sent: Mapping[bytes, bytes], host: bytes) -> None:
        origin = sent.get(b"origin")
        if origin is not None:
            if origin.lower() in self._origins:
                return
            is_own = origin.lower() in {b"http://" + host, b"https://" + host}
            if not is_own and origin.lower() in self._page_origins():
                scope[PAGE_ORIGIN] = origin.lower()
                return
            if not is_own:
                came = f"{_shown(origin)} came, with the host {_shown(host)}."
                raise CrossSite((Fault("origin", came, _RIGHT_SITE, PAGE),))
        site = sent.get(b"sec-fetch-site")
        if site is not None and site.lower() not in OWN_SITE and not _opens_docs(scope, sent):
            raise CrossSite((Fault("sec-fetch-site", f"{_shown(site)} came.", _RIGHT_SITE, PAGE),))


def _loads_script(scope: Scope) -> bool:
    """Return whether the browser client is read, which has the same content for every page and caller."""
    return scope["path"] == SCRIPT_PATH and sent_path(scope) == SCRIPT_PATH and scope["method"] in _READS


def _opens_docs(scope: Scope, sent: Mapping[bytes, bytes]) -> bool:
    """Return whether a link of another page is followed to the docs: they write nothing, and no frame shows them."""
    return (
        (scope["path"] == DOCS_PATH or scope["path"].startswith(DOCUMENTATION_PATH))
        and scope["method"] in _READS
        and sent.get(b"sec-fetch-mode") == b"navigate"
        and sent.get(b"sec-fetch-dest") == b"document"
    )


def _require_type(sent: Mapping[bytes, bytes]) -> None:
    """Refuse a body whose type a page could send; a request with neither body nor type is left to ``Origin``."""
    value = sent.get(b"content-type")
    if value is None:
        if b"transfer-encoding" in sent or sent.get(b"content-length", b"0") != b"0":
            raise MediaTypeUnsupported((Fault("content-type", "None came with a body.", _RIGHT_TYPE, PAGE),))
        return
    essence = value.partition(b";")[0].strip().lower()
    if essence in TYPES or (essence.startswith(b"application/") and is_ndjson(essence.decode("latin-1"))):
        return
    raise MediaTypeUnsupported((Fault("content-type", f"{_shown(value)} came.", _RIGHT_TYPE, PAGE),))


def _require_once(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a repeated header that is checked: readers of the first and of the last value would differ."""
    seen = [name for name, _ in headers if name in _ONCE]
    for name in seen:
        if seen.count(name) > 1:
            where = name.decode()
            raise RequestInvalid((Fault(where, "It came more than once.", "One header of that name.", PAGE),))


def _unclear(came: str, right: str = "One Host header: a name or an address, maybe with a port.") -> RequestInvalid:
    return RequestInvalid((Fault("host", came, right, PAGE),))


def _shown(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))
