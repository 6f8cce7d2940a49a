"""The gate in front of a port: the matrix of names, origins, fetch metadata, types and methods, over every route."""

import json
from itertools import product

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from midstream.core.errors import ConfigInvalid
from midstream.monitoring.metrics import Metrics
from midstream.serving.http.hosts import host_faults
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.http.target import ABSOLUTE_TARGET
from midstream.serving.openapi.docs_page import DOCS_PATH
from midstream.serving.options import ServerOptions
from midstream.serving.request_origin import KNOWN_MAX, OWN_SITE, RequestOrigin
from midstream.serving.run import _url_of, serve
from tests.support.fakes.engine import FakeEngine

HOST = ("host", "localhost:8765")
JSON = ("content-type", "application/json")
FOREIGN_TYPES = (
    *("text/plain", "text/plain; charset=application/json", "text/plain;ndjson", "application/x-www-form-urlencoded"),
    *("multipart/form-data; boundary=x", "TEXT/PLAIN", "", "application/javascript", "text/x-ndjson", "*/*"),
    *("application/json, text/plain", "application/json2", "application/jsonp"),
)
OWN_TYPES = (
    *("application/json", "Application/JSON", "application/json; charset=utf-8", "application/merge-patch+json"),
    *("application/x-ndjson", "application/jsonl", "application/vnd.apache.arrow.stream"),
)
FOREIGN_SITES = ("cross-site", "same-site", "Cross-Site", "SAME-SITE", "", "anything", "none, cross-site")
FOREIGN_ORIGINS = (
    *(
        "null",
        "http://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:8765",
        "",
        "localhost",
    ),
    *("http://localhost:8765.evil.example", "http://evil.example@localhost:8765", "file://", "chrome-extension://abc"),
    *("http://localhost:8765/", "http://localhost:8765 http://evil.example", "ws://localhost:8765"),
)


class Behind:
    """What stands behind the gate: notes what was let in, and answers 204."""

    def __init__(self):
        self.arrivals = LoopArrivals(lambda: 0.0)
        self.metrics = Metrics(CollectorRegistry())
        self.let_in = []

    async def __call__(self, scope, receive, send):
        self.let_in.append((scope["method"], scope["path"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Gate:
    """A gate that is asked with headers as they are, so that some may be missing or come twice."""

    def __init__(self, options=None, behind=None):
        self.behind = behind or Behind()
        self.app = RequestOrigin(self.behind, options or ServerOptions())

    def ask(self, *headers, method="GET", path="/v1/placements", **scope):
        """Return status and document of an answer."""
        sent = []
        asked = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            **scope,
        }

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            sent.append(message)

        try:  # nothing here waits, so no loop is needed
            self.app(asked, receive, send).send(None)
        except StopIteration:
            body = b"".join(each.get("body", b"") for each in sent[1:])
            return sent[0]["status"], json.loads(body) if body else {}
        raise AssertionError

    def status(self, *headers, **options):
        """Return the status of an answer, and prove that a refusal stayed outside."""
        before = len(self.behind.let_in)
        status, document = self.ask(*headers, **options)
        assert (status == 204) == (len(self.behind.let_in) == before + 1)
        if status != 204:
            assert {"type", "title", "status", "came", "right", "pointer"} <= document.keys()
            assert document["page"] == "/docs/http.md"
        return status


@pytest.fixture(scope="module")
def operations(make_client):
    """Path and method of every route of the OpenAPI document, of itself, of the docs, and of none."""
    paths = make_client(FakeEngine()).get("/openapi.json").json()["paths"]
    every = [(path, method.upper()) for path, methods in paths.items() for method in methods]
    assert len(every) > 40
    return [*every, (DOCS_PATH, "GET"), ("/openapi.json", "GET"), ("/nowhere", "POST")]


def test_every_route_is_closed_to_pages_of_elsewhere(operations):
    """Whatever the route: each foreign name, origin, site and type is refused, and what is the server's own goes in."""
    gate = Gate()
    own_origin = ("origin", "http://localhost:8765")
    for path, method in operations:
        reads = method in {"GET", "HEAD"}
        own = [HOST, *([] if reads else [JSON])]
        as_route = {"path": path, "method": method}
        assert gate.status(*own, **as_route) == 204
        assert gate.status(*own, own_origin, ("sec-fetch-site", "same-origin"), **as_route) == 204
        assert gate.status(*own[1:], **as_route) == 400
        assert gate.status(*own, HOST, **as_route) == 400
        assert gate.status(("host", "evil.example:8765"), *own[1:], **as_route) == 421
        for site in FOREIGN_SITES:
            assert gate.status(*own, ("sec-fetch-site", site), **as_route) == 403
        for origin in FOREIGN_ORIGINS:
            assert gate.status(*own, ("origin", origin), **as_route) == 403
            assert gate.status(*own, ("origin", origin), ("sec-fetch-site", "same-origin"), **as_route) == 403
        for media in () if reads else FOREIGN_TYPES:
            assert gate.status(HOST, ("content-type", media), ("content-length", "2"), **as_route) == 415
            assert gate.status(HOST, ("content-type", media), **as_route) == 415


def test_preflight_is_told_nothing(operations):
    """A browser that asks for another page's sake is refused on every path, and no answer allows anything."""
    gate = Gate()
    for path in {path for path, _ in operations}:
        asked = [HOST, ("origin", "http://evil.example"), ("access-control-request-method", "DELETE")]
        assert gate.status(*asked, path=path, method="OPTIONS") == 403


@pytest.mark.parametrize("site", [None, *OWN_SITE, b"NONE", b"Same-Origin", b"cross-site", b"same-site"])
@pytest.mark.parametrize(
    "origin", [None, "http://localhost:8765", "HTTPS://LOCALHOST:8765", "http://evil.example", "null"]
)
@pytest.mark.parametrize("host", [None, "localhost:8765", "LocalHost:8765", "evil.example"])
def test_matrix(host, origin, site):
    """Name, origin and site are each enough to refuse; a type that pages send too, and a GET needs none of its own."""
    headers = [(name, value) for name, value in (("host", host), ("origin", origin)) if value is not None]
    if site is not None:
        headers.append(("sec-fetch-site", site.decode()))
    if host is None:
        expected = 400
    elif host == "evil.example":
        expected = 421
    elif origin in {"http://evil.example", "null"} or (site or b"none").lower() not in OWN_SITE:
        expected = 403
    else:
        expected = 204
    gate = Gate()
    for method, media in product(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"), OWN_TYPES):
        assert gate.status(*headers, ("content-type", media), method=method) == expected
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        refused = 415 if expected == 204 else expected
        assert gate.status(*headers, ("content-type", "text/plain"), method=method) == refused
        assert gate.status(*headers, ("content-length", "5"), method=method) == refused
        assert gate.status(*headers, ("transfer-encoding", "chunked"), method=method) == refused
        assert gate.status(*headers, ("content-length", "0"), method=method) == expected
        assert gate.status(*headers, method=method) == expected


@pytest.mark.parametrize(
    "name", ["origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "content-type", "host"]
)
def test_header_that_comes_twice_is_refused(name):
    """Whoever reads the first one and whoever reads the last one would not agree; so also where both are equal."""
    value = {"origin": "http://localhost:8765", "content-type": JSON[1], "host": HOST[1]}.get(name, "none")
    status, document = Gate().ask(*({HOST} - {(name, value)}), (name, value), (name, value), method="POST")
    assert (status, document["pointer"], document["came"]) == (400, name, "It came more than once.")


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "localhost:1",
            "LOCALHOST:8765",
            "127.0.0.1",
            "127.0.0.1:8765",
            "127.8.9.10:80",
            "[::1]",
            "[::1]:8765",
        ),
        "[0:0:0:0:0:0:0:1]",
    ],
)
def test_names_of_loopback_are_the_servers(host):
    """A server of this machine alone has the names of loopback, with whatever port something in front of it has."""
    assert Gate().status(("host", host)) == 204
    assert Gate(ServerOptions(host="0.0.0.0", insecure=True)).status(("host", host)) == 204  # noqa: S104


@pytest.mark.parametrize(
    "host,status",
    [
        *(("evil.example", 421), ("localhost.evil.example", 421), ("evil.localhost", 421), ("localhost.", 421)),
        *(("127.0.0.1.evil.example", 421), ("192.168.1.5:8765", 421), ("127.1", 421), ("2130706433", 421)),
        *(("0.0.0.0:8765", 421), ("[::]:8765", 421), ("[::ffff:127.0.0.1]", 421), ("[::ffff:7f00:1]:8765", 421)),
        *(("0x7f.0.0.1", 421), ("0177.0.0.1", 421), ("127.0.0.01", 421)),
        *(("", 400), (" ", 400), (":8765", 400), ("localhost:", 400), ("localhost:x", 400), ("localhost:123456", 400)),
        *(("localhost,evil.example", 400), ("localhost evil.example", 400), ("http://localhost", 400), ("::1", 400)),
        *(("user@localhost", 400), ("localhost/", 400), ("localhost\x00", 400), ("[::1", 400), ("[localhost]", 400)),
        *(("lôcalhost", 400), ("a" * 254, 400), ("localhost\n", 400)),
    ],
)
def test_other_names_are_not(host, status):
    """Names that only begin or end like one, other writings of an address, and what is no name at all."""
    assert Gate().status(("host", host)) == status
    assert Gate().status(("host", host), JSON, method="POST") == status


@pytest.mark.parametrize("host", ["192.168.1.5:8765", "10.0.0.1", "[2001:db8::1]:80", "[fe80::1]"])
def test_addresses_are_free_beyond_loopback(host):
    """A page cannot make an address its name. What leads to this machine from every page is no address of it."""
    beyond = Gate(ServerOptions(host="0.0.0.0", insecure=True))  # noqa: S104
    assert beyond.status(("host", host)) == 204
    assert beyond.status(("host", "0.0.0.0:8765")) == 421
    assert beyond.status(("host", "[::]")) == 421
    assert beyond.status(("host", "printer.local")) == 421
    assert Gate().status(("host", host)) == 421


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])  # noqa: S104
def test_where_it_listens_everywhere_that_is_not_told_as_a_name_to_ask_it_by(everywhere):
    """Whoever asks by it is refused, so it would be told to do what it did."""
    _, document = Gate(ServerOptions(host=everywhere, insecure=True)).ask(("host", "0.0.0.0:8765"))
    assert document["right"] == "localhost, any address; or what --allow-host or [server] allow_hosts says."


def test_own_host_and_allowed_ones_are_names():
    """What ``--host`` says and what ``--allow-host`` adds, in any letter case, with any port, and no part of them."""
    gate = Gate(
        ServerOptions(host="Shop-1.lan", insecure=True, allow_hosts=("Shop.Example", "midstream", "192.168.1.5"))
    )
    for host in ("shop-1.lan:8765", "shop.example", "SHOP.EXAMPLE:443", "midstream:8765", "192.168.1.5"):
        assert gate.status(("host", host)) == 204
    for host in ("example", "www.shop.example", "shop.example.evil", "shop-1"):
        assert gate.status(("host", host)) == 421


def test_origin_of_a_proxy_is_the_servers():
    """Behind TLS the origin has another scheme and the host has no port; another port of the name is another origin."""
    gate = Gate(ServerOptions(allow_hosts=("shop.example",)))
    assert gate.status(("host", "shop.example"), ("origin", "https://shop.example"), JSON, method="POST") == 204
    assert gate.status(("host", "shop.example"), ("origin", "https://shop.example:444"), JSON, method="POST") == 403
    assert gate.status(("host", "127.0.0.1:8765"), ("origin", "https://shop.example"), JSON, method="POST") == 403


def test_allowed_origin_may_ask():
    """A page that the operator named, whatever its browser says of its site; its type and its name are looked at."""
    gate = Gate(ServerOptions(allow_origins=("https://Shop.example", "http://localhost:3000")))
    page = [HOST, ("origin", "https://shop.example"), ("sec-fetch-site", "cross-site")]
    assert gate.status(*page, JSON, method="POST") == 204
    assert gate.status(HOST, ("origin", "http://localhost:3000"), JSON, method="DELETE") == 204
    assert gate.status(*page, ("content-type", "text/plain"), method="POST") == 415
    assert gate.status(("host", "evil.example"), *page[1:], JSON, method="POST") == 421
    assert gate.status(HOST, ("origin", "http://shop.example"), JSON, method="POST") == 403
    assert gate.status(HOST, ("sec-fetch-site", "cross-site")) == 403


def test_link_leads_to_the_docs_and_nowhere_else(operations):
    """Only a page of its own in a window of its own, to read: no frame, no other route, nothing that is sent."""
    link = [HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    gate = Gate()
    assert gate.status(*link, path=DOCS_PATH) == 204
    assert gate.status(*link, path="/docs/events.md") == 204
    assert gate.status(*link, JSON, path="/docs/events.md", method="POST") == 403
    for path, method in {*operations, (DOCS_PATH, "POST"), (DOCS_PATH, "DELETE")} - {(DOCS_PATH, "GET")}:
        assert gate.status(*link, JSON, path=path, method=method) == 403
    for dest in ("iframe", "frame", "embed", "object", "empty", "image"):
        assert gate.status(*link[:3], ("sec-fetch-dest", dest), path=DOCS_PATH) == 403
    for mode in ("cors", "no-cors", "nested-navigate"):
        assert gate.status(*link[:2], ("sec-fetch-mode", mode), link[3], path=DOCS_PATH) == 403
    assert gate.status(*link, ("origin", "http://evil.example"), path=DOCS_PATH) == 403


def test_docs_show_in_no_frame(client):
    """Neither by the old header nor by the new one, and nothing of the page runs."""
    headers = client.get(DOCS_PATH).headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-opener-policy"] == "same-origin"


@pytest.mark.parametrize(
    "target,status",
    [
        *((b"http://localhost:8765/v1/placements", 204), (b"HTTP://LOCALHOST:8765?x=1", 204)),
        *((b"http://evil.example/v1/placements", 400), (b"http://localhost:8765@evil.example/", 400)),
        *((b"http://evil.example@localhost:8765/", 400), (b"http://localhost/v1", 400), (b"*", 400), (b"http://", 400)),
        *((b"http://evil.example#localhost:8765/", 400), (b"http://evil.example?//localhost:8765/", 400)),
    ],
)
def test_absolute_target_names_the_same_host(target, status):
    """Where the target of a request says a host too, both are the same."""
    assert Gate().status(HOST, **{ABSOLUTE_TARGET: target}) == status


def test_refusals_are_counted_by_header():
    """Under the header that spoke against the request; what is let in is not."""
    gate = Gate()
    gate.status(HOST)
    gate.status(("host", "evil.example"))
    gate.status()
    gate.status(HOST, ("origin", "null"))
    gate.status(HOST, ("sec-fetch-site", "same-site"))
    gate.status(HOST, ("content-length", "1"), method="POST")
    families = text_string_to_metric_families(gate.behind.metrics.text().decode())
    found = {
        each.labels["header"]: each.value
        for family in families
        for each in family.samples
        if each.name == "midstream_foreign_requests_total"
    }
    assert found == {"host": 2, "origin": 1, "sec-fetch-site": 1, "content-type": 1}


def test_refusals_are_no_queue():
    """A page that sends hundreds of requests for a while makes no question late that comes after them."""
    now = [0.0]
    behind = Behind()
    behind.arrivals = LoopArrivals(lambda: now[0])
    gate = Gate(behind=behind)
    for _ in range(500):
        now[0] += 0.001
        refused: dict[str, float] = {}
        behind.arrivals.read(refused)
        assert gate.status(HOST, ("origin", "null"), **refused) == 403
    now[0] += 0.001
    asked: dict[str, float] = {}
    behind.arrivals.read(asked)
    assert behind.arrivals.begin(asked)[:2] == (0.0, 0.0)


def test_found_names_are_remembered_within_a_number():
    """However many ports and letter cases come, what is kept of them is bounded, and all are judged alike."""
    gate = Gate()
    for port in range(3 * KNOWN_MAX):
        assert gate.status(("host", f"localhost:{port}")) == 204
        assert gate.status(("host", f"evil.example:{port}")) == 421
    assert len(gate.app._known) == KNOWN_MAX


@pytest.mark.parametrize("name", ["*", "*.example", "shop.example:80", "http://shop.example", "", "a b", "[::1]", "-x"])
def test_allowed_host_is_a_name(name):
    """No port, scheme or wildcard: a fault with its place, in the file and on the command line."""
    (fault,) = host_faults(ServerOptions(allow_hosts=("shop.example", name)), "--allow-host", "")
    assert fault.where == "--allow-host[1]"

    def opening(_signals):
        raise AssertionError

    with pytest.raises(ConfigInvalid, match="--allow-host"):
        serve(opening, ServerOptions(allow_hosts=(name,)), print)


@pytest.mark.parametrize("origin", ["*", "null", "shop.example", "https://shop.example/", "ftp://shop.example", ""])
def test_allowed_origin_is_one(origin):
    """As a browser sends it, else it would never be equal."""
    (fault,) = host_faults(ServerOptions(allow_origins=(origin,)), "", "$.server.allow_origins")
    assert fault.where == "$.server.allow_origins[0]"


def test_right_names_and_origins_have_no_fault():
    """Names, addresses, origins with and without a port."""
    options = ServerOptions(
        allow_hosts=("shop.example", "midstream", "reco_1.lan", "10.0.0.7", "fe80::1"),
        allow_origins=("https://shop.example", "http://localhost:3000", "http://[::1]:3000"),
    )
    assert not list(host_faults(options, "", ""))


@pytest.mark.parametrize(
    "host,url",
    [
        *(("127.0.0.1", "http://127.0.0.1:7"), ("::1", "http://[::1]:7"), ("10.0.0.1", "http://10.0.0.1:7")),
        *(("0.0.0.0", "http://127.0.0.1:7"), ("::", "http://[::1]:7")),  # noqa: S104
    ],
)
def test_published_address_is_one_that_is_answered(host, url):
    """What a server says of itself, and commands on this machine ask, is a host that it takes."""
    assert _url_of(host, 7) == url
    assert Gate(ServerOptions(host=host, insecure=True)).status(("host", url.removeprefix("http://"))) == 204
