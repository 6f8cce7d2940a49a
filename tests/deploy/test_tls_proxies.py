"""Proxies with TLS as ``deploy/proxy`` has them: addresses of clients, checks of names, streams."""

import json
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key
from tests.support.served_shop import served_shop
from tests.support.tls_proxies import NAME, TlsProxy, configuration, environment, program, tls_proxy

pytestmark = pytest.mark.integration
CONFIG = f'[server]\nallow_hosts = ["{NAME}"]\ntrusted_proxies = ["127.0.0.1"]\nbody_bytes_max = 4_000_000\n'
KINDS = ("nginx", "caddy")
PAGES = "https://shop.example"
FORGED = {"x-forwarded-for": "203.0.113.66", "x-forwarded-host": NAME, "forwarded": "for=203.0.113.66"}
QUESTION = {"session_id": "anon-0123456789abcdef"}


@dataclass(frozen=True)
class Keyed:
    """A server of its own on loopback, with a key of an administrator and one of pages."""

    upstream: str
    admin: str
    browser: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Keyed]:
    """Serve an empty shop, which trusts a proxy on 127.0.0.1."""
    folder = tmp_path_factory.mktemp("shop")
    admin = create_key(folder, key_wish("admin", ("admin",))).key
    browser = create_key(folder, key_wish("pages", ("recommend",), "", "0.001/s:2", (PAGES,))).key
    with served_shop(folder, CONFIG) as url:
        yield Keyed(url.removeprefix("http://"), admin, browser)


@pytest.fixture(params=KINDS)
def proxy(request: pytest.FixtureRequest, server: Keyed, tmp_path: Path) -> Generator[TlsProxy]:
    """Run one of the proxies before it."""
    with tls_proxy(request.param, tmp_path, server.upstream) as found:
        yield found


@pytest.mark.parametrize("kind", KINDS)
def test_configuration_has_no_fault(kind: str, tmp_path: Path) -> None:
    """Each proxy reads its file, with nothing replaced but names of this machine."""
    check = {"nginx": ["-t"], "caddy": []}[kind]
    words = [
        program(kind),
        *(["validate"] if kind == "caddy" else []),
        *configuration(kind, tmp_path, 8443, "127.0.0.1:9"),
        *check,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


def test_audit_has_the_address_of_a_client(proxy: TlsProxy, server: Keyed) -> None:
    """That of its connection to the proxy, and neither the proxy's nor one that it claims."""
    headers = {"authorization": f"Bearer {server.admin}"}
    with proxy.client("127.0.0.2") as client:
        assert client.put("/v1/items/lamp", json={"price": 1}, headers=headers | FORGED).status_code == 200
        newest = client.get("/v1/audit?limit=1", headers=headers).json()["changes"][0]
    assert newest["address"] == "127.0.0.2"


def test_each_visitor_has_a_quota(proxy: TlsProxy, server: Keyed, request: pytest.FixtureRequest) -> None:
    """One that spends it, and claims to be others, leaves that of the next one."""
    headers = {"authorization": f"Bearer {server.browser}", "origin": PAGES}
    number = KINDS.index(request.node.callspec.params["proxy"])
    for address in (f"127.0.1.{number}", f"127.0.2.{number}"):
        with proxy.client(address) as client:
            statuses = [
                client.post("/v1/recommendations", json=QUESTION, headers={**headers, "x-forwarded-for": claimed})
                for claimed in ("203.0.113.1", "203.0.113.2", "203.0.113.3")
            ]
        assert [each.status_code for each in statuses] == [200, 200, 429]


def test_name_and_site_are_checked_behind_the_proxy(proxy: TlsProxy, server: Keyed) -> None:
    """Another name is none of this server's, whatever a header of a proxy claims; a page of another site is refused."""
    with proxy.client("127.0.0.1") as client:
        assert client.get("/health/ready").status_code == 200
        foreign = client.get("/health/ready", headers={"origin": "https://evil.example", **FORGED})
        assert foreign.status_code == 403
    with httpx.Client(base_url=f"http://{server.upstream}") as direct:
        assert direct.get("/health/ready", headers={"host": "evil.example", **FORGED}).status_code == 421


def test_session_of_the_console_is_for_tls_alone(proxy: TlsProxy, server: Keyed) -> None:
    """A page of the same origin signs in through the proxy: name and port come as the browser has them."""
    headers = {"x-api-key": server.admin, "origin": f"https://{proxy.host}", "sec-fetch-site": "same-origin"}
    with proxy.client("127.0.0.2") as client:
        answer = client.put("/console/session", headers=headers)
        assert answer.is_success
        assert "; Secure" in answer.headers["set-cookie"]


def test_streams_pass_as_they_come(proxy: TlsProxy, server: Keyed) -> None:
    """Two megabytes of events in, and live figures out one after another."""
    headers = {"authorization": f"Bearer {server.admin}"}
    events = [
        {"type": "view", "user_id": f"u{n}", "item_id": "lamp", "event_id": f"{proxy.port}-{n}"} for n in range(25_000)
    ]
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in events)
    assert len(lines) > 1 << 20
    with proxy.client("127.0.0.2") as client:
        sent = client.post(
            "/v1/events/bulk", content=lines, headers={**headers, "content-type": "application/x-ndjson"}
        )
        assert (sent.status_code, sent.json()["recorded"]) == (200, len(events))
        with client.stream("GET", "/console/live", headers=headers) as stream:
            came_s = [time.monotonic() for _, _ in zip(range(3), stream.iter_bytes(), strict=False)]
    assert came_s[2] - came_s[0] > 1.0, "they are 4 s apart when they are made, and came together"
