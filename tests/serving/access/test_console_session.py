"""A browser's session of the console: a key in a cookie that no script reads and no other site sends."""

import pytest

from midstream.serving.access.console_session import cookie_key, session_cookie, sign_in_reply
from midstream.serving.http.responses import MOUNTED_AT


@pytest.mark.parametrize(
    "cookies, key",
    [
        ([b"midstream_key=ms_a_b"], b"ms_a_b"),
        ([b"a=1; midstream_key=ms_a_b; c=2"], b"ms_a_b"),
        ([b"a=1", b"midstream_key=ms_a_b"], b"ms_a_b"),
        ([b"midstream_key=one; midstream_key=two"], b""),
        ([b"xmidstream_key=one"], b""),
        ([b"midstream_key"], b""),
        ([], b""),
    ],
)
def test_one_cookie_is_the_key(cookies, key):
    """Two of that name are none: which one counts would be a guess."""
    assert cookie_key([(b"cookie", each) for each in cookies]) == key


def test_cookie_is_kept_from_scripts_and_other_sites():
    """Over TLS it stays there; below a mount it is sent to that mount alone; an empty key takes it away."""
    kept = session_cookie({"scheme": "https"}, "ms_a_b")
    assert kept.startswith("midstream_key=ms_a_b; ")
    assert {"HttpOnly", "SameSite=Strict", "Secure", "Path=/"} <= set(kept.split("; "))
    assert "Secure" not in session_cookie({"scheme": "http"}, "x")
    for origin, is_secure in ((b"https://shop.example", True), (b"HTTPS://shop.example", True), (b"http://a", False)):
        assert ("Secure" in session_cookie({"scheme": "http", "headers": [(b"origin", origin)]}, "x")) == is_secure
    assert "Path=/shop;" in session_cookie({MOUNTED_AT: "/shop"}, "x")
    assert "Max-Age=0;" in session_cookie({}, "")


@pytest.mark.parametrize(
    "method, path, leads",
    [
        ("GET", "/console", True),
        ("GET", "/console/users/ann", True),
        ("GET", "/console/live", False),
        ("PUT", "/console/session", False),
        ("GET", "/v1/users", False),
        ("GET", "/consoles", False),
    ],
)
def test_people_are_led_to_the_page_for_keys(method, path, leads):
    """Programs get the problem."""
    found = sign_in_reply({"method": method, "path": path, MOUNTED_AT: "/at"})
    assert (found is not None) == leads
    if found is not None:
        assert (found.status, dict(found.headers)[b"location"]) == (303, b"/at/console/session")


def test_a_key_that_was_given_once_lets_the_browser_in(keyed):
    """Pages and what their script sends, as far as the key's scopes go; after the end of the session no more."""
    reader = keyed.make("read")
    assert keyed.ask("", "GET", "/console/placements").status_code == 303
    given = keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": reader})
    cookie = given.headers["set-cookie"].partition(";")[0]
    assert cookie == f"midstream_key={reader}"
    sent = {"cookie": cookie}
    assert keyed.ask("", "GET", "/console/placements", headers=sent).status_code == 200
    body = {"placement": {"name": "default"}, "author": "ann"}
    assert keyed.ask("", "PUT", "/v1/placements/default", body, sent).status_code == 403
    ended = keyed.ask("", "DELETE", "/console/session", headers=sent)
    assert "midstream_key=;" in ended.headers["set-cookie"]
    assert keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": "ms_wrong"}).status_code == 401


def test_a_cookie_of_another_site_is_refused_before_it_is_read(keyed):
    """The key in it would else be every page's."""
    sent = {"cookie": f"midstream_key={keyed.make('admin')}"}
    foreign = {**sent, "origin": "https://evil.example"}
    assert keyed.ask("", "POST", "/v1/rebuild", {}, foreign).status_code == 403
    assert keyed.ask("", "GET", "/console", headers={**sent, "sec-fetch-site": "cross-site"}).status_code == 403


def test_a_header_counts_before_the_cookie(keyed):
    """A program that sends a key means that one."""
    sent = {"cookie": f"midstream_key={keyed.make('admin')}"}
    assert keyed.ask(keyed.make("recommend"), "GET", "/v1/placements", headers=sent).status_code == 403
