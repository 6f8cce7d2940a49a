"""Live fragments: made once for all viewers, sent when they changed, and for a bounded share of the time."""

import asyncio
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient

import midstream
from midstream.serving.access.console_session import CONSOLE_PATH, LIVE_PATH
from midstream.serving.access.scopes import ROUTES
from midstream.serving.console import live_pages
from midstream.serving.console.api_reader import ApiAnswer
from midstream.serving.console.live_pages import (
    FEEDS_MAX,
    FRAGMENTS,
    LOOK_MS,
    PAUSE_MS_MIN,
    UNCHANGED,
    LivePages,
    live_page,
)
from midstream.serving.console.page_templates import Templates
from midstream.serving.console.pages import PAGES
from midstream.serving.http.problems import RouteUnknown
from tests.support.patience import wait_until

PATH = "/dead-letters"


class Letters:
    """Routes with some dead letters, that count how often they are read and take some time of a clock set by hand."""

    def __init__(self):
        self.kept = 0
        self.reads = 0
        self.took_ms = 1
        self.now_ms = 10_000

    async def get(self, _path, _query=""):
        self.reads += 1
        self.now_ms += self.took_ms
        await asyncio.sleep(0)
        return ApiAnswer(200, {"kept": self.kept, "bytes_kept": 0, "letters": [], "next": None})


@pytest.fixture
def letters(monkeypatch):
    """Looks follow each other without a pause: the clock is moved by the test alone."""
    monkeypatch.setattr(live_pages, "LOOK_MS", 0)
    return Letters()


def pages_of(letters) -> LivePages:
    api: Any = letters
    return LivePages(api, Templates(), lambda: letters.now_ms)


def test_viewers_share_a_fragment(letters):
    """Ten viewers cost what one does; one at another address has its own."""

    async def look():
        pages = pages_of(letters)
        streams = [pages.stream(PATH, "", 2) for _ in range(10)]
        found = await asyncio.gather(*(anext(each) for each in streams))
        assert pages.open == 10
        elsewhere = await anext(pages.stream(PATH, "/shop", 1))
        return found, elsewhere

    found, elsewhere = asyncio.run(look())
    assert len({id(each) for each in found}) == 1
    assert found[0].startswith(b"data: ")
    assert found[0].endswith(b"\n\n")
    assert b"/shop/console" not in found[0]
    assert elsewhere.startswith(b"data: ")
    assert letters.reads == 2


def test_a_fragment_is_sent_when_it_changed(letters):
    """And at no other look: an unchanged one is a comment, which a browser does not see."""

    async def look():
        pages = pages_of(letters)
        stream = pages.stream(PATH, "", 5)
        found = [await anext(stream)]
        letters.now_ms += PAUSE_MS_MIN
        found.append(await anext(stream))
        letters.kept = 3
        found.append(await anext(stream))
        letters.now_ms += PAUSE_MS_MIN
        found.append(await anext(stream))
        return [*found, *[each async for each in stream]]

    first, same, not_due, changed, last = asyncio.run(look())
    assert b"<p>0 events" in first
    assert same == not_due == last == UNCHANGED
    assert b"<p>3 events" in changed
    assert letters.reads == 3


@pytest.mark.parametrize("took_ms", [1, 300])
def test_fragments_are_made_for_a_hundredth_of_the_time(letters, took_ms):
    """What takes long is made less often, and two at once each half as often; never more often than at each look."""
    letters.took_ms = took_ms

    async def reads_in(pause_ms, others):
        pages = pages_of(letters)
        streams = [pages.stream(PATH, f"/{number}", 1_000) for number in range(1 + others)]
        for each in streams:
            await anext(each)
        letters.now_ms += pause_ms
        before = letters.reads
        for each in streams:
            await anext(each)
        for each in streams:
            await each.aclose()
        return letters.reads - before

    pause_ms = max(PAUSE_MS_MIN, 100 * took_ms)
    assert asyncio.run(reads_in(pause_ms - 1, 0)) == 0
    assert asyncio.run(reads_in(pause_ms, 0)) == 1
    if took_ms > 1:
        assert asyncio.run(reads_in(pause_ms * 3 // 2, 1)) == 1  # the one that was made first alone
        assert asyncio.run(reads_in(pause_ms * 2, 1)) == 2


def test_nothing_is_made_for_nobody(letters):
    """And who leaves and comes again has it made no earlier for that."""
    letters.took_ms = 300

    async def look():
        pages = pages_of(letters)
        found = []
        for _ in range(3):
            found += [each async for each in pages.stream(PATH, "", 1)]
            letters.now_ms += 1_000
        assert pages.open == 0
        letters.now_ms += 60_000
        found += [each async for each in pages.stream(PATH, "", 1)]
        return found

    first, *left, last = asyncio.run(look())
    assert (first.startswith(b"data: "), left, last) == (True, [UNCHANGED, UNCHANGED], first)
    assert letters.reads == 2


def test_a_look_at_another_page_does_not_shorten_a_pause(letters):
    """Who goes from page to page and back has each of them made as often as who stays."""
    letters.took_ms = 300

    async def look():
        pages = pages_of(letters)
        return [[each async for each in pages.stream(PATH, base, 1)] for base in ("", "/other", "")]

    first, other, again = asyncio.run(look())
    assert again == [UNCHANGED]
    assert UNCHANGED not in first + other


def test_a_viewer_does_not_get_what_is_older_than_its_page(letters):
    """A page that was loaded after a change would show what was before it."""
    letters.took_ms = 300

    async def look():
        pages = pages_of(letters)
        first = pages.stream(PATH, "", 9)
        await anext(first)
        letters.kept = 1
        second = pages.stream(PATH, "", 9)
        early = await anext(second)
        letters.now_ms += 60_000
        return early, await anext(first), await anext(second)

    early, one, two = asyncio.run(look())
    assert early == UNCHANGED
    assert one is two
    assert b"<p>1 events" in one


def test_fragments_of_those_who_left_are_bounded(letters):
    """A program may ask for one address after another."""
    letters.took_ms = 300

    async def look():
        pages = pages_of(letters)
        for number in range(2 * FEEDS_MAX):
            async for _ in pages.stream(PATH, f"/{number}", 1):
                pass
        return len(pages._feeds)

    assert asyncio.run(look()) <= FEEDS_MAX


def test_each_live_page_is_open_to_who_may_have_the_stream():
    """A page that needs another scope than the stream would be shown by it to others."""
    for page in FRAGMENTS:
        assert page in PAGES
        assert ROUTES[f"{CONSOLE_PATH}{page}"]["GET"] == ROUTES[LIVE_PATH]["GET"]


@pytest.mark.parametrize(
    "path", ["/keys", "/experiments/", "/experiments/a/b", "/experiments/a/../..", "/nothing", "models"]
)
def test_other_pages_have_no_stream(path):
    """What is not live, and what is no page."""
    with pytest.raises(RouteUnknown):
        live_page(path)


def test_an_experiment_is_found_by_its_name_as_it_was_sent():
    """Percent-encoded, as routes take it."""
    page, at = live_page("/experiments/short%20ones")
    assert (page, dict(at.steps)) == ("/experiments/{name}", {"name": "short%20ones"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop with a running experiment, a rejected event, and letters of more than one page."""
    with TestClient(midstream.asgi(tmp_path_factory.mktemp("shop")), base_url="http://localhost") as client:
        said = {"author": "ann"}
        placement = {"sources": [{"kind": "popular"}], "slate_size": 5}
        assert client.put("/v1/placements/home", json={"placement": placement, **said}).status_code == 200
        variants = [{"name": "as-is"}, {"name": "few", "change": {"slate_size": 2}}]
        order = {"placement": "home", "variants": variants, **said}
        assert client.post("/v1/experiments/size", json=order).status_code == 200
        client.post("/v1/events", json=[{"type": "vieew", "user_id": "ann"}] * 60)
        wait_until(lambda: "has not read the log" not in text_of_experiment(client))
        yield client


@pytest.mark.parametrize("path", ["/models", "/experiments/size", "/dead-letters"])
def test_a_page_has_the_address_of_its_stream(shop, monkeypatch, path):
    """It says as of when it is until it is live, and its stream sends what it shows."""
    monkeypatch.setattr("midstream.serving.console.routes.STREAM_S_MAX", LOOK_MS // 1_000)
    text = shop.get(CONSOLE_PATH + path).text
    (address,) = re.findall(r'data-live="([^"]*)"', text)
    assert parse_qs(urlsplit(unescape(address)).query) == {"page": [path]}
    assert text.count('id="live-state"') == 1
    answer = shop.get(unescape(address))
    assert answer.headers["content-type"].startswith("text/event-stream")
    sent = "\n".join(line.removeprefix("data: ") for line in answer.text.splitlines())
    assert len(sent.split()) > 10
    assert " ".join(sent.split()) in " ".join(text.split())
    assert "<!doctype" not in sent


def test_forms_with_fields_are_no_part_of_a_fragment(shop):
    """What somebody types would go with the next one; forms of buttons keep what they say by their ids."""
    for path in ("/models", "/experiments/size", "/dead-letters"):
        text = shop.get(CONSOLE_PATH + path).text
        fragment = text[text.index("data-live=") :].split("\n</div>\n")[0]
        assert not re.search(r"<textarea|<select|<input (?!type=\"hidden\")", fragment)
        for form in re.findall(r"<form[^>]*>", fragment):
            assert ' id="' in form
    assert "<textarea" in text_of_experiment(shop)


def text_of_experiment(shop):
    return shop.get(f"{CONSOLE_PATH}/experiments/size").text


def test_older_letters_are_not_live(shop):
    """They do not change but by what is sent again; the page says as of when it is."""
    first = shop.get(f"{CONSOLE_PATH}/dead-letters").text
    (older,) = re.findall(r'<a href="([^"]*)">Older ones', first)
    text = shop.get(older).text
    assert "data-live" not in text
    assert "as of this page" in text


def test_an_unknown_experiment_has_no_stream(shop):
    """Its page is a refusal."""
    answer = shop.get(f"{CONSOLE_PATH}/experiments/none")
    assert answer.status_code == 404
    assert "data-live" not in answer.text


def test_a_stream_of_no_live_page_is_refused(shop):
    """As every unknown address."""
    assert shop.get(LIVE_PATH, params={"page": "/keys"}).status_code == 404
