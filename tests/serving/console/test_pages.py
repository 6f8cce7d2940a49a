"""Pages of the console: each shows what its routes answer, escaped, under a policy that allows no script of others."""

import re
import time
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from fastapi.testclient import TestClient

import midstream
from midstream.engine.explain.past_features import COMMAND
from midstream.serving.access.console_session import CONSOLE_PATH
from midstream.serving.console.api_reader import ApiAnswer
from midstream.serving.console.page_templates import Templates
from midstream.serving.console.pages import PAGES
from midstream.serving.console.past_pages import command
from tests.support.patience import wait_until

HOSTILE = '<img src=x onerror="alert(1)">'
STEPS = {"name": "default", "request_id": "none", "item_id": "lamp", "user_id": "ann", "number": "1"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop with a rejected event, and with names that are markup."""
    with TestClient(midstream.asgi(tmp_path_factory.mktemp("shop")), base_url="http://localhost") as client:
        config = {"attributes": {"title": HOSTILE}}
        assert client.put("/v1/items/lamp", json=config).status_code in {200, 422}
        event = {"type": "view", "user_id": "ann", "item_id": "lamp", "event_id": "1"}
        bad = {"type": HOSTILE, "user_id": "ann"}
        assert client.post("/v1/events", json=[event, bad]).json()["recorded"] == 1
        yield client


def text_of(client, path, status=200):
    answer = client.get(CONSOLE_PATH + path)
    assert answer.status_code == status, answer.text
    return answer.text


@pytest.mark.parametrize("path", ["", *PAGES])
def test_each_page_is_whole_and_safe(shop, path):
    """Every page answers, also where what it shows is not there; nothing that came from outside is markup."""
    answer = shop.get(CONSOLE_PATH + path.format(**STEPS))
    assert answer.status_code in {200, 404}, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "<img" not in answer.text
    # Inline scripts, styles and handlers would be refused by the policy, so a page that has one is broken.
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|<[^>]*\s(on\w+|style)=", answer.text)
    if not path.endswith(("/why", "/features")):  # fragments
        assert answer.text.startswith("<!doctype html>")
        assert answer.text.count("<h1>") == 1
        assert answer.text.count('aria-current="page"') == 1


def test_the_address_alone_leads_to_the_console(shop):
    """Who types no path is no program."""
    answer = shop.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, CONSOLE_PATH)


def test_first_steps_are_open_until_something_is_recorded(shop, tmp_path):
    """A shop without events shows what to do first; afterwards the list is closed."""
    assert '<details class="steps">' in text_of(shop, "")
    with TestClient(midstream.asgi(tmp_path), base_url="http://localhost") as empty:
        assert '<details class="steps" open>' in text_of(empty, "")


def test_outcomes_without_slates_say_what_makes_them(tmp_path):
    """No empty tables: which route a page asks, and which events follow."""
    with TestClient(midstream.asgi(tmp_path), base_url="http://localhost") as empty:
        text = text_of(empty, "/outcomes")
    assert "No slate is in the figures yet" in text
    assert "<table" not in text


def test_what_somebody_would_see_has_the_size_of_the_placement(shop):
    """A page asks for no number of items of its own."""
    placement = {"sources": [{"kind": "popular"}], "slate_size": 1}
    items = [{"type": "view", "user_id": "u", "item_id": f"i{n}", "event_id": f"i{n}"} for n in range(3)]
    assert shop.post("/v1/events", json=items).json()["recorded"] == 3
    assert shop.put("/v1/placements/one", json={"placement": placement, "author": "ann"}).status_code == 200
    assert text_of(shop, "/requests?ask=1&placement=one").count('<td class="n">0<td>') == 1
    assert '<td class="n">1<td>' not in text_of(shop, "/requests?ask=1&placement=one")
    assert "question.n" not in text_of(shop, "/placements/one")


@pytest.mark.parametrize("path", ["/nothing", "/placements/a/b", "/", "/%3Cimg%20src%3Dx%3E"])
def test_an_unknown_address_is_a_page(shop, path):
    """With the menu, escaped, and with the status of what is not there."""
    answer = shop.get(CONSOLE_PATH + path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "is no page of the console" in answer.text
    assert 'href="/console/placements"' in answer.text
    assert "<img" not in answer.text
    assert shop.post(CONSOLE_PATH + path, json={}).status_code == 405


def test_what_is_not_there_is_said_with_its_status(shop):
    """A page of an unknown item has the words of the route."""
    text = text_of(shop, "/items/nothing", 404)
    assert "Nothing of that name is known" in text
    assert "/docs/http.md" in text


def test_ids_of_any_text_have_a_page(shop):
    """Percent signs and markup of an id are part of it, in the link and on its page."""
    name = 'a b%?"<é'
    event = {"type": "view", "user_id": name, "item_id": "lamp", "event_id": "2"}
    assert shop.post("/v1/events", json=event).json()["recorded"] == 1
    text = text_of(shop, "/users/a%20b%25%3F%22%3C%C3%A9")
    assert "User a b%?&#34;&lt;é" in text
    assert 'data-send="/v1/users/a%20b%25%3F%22%3C%C3%A9"' in text


def test_a_form_opens_one_thing_by_its_id(shop):
    """Without the script as well."""
    assert "<h1>User ann" in text_of(shop, "/catalogue?user=ann")
    assert "Nothing of that name" in text_of(shop, "/requests?id=none", 404)


def links_named(text, name):
    """Return the addresses of the links with a text, unescaped."""
    return [unescape(each) for each in re.findall(rf'<a href="([^"]*)">{name}</a>', text)]


def test_users_are_found_by_a_filter_and_page_by_page(shop, monkeypatch):
    """Each user that passes once, beside the items that were looked for; a filter that is wrong is said."""
    monkeypatch.setattr("midstream.serving.console.pages.LISTED", 2)
    names = [f"listed-{number}" for number in range(5)]
    for name in (*names, "unlisted"):
        attributes = {"country": "xx" if name in names else "yy"}
        assert shop.put(f"/v1/users/{name}", json=attributes).status_code == 200
    filters = {"user_filter": 'user.country == "xx"', "filter": 'item.count("view", "7d") > 0'}
    address, found = f"?{urlencode(filters)}", []
    for has_more in (True, True, False):
        text = text_of(shop, f"/catalogue{address}")
        assert "/console/items/lamp" in text
        found += re.findall(r'/console/users/((?:un)?listed-?\d*)"', text)
        more = links_named(text, "More users")
        assert len(more) == int(has_more)
        for address in more:
            kept = parse_qs(urlsplit(address).query)
            assert {name: kept[name] for name in filters} == {name: [text] for name, text in filters.items()}
    assert sorted(found) == names
    refused = text_of(shop, f"/catalogue?{urlencode({'user_filter': 'user.'})}")
    assert '<div class="notice bad" role="alert">' in refused
    assert "/console/items/lamp" in refused


def test_a_placement_is_text_that_can_be_sent_back(shop):
    """The page has the content in force, and the forms name the routes that set and preview it."""
    text = text_of(shop, "/placements/default")
    assert 'data-send="/v1/placements/default" data-method="PUT"' in text
    assert 'data-send="/v1/placements/default/preview"' in text


FEATURES = """\
[[features]]
name = "views"
kind = "count"
scope = "item"
actions = ["view"]
"""


def test_items_and_users_have_their_features_as_they_are_now(shop, tmp_path):
    """Of an item its own, of a user those of the items that were acted on last; without declared ones nothing."""
    (tmp_path / "midstream.toml").write_text(FEATURES)
    with TestClient(midstream.asgi(tmp_path), base_url="http://localhost") as client:
        acts = [{"type": "view", "user_id": "ann", "item_id": "lamp", "event_id": str(each)} for each in range(7)]
        assert client.post("/v1/events", json=acts).json()["recorded"] == len(acts)
        for path in ("/items/lamp", "/users/ann"):
            text = text_of(client, path)
            table = text[text.index("Features <small>now") :]
            assert re.search(r"<th[^>]*>views", table)
            assert re.search(r"lamp.*?<td[^>]*>7", table.split("</table>")[0])
    assert "Features <small>now" not in text_of(shop, "/items/lamp") + text_of(shop, "/users/ann")


def test_items_and_users_have_features_as_of_a_past_moment(tmp_path):
    """The page is there at once, the values behind it, and a moment that cannot be read is refused in words."""
    (tmp_path / "midstream.toml").write_text(FEATURES)
    with TestClient(midstream.asgi(tmp_path), base_url="http://localhost") as client:
        moment = 0
        for count in (3, 4):
            acts = [
                {"type": "view", "user_id": "ann", "item_id": "la,mp", "event_id": f"{count}-{each}"}
                for each in range(count)
            ]
            assert client.post("/v1/events", json=acts).json()["recorded"] == count
            if count == 3:
                wait_until(lambda: time.time_ns() // 1_000_000 > last_seen(client))
                moment = time.time_ns() // 1_000_000
        for path in ("/items/la%2Cmp", "/users/ann"):
            page = text_of(client, f"{path}?as_of={moment}")
            (there,) = re.findall(r'data-fragment="([^"]*)"', page)
            wait_until(lambda: "data-again" not in client.get(there.replace("&amp;", "&")).text)  # noqa: B023
            text = client.get(there.replace("&amp;", "&")).text
            assert "3 events were seen" in text
            assert re.search(r"<th[^>]*>views.*la,mp.*?<td[^>]*>3<", text, re.DOTALL)
            assert "midstream features as-of questions.csv" in text
        for wrong, said in (("2030-01-01T00:00", "is in the future"), ("2020-01-01T00:00", "is before the log begins")):
            there = f"{CONSOLE_PATH}/items/la%2Cmp/features?as_of={wrong}"
            wait_until(lambda: "data-again" not in client.get(there).text)  # noqa: B023
            answer = client.get(there)
            assert (answer.status_code, said in answer.text) == (400, True)


def test_a_log_that_is_too_long_for_the_page_has_the_command():
    """It is there to be copied, without another click."""
    came = "6,000,000 events lie between the nearest snapshot and that moment."
    fault = {"pointer": "time", "came": came, "right": f"{COMMAND} reads any number of them.", "page": "/docs/x.md"}
    body = {"title": "The request cannot be used", "detail": f"{came} {fault['right']}", "errors": [fault]}
    shell = command("2026-01-31T12:30:00Z", "o'ann", ["lamp"])
    text = Templates().render("as_of.html", "/at", {"found": ApiAnswer(400, body), "moment": "then", "command": shell})
    assert "<details open>" in text
    assert came in text
    assert "o&#39;&#34;&#39;&#34;&#39;ann" in text
    body["detail"] = "That moment is in the future."
    text = Templates().render("as_of.html", "", {"found": ApiAnswer(400, body), "moment": "then", "command": shell})
    assert "<details open>" not in text


def test_a_refusal_without_faults_is_told_in_words():
    """Of a user who was erased, and where as many questions wait as may: both have a detail alone."""
    body = {"title": "Nothing of that name is known", "detail": "This user was erased."}
    text = Templates().render("as_of.html", "", {"found": ApiAnswer(404, body), "moment": "then", "command": "shell"})
    assert "This user was erased." in text
    assert "shell" not in text  # what was erased is offered by no other way
    text = Templates().render("as_of.html", "", {"found": ApiAnswer(503, body), "moment": "then", "command": "shell"})
    assert "shell" in text


def last_seen(client):
    """Return the log time of the newest act."""
    return client.get("/v1/users/ann").json()["last_seen"]


def test_looking_records_nothing(shop):
    """Pages that show slates ask for previews, so nothing is learned from people who look."""
    before = shop.get("/health/ready").json()["log_position"]
    for path in ("/requests?ask=1&placement=default&user_id=ann", "/items/lamp", "/users/ann", "/requests"):
        text_of(shop, path)
    assert shop.get("/health/ready").json()["log_position"] == before


def test_a_rejected_event_can_be_mended(shop):
    """Its page has the reason and the event as it came."""
    text = text_of(shop, "/dead-letters/1")
    assert "&lt;img src=x" in text
    assert 'data-send="/v1/events"' not in text  # that would leave the letter
    assert '<form data-send="/v1/dead-letters/retry" data-then="json"><input type="hidden" name="numbers"' in text
    assert 'data-send="/v1/dead-letters/remove"' in text
    assert 'data-send="/v1/dead-letters/remove"' in text_of(shop, "/dead-letters")
    assert "/console/dead-letters/1" in text_of(shop, "/dead-letters")


def test_assets_are_a_list(shop):
    """No text of a request becomes a path."""
    for name, media in (("console.css", "text/css"), ("console.js", "text/javascript")):
        answer = shop.get(f"{CONSOLE_PATH}/assets/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, f"{media}; charset=utf-8")
    for name in ("..%2Froutes.py", "routes.py", "%2Fetc%2Fpasswd"):
        assert shop.get(f"{CONSOLE_PATH}/assets/{name}").status_code == 404


def test_pages_change_nothing(shop):
    """The console has no method but reading: what it changes goes through the routes for programs."""
    for path in ("", *PAGES):
        for method in ("POST", "PUT", "DELETE"):
            answer = shop.request(method, CONSOLE_PATH + path.format(**STEPS), json={})
            assert answer.status_code == 405, (method, path)


def test_a_running_experiment_shows_its_figures(shop):
    """Values, lift and bounds of each variant, once the watch has read the slates; a stopped one says where to look."""
    said = {"author": "ann"}
    placement = {"sources": [{"kind": "popular"}], "slate_size": 5}
    assert shop.put("/v1/placements/home", json={"placement": placement, **said}).status_code == 200
    variants = [{"name": "as-is"}, {"name": "few", "change": {"slate_size": 2}}]
    order = {"placement": "home", "variants": variants, **said}
    assert shop.post("/v1/experiments/size", json=order).status_code == 200
    for number in range(40):
        question = {"placement": "home", "user_id": f"user-{number}"}
        assert shop.post("/v1/recommendations", json=question).status_code == 200
    wait_until(lambda: "<h3>few" in text_of(shop, "/experiments/size"))
    text = text_of(shop, "/experiments/size")
    assert '<h3>few: <span class="dim">undecided' in text
    assert '<th class="n">At least' in text
    assert "<td>purchase" in text
    assert shop.post("/v1/experiments/size/stop", json={"reason": "seen", **said}).status_code == 200
    assert "midstream experiments show reads the log" in text_of(shop, "/experiments/size")
