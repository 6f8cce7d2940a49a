"""The console in Chromium: the main act of each page, by a person's own clicks, on a server that runs."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from midstream.app.opening import Outside, config_of, open_running
from midstream.app.server_address import read_address
from midstream.core.types import TimestampMs
from midstream.engine.recommender import Recommender
from tests.support.browser import ELEMENT, chromium
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.service]

CONFIG = """\
[items.attributes]
category = "category"

[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]

[[placements]]
name = "home"
sources = [{kind = "popular"}, {kind = "recent_items"}]
slate_size = 6
"""
LAST_ITEMS = 5
"""Items of which the page of a user has the features."""
ITEMS = [f"lamp-{number}" for number in range(12)]


class Shop:
    """A server, the browser in front of it, and what programs see of it."""

    def __init__(self, url, browser):
        self.url = url
        self.browser = browser

    def api(self, method, path, **options):
        """Ask as a program does."""
        return httpx.request(method, self.url + path, timeout=PATIENCE_S, **options)

    def open(self, path):
        """Type the address of a page."""
        self.browser.open(f"{self.url}/console{path}")

    def fill(self, selector, text):
        """Write into a field, in place of what is there."""
        found = self.browser.do("/element", using="css selector", value=selector)[ELEMENT]
        self.browser.do(f"/element/{found}/clear")
        self.browser.do(f"/element/{found}/value", text=text)

    def accept(self):
        """Say yes to the question that a button asks."""
        self.browser.do("/alert/accept")

    def wait_for(self, text):
        """Return when the page says a text."""
        try:
            wait_until(lambda: text in self.browser.text)
        except TimeoutError as error:
            error.add_note(f"{self.browser.address} says: {self.browser.text}")
            raise


@contextmanager
def serving(folder):
    """Serve a shop of a few items and users; give its address."""
    (folder / "midstream.toml").write_text(CONFIG)
    said = folder / "said.txt"
    with said.open("w") as file:
        command = [sys.executable, "-P", "-m", "midstream", "serve", "-f", str(folder), "--port", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait_until(lambda: read_address(folder / "data") or process.poll() is not None)
        address = read_address(folder / "data")
        assert address is not None, said.read_text()
        yield address.url
        assert process.poll() is None, said.read_text()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory):
    """A shop with a catalogue, acts of a user, a slate and a rejected event."""
    with (
        serving(tmp_path_factory.mktemp("shop")) as url,
        chromium(program, tmp_path_factory.mktemp("chromium")) as browser,
    ):
        found = Shop(url, browser)
        events = [
            {"type": "item", "item_id": name, "attributes": {"category": "lamps", "title": f"a {name}"}}
            for name in ITEMS
        ]
        events += [
            {"type": "view", "user_id": "ann", "item_id": name, "event_id": f"{name}-{number}"}
            for place, name in enumerate(ITEMS)
            for number in range(place + 1)
        ]
        assert found.api("POST", "/v1/events", json=events).json()["recorded"] == len(events)
        found.api("POST", "/v1/events", json=[{"type": "vieew", "user_id": "ann", "item_id": "lamp-1"}])
        yield found


def test_the_first_page_is_live(shop):
    """Figures change while it is open, without a click."""
    shop.open("")
    shop.wait_for("Live")
    for _ in range(20):
        shop.api("GET", "/v1/recommendations?user_id=ann")
    shop.wait_for("/v1/recommendations")


def test_a_page_that_was_refused_its_figures_becomes_live(shop):
    """With as many viewers as there may be a page is not live; once one has gone it is, without a click."""

    def status():
        """Look as one more viewer, until the end of the block."""
        return viewers.enter_context(httpx.stream("GET", f"{shop.url}/console/live", timeout=PATIENCE_S)).status_code

    shop.browser.open("about:blank")
    with ExitStack() as viewers:
        wait_until(lambda: status() == 503)
        shop.open("")
        shop.wait_for("Not live")
    shop.browser.run("async () => { window.isTheSamePage = true; }")
    wait_until(lambda: shop.browser.run("async () => document.getElementById('live-state').textContent") == "Live")
    assert shop.browser.run("async () => window.isTheSamePage")


def test_a_page_says_that_its_server_is_gone(shop, tmp_path):
    """Not when the browser opens the next stream, but when none comes for some seconds."""
    with serving(tmp_path) as url:
        gone = Shop(url, shop.browser)
        gone.open("")
        gone.wait_for("Live")
    gone.wait_for("Not live")


def test_a_placement_is_previewed_set_and_rolled_back(shop):
    """By its form: the effect is seen beside today's slate, then in the next answer; each version can come back."""
    for size, items in ((2, 'item.category == "lamps"'), (4, "")):
        shop.open("/placements/home")
        before = shop.api("GET", "/v1/placements/home").json()["in_force"]
        shop.fill("#slate_size", str(size))
        shop.fill("#filter", items)
        shop.fill("#user", "ann")
        shop.browser.click("form.placement button.main")
        shop.wait_for("What ann would see")
        rows = "async () => [...document.querySelectorAll('table.compared tbody tr')].map((row) => row.innerText)"
        assert len(shop.browser.run(rows)) == max(size, before["slate_size"])
        assert "a lamp-" in shop.browser.run(rows)[0]
        assert shop.api("GET", "/v1/placements/home").json()["in_force"] == before
        shop.fill("#author", "eve")
        shop.fill("#note", "fewer")
        shop.browser.click("form[data-then=leave] button.main")
        shop.browser.wait_for("/console/placements/home")
        assert "Set by eve" in shop.browser.text
        now = shop.api("GET", "/v1/placements/home").json()["in_force"]
        assert now == {**before, "slate_size": size, "filter": items or None}
        assert len(shop.api("GET", "/v1/recommendations?placement=home&user_id=ann").json()["items"]) == size
    # Other tests may have set the placement before this one.
    earlier = shop.api("GET", "/v1/placements/home").json()["versions"][-2]["version"]
    shop.fill(f"#back-{earlier}", "eve")
    shop.browser.click(f"#back-{earlier} + button")
    shop.accept()
    wait_until(lambda: shop.api("GET", "/v1/placements/home").json()["in_force"]["slate_size"] == 2)


def test_a_wrong_filter_is_shown_at_its_field(shop):
    """In the words of the route, where the field leads an aid; corrected there, it can be previewed."""
    shop.open("/placements/home")
    shop.fill("#filter", "item.category = ")
    shop.browser.click("form.placement button.main")
    shop.wait_for("nothing was set")
    said = (
        "async () => document.getElementById(document.querySelector('#filter').getAttribute('aria-describedby').trim())"
    )
    fault = shop.browser.run(f"{said}.innerText")
    assert fault.startswith("/placement/filter: ")
    assert "Allowed: " in fault
    assert violations(shop, "wrong filter") == {}
    shop.fill("#filter", 'item.category == "lamps"')
    shop.fill("#slate_size", "3")
    shop.browser.click("form.placement button.main")
    shop.wait_for("would see")
    assert "leaves" in shop.browser.text or "new" in shop.browser.text or "stays" in shop.browser.text


def test_a_change_of_somebody_else_is_not_covered(shop):
    """Nothing is set: neither from the form that was open before it, nor from a preview of before it."""

    def by_bob(size):
        body = {"placement": {**shop.api("GET", "/v1/placements/home").json()["in_force"], "slate_size": size}}
        assert shop.api("PUT", "/v1/placements/home", json={**body, "author": "bob"}).status_code == 200

    shop.open("/placements/home")
    by_bob(5)
    shop.fill("#deadline", "70ms")
    shop.browser.click("form.placement button.main")
    shop.wait_for("Somebody else changed the placement; nothing was set")
    assert "by bob" in shop.browser.text
    assert violations(shop, "moved") == {}
    assert shop.browser.run("async () => [document.querySelector('#slate_size').value]") == ["5"]
    shop.browser.click("form.placement button.main")
    shop.wait_for("Set it")
    by_bob(6)
    shop.fill("#author", "eve")
    shop.browser.click("form[data-then=leave] button.main")
    shop.wait_for("is the newest")
    assert shop.api("GET", "/v1/placements/home").json()["in_force"]["deadline"] == "50ms"


def test_a_form_is_filled_by_keyboard(shop):
    """Enter in a field previews, a source is switched off by the space bar, and what is wrong is not sent twice."""
    by_name = "async (name) => { document.getElementById(name).focus(); }"
    shop.open("/placements/home")
    shop.browser.run(by_name, "source-recent_items-on")
    shop.browser.press(" ")
    shop.browser.run(by_name, "slate_size")
    shop.browser.press("\ue007")
    shop.wait_for("What changes")
    assert "Source recent_items: proposes" in shop.browser.text


def open_json(shop):
    """Open the second way."""
    shop.open("/placements/home")
    shop.browser.click("#as-json summary")


def test_a_placement_is_set_as_json(shop):
    """The second way has every setting, the same preview and the same refusal."""
    open_json(shop)
    text = shop.browser.do("/execute/sync", script="return document.querySelector('#placement').value", args=[])
    before = shop.api("GET", "/v1/placements/home").json()["in_force"]["slate_size"]
    shop.fill("#placement", text.replace(f'"slate_size": {before},', '"slate_size": 3,'))
    shop.fill("#preview-user", "ann")
    shop.browser.click("button[data-then=slates]")
    shop.wait_for("As it would be")
    rows = "async () => document.querySelectorAll('output table.compared tbody tr').length"
    assert shop.browser.run(rows) == max(3, before)
    assert "a lamp-" in shop.browser.text
    shop.fill("#author", "eve")
    shop.browser.click("#as-json p button.main")
    wait_until(lambda: shop.api("GET", "/v1/placements/home").json()["in_force"]["slate_size"] == 3)


def test_a_mistake_is_shown_where_it_is(shop):
    """What the route says of a wrong placement is on the page, and nothing changed."""
    open_json(shop)
    shop.fill("#placement", '{"name": "home", "sources": [{"kind": "populer"}]}')
    shop.fill("#author", "eve")
    shop.browser.click("#as-json p button.main")
    shop.wait_for("populer")
    shop.fill("#placement", "{")
    shop.browser.click("#as-json p button.main")
    shop.wait_for("cannot be read")
    assert shop.api("GET", "/v1/placements/home").json()["in_force"]["sources"][0]["kind"] == "popular"


LOOKS = {"light": ("light", 1200), "dark": ("dark", 1200), "narrow": ("light", 400)}


@pytest.mark.parametrize("look", LOOKS)
def test_the_form_fits_the_window(shop, look, tmp_path):
    """No page of a placement is wider than the window, and axe finds nothing, in both schemes and on a phone."""
    scheme, width = LOOKS[look]
    show_in(shop, scheme)
    size = {"width": width, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
    shop.browser.do("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=size)
    pages = {"form": "/placements/home"}
    base = shop.browser.run
    try:
        shop.open(pages["form"])
        digest = base("async () => document.querySelector('[name=base]').value")
        sources = ("popular", "recent_items")
        asked = "".join(f"&source.{each}.on=on&source.{each}.limit=50" for each in sources)
        pages["preview"] = f"/placements/home/change?base={digest}&slate_size=8&deadline=50ms&user=ann{asked}"
        pages["wrong"] = (
            f"/placements/home/change?base={digest}&slate_size=many&filter=item.&deadline=50ms&exclude.view=3{asked}"
        )
        pages["moved"] = f"/placements/home/change?base={digest[::-1]}"
        for name, page in pages.items():
            shop.open(page)
            shop.browser.picture(Path(os.environ.get("MIDSTREAM_PICTURES", tmp_path)) / f"placement-{name}-{look}.png")
            assert base("async () => document.documentElement.scrollWidth <= innerWidth"), name
            assert violations(shop, name) == {}
    finally:
        shop.browser.do("/goog/cdp/execute", cmd="Emulation.clearDeviceMetricsOverride", params={})


def test_an_answer_says_why(shop):
    """The reasons come behind the page of a request, as the request is run again."""
    answer = shop.api("GET", "/v1/recommendations?placement=home&user_id=ann").json()
    wait_until(lambda: shop.api("GET", f"/v1/requests/{answer['request_id']}").status_code == 200)
    shop.open(f"/requests/{answer['request_id']}?item=lamp-0")
    shop.wait_for("the same slate came")
    assert "proposed by" in shop.browser.text
    assert "lamp-0" in shop.browser.text


def test_features_are_shown_as_they_are_now(shop, tmp_path):
    """Of an item its own; of a user those of the items that were acted on last."""
    for page, rows in (("/items/lamp-11", [["lamp-11", "12"]]), ("/users/ann", None)):
        shop.open(page)
        table = "async () => [...document.querySelectorAll('[aria-label=\"Features now\"] tbody tr')]"
        cells = shop.browser.run(f"{table}.map((row) => [...row.cells].map((each) => each.textContent))")
        assert cells == rows if rows else len(cells) == LAST_ITEMS
        shop.browser.picture(tmp_path / f"{page.strip('/').replace('/', '-')}.png")


def test_features_are_shown_as_of_a_past_moment(shop, tmp_path):
    """The page is there at once and the values behind it; a moment of the future is refused, with the command."""
    moment = time.time_ns() // 1_000_000
    shown = datetime.fromtimestamp(moment / 1_000 + 1, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    wait_until(lambda: time.time() > moment / 1_000 + 1)
    pictures = Path(os.environ.get("MIDSTREAM_PICTURES", tmp_path))
    fill = "async (text) => { document.querySelector('#as-of').value = text; }"
    table = "async () => [...document.querySelectorAll('[aria-label=\"Features as of then\"] tbody tr')]"
    for page, rows in (("/items/lamp-11", 1), ("/users/ann", LAST_ITEMS)):
        shop.open(page)
        shop.browser.run(fill, shown)
        shop.browser.click("form.row:has(#as-of) button")
        shop.wait_for("events were seen")
        cells = shop.browser.run(f"{table}.map((row) => [...row.cells].map((each) => each.textContent))")
        assert (len(cells), cells[0]) == (rows, ["lamp-11", "12"])
        assert violations(shop, page) == {}
        assert shop.browser.run("async () => document.querySelector('#as-of').value") == shown
        shop.browser.picture(pictures / f"as-of-{page.strip('/').replace('/', '-')}.png")
    shop.browser.run(fill, "2099-01-01T00:00:00")
    shop.browser.click("form.row:has(#as-of) button")
    shop.wait_for("is in the future")
    assert violations(shop, "future") == {}
    shop.browser.click("main details summary")
    assert "midstream features as-of questions.csv" in shop.browser.text
    shop.browser.picture(pictures / "as-of-future.png")


def test_a_user_is_looked_at_and_erased(shop):
    """Last acts are there, and after one question nothing is."""
    event = {"type": "view", "user_id": "bob", "item_id": "lamp-3", "event_id": "bob-1"}
    assert shop.api("POST", "/v1/events", json=event).json()["recorded"] == 1
    shop.open("/users/bob")
    assert "lamp-3" in shop.browser.text
    shop.browser.click("button.danger")
    shop.accept()
    shop.wait_for("Done")
    assert shop.api("GET", "/v1/users/bob").status_code == 404


def rejected(shop):
    """Send an event that is rejected; return the number of its letter."""
    event = {"type": "vieew", "user_id": "dan", "item_id": "lamp-1"}
    assert shop.api("POST", "/v1/events", json=event).json()["recorded"] == 0
    return shop.api("GET", "/v1/dead-letters").json()["letters"][0]["number"]


def test_a_rejected_event_is_mended(shop):
    """The event is a form: corrected, it is recorded, and its letter is gone."""
    number = rejected(shop)
    shop.open("/dead-letters")
    shop.browser.click("td a")
    shop.browser.wait_for(f"/dead-letters/{number}")
    shop.fill("#event", '{"type": "viiew", "user_id": "cid", "item_id": "lamp-1"}')
    shop.browser.click("button.main")
    shop.wait_for("/event/type")
    assert shop.api("GET", f"/v1/dead-letters/{number}").json()["reason"]["came"].count("vieew") == 1
    shop.fill("#event", '{"type": "view", "user_id": "cid", "item_id": "lamp-1"}')
    shop.browser.click("button.main")
    shop.wait_for("Done")
    assert shop.api("GET", "/v1/users/cid").json()["recent"][0]["item_id"] == "lamp-1"
    assert shop.api("GET", f"/v1/dead-letters/{number}").status_code == 404


def test_a_rejected_event_is_removed(shop):
    """From its own page, and with all others of a page of the list."""
    rejected(shop)
    number = rejected(shop)
    shop.open(f"/dead-letters/{number}")
    shop.browser.click("button.danger")
    shop.accept()
    wait_until(lambda: shop.browser.do("/url", "GET").endswith("/console/dead-letters"))
    assert shop.api("GET", f"/v1/dead-letters/{number}").status_code == 404
    assert violations(shop, "dead-letters") == {}
    shop.browser.click("button.danger")
    shop.accept()
    shop.wait_for("0 events were rejected")
    assert shop.api("GET", "/v1/dead-letters").json()["kept"] == 0


def test_an_experiment_is_started_and_stopped(shop):
    """From a form to an assignment, and to its end with a reason."""
    shop.open("/experiments")
    assert shop.browser.run("async () => document.querySelector('#of').value") == "home"
    for selector, text in (("#name", "fewer"), ("#author", "eve")):
        shop.fill(selector, text)
    shop.fill("#variants", '[{"name": "as-is"}, {"name": "one", "change": {"slate_size": 1}}]')
    shop.browser.click("button.main")
    wait_until(lambda: "/console/experiments/fewer" in shop.browser.do("/source", "GET"))
    shop.open("/experiments/fewer")
    assert "running" in shop.browser.text
    shop.fill("#reason", "seen enough")
    shop.fill("#author", "eve")
    shop.browser.click("form:last-of-type button.danger")
    shop.accept()
    shop.wait_for("seen enough")
    assert shop.api("GET", "/v1/experiments/fewer").json()["state"] == "stopped"


@pytest.fixture
def keyless(shop, tmp_path):
    """A shop of its own in the same browser: with its first key it is closed to all that have none."""
    with serving(tmp_path) as url:
        yield Shop(url, shop.browser)


def test_a_key_for_pages_is_made_and_revoked(keyless):
    """It is shown once, works, and ends with a click; from the first key on the console asks for one too."""
    keyless.open("/keys")
    assert "None yet" in keyless.browser.text
    keyless.fill("#name", "boss")
    keyless.browser.click("button.main")
    keyless.wait_for("shown this once")
    key = keyless.browser.run("async () => document.querySelector('output pre').textContent")
    wait_until(lambda: keyless.api("GET", "/v1/models").status_code == 401)
    headers = {"authorization": f"Bearer {key}"}
    assert keyless.api("GET", "/v1/models", headers=headers).status_code == 200
    keyless.open("/keys")
    keyless.fill("#key", key)
    keyless.browser.click("button.main")
    wait_until(lambda: keyless.browser.do("/url", "GET").endswith("/console"))
    keyless.open("/keys")
    for selector, text in (("#name", "pages"), ("#of", "recommend:home"), ("#origins", "https://shop.example")):
        keyless.fill(selector, text)
    keyless.browser.click("[value='events:write']")
    keyless.browser.click("button.main")
    keyless.wait_for("user secret")
    keyless.open("/keys")
    keyless.browser.click("tr:last-child [data-method=DELETE]")
    keyless.accept()
    wait_until(lambda: "revoked" in keyless.browser.text)
    states = {each["name"]: each["state"] for each in keyless.api("GET", "/v1/keys", headers=headers).json()["keys"]}
    assert states == {"boss": "live", "pages": "revoked"}
    scopes = {each["name"]: each["scopes"] for each in keyless.api("GET", "/v1/keys", headers=headers).json()["keys"]}
    assert scopes == {"boss": ["admin"], "pages": ["events:write", "recommend:home"]}


HALF_HOUR_MS = 1_800_000
COUNTRIES = {"de": 30, "fr": 10}
"""Segment → slates. Of those of the first all are clicked, of those of the second every other one."""


def with_outcomes(folder):
    """Make a shop whose older slates are settled: of two segments and of two variants, with clicks and purchases."""
    (folder / "midstream.toml").write_text(CONFIG)
    clock = [time.time_ns() // 1_000_000 - 2 * HALF_HOUR_MS]
    running = open_running(folder, config_of(folder), outside=Outside(clock=lambda: TimestampMs(clock[0])))
    with Recommender(running, lambda: msgspec.structs.replace(running.service.accept, now_ms=clock[0])) as shop:
        shop.record([{"type": "view", "user_id": "ann", "item_id": name} for name in ITEMS])
        for country, count in COUNTRIES.items():
            for number in range(count):
                user = f"{country}-{number}"
                answer = shop.recommend("home", user_id=user, context={"country": country})
                seen = {"user_id": user, "item_id": answer.items[0].id, "request_id": answer.request_id}
                shop.record({"type": "impression", **seen})
                if country == "de" or number % 2:
                    shop.record({"type": "click", **seen})
                if number % 5 == 0:
                    shop.record({"type": "purchase", "value": 10.0, **seen})
        clock[0] += 2 * HALF_HOUR_MS - 1_000
        shop.record({"type": "view", "user_id": "ann", "item_id": ITEMS[0]})


@pytest.fixture(scope="module")
def outcomes(program, tmp_path_factory):
    """The console of that shop in a wide window."""
    folder = tmp_path_factory.mktemp("outcomes")
    with_outcomes(folder)
    with (
        serving(folder) as url,
        chromium(program, tmp_path_factory.mktemp("wide"), "--window-size=1300,1500") as browser,
    ):
        yield Shop(url, browser)


def show_in(shop, scheme):
    """Show pages in the colours of a scheme from now on."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    shop.browser.do("/goog/cdp/execute", cmd="Emulation.setEmulatedMedia", params=media)


WIDTHS = """async () => [...document.querySelectorAll("table.outcomes tr")].map((row) => ({
    name: row.cells[0].textContent.trim(),
    bars: [...row.querySelectorAll("rect")].map((bar) => Math.round(bar.getBoundingClientRect().width)),
    room: row.querySelector("svg") ? Math.round(row.querySelector("svg").getBoundingClientRect().width) : 0,
})).filter((row) => row.bars.length)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_outcomes_are_drawn_by_segment(outcomes, scheme, tmp_path):
    """Bars are as long as their figures, in the colours of the scheme, and the rules of axe find nothing.

    Pictures are for eyes: MIDSTREAM_PICTURES names a folder that keeps them.
    """
    show_in(outcomes, scheme)
    for _ in range(2):
        outcomes.open("/outcomes")
        if "By segment country" in outcomes.browser.text:
            break
        wait_until(lambda: outcomes.api("GET", "/v1/online-metrics").json()["rows"])
    outcomes.browser.picture(Path(os.environ.get("MIDSTREAM_PICTURES", tmp_path)) / f"outcomes-{scheme}.png")
    rows = {row["name"]: row for row in outcomes.browser.run(WIDTHS)}
    assert rows.keys() >= {"home", "de", "fr"}
    for place in (0, 1):  # click rates, of settled slates and of all: 1 and a half
        assert rows["de"]["bars"][place] == pytest.approx(rows["de"]["room"], abs=1)
        assert rows["fr"]["bars"][place] == pytest.approx(rows["fr"]["room"] / 2, abs=1)
    assert all(rows[name]["bars"][4] > 40 for name in ("de", "fr"))  # revenue
    for text in ("100 %", "50 %", "By placement", "Revenue a slate"):
        assert text in outcomes.browser.text
    colours = outcomes.browser.run(
        """async () => ["rect.settled", "rect.so-far", "body"].map((each) => {
            const style = getComputedStyle(document.querySelector(each));
            return each === "body" ? style.backgroundColor : style.fill;
        })"""
    )
    assert len(set(colours)) == 3
    assert outcomes.browser.run("async () => document.documentElement.scrollWidth <= innerWidth")
    assert violations(outcomes, "/outcomes") == {}
    shown_over_time(outcomes)


def shown_over_time(outcomes):
    """Plots have the slates by hour and, by a click, of a placement by day; a table has the same values."""
    names = "async () => [...document.querySelectorAll('svg.time')].map((each) => each.getAttribute('aria-label'))"
    dots = (
        "async () => [...document.querySelectorAll('svg.time')].map((each) => each.querySelectorAll('circle').length)"
    )
    of_hour = outcomes.browser.run(names)
    assert [each.split(" by ")[0] for each in of_hour] == ["Click rate", "Conversion rate", "Revenue", "Slates"]
    assert all(outcomes.browser.run(dots))
    outcomes.browser.run("async () => { document.querySelector('#by').value = 'day'; }")
    outcomes.browser.run("async () => { document.querySelector('#placement').value = 'home'; }")
    outcomes.browser.click("form.row button")
    wait_until(lambda: "by=day" in outcomes.browser.address)
    assert violations(outcomes, "/outcomes?by=day") == {}
    outcomes.browser.click("main details summary")
    table = "async () => [...document.querySelectorAll('table.over-time tbody tr')].map((row) => row.innerText)"
    rows = [each.split("\t") for each in outcomes.browser.run(table)]
    assert sum(int(each[1]) for each in rows) == sum(COUNTRIES.values())
    assert {each[-1].strip().removesuffix(", not all hours") for each in rows} <= {
        "open",
        "conversions open",
        "settled",
    }


PAGES = (
    *("", "/placements", "/placements/home", "/nothing", "/requests?ask=1&placement=home&user_id=ann", "/catalogue"),
    *("/items/lamp-1", "/users/ann", "/models", "/experiments", "/experiments/fewer", "/outcomes", "/dead-letters"),
    *("/keys", "/operation", "/session", "/items/nothing"),
)


def violations(shop, page):
    """Return what the rules of axe find on the page that is open: names of fields, contrast, headings, keyboard."""
    path = Path(os.environ.get("MIDSTREAM_AXE", "missing"))
    if not path.is_file():
        assert os.environ.get("CI") != "true", "scripts/test-integrations brings axe"
        pytest.skip("axe is not there")
    shop.browser.do("/execute/sync", script=path.read_text(), args=[])
    found = shop.browser.run("() => axe.run()")["violations"]
    return {(page, each["id"]): [node["html"][:200] for node in each["nodes"]] for each in found}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_used_by_everybody(shop, scheme):
    """The rules of axe find nothing: names of fields, contrast, order of headings, what a keyboard reaches."""
    show_in(shop, scheme)
    found: dict[str, Any] = {}
    for page in PAGES:
        shop.open(page)
        found |= violations(shop, page)
    assert found == {}
