"""The page of docs/browser.md in Chromium, as it is pasted: on an origin of its own, with a browser key."""

import time

import pytest

from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.key_file import KeyFile
from tests.service.test_demo_shop import ITEMS, NAMES, serving, site
from tests.support.browser import chromium
from tests.support.pages import ROOT, blocks
from tests.support.patience import wait_until

ADDRESS, KEY = "https://recommend.shop.example", "ms_…"
"""Of the server on the page, and its key."""
PAGES = [block.text for block in blocks(ROOT / "docs" / "browser.md") if block.language == "html"]


def test_the_page_is_found():
    """It names what the test puts in its place, so that nothing of it is left out."""
    (page,) = PAGES
    assert page.count(ADDRESS) == 2
    assert page.count(KEY) == 1


@pytest.mark.integration
@pytest.mark.service
def test_the_page_shows_a_slate_and_records_what_is_seen(program, tmp_path):
    """Six items on the shelf, the view of the page in the log, and impressions of the slate."""
    (source,) = PAGES
    folder, profile = tmp_path / "shop", tmp_path / "chromium"
    folder.mkdir()
    profile.mkdir()
    keys, now_ms = KeyFile(folder / "data"), time.time_ns() // 1_000_000
    admin = keys.create(KeyWish("admin", ("admin",)), now_ms, "cli:test").key
    with serving(folder, admin) as server, chromium(program, profile, NAMES) as browser:
        placement = {"sources": [{"kind": "popular"}], "slate_size": 6}
        set_to = server.ask("PUT", "/v1/placements/home", json={"placement": placement, "author": "ann"})
        assert set_to.status_code == 200, set_to.text
        pages: list[str] = []
        with site(do_GET=lambda handler: handler._answer(200, pages[0].encode(), "text/html; charset=utf-8")) as port:
            origin = f"http://shop.example:{port}"
            made = keys.create(KeyWish("pages", ("events:write", "recommend"), origins=(origin,)), now_ms, "cli:test")
            pages.append(source.replace(ADDRESS, server.url).replace(KEY, made.key))
            time.sleep(1)  # other processes take a key up within a second
            browser.open(f"{origin}/")
            wait_until(lambda: len(browser.text.split()) == 6)
            shown = browser.text.split()
            assert set(shown) <= set(ITEMS)
            user = browser.run("async () => localStorage.getItem('midstream.user')")
            wait_until(lambda: {each["type"] for each in server.events(user)} == {"view", "impression"})
            acts = server.events(user)
    assert [each["item_id"] for each in acts if each["type"] == "view"] == ["lamp-7"]
    assert {each["item_id"] for each in acts if each["type"] == "impression"} <= set(shown)
