"""Pages of the console that follow what they show, in Chromium on a real server: letters, an experiment, models."""

import time

import httpx
import pytest

from tests.service.test_console import Shop
from tests.support.browser import chromium
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.served_shop import served_shop

pytestmark = [pytest.mark.integration, pytest.mark.service]

CONFIG = """\
[[models]]
name = "liked"
kind = "popular"

[[trainings]]
model = "liked"
every = "365d"
promote = "ask"

[trainings.gates]
baseline = false
unjudged = "pass"
shadow = false

[probe]
every = "1s"

[[placements]]
name = "home"
sources = [{kind = "popular"}]
slate_size = 6
"""
DECIDED = "it orders nothing there"
"""Reason why no version of this shop passes the gates: all items have the same number of acts."""
SAME = "async () => Boolean(window.isTheSamePage)"


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory):
    """A shop with some acts, a running experiment and a rejected event."""
    folder = tmp_path_factory.mktemp("shop")
    with (
        served_shop(folder, CONFIG) as url,
        chromium(program, tmp_path_factory.mktemp("chromium")) as browser,
    ):
        found = Shop(url, browser)
        acts = [{"type": "view", "user_id": f"u{n % 9}", "item_id": f"lamp-{n % 12}"} for n in range(120)]
        assert found.api("POST", "/v1/events", json=acts).json()["recorded"] == len(acts)
        reject(found, "first")
        variants = [{"name": "as-is"}, {"name": "few", "change": {"slate_size": 2}}]
        order = {"placement": "home", "variants": variants, "author": "ann"}
        assert found.api("POST", "/v1/experiments/size", json=order).status_code == 200
        yield found


def reject(shop, name):
    """Send an event whose type is none."""
    told = shop.api("POST", "/v1/events", json=[{"type": name, "user_id": "ann", "item_id": "lamp-1"}]).json()
    assert told["recorded"] == 0


def open_live(shop, path):
    """Open a page, and mark it: a page that was loaded again has no mark."""
    shop.open(path)
    wait_until(lambda: shop.browser.run("async () => document.getElementById('live-state').textContent") == "Live")
    shop.browser.run("async () => { window.isTheSamePage = true; }")


def test_dead_letters_come_to_an_open_page(shop):
    """A letter is listed without a click; what a form says, and the focus on its button, stay."""
    open_live(shop, "/dead-letters")
    shop.browser.click("#retry button")
    shop.wait_for('"refused"')
    reject(shop, "second")
    shop.wait_for("second")
    assert shop.browser.run(SAME)
    assert '"refused"' in shop.browser.text
    assert shop.browser.run("async () => document.activeElement.closest('form')?.id ?? ''") == "retry"


def see(shop, *, is_seen):
    """Have the page believe that its tab is in front, or is not."""
    told = "false" if is_seen else "true"
    shop.browser.run(f"""async () => {{
        Object.defineProperty(document, "hidden", {{ configurable: true, get: () => {told} }});
        document.dispatchEvent(new Event("visibilitychange"));
    }}""")


def test_a_tab_that_nobody_sees_has_no_stream(shop):
    """It would hold one of the few connections of its browser; once it is seen it follows again."""
    open_live(shop, "/dead-letters")
    see(shop, is_seen=False)
    shop.wait_for("Not live while nobody sees it")
    reject(shop, "hidden")
    time.sleep(5)
    assert '"hidden"' not in shop.browser.text
    see(shop, is_seen=True)
    shop.wait_for('"hidden"')
    assert shop.browser.run(SAME)


def test_what_a_page_shows_already_is_left_as_it_is(shop):
    """A fragment that is what the page has replaces nothing: a click finds the link that it began on."""
    lines: list[str] = []
    with httpx.stream("GET", f"{shop.url}/console/live?page=/dead-letters", timeout=PATIENCE_S) as answer:
        for line in answer.iter_lines():
            if lines and not line:
                break
            lines += [line.removeprefix("data: ")] if line.startswith("data: ") else []
    open_live(shop, "/dead-letters")
    renewed = """async (text) => {
        const place = document.querySelector("[data-live]"), link = place.querySelector("td a");
        renew(place, text);
        return [Boolean(link), link.isConnected];
    }"""
    assert shop.browser.run(renewed, "\n".join(lines)) == [True, True]


def test_an_experiment_shows_what_comes(shop):
    """Its report and the slates of its variants, while somebody writes into its forms."""
    open_live(shop, "/experiments/size")
    assert "few: undecided" not in shop.browser.text
    shop.fill("#reason", "half a word")
    for number in range(40):
        assert shop.api("GET", f"/v1/recommendations?placement=home&user_id=user-{number}").status_code == 200
    shop.wait_for("few: undecided")
    assert shop.browser.run(SAME)
    assert shop.browser.run("async () => document.getElementById('reason').value") == "half a word"


def test_a_training_is_followed_to_its_decision(shop):
    """From the order of another person to the decision about it; the first one is that of the start."""
    open_live(shop, "/models")
    shop.wait_for("liked: waits")
    before = shop.browser.text.count(DECIDED)
    assert before > 0
    assert shop.api("POST", "/v1/trainings/liked/run").status_code == 202
    wait_until(lambda: shop.browser.text.count(DECIDED) > before)
    assert shop.browser.run(SAME)


def test_the_first_page_has_freshness_and_rejected_events(shop):
    """The time of the probe, and the events that were refused with a way to their letters."""
    open_live(shop, "")
    shop.wait_for("Freshness, by the probe")
    shop.wait_for(" fresh")
    shop.wait_for("Events rejected")
    assert "Lag" not in shop.browser.text
    reject(shop, "third")
    metrics = httpx.get(f"{shop.url}/metrics", timeout=PATIENCE_S).text
    (count,) = [line.split()[1] for line in metrics.splitlines() if 'events_total{outcome="rejected"}' in line]
    shop.wait_for(f"{float(count):.0f} since the start")
