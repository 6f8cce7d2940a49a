"""Chromium keeps what a page may do, and the server the rest: a hostile page reads nothing and changes nothing.

The page (``hostile_page.html``) is served under a name of its own, from the same machine, and under a name that is made
to point at the server while the page is open (DNS rebinding). Each also meets a server without the gate, where the same
page does harm: what proves nothing there would prove nothing here.
"""

import os
import re
import socket
import subprocess
import sys
import threading
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from midstream.app.server_address import read_address
from tests.support.browser import chromium
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.service]

PAGE = Path(__file__).with_name("hostile_page.html").read_bytes()
UNGUARDED = (
    "from midstream.serving.request_origin import RequestOrigin\n"
    "RequestOrigin._require_own = lambda self, scope: None\n"
    "from midstream.cli.app import main\n"
    "main()\n"
)
NAMES = "--host-resolver-rules=MAP rebind.example 127.0.0.2, MAP evil.example 127.0.0.1, MAP shop.example 127.0.0.1"
VICTIM = {"type": "view", "user_id": "victim", "item_id": "lamp", "event_id": "of the victim"}


class Hostile(BaseHTTPRequestHandler):
    """Serves the page, and redirects to where it asks to be redirected."""

    def do_GET(self):
        """Answer, and hold no connection: the next one may lead elsewhere."""
        parts = urlsplit(self.path)
        if parts.path == "/redirect":
            self.send_response(302)
            self.send_header("location", parse_qs(parts.query)["to"][0])
            body = b""
        else:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            body = PAGE
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def hostile_site():
    """Serve the hostile page; give its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Rebinding:
    """An address that leads to one port now and to another one later, as a name does whose owner changes it."""

    def __init__(self, listener, leads_to):
        self.leads_to = leads_to
        self._listener = listener
        self._open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.add(connection)
                threading.Thread(target=self._lead, args=(connection,), daemon=True).start()

    def _lead(self, here):
        """Lead a connection where the name leads when it is first used: browsers open some ahead."""
        with suppress(OSError):
            if first := here.recv(65_536):
                there = socket.create_connection(("127.0.0.1", self.leads_to))
                self._open.add(there)
                there.sendall(first)
                threading.Thread(target=self._pass_on, args=(there, here), daemon=True).start()
                self._pass_on(here, there)

    def _pass_on(self, here, there):
        with suppress(OSError):
            while piece := here.recv(65_536):
                there.sendall(piece)
        with suppress(OSError):
            there.shutdown(socket.SHUT_RDWR)

    def close(self):
        """End it."""
        for each in (self._listener, *self._open):
            each.close()


@dataclass
class Shop:
    """A server that runs, and what its log and its state say of it."""

    url: str

    def ask(self, method, path, **options):
        """Ask as a program does, by the server's own name."""
        return httpx.request(method, self.url + path, timeout=PATIENCE_S, **options)

    def metric(self, name, **labels):
        """Return the sum of a metric's samples that have these labels."""
        text = self.ask("GET", "/metrics").text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        found = re.findall(rf"^{name}(\{{.*?\}})? (.*)$", text, re.MULTILINE)
        return sum(float(value) for said, value in found if all(each in said for each in wanted))

    def has_logged(self):
        """Return whether the log has what was answered: served records go there a moment later."""
        logged = self.metric("midstream_events_total", outcome="recorded") + self.metric("midstream_answers_total")
        return self.metric("midstream_log_position") >= logged

    def stand(self):
        """Return what a page must not change: the log with its served records, slates, placements, the victim."""
        wait_until(self.has_logged)
        return {
            "log position": self.metric("midstream_log_position"),
            "slates": self.metric("midstream_answers_total"),
            "placements": self.ask("GET", "/v1/placements").json(),
            "victim": self.ask("GET", "/v1/users/victim").json(),
            "item": self.ask("GET", "/v1/items/lamp").json(),
            "rebuilds": self.metric("midstream_rebuilds_total"),
            "erasures": self.ask("GET", "/v1/erasures").json(),
        }


@contextmanager
def serving(folder, *code):
    """Serve a new folder with a log that has a victim's view in it."""
    command = [sys.executable, "-P", *(code or ("-m", "midstream"))]
    said = folder / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen([*command, "serve", "-f", str(folder), "--port", "0"], stdout=file, stderr=file)
    try:
        wait_until(lambda: read_address(folder / "data") or process.poll() is not None)
        address = read_address(folder / "data")
        assert address is not None, said.read_text()
        shop = Shop(address.url)
        assert shop.ask("POST", "/v1/events", json=VICTIM).json()["recorded"] == 1
        yield shop
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def browser(program, tmp_path_factory):
    """Chromium without a window, to which three names lead to this machine."""
    with chromium(program, tmp_path_factory.mktemp("chromium"), NAMES) as running:
        yield running


@pytest.fixture(scope="module")
def evil_port():
    """Port of the hostile site."""
    with hostile_site() as port:
        yield port


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A server as everybody runs it."""
    with serving(tmp_path_factory.mktemp("shop")) as running:
        yield running


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory):
    """The same one without the gate."""
    with serving(tmp_path_factory.mktemp("open"), "-c", UNGUARDED) as running:
        yield running


def attack(browser, page, target):
    """Open the hostile page and let it try everything; return what it says of each way."""
    browser.open(f"{page}/?{urlencode({'target': target, 'run': os.urandom(4).hex()})}")
    return {each["name"]: each["outcome"] for each in browser.run("() => run()")}


def attack_after_rebinding(browser, evil_port, shop):
    """The same by a page whose name leads to the server once the page is there: to the browser that is one origin."""
    port = urlsplit(shop.url).port
    listener = socket.create_server(("127.0.0.2", port))
    with closing(Rebinding(listener, evil_port)) as name:
        browser.open(f"http://rebind.example:{port}/?{urlencode({'target': '', 'run': os.urandom(4).hex()})}")
        name.leads_to = port
        return {each["name"]: each["outcome"] for each in browser.run("() => run()")}


def read(found):
    """Return the ways in which the page read something."""
    return {name: outcome for name, outcome in found.items() if outcome.startswith("read")}


@pytest.mark.parametrize(
    "page,name", [("evil.example", "127.0.0.1"), ("evil.example", "localhost"), ("localhost", "localhost")]
)
def test_page_of_elsewhere_reads_and_changes_nothing(browser, evil_port, shop, page, name):
    """By 80 ways, from another site and from another port of the same one; what reached the server was refused."""
    before, refused = shop.stand(), shop.metric("midstream_foreign_requests_total")
    found = attack(browser, f"http://{page}:{evil_port}", shop.url.replace("127.0.0.1", name))
    assert len(found) > 75
    assert read(found) == {}
    assert shop.stand() == before
    assert shop.metric("midstream_foreign_requests_total") - refused > 60


def test_page_whose_name_was_made_to_point_here_reads_and_changes_nothing(browser, evil_port, shop):
    """To the browser it asks its own server, so it sends whatever the page wants; the name gives it away."""
    before, refused = shop.stand(), shop.metric("midstream_foreign_requests_total", header="host")
    found = attack_after_rebinding(browser, evil_port, shop)
    assert len(found) > 100
    assert read(found) == {}
    assert {outcome for name, outcome in found.items() if name.startswith("fetch cors")} == {"status 421"}
    assert shop.stand() == before
    assert shop.metric("midstream_foreign_requests_total", header="host") - refused > 90


def test_without_the_gate_the_same_page_does_harm(browser, evil_port, open_shop):
    """It records events, asks for slates, erases the victim once its name points here, and reads the catalogue."""
    before = open_shop.stand()
    found = attack(browser, f"http://evil.example:{evil_port}", open_shop.url)
    after = open_shop.stand()
    assert read(found) == {}  # the browser alone keeps the answers from it
    assert after["log position"] - before["log position"] > 20
    assert after["slates"] - before["slates"] > 20
    assert after["victim"] != before["victim"]
    found = attack_after_rebinding(browser, evil_port, open_shop)
    assert {"fetch cors item", "fetch cors user", "fetch cors metrics", "fetch delete", "xhr get"} <= read(found).keys()
    assert open_shop.ask("GET", "/v1/placements/evil").status_code == 200
    assert open_shop.ask("GET", "/v1/users/victim").json() != after["victim"]


def test_navigation_of_another_page_leads_to_the_docs_alone(browser, evil_port, shop):
    """A link leads to ``/docs``, and to no route that answers, though a person may type the address of one."""
    before = shop.stand()
    for path, title in (
        ("/docs", "midstream 0"),
        ("/v1/recommendations?session_id=evil", '"urn:midstream:cross-site"'),
    ):
        browser.open(f"http://evil.example:{evil_port}/")
        link = f"document.body.innerHTML = `<a href='{shop.url}{path}'>follow</a>`"
        browser.do("/execute/sync", script=link, args=[])
        browser.click("a")
        browser.wait_for(path)
        assert title in browser.text
    assert shop.stand() == before


def test_page_of_the_server_itself_works(browser, shop, tmp_path):
    """The docs show, and a script of the server's own origin reads, asks and records."""
    browser.open(f"{shop.url}/docs")
    assert "/v1/recommendations" in browser.text
    browser.picture(Path(os.environ.get("MIDSTREAM_PICTURE", tmp_path / "docs.png")))
    before = shop.metric("midstream_answers_total")
    browser.open(f"{shop.url}/v1/recommendations?session_id=typed")
    assert '"request_id"' in browser.text
    browser.open(f"{shop.url}/health/live")
    sent = """async (path, content) => {
        const headers = {"content-type": "application/json"};
        const answer = await fetch(path, content && {method: "POST", headers, body: JSON.stringify(content)});
        return [answer.status, await answer.json()];
    }"""
    status, answer = browser.run(sent, "/v1/events", {"type": "view", "user_id": "own", "item_id": "lamp"})
    assert (status, answer["recorded"]) == (200, 1)
    assert browser.run(sent, "/v1/recommendations", {"user_id": "own"})[0] == 200
    assert browser.run(sent, "/v1/users/own", None)[0] == 200
    assert shop.metric("midstream_answers_total") == before + 2


def test_name_of_a_proxy_works_where_it_is_allowed(browser, shop, tmp_path):
    """The same server under a further name, and only then."""
    (tmp_path / "midstream.toml").write_text('[server]\nallow_hosts = ["shop.example"]\n')
    with serving(tmp_path) as named:
        for server, says in ((named, '"live"'), (shop, "urn:midstream:misdirected")):
            browser.open(f"http://shop.example:{urlsplit(server.url).port}/health/live")
            assert says in browser.text
