"""A browser's session of the console: a random token in a cookie that no script reads and no other site sends."""

import asyncio
import fcntl
import json
import os
from errno import ENOSPC
from threading import Timer

import pytest

from midstream.serving.access.callers import CALLER, KEY_NEEDED, Caller
from midstream.serving.access.console_session import ConsoleSessions, session_cookies, session_token, sign_in_reply
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import KeyWatch, KnownKey
from midstream.serving.access.key_sessions import SESSION_S_MAX, SESSIONS_OF_KEY_MAX
from midstream.serving.http.problems import QuotaSpent, ScopeMissing
from midstream.serving.http.responses import MOUNTED_AT


@pytest.mark.parametrize(
    "cookies, token",
    [
        ([b"midstream_session=a_b"], "a_b"),
        ([b"a=1; midstream_session=a_b; c=2"], "a_b"),
        ([b"a=1", b"midstream_session=a_b"], "a_b"),
        ([b"midstream_session=one; midstream_session=two"], ""),
        ([b"xmidstream_session=one"], ""),
        ([b"midstream_session"], ""),
        ([], ""),
    ],
)
def test_one_cookie_is_the_token(cookies, token):
    """Two of that name are none: which one counts would be a guess."""
    assert session_token([(b"cookie", each) for each in cookies]) == token


def test_shops_on_two_ports_of_a_host_have_two_cookies():
    """A browser sends both to each: every shop reads its own, and signs nobody out of the other."""
    sent = (b"cookie", b"midstream_session_8765=one; midstream_session_8766=two; midstream_session=three")
    hosts = (b"127.0.0.1:8765", b"[::1]:8766", b"shop.example")
    assert [session_token([(b"host", host), sent]) for host in hosts] == ["one", "two", "three"]
    scope = {"headers": [(b"host", b"localhost:8766")]}
    assert session_cookies(scope, "")[0].startswith("midstream_session_8766=; Max-Age=0; ")


def test_cookie_is_kept_from_scripts_and_other_sites():
    """Over TLS it stays there; below a mount it is sent to that mount alone; an empty token takes it away."""
    (kept,) = session_cookies({"scheme": "https"}, "a_b")
    assert kept.startswith("midstream_session=a_b; ")
    assert {"HttpOnly", "SameSite=Strict", "Secure", "Path=/"} <= set(kept.split("; "))
    assert "Secure" not in session_cookies({"scheme": "http"}, "x")[0]
    for origin, is_secure in ((b"https://shop.example", True), (b"HTTPS://shop.example", True), (b"http://a", False)):
        (kept,) = session_cookies({"scheme": "http", "headers": [(b"origin", origin)]}, "x")
        assert ("Secure" in kept) == is_secure
    assert "Path=/shop;" in session_cookies({MOUNTED_AT: "/shop"}, "x")[0]
    assert "Max-Age=0;" in session_cookies({}, "")[0]


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
    scope = {"method": method, "path": path, MOUNTED_AT: "/at", "headers": [(b"accept", b"text/html,*/*;q=0.8")]}
    lacking, found = sign_in_reply(scope, ScopeMissing(())), sign_in_reply(scope, KEY_NEEDED)
    assert (found is not None) == (lacking is not None) == leads
    assert sign_in_reply(scope, QuotaSpent(1)) is None
    assert sign_in_reply({**scope, "headers": []}, ScopeMissing(())) is None
    if lacking is not None:
        assert lacking.status == 403
        assert b'href="/at/console/session"' in lacking.body
    if found is not None:
        assert (found.status, dict(found.headers)[b"location"]) == (303, b"/at/console/session")


def signed_in(keyed, key, **headers):
    """Sign a browser in; return what it sends from then on."""
    given = keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": key, **headers})
    assert given.status_code == 200, given.text
    assert key not in str(given.headers)
    return {"cookie": given.headers["set-cookie"].partition(";")[0]}


def sees_the_console(keyed, sent):
    """Whether a browser is let in."""
    return keyed.ask("", "GET", "/console/placements", headers=sent).status_code == 200


def test_a_key_that_was_given_once_lets_the_browser_in(keyed):
    """Pages and what their script sends, as far as the key's scopes go. The browser has no key, and no file a token."""
    reader = keyed.make("read")
    assert keyed.ask("", "GET", "/console/placements").status_code == 303
    sent = signed_in(keyed, reader)
    assert sees_the_console(keyed, sent)
    body = {"placement": {"name": "default"}, "author": "ann"}
    assert keyed.ask("", "PUT", "/v1/placements/default", body, sent).status_code == 403
    assert keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": "ms_wrong"}).status_code == 401
    assert sent["cookie"].partition("=")[2] not in keyed.file.path.read_text()


def test_a_page_that_a_key_does_not_allow_says_so(keyed):
    """In a page, as a person looks at it; programs get the problem. An unknown path needs a key as the others do."""
    sent = signed_in(keyed, keyed.make("read"))
    for path, media in (("/console/keys", "text/html; charset=utf-8"), ("/v1/keys", "application/problem+json")):
        refused = keyed.ask("", "GET", path, headers={**sent, "accept": "text/html"})
        assert (refused.status_code, refused.headers["content-type"]) == (403, media)
        assert "lacks the scope admin" in refused.text
    assert keyed.ask("", "GET", "/console/nothing").headers["location"] == "/console/session"
    assert keyed.ask("", "GET", "/console/nothing", headers=sent).status_code == 404


def test_a_session_is_no_key_and_a_key_no_session(keyed):
    """What a cookie of the browser holds is refused as a key of a program, and the other way round."""
    reader = keyed.make("read")
    token = signed_in(keyed, reader)["cookie"].partition("=")[2]
    assert keyed.ask(token, "GET", "/v1/models").status_code == 401
    assert keyed.ask("", "GET", "/v1/models", headers={"x-api-key": token}).status_code == 401
    assert keyed.ask("", "GET", "/v1/models", headers={"cookie": f"midstream_session={reader}"}).status_code == 401


def test_signing_out_ends_the_session_at_the_server(keyed):
    """A copy of the cookie opens nothing from then on; others stay signed in, and no file is written for nothing."""
    reader = keyed.make("read")
    mine, other = signed_in(keyed, reader), signed_in(keyed, reader)
    assert sees_the_console(keyed, mine)
    ended = keyed.ask("", "DELETE", "/console/session", headers=mine)
    assert "midstream_session=;" in ended.headers["set-cookie"]
    assert not sees_the_console(keyed, mine)
    assert sees_the_console(keyed, other)
    before = keyed.file.path.stat().st_mtime_ns
    assert keyed.ask("", "DELETE", "/console/session", headers=mine).status_code == 200
    assert keyed.file.path.stat().st_mtime_ns == before


def test_the_key_of_an_earlier_console_leaves_the_browser(keyed):
    """To sign in and to sign out expire its cookie, where the browser sends one; it opens nothing meanwhile."""
    reader = keyed.make("read")
    earlier = {"cookie": f"a=1; midstream_key={reader}"}
    gone = "midstream_key=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict"
    assert not sees_the_console(keyed, earlier)
    began = keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": reader, **earlier})
    ended = keyed.ask("", "DELETE", "/console/session", headers=earlier)
    for answer in (began, ended):
        session, key = answer.headers.get_list("set-cookie")
        assert session.startswith("midstream_session=")
        assert key == gone
        assert reader not in str(answer.headers)
    without = keyed.ask("", "DELETE", "/console/session", headers={"cookie": "xmidstream_key=1"})
    assert len(without.headers.get_list("set-cookie")) == 1


def test_other_processes_of_the_server_know_the_sessions(keyed):
    """A new one at once, as an unknown token has them look at the file; the end of one half a second later."""
    keyed.make("read")
    other = KeyWatch(keyed.file, keyed.clocks.monotonic, keyed.clocks.wall_ms)
    before = other.ring()
    assert before is not None
    sent = signed_in(keyed, keyed.make("read"))
    token = sent["cookie"].partition("=")[2]
    known = other.identify_session(before, token)
    assert known is not None
    assert known.scopes == {"read"}
    keyed.ask("", "DELETE", "/console/session", headers=sent)
    keyed.clocks.look()
    ring = other.ring()
    assert ring is not None
    assert other.identify_session(ring, token) is None


def test_a_session_ends_by_itself(keyed):
    """After half a day, also where a copy of the cookie is kept longer."""
    sent = signed_in(keyed, keyed.make("read"))
    keyed.clocks.seconds += SESSION_S_MAX - 1
    assert sees_the_console(keyed, sent)
    keyed.clocks.seconds += 1
    assert not sees_the_console(keyed, sent)


def test_a_session_ends_with_its_key(keyed):
    """With a key that is revoked, and with one that expires."""
    revoked, short = keyed.make("read", name="gone"), keyed.make("read", expires_in_ms=60_000)
    of_revoked, of_short = signed_in(keyed, revoked), signed_in(keyed, short)
    keyed.file.revoke("gone", keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    assert not sees_the_console(keyed, of_revoked)
    assert sees_the_console(keyed, of_short)
    keyed.clocks.seconds += 60
    assert not sees_the_console(keyed, of_short)


def test_a_browser_that_signs_in_again_has_one_session(keyed):
    """The one before ends, so that a cookie which was copied earlier is worth nothing."""
    first = signed_in(keyed, keyed.make("read"))
    second = signed_in(keyed, keyed.make("admin"), **first)
    assert (sees_the_console(keyed, first), sees_the_console(keyed, second)) == (False, True)


def test_a_session_begins_with_a_key_alone(keyed):
    """A copy of a cookie prolongs nothing, and signs nobody out."""
    sent = signed_in(keyed, keyed.make("admin"))
    for headers in (sent, {**sent, "x-api-key": ""}):
        refused = keyed.ask("", "PUT", "/console/session", {}, headers)
        assert refused.status_code == 401, refused.text
        assert "set-cookie" not in refused.headers
    assert sees_the_console(keyed, sent)
    keyed.clocks.seconds += SESSION_S_MAX
    assert not sees_the_console(keyed, sent)


def test_a_browser_that_cannot_sign_in_again_stays_signed_in(keyed, monkeypatch):
    """A disk that is full signs nobody out: the old session ends as the new one begins."""
    reader = keyed.make("read")
    sent = signed_in(keyed, reader)

    def full(*_):
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(KeyFile, "begin_session", full)
        refused = keyed.ask("", "PUT", "/console/session", {}, {**sent, "x-api-key": reader})
        assert refused.status_code == 503
        assert "set-cookie" not in refused.headers
    assert sees_the_console(keyed, sent)
    writes = []
    monkeypatch.setattr(KeyFile, "_write", lambda _, changed: writes.append(len(changed.sessions)))
    keyed.ask("", "PUT", "/console/session", {}, {**sent, "x-api-key": reader})
    assert writes == [1]


def test_who_signs_in_has_nobody_else_wait(keyed):
    """A command holds the lock of the file; the loop goes on, and the session begins when it gives the lock back."""
    key_id = keyed.make("read").split("_")[1]
    scope = {"headers": [(b"x-api-key", b"k")], CALLER: Caller(f"key:{key_id}", "", frozenset({"read"}))}
    sessions = ConsoleSessions(keyed.file, keyed.clocks.wall_ms)
    lock = os.open(keyed.file.path.with_name("keys.lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    unlock = Timer(3, fcntl.flock, (lock, fcntl.LOCK_UN))
    unlock.start()

    async def play():
        signing = asyncio.create_task(sessions.begin(scope))
        await asyncio.sleep(0.05)
        was_held = unlock.is_alive()
        fcntl.flock(lock, fcntl.LOCK_UN)
        return was_held, await signing

    was_held, token = asyncio.run(play())
    unlock.cancel()
    unlock.join()
    os.close(lock)
    assert was_held
    assert keyed.watch.identify_session(keyed.look(), token).scopes == {"read"}


def test_a_cookie_of_no_session_reads_no_file(keyed, monkeypatch):
    """To sign out is open to everybody, so it costs a look at a file that has not changed."""
    sent = signed_in(keyed, keyed.make("read"))
    unknown = {"cookie": "midstream_session=none"}
    assert keyed.ask("", "DELETE", "/console/session", headers=unknown).status_code == 200
    with monkeypatch.context() as counting:
        reads = []
        read = KeyFile.read

        def noted(file):
            reads.append(file)
            return read(file)

        counting.setattr(KeyFile, "read", noted)
        for _ in range(3):
            assert keyed.ask("", "DELETE", "/console/session", headers=unknown).status_code == 200
        assert not reads
    assert sees_the_console(keyed, sent)
    keyed.ask("", "DELETE", "/console/session", headers=signed_in(keyed, keyed.make("read")))
    keyed.ask("", "DELETE", "/console/session", headers=sent)
    assert not sees_the_console(keyed, sent)


def test_sessions_of_a_key_are_bounded(keyed):
    """Its oldest makes room, whatever other keys do; those that ended leave the file."""
    reader, other = keyed.make("read"), keyed.make("read")
    kept = signed_in(keyed, other)
    sent = [signed_in(keyed, reader) for _ in range(SESSIONS_OF_KEY_MAX + 2)]
    assert [sees_the_console(keyed, each) for each in sent] == [False] * 2 + [True] * SESSIONS_OF_KEY_MAX
    assert sees_the_console(keyed, kept)
    keyed.clocks.seconds += SESSION_S_MAX
    signed_in(keyed, reader)
    assert len(json.loads(keyed.file.path.read_text())["sessions"]) == 1


def test_sessions_of_revoked_keys_leave_the_file(keyed):
    """The bound of the file is that of live keys."""
    for number in range(3):
        signed_in(keyed, keyed.make("read", name=f"gone{number}"))
        keyed.file.revoke(f"gone{number}", keyed.clocks.wall_ms(), "cli:test")
    sent = signed_in(keyed, keyed.make("read"))
    assert len(json.loads(keyed.file.path.read_text())["sessions"]) == 1
    assert sees_the_console(keyed, sent)


def test_another_change_of_keys_leaves_the_sessions(keyed):
    """Making and rotating a key signs nobody out."""
    sent = signed_in(keyed, keyed.make("read"))
    keyed.make("recommend", name="pages")
    keyed.file.rotate("pages", 0, keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    assert sees_the_console(keyed, sent)


def test_the_key_of_the_operator_begins_no_session(keyed):
    """It names no person, and every command of the machine has it."""
    keyed.make("read")
    operator = json.loads(keyed.file.path.read_text())["operator"]
    refused = keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": operator})
    assert (refused.status_code, refused.json()["pointer"]) == (403, "x-api-key")
    assert "set-cookie" not in refused.headers


def test_a_token_of_a_provider_is_kept_as_it_came(make_keyed):
    """It ends by itself, and no key stands behind it."""
    reader = KnownKey(b"", "token:ann", frozenset({"read"}), frozenset(), 0, None)

    async def identify(token):
        return reader if token == "a.right.token" else None

    keyed = make_keyed(identify)
    keyed.file.require()
    keyed.look()
    given = keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": "a.right.token"})
    assert given.headers["set-cookie"].startswith("midstream_session=a.right.token;")


def test_a_cookie_of_another_site_is_refused_before_it_is_read(keyed):
    """The session would else be every page's."""
    sent = signed_in(keyed, keyed.make("admin"))
    foreign = {**sent, "origin": "https://evil.example"}
    assert keyed.ask("", "POST", "/v1/rebuild", {}, foreign).status_code == 403
    assert keyed.ask("", "GET", "/console", headers={**sent, "sec-fetch-site": "cross-site"}).status_code == 403


def test_a_header_counts_before_the_cookie(keyed):
    """A program that sends a key means that one."""
    sent = signed_in(keyed, keyed.make("admin"))
    assert keyed.ask(keyed.make("recommend"), "GET", "/v1/placements", headers=sent).status_code == 403
