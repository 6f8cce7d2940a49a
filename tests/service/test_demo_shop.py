"""The browser client in Chromium: on the demo shop, on pages of another origin, and against answers that fail.

The server is a real one. What a page sent is read from the server's log, not from the page.
"""

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from midstream.app.server_address import read_address
from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.key_file import KeyFile
from midstream.serving.browser.script import FILE
from tests.support.browser import chromium
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.service]

NAMES = "--host-resolver-rules=MAP shop.example 127.0.0.1, MAP evil.example 127.0.0.1"
CONFIG = """\
[server]
demo_shop = true

[items.attributes]
price = "number"
category = "category"

[snapshots]
mode = "off"
"""
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
ITEMS = {f"item-{number}": {"category": f"kind {number % 6}", "price": number + 0.5} for number in range(24)}
ITEMS |= {HOSTILE: {"category": "<script>document.title='owned'</script>"}}


class Server:
    """A server that runs, as programs see it."""

    def __init__(self, url, key=""):
        self.url = url
        self.key = key

    def ask(self, method, path, **options):
        """Ask as a program does."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx.request(method, self.url + path, timeout=PATIENCE_S, headers=headers, **options)

    def events(self, user_id):
        """Return the events of a user in the log, the oldest first."""
        found = self.ask("GET", f"/v1/users/{user_id}/events?limit=200")
        return found.json()["events"][::-1] if found.status_code == 200 else []

    def position(self):
        """Return how many events the log has, once all served records are in it."""
        time.sleep(0.3)
        text = self.ask("GET", "/metrics").text
        return float(next(line for line in text.splitlines() if line.startswith("midstream_log_position ")).split()[1])


@contextmanager
def serving(folder, key=""):
    """Serve a shop whose past visitors looked at items of one kind after another; give the server."""
    (folder / "midstream.toml").write_text(CONFIG)
    with (folder / "said.txt").open("w") as file:
        command = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait_until(lambda: read_address(folder / "data") or process.poll() is not None)
        address = read_address(folder / "data")
        assert address is not None, (folder / "said.txt").read_text()
        server = Server(address.url, key)
        events = [{"type": "item", "item_id": name, "attributes": each} for name, each in ITEMS.items()]
        for visit in range(60):
            kind = visit % 6
            events += [
                {"type": "view", "session_id": f"s{visit}", "item_id": f"item-{kind + 6 * place}"} for place in range(4)
            ]
        events += [{"type": "view", "session_id": "h", "item_id": HOSTILE}]
        for start in range(0, len(events), 200):
            assert server.ask("POST", "/v1/events", json=events[start : start + 200]).status_code == 200
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


class Page:
    """The demo shop in a window."""

    def __init__(self, browser, server):
        self.browser = browser
        self.server = server

    def open(self, consent="necessary"):
        """Open the shop as a new visitor with a level of consent."""
        self.browser.open(f"{self.server.url}/demo")
        self.run("() => { localStorage.clear(); sessionStorage.clear(); }")
        if consent != "necessary":
            self.run(f"() => localStorage.setItem('demo.consent', '{consent}')")
        self.browser.open(f"{self.server.url}/demo")
        wait_until(lambda: len(self.shelf()) == 6)

    def run(self, script, *arguments):
        """Run a function on the page; return what it gives."""
        return self.browser.run(f"async (...all) => (await ({script})(...all)) ?? null", *arguments)

    def shelf(self):
        """Return the items of the shelf."""
        script = "() => [...document.querySelectorAll('#shelf button')].map((each) => each.dataset.midstreamItem)"
        return self.run(script)

    def slate(self):
        """Return the request id of the slate that shows."""
        return self.run("() => document.getElementById('of-slate').textContent").removeprefix("request ")

    def user(self):
        """Return the anonymous id that the browser keeps."""
        return self.run("() => localStorage.getItem('midstream.user')")

    def choose(self, selector):
        """Click, and return when the next slate shows."""
        before = self.slate()
        self.browser.click(selector)
        wait_until(lambda: self.slate() != before)

    def acts(self, user_id=""):
        """Return type and item of what the log has of this visitor, or of a user, but impressions."""
        found = [(each["type"], each["item_id"]) for each in self.server.events(user_id or self.user())]
        return [each for each in found if each[0] != "impression"]


@pytest.fixture(scope="module")
def browser(program, tmp_path_factory):
    """Chromium without a window."""
    with chromium(program, tmp_path_factory.mktemp("chromium"), NAMES) as running:
        yield running


@pytest.fixture(scope="module")
def shop(browser, tmp_path_factory):
    """The demo shop of a server without keys."""
    with serving(tmp_path_factory.mktemp("shop")) as server:
        yield Page(browser, server)


def test_the_next_slate_has_seen_the_click(shop):
    """Items of the kind that was clicked come, with the request and the place of the click in the log."""
    shop.open("personalised")
    first, request = shop.shelf(), shop.slate()
    shop.choose("#items [data-midstream-item='item-3']")
    wanted = {"item-9", "item-15", "item-21"}
    assert wanted <= set(shop.shelf())
    assert shop.shelf() != first
    request, place = shop.slate(), 2
    clicked = shop.shelf()[place]
    shop.choose("#shelf li:nth-child(3) button")
    click = next(each for each in shop.server.events(shop.user()) if each["type"] == "click")
    assert (click["item_id"], click["request_id"], click["position"]) == (clicked, request, place)
    assert shop.acts() == [("view", "item-3"), ("click", clicked), ("view", clicked)]


def test_impressions_arrive_once(shop):
    """Each item of a slate that was in sight for a second, with its place, and none twice."""
    shop.open("personalised")
    shop.choose("#items [data-midstream-item='item-3']")  # a user is known by acts, and by no impression alone
    request, items = shop.slate(), shop.shelf()
    shop.run("() => document.getElementById('shelf').scrollIntoView()")

    def seen():
        found = [each for each in shop.server.events(shop.user()) if each["type"] == "impression"]
        places = [(each["request_id"], each["position"], each["item_id"]) for each in found]
        assert len(places) == len(set(places))
        return [each for each in places if each[0] == request]

    wait_until(lambda: len(seen()) >= len(items))
    for selector in ("h2", "#log", "h2"):
        shop.run(f"() => document.querySelector('{selector}').scrollIntoView()")
        time.sleep(1.3)
    assert sorted(seen()) == [(request, place, item) for place, item in enumerate(items)]


def test_offline_acts_are_delivered_once(shop):
    """The page goes on without a network, and what was done meanwhile is in the log once, in its order."""
    shop.open("personalised")
    shop.browser.do("/chromium/network_conditions", network_conditions={"offline": True, "latency": 0, "throughput": 0})
    try:
        for number in (1, 2, 3):
            shop.browser.click(f"#items [data-midstream-item='item-{number}']")
        wait_until(lambda: "3 queued" in shop.browser.text)
        wait_until(lambda: "stays as it was" in shop.browser.text)
        assert shop.acts() == []
    finally:
        shop.browser.do("/chromium/network_conditions", "DELETE")
    wait_until(lambda: len(shop.acts()) == 3)
    wait_until(lambda: shop.run("() => shop.counts().queued") == 0)
    shop.run("() => shop.flush()")
    assert shop.acts() == [("view", "item-1"), ("view", "item-2"), ("view", "item-3")]


def test_without_consent_nothing_is_sent_or_kept(shop):
    """Slates come, unpersonalised; the log has their records and not one act, and the browser has no cookie or text."""
    shop.open()
    first, before = shop.shelf(), shop.server.position()
    slates = 4
    for number in (3, 4, 5):
        shop.choose(f"#items [data-midstream-item='item-{number}']")
        assert shop.shelf() == first
    shop.choose("#shelf li:nth-child(1) button")
    time.sleep(1.5)
    assert shop.server.position() - before == slates  # a served record each
    served = shop.server.ask("GET", f"/v1/requests/{shop.slate()}").json()["query"]
    assert not served["user_id"]
    assert not served["session_id"]
    assert shop.run("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert shop.run("async () => (await indexedDB.databases()).length") == 0


def test_consent_that_is_withdrawn_removes_what_is_kept(shop):
    """From one click to the next, and the acts that follow reach nobody."""
    shop.open("personalised")
    shop.choose("#items [data-midstream-item='item-1']")
    user = shop.user()
    assert user.startswith("anon-")
    shop.choose("[name=consent][value=necessary]")
    assert shop.run("() => [localStorage.length, sessionStorage.length]") == [0, 0]
    shop.choose("#items [data-midstream-item='item-2']")
    time.sleep(0.5)
    assert [each["item_id"] for each in shop.server.events(user) if each["type"] == "view"] == ["item-1"]


def test_statistics_keep_no_user(shop):
    """An id of the visit, in the tab alone."""
    shop.open("statistics")
    shop.choose("#items [data-midstream-item='item-3']")
    kept = shop.run("() => [Object.keys(localStorage), Object.keys(sessionStorage)]")
    assert kept[0] == ["demo.consent"]
    assert set(kept[1]) <= {"midstream.queue", "midstream.session"}
    served = shop.server.ask("GET", f"/v1/requests/{shop.slate()}").json()["query"]
    assert not served["user_id"]
    assert served["session_id"] == shop.run("() => sessionStorage.getItem('midstream.session')")


def test_page_that_is_closed_sends_what_waits(shop):
    """Though no timer of it runs any more."""
    shop.open("personalised")
    user = shop.user()
    here = shop.browser.do("/window", "GET")
    other = shop.browser.do("/window/new", type="tab")["handle"]
    shop.browser.do("/window", handle=other)
    shop.browser.open(f"{shop.server.url}/demo")
    shop.browser.wait_for("/demo")
    shop.run("() => { window.setTimeout = () => 0; shop.track('view', {item_id: 'item-7'}); }")
    assert shop.acts() == []
    shop.browser.do("/window", "DELETE")
    shop.browser.do("/window", handle=here)
    assert shop.user() == user
    wait_until(lambda: shop.acts() == [("view", "item-7")])


def test_anonymous_acts_become_those_of_the_user(shop):
    """A visitor signs in: what was done before is the user's, and the browser keeps no anonymous id."""
    shop.open("personalised")
    shop.choose("#items [data-midstream-item='item-5']")
    anonymous = shop.user()
    shop.choose("#sign-in")
    assert shop.user() is None
    shop.choose("#items [data-midstream-item='item-11']")
    wait_until(lambda: shop.acts("ann") == [("view", "item-5"), ("view", "item-11")])
    assert shop.server.ask("GET", "/v1/users/ann").json()["merged_ids_count"] == 1
    assert shop.acts(anonymous) == shop.acts("ann")


def test_names_with_markup_stay_text(shop):
    """On the grid, in the detail and in the log of requests; the policy of the page lets nothing else run either."""
    shop.open("personalised")
    shop.run("(id) => document.querySelector(`#items [data-midstream-item=${CSS.escape(id)}]`).click()", HOSTILE)
    wait_until(lambda: (HOSTILE in shop.browser.text) and ("view", HOSTILE) in shop.acts())
    assert shop.run("() => document.title") == "Demo shop"
    assert shop.run("() => document.querySelectorAll('main img, main script').length") == 0
    headers = httpx.get(f"{shop.server.url}/demo").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_shows_in_both_schemes(shop, scheme, tmp_path):
    """Ink and paper are far apart in both, and nothing is wider than the window."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    shop.browser.do("/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=media)
    shop.open("personalised")
    shop.choose("#items [data-midstream-item='item-3']")
    folder = Path(os.environ.get("MIDSTREAM_PICTURES", tmp_path))
    shop.browser.picture(folder / f"shop-{scheme}.png")
    light = shop.run(
        """() => ["color", "backgroundColor"].map((name) => {
            const [r, g, b] = getComputedStyle(document.body)[name].match(/\\d+/g).map(Number);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        })"""
    )
    assert abs(light[0] - light[1]) > 150
    assert (light[0] < light[1]) == (scheme == "light")
    assert shop.run("() => document.documentElement.scrollWidth <= innerWidth")


START = "async (url, key) => { globalThis.client = midstream.init({url, key, consent: 'personalised'}); return 1; }"
VIEW = "async (id) => { client.track('view', {item_id: id}); await client.flush(); return 1; }"
ASK = "async () => client.recommend('default', {n: 3}).then((slate) => slate.items.length, (error) => error.message)"
PAGE = b"<!doctype html><title>page</title><main></main><script src='SCRIPT'></script>"


class Site(BaseHTTPRequestHandler):
    """Serves a page of a shop, and answers what is posted with the statuses of a list."""

    script = b"/midstream.js"
    statuses: tuple[int, ...] = ()
    posted: list[Any]

    def do_GET(self):
        """Answer with the page or the script."""
        if self.path == "/midstream.js":
            self._answer(200, FILE.read_bytes(), "text/javascript")
        else:
            self._answer(200, PAGE.replace(b"SCRIPT", self.script), "text/html")

    def do_POST(self):
        """Answer with the next status."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = self.statuses[min(len(self.posted), len(self.statuses) - 1)]
        self.posted.append((status, body))
        taken = b'{"recorded": 1, "log_position": "P"}'
        self._answer(status, taken if status == 200 else b"<h1>oops", "application/json")

    def _answer(self, status, body, kind):
        self.send_response(status)
        for name, value in (("content-type", kind), ("content-length", str(len(body))), ("retry-after", "1")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def site(**how):
    """Serve pages; give the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneSite", (Site,), how))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_failing_answers_lose_and_repeat_nothing(browser):
    """After 500 and 429 with bodies that are no JSON the event is taken once; a question fails with its status."""
    posted: list[Any] = []
    with site(statuses=(500, 429, 500, 200), posted=posted) as port:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.run(START, "", "")
        browser.run(VIEW, "lamp")
        asked = "async () => client.recommend('home').then(() => 0, (error) => [error.status, error.problem])"
        assert browser.run(asked) == [429, {}]
        wait_until(lambda: browser.run("async () => client.counts().queued") == 0)
    events = [(status, each["event_id"]) for status, body in posted for each in body.get("events", ())]
    assert len({event_id for _, event_id in events}) == 1
    assert [status for status, _ in events] == [500, 500, 200]


def token(secret, user_id):
    """Return a token as a shop's server makes it."""

    def part(content):
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    claims = {"sub": user_id, "exp": int(time.time()) + 600}
    signed = f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def test_pages_of_the_key_and_no_others(browser, tmp_path):
    """A page of the key's origin tracks, asks, merges and closes; one of another origin gets and does nothing."""
    keys = KeyFile(tmp_path / "data")
    now_ms = int(time.time() * 1_000)
    admin = keys.create(KeyWish("admin", ("admin",)), now_ms, "cli:test").key
    how = {"statuses": (404,), "posted": []}
    with serving(tmp_path, admin) as server, site(script=f"{server.url}/midstream.js".encode(), **how) as port:
        origin = f"http://shop.example:{port}"
        made = keys.create(KeyWish("pages", ("events:write", "recommend"), origins=(origin,)), now_ms, "cli:test")
        time.sleep(1)
        browser.open(f"{origin}/")
        browser.run(START, server.url, made.key)
        browser.run(VIEW, "item-1")
        assert browser.run(ASK) == 3
        anonymous = browser.run("async () => localStorage.getItem('midstream.user')")
        assert [each["item_id"] for each in server.events(anonymous)] == ["item-1"]

        proof = token(made.user_secret, "ann")
        browser.run("async (token) => { await client.identify('ann', token); return 1; }", proof)
        assert browser.run("async () => localStorage.getItem('midstream.user')") is None
        assert browser.run(ASK) == 3
        assert server.ask("GET", "/v1/users/ann").json()["merged_ids_count"] == 1
        assert server.events(anonymous) == server.events("ann")

        browser.run("async () => { window.setTimeout = () => 0; client.track('view', {item_id: 'item-2'}); return 1; }")
        browser.open("about:blank")
        wait_until(lambda: [each["item_id"] for each in server.events("ann")] == ["item-1", "item-2"])

        before = server.position()
        browser.open(f"http://evil.example:{port}/")
        browser.run(START, server.url, made.key)
        browser.run(VIEW, "item-3")
        assert "fetch" in browser.run(ASK).lower()
        assert browser.run("async () => client.counts().queued") == 1
        assert server.position() == before
    assert urlsplit(server.url).port != port
