"""The acts of the console in Chromium: each button that changes something is pressed, its effect is read by the API.

One shop has what the pages show: two versions of a model, a training, an input, an output and a sink whose servers do
not answer, a key, an experiment. Each page is passed through axe in both schemes while it is full.
"""

import os
from functools import partial
from pathlib import Path

import pytest

from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key
from midstream.training.registry import Registry
from tests.service.test_console import Shop, show_in, violations
from tests.support.browser import chromium
from tests.support.fakes.models import publish_chain
from tests.support.patience import wait_until
from tests.support.served_shop import served_shop

pytestmark = [pytest.mark.integration, pytest.mark.service]

CONFIG = """\
[items]
search = ["title"]

[items.attributes]
category = "category"

[[models]]
name = "near"
kind = "ease"

[[models]]
name = "liked"
kind = "popular"

[[trainings]]
model = "liked"
every = "365d"

[[placements]]
name = "home"
slate_size = 4
deadline = "10s"
sources = [{ kind = "ease", model = "near" }, { kind = "popular" }]

[[inputs]]
name = "clicks"
kind = "kafka"
servers = "127.0.0.1:1"
topic = "clicks"

[[outputs]]
name = "outcomes"
kind = "kafka"
servers = "127.0.0.1:1"
topic = "outcomes"
records = "outcomes"

[[sinks]]
name = "users"
scope = "user"
columns = ["row.recent_items"]
store = { kind = "redis", url = "redis://127.0.0.1:1/0" }
"""
ITEMS = 9
WORDS = ("brass lamp", "steel lamp", "round mirror")
EXPERIMENT = {
    "placement": "home",
    "author": "ann",
    "variants": [{"name": "as-is"}, {"name": "few", "change": {"slate_size": 2}}],
    "ramp": [{"exposed": 0.1}],
}


class Acts(Shop):
    """A shop whose pages are looked at in both schemes."""

    def __init__(self, url, browser, key, pictures):
        super().__init__(url, browser)
        self.key = key
        self.pictures = pictures

    def api(self, method, path, **options):
        """Ask as a program with the key does, unless another key is named."""
        headers = {"x-api-key": self.key, **options.pop("headers", {})}
        return super().api(method, path, headers=headers, **options)

    def sign_in(self):
        """Give the browser the key."""
        self.open("/session")
        self.fill("#key", self.key)
        self.browser.click("button.main")
        self.browser.wait_for("/console")

    def look(self, name):
        """Pass the open page through axe and keep pictures of it, light and dark; it fits the window."""
        for scheme in ("dark", "light"):
            show_in(self, scheme)
            assert violations(self, name) == {}
            self.browser.picture(self.pictures / f"acts-{name}-{scheme}.png")
        assert self.browser.run("async () => document.documentElement.scrollWidth <= innerWidth"), name

    def press(self, selector):
        """Click a button and say yes to its question."""
        self.browser.click(selector)
        self.accept()

    def model(self):
        """Return the model of the published versions."""
        return self.api("GET", "/v1/models/near").json()

    def rows(self, table):
        """Return the texts of the cells of a table's rows."""
        script = """async (table) => [...document.querySelectorAll(`${table} tbody tr`)]
            .map((row) => [...row.cells].map((cell) => cell.innerText.trim()))"""
        return self.browser.run(script, table)


@pytest.fixture(scope="module")
def shop(program, tmp_path_factory):
    """Serve it, with acts on all items."""
    folder = tmp_path_factory.mktemp("shop")
    registry = Registry(folder / "data" / "models")
    for step in (1, 2):
        publish_chain(registry, step)
    key = create_key(folder, key_wish("boss", ("admin",))).key
    with (
        served_shop(folder, CONFIG) as url,
        chromium(program, tmp_path_factory.mktemp("chromium"), "--window-size=1300,1500") as browser,
    ):
        pictures = Path(os.environ.get("MIDSTREAM_PICTURES", tmp_path_factory.mktemp("pictures")))
        found = Acts(url, browser, key, pictures)
        events = []
        for number in range(ITEMS):
            attributes = {"category": "home", "title": f"{WORDS[number % 3]} {number}"}
            events.append({"type": "item", "item_id": f"item-{number}", "attributes": attributes})
            events += [
                {"type": "view", "user_id": f"user-{user}", "item_id": f"item-{number}"}
                for user in range(20)
                if (user * (number + 3)) % 10 < 6
            ]
        assert found.api("POST", "/v1/events", json=events).json()["recorded"] == len(events)
        found.sign_in()
        yield found


def serves(shop, version):
    """Whether a version is in service."""
    return shop.model()["serving"] == version


def shows(shop, text):
    """Whether the page has a text."""
    return text in shop.browser.text


def problem_of(shop, name):
    """What the first input, output or sink waits for."""
    return shop.api("GET", f"/v1/{name}").json()[name][0]["problem"]


def test_a_version_is_promoted_and_rolled_back(shop):
    """Each version by its own button; the champion goes back to the version before, and answers name it."""
    first, second = (each["version"] for each in shop.model()["versions"])
    for version in (first, second):
        shop.open("/models")
        shop.press(f"form:has([value='{version}']) button")
        wait_until(partial(serves, shop, version))
        wait_until(partial(shows, shop, f"in service: {version}"))
    shop.look("models-promoted")
    slate = shop.api("GET", "/v1/recommendations?placement=home&user_id=user-1").json()
    assert slate["models"]["near"] == second
    shop.press("form[data-send='/v1/models/near/rollback'] button")
    wait_until(lambda: shop.model()["serving"] == first)
    wait_until(lambda: f"in service: {first}" in shop.browser.text)
    assert shop.model()["aliases"]["champion"] == first


def test_a_model_is_trained_now(shop):
    """The order is taken; what comes of it stands with each gate on the page."""

    def decisions():
        return shop.api("GET", "/v1/trainings/liked").json()["decisions"]

    def is_ordered():
        return decisions()[0]["because"] == "order" and decisions()[0]["action"] == "refused"

    # Without a version the first training begins by itself.
    wait_until(lambda: shop.api("GET", "/v1/trainings").json()["trainings"][0]["state"] == "waits" and decisions())
    assert not is_ordered()
    shop.open("/models")
    shop.browser.click("form[data-send='/v1/trainings/liked/run'] button")
    wait_until(is_ordered)
    gates = decisions()[0]["gates"]
    assert {each["outcome"] for each in gates} >= {"passed", "refused"}
    shop.open("/models")
    (row, *_) = shop.rows("[aria-label='Decisions about liked']")
    assert row[0] == "refused"
    assert all(f"{each['name']} {each['outcome']}" in row[2] for each in gates)
    shop.look("models-trained")


def test_a_key_is_rotated(shop):
    """The new key is shown once and works; the old one works on until its grace ends."""
    scopes = {"scopes": ["recommend"]}
    old = shop.api("POST", "/v1/keys/pages", json=scopes).json()
    shop.open("/keys")
    shop.look("keys")
    shop.browser.click(f"form[data-send='/v1/keys/{old['view']['id']}/rotate'] button")
    shop.wait_for("shown this once")
    shop.look("keys-rotated")
    new = shop.browser.run("async () => document.querySelector('output pre').textContent")
    assert new != old["key"]
    for key in (new, old["key"]):
        path, headers = "/v1/recommendations?placement=home&user_id=user-1", {"x-api-key": key}
        assert shop.api("GET", path, headers=headers).status_code == 200
    keys = [each for each in shop.api("GET", "/v1/keys").json()["keys"] if each["name"] == "pages"]
    assert [(each["state"], "expires_ms" in each) for each in keys] == [("live", True), ("live", False)]


def start(shop, name):
    """Start an experiment; return its page's address."""
    shop.api("POST", f"/v1/experiments/{name}", json=EXPERIMENT).raise_for_status()
    return f"/experiments/{name}"


def test_an_experiment_is_ramped_and_ships_a_variant(shop):
    """More users are exposed at once; its end sets the placement as the variant was."""
    shop.open(start(shop, "ramped"))
    shop.fill("#ramper", "eve")
    shop.fill("#ramp", '[{"exposed": 0.5}]')
    shop.browser.click("form[data-send$='/ramp'] button")
    wait_until(lambda: shop.api("GET", "/v1/experiments/ramped").json()["exposed"] == 0.5)
    shop.wait_for("50 % of its units")
    shop.look("experiment-ramped")
    shop.browser.run("async () => { document.querySelector('#ship').value = 'few'; }")
    shop.fill("#reason", "fewer sell more")
    shop.fill("#author", "eve")
    shop.press("form[data-send$='/stop'] button")
    shop.wait_for("fewer sell more")
    shop.look("experiment-shipped")
    assert shop.api("GET", "/v1/experiments/ramped").json()["state"] == "stopped"
    assert shop.api("GET", "/v1/placements/home").json()["in_force"]["slate_size"] == 2
    shop.open("/experiments")
    shop.look("experiments")
    shop.api("DELETE", "/v1/placements/home?author=ann").raise_for_status()


def test_a_placement_is_given_back_to_the_file(shop):
    """What the file says is in force again; one that the file does not have is gone, and its page says so."""
    home = shop.api("GET", "/v1/placements/home").json()["in_force"]
    for name in ("home", "extra"):
        body = {"placement": {**home, "name": name, "slate_size": 3}, "author": "ann"}
        shop.api("PUT", f"/v1/placements/{name}", json=body).raise_for_status()
        shop.open(f"/placements/{name}")
        shop.look(f"placement-{name}")
        shop.fill("#giver", "eve")
        shop.press("form[data-method=DELETE] button")
        if name == "home":
            shop.wait_for("As the configuration file has it.")
    shop.wait_for("nothing answers it")
    assert "Built in" not in shop.browser.text
    shop.look("placement-removed")
    assert shop.api("GET", "/v1/placements/extra").json()["in_force"] is None
    assert shop.api("GET", "/v1/placements/home").json()["in_force"]["slate_size"] == 4


def test_an_item_is_deleted(shop):
    """No slate has it from then on, and its page says what is left of it."""
    shop.api("PUT", "/v1/items/gone", json={"title": "a vase", "category": "home"}).raise_for_status()
    view = {"type": "view", "user_id": "user-1", "item_id": "gone"}
    shop.api("POST", "/v1/events", json=view).raise_for_status()
    shop.open("/items/gone")
    shop.look("item")
    shop.press("button.danger")
    wait_until(lambda: not shop.api("GET", "/v1/items/gone").json()["available"])
    shop.wait_for("Not available")
    shop.look("item-deleted")
    question = {"placement": "home", "user_id": "user-2", "n": 20}
    items = shop.api("POST", "/v1/recommendations", json=question).json()["items"]
    assert "gone" not in {each["id"] for each in items}


def test_items_are_found_by_words(shop):
    """Rows are as in the list of items; a search by a person records no slate."""

    def slates():
        text = shop.api("GET", "/metrics").text
        return [line for line in text.splitlines() if line.startswith("midstream_answers_total")]

    before = slates()
    shop.open("/catalogue")
    shop.look("catalogue")
    shop.fill("#q", "brass la")
    shop.browser.click("form[role=search] button")
    wait_until(lambda: "q=brass" in shop.browser.address)
    found = shop.rows("section:first-child table")
    brass = [[f"item-{number}", f"category home; title brass lamp {number}", "yes"] for number in range(0, ITEMS, 3)]
    assert sorted(found[:3]) == brass
    assert {row[0] for row in found[3:]} == {f"item-{number}" for number in range(1, ITEMS, 3)}
    shop.look("catalogue-found")
    shop.fill("#q", "nothing such")
    shop.browser.click("form[role=search] button")
    wait_until(lambda: "nothing" in shop.browser.address)
    assert shop.rows("section:first-child table") == [["None."]]
    assert slates() == before


def test_what_runs_beside_is_shown(shop):
    """An input, an output and a sink whose servers do not answer, each with its state and what it waits for."""
    views = {}
    for name, row in (("inputs", "clicks"), ("outputs", "outcomes"), ("sinks", "users")):
        wait_until(partial(problem_of, shop, name))
        views[row] = shop.api("GET", f"/v1/{name}").json()[name][0]
    shop.open("/operation")
    shop.look("operation")
    for row, view in views.items():
        assert f"{row}: {view['state']}" in shop.browser.text
    assert "Redis at 127.0.0.1:1 is not connected" in shop.browser.text
