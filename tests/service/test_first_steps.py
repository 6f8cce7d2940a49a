"""The first quarter of an hour of a new user in Chromium: from ``midstream init`` to a key for the pages of the shop.

Each step goes by what the step before shows: the terminal names the console, the console's first page the steps.
Pictures are for eyes: MIDSTREAM_PICTURES names a folder that keeps them.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.test_console import Shop, violations
from tests.support.browser import chromium
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.service]

SITE = "http://localhost:3000"
"""Origin of the pages of the shop."""


def midstream(*words, folder):
    """Run a command to its good end; return what it prints."""
    command = [sys.executable, "-P", "-m", "midstream", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def started(folder, *words):
    """Serve as the terminal says; give all of its first screen."""
    screen = folder / "screen.txt"
    with screen.open("w") as file:
        command = [sys.executable, "-P", "-m", "midstream", "serve", "--port", "0", *words]
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: "Ctrl-C stops" in screen.read_text() or process.poll() is not None)
        yield screen.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


class Walk(Shop):
    """A shop whose pages are looked at, by the rules of axe and by eyes, at each step."""

    def __init__(self, url, browser, pictures):
        super().__init__(url, browser)
        self.pictures = pictures
        self.found = {}
        self.began = time.monotonic()

    def seen(self, step):
        """Keep a picture of a step and what axe finds on its page."""
        self.browser.picture(self.pictures / f"{step}.png")
        if Path(os.environ.get("MIDSTREAM_AXE", "missing")).is_file() or os.environ.get("CI") == "true":
            self.found |= violations(self, step)
        width = self.browser.run("async () => [document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{step} is wider than the window"

    def value(self, selector):
        """Return the text of a field."""
        return self.browser.run("async (selector) => document.querySelector(selector).value", selector)


@pytest.fixture
def pictures(tmp_path):
    """Where pictures go."""
    return Path(os.environ.get("MIDSTREAM_PICTURES", tmp_path))


def console_of(screen):
    """Return the address of the server whose console a first screen names."""
    (address,) = [line.split()[-1] for line in screen.splitlines() if line.startswith("in a browser: ")]
    assert address.endswith("/console")
    return address.removesuffix("/console")


def test_a_new_user_goes_from_init_to_a_key_for_pages(program, tmp_path, tmp_path_factory, pictures):
    """A placement is edited and its effect seen, an experiment runs, and a key of the shop's pages answers them."""
    began = time.monotonic()
    assert "midstream import example.ndjson" in midstream("init", "shop", folder=tmp_path)
    folder = tmp_path / "shop"
    with (
        started(folder) as screen,
        chromium(program, tmp_path_factory.mktemp("b"), "--window-size=1300,1500") as browser,
    ):
        assert "midstream import example.ndjson" in screen
        walk = Walk(console_of(screen), browser, pictures)
        browser.open(walk.url)
        browser.wait_for("/console")
        walk.wait_for("Live")
        assert "First steps" in browser.text
        walk.seen("1-empty")
        midstream("import", "example.ndjson", folder=folder)
        edit_placement(walk)
        start_experiment(walk)
        make_keys(walk)
        assert walk.found == {}
    print(f"init to a key for pages, by a machine that does not read: {time.monotonic() - began:.1f} s")


def edit_placement(walk):
    """The link of the first page leads to the placements; the slate has fewer items beside today's, then for all."""
    walk.browser.click(".steps a[href$=placements]")
    walk.wait_for("Add one")
    walk.seen("2-placements")
    walk.browser.click("td a[href$=default]")
    walk.wait_for("Number of items")
    assert walk.value("#slate_size") == "20"
    walk.fill("#slate_size", "5")
    walk.browser.click("form.placement button.main")
    walk.wait_for("As it would be")
    rows = "async () => [...document.querySelectorAll('table.compared tbody tr')].map((row) => row.cells[2].innerText)"
    assert [each == "–" for each in walk.browser.run(rows)] == [False] * 5 + [True] * 15
    walk.seen("3-compared")
    walk.fill("#author", "eve")
    walk.browser.click("form[data-then=leave] button.main")
    walk.wait_for("Set by eve")
    walk.seen("4-set")
    walk.browser.click("main p a")
    walk.wait_for("What would somebody see now?")
    assert walk.browser.run("async () => document.querySelector('table').tBodies[0].rows.length") == 5
    walk.seen("5-effect")


def start_experiment(walk):
    """The form names the placements, and what it begins with can be started."""
    walk.open("/experiments")
    walk.fill("#name", "fewer")
    walk.fill("#author", "eve")
    walk.seen("6-experiments")
    walk.browser.click("button.main")
    walk.wait_for("running")
    walk.browser.click("td a")
    walk.wait_for("What it shows")
    walk.seen("7-experiment")
    assert walk.api("GET", "/v1/experiments/fewer").json()["state"] == "running"


def make_keys(walk):
    """The first key signs this browser in, so the console stays open; the next one is for pages, and answers them."""
    walk.open("/keys")
    walk.fill("#name", "eve")
    walk.seen("8-keys")
    walk.browser.click("form p button.main")
    walk.wait_for("shown this once")
    walk.seen("9-first-key")
    assert walk.api("GET", "/v1/models").status_code == 401
    walk.browser.click("output button")
    wait_until(lambda: "shown this once" not in walk.browser.text and "Make one" in walk.browser.text)
    walk.browser.click("[data-focus=origins]")
    walk.fill("#name", "web")
    walk.fill("#origins", SITE)
    walk.browser.click("form p button.main")
    walk.wait_for("How a page uses it")
    walk.seen("10-key-for-pages")
    key = walk.browser.run("async () => document.querySelector('output pre').textContent")
    headers = {"authorization": f"Bearer {key}", "origin": SITE}
    answer = walk.api("GET", "/v1/recommendations?session_id=anon-0123456789abcdef", headers=headers)
    assert (answer.status_code, len(answer.json()["items"])) == (200, 5)
    assert answer.headers["access-control-allow-origin"] == SITE
    assert walk.api("GET", "/v1/models", headers=headers).status_code == 403


def test_a_first_key_that_opens_no_console_says_what_does(program, tmp_path, tmp_path_factory):
    """Who makes the key of pages first is told the command that makes one for the console."""
    (tmp_path / "midstream.toml").write_text("")
    with started(tmp_path) as screen, chromium(program, tmp_path_factory.mktemp("b")) as browser:
        shop = Shop(console_of(screen), browser)
        shop.open("/keys")
        browser.click("[data-focus=origins]")
        shop.fill("#name", "web")
        shop.fill("#origins", SITE)
        browser.click("form p button.main")
        shop.wait_for("midstream keys create console --scope admin")
        assert browser.run("async () => document.querySelector('output button')") is None


FOCUS = """async () => {
    const at = document.activeElement, style = getComputedStyle(at);
    return { name: at.id || at.value || at.textContent, shown: style.outlineStyle !== "none", checked: at.checked };
}"""
TAB, ENTER, SPACE = "\ue004", "\ue007", " "
STOPS_MAX = 60


def tab_to(browser, name):
    """Press Tab until something has the focus; each stop on the way shows that it has."""
    for _ in range(STOPS_MAX):
        browser.press(TAB)
        focus = browser.run(FOCUS)
        assert focus["shown"], focus
        if focus["name"] == name:
            return focus
    raise AssertionError(name)


def test_a_key_is_made_without_a_mouse(program, tmp_path, tmp_path_factory):
    """The first stop skips the navigation; every field, choice and button has its turn, and shows it."""
    (tmp_path / "midstream.toml").write_text("")
    with started(tmp_path) as screen, chromium(program, tmp_path_factory.mktemp("b")) as browser:
        shop = Shop(console_of(screen), browser)
        shop.open("/keys")
        browser.press(TAB)
        assert browser.run(FOCUS)["name"] == "To the content"
        browser.press(ENTER)
        browser.wait_for("#main")
        tab_to(browser, "name")
        browser.press(*"eve")
        assert tab_to(browser, "read")["checked"] is False
        browser.press(SPACE)
        assert tab_to(browser, "admin")["checked"] is True
        tab_to(browser, "Make the key")
        browser.press(ENTER)
        shop.wait_for("shown this once")
        tab_to(browser, "I have kept it: sign in with it")
        browser.press(SPACE)
        wait_until(lambda: "admin, read" in browser.text)


def test_the_operator_of_tenants_creates_and_suspends_one(program, tmp_path, tmp_path_factory, pictures):
    """From the key that the terminal names to a tenant that serves, is suspended with a reason, and serves again."""
    with (
        started(tmp_path, "--tenants", ".") as screen,
        chromium(program, tmp_path_factory.mktemp("b"), "--window-size=1300,1500") as browser,
    ):
        assert "midstream keys create console --scope admin --folder ." in screen
        key = midstream("keys", "create", "console", "--scope", "admin", "--folder", ".", folder=tmp_path).split()[0]
        (address,) = [line.split()[3].rstrip(",") for line in screen.splitlines() if line.startswith("in a browser: ")]
        walk = Walk(address.removesuffix("/console"), browser, pictures)
        browser.open(walk.url)
        browser.wait_for("/console/session")
        walk.seen("root-1-sign-in")
        walk.fill("#key", "ms_00000000_wrong")
        browser.click("button.main")
        walk.wait_for("A key is needed")
        walk.fill("#key", key)
        browser.click("button.main")
        walk.wait_for("None yet")
        create_tenant(walk)
        suspend_tenant(walk)
        sign_out(walk, key)
        assert walk.found == {}


def create_tenant(walk):
    """A wrong configuration makes nothing and says where it is; a right one gives a key and links."""
    walk.fill("#name", "red")
    walk.fill("#configuration", "[itms]\n")
    walk.browser.click("#create button.main")
    walk.wait_for('Nearest: "items"')
    walk.seen("root-2-wrong")
    walk.browser.run("async () => { document.querySelector('#configuration').value = ''; }")
    walk.browser.click("#create button.main")
    walk.wait_for("The key of red, shown this once")
    walk.seen("root-3-created")
    walk.browser.click("#create output a:last-child")
    walk.wait_for("serving")
    walk.seen("root-4-listed")


def suspend_tenant(walk):
    """Its reason stands in the list and is told to callers; a quota is set in its row."""
    walk.fill("td [name=requests_per_second]", "50")
    walk.browser.click("td [name=events_per_second] ~ button")
    wait_until(lambda: 'value="50.0"' in walk.browser.do("/source", "GET"))
    walk.fill("[name=reason]", "The bill is open.")
    walk.browser.click("td:last-child form button")
    walk.accept()
    walk.wait_for("suspended")
    assert "The bill is open." in walk.browser.text
    walk.seen("root-5-suspended")
    answer = httpx.get(f"{walk.url}/t/red/health/ready", timeout=PATIENCE_S)
    assert (answer.status_code, "The bill is open." in json.dumps(answer.json())) == (503, True)
    walk.browser.click("td:last-child form button")
    walk.wait_for("serving")
    walk.browser.click("td a")
    walk.browser.wait_for("/t/red/console/session")


def sign_out(walk, key):
    """The session ends at the server, and the browser never had the key."""
    cookies = walk.browser.do("/cookie", "GET")
    assert key not in json.dumps(cookies)
    walk.open("/session")
    held = [each for each in walk.browser.do("/cookie", "GET") if each["name"].startswith("midstream_session")]
    assert [(each["httpOnly"], each["sameSite"]) for each in held] == [(True, "Strict")]
    walk.browser.click("form[data-method=DELETE] button")
    wait_until(lambda: held[0]["name"] not in {each["name"] for each in walk.browser.do("/cookie", "GET")})
    sent = {"cookie": f"{held[0]['name']}={held[0]['value']}"}
    assert walk.api("GET", "/v1/tenants", headers=sent).status_code == 401
