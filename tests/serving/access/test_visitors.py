"""Browser keys: a page of the key's origins speaks for the user that a token proves, or for an id of its own."""

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

import pytest

from midstream.serving.access.page_merges import MERGED_MAX, PageMerges
from midstream.serving.access.user_tokens import HEADER, LIFE_S_MAX, claims_of
from midstream.serving.http.problems import MergeRefused, QuotaSpent
from tests.serving.access.conftest import NOW_MS

ORIGIN = "https://shop.example"
ANON = "anon-0123456789abcdef"
NOW_S = NOW_MS // 1_000


def part(told):
    return (
        base64.urlsafe_b64encode(told if isinstance(told, bytes) else json.dumps(told).encode()).rstrip(b"=").decode()
    )


def token(secret, alg="HS256", **claims):
    """Return a token as a shop's server makes it."""
    signed = f"{part({'alg': alg, 'typ': 'JWT'})}.{part({'sub': 'ann', 'exp': NOW_S + 600, **claims})}"
    return f"{signed}.{part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


class Page:
    """A page of a shop that asks with a browser key."""

    def __init__(self, keyed, *scopes, **wish):
        self.keyed = keyed
        self.key = keyed.make(*(scopes or ("events:write", "recommend")), origins=(ORIGIN,), **wish)
        self.secret = keyed.keys[-1].user_secret

    def ask(self, method, path, body=None, *, proof=None, origin=ORIGIN, **headers):
        sent = {"origin": origin, "sec-fetch-site": "cross-site", **headers}
        if proof is not None:
            sent[HEADER.decode()] = proof
        return self.keyed.ask(self.key, method, path, body, {name: value for name, value in sent.items() if value})

    def view(self, user_id):
        """Send a view under an id of the page's own."""
        answer = self.ask("POST", "/v1/events", {"type": "view", "user_id": user_id, "item_id": "mug"})
        assert answer.json()["recorded"] == 1

    def merge(self, user_id, merged):
        """Merge an id into the user of a good token; return the answer."""
        proof = token(self.secret, sub=user_id)
        return self.ask("POST", f"/v1/users/{user_id}/merge", {"user_id": merged}, proof=proof)

    def may(self, body, path="/v1/recommendations", **options):
        """Return whether a question is let in."""
        answer = self.ask("POST", path, body, **options)
        assert answer.status_code in {200, 400, 403, 415, 422}, answer.text
        return answer.status_code not in {403, 415}


@pytest.fixture
def page(keyed):
    return Page(keyed)


def test_page_of_the_origin_asks_and_reads(page):
    """The preflight is answered and the answer may be read, by pages of that origin alone."""
    asking = {"access-control-request-method": "POST"}
    preflight = page.keyed.ask("", "OPTIONS", "/v1/recommendations", None, {"origin": ORIGIN, **asking})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert HEADER.decode() in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    answer = page.ask("POST", "/v1/recommendations", {"user_id": ANON})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["vary"] == "origin"
    for origin in ("https://evil.example", "http://shop.example", "https://shop.example:8443", "null"):
        refused = page.keyed.ask("", "OPTIONS", "/v1/recommendations", None, {"origin": origin, **asking})
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers
        assert page.ask("POST", "/v1/recommendations", {"user_id": ANON}, origin=origin).status_code == 403
    assert page.ask("POST", "/v1/recommendations", {"user_id": ANON}, origin=None).status_code == 403


def test_page_without_a_browser_key_gets_nothing(page):
    """Neither without a key nor with one of a server that leaked into the page; a refusal can be read."""
    server = page.keyed.make("admin")
    for key, status in (("", 401), (server, 403)):
        answer = page.keyed.ask(key, "POST", "/v1/recommendations", {}, {"origin": ORIGIN})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert page.keyed.ask(key, "GET", "/health/ready", None, {"origin": ORIGIN}).status_code == status


def test_only_routes_of_pages(page):
    """Whatever the scopes cover: no stream, no batch of users, no similar items, and nothing to read or change."""
    for path in ("/v1/events/bulk", "/v1/recommendations/batch"):
        assert page.ask("POST", path, {"users": ["ann"]}).status_code == 403
    for path in ("/v1/items/mug/similar", "/v1/users/ann", "/v1/models", "/docs"):
        assert page.ask("GET", path).status_code == 403
    page.ask("POST", "/v1/events", {"type": "view", "event_id": "e1", "user_id": ANON, "item_id": "mug"})
    for path in ("/v1/events/e1", f"/v1/users/{ANON}/events?type=view&item_id=mug"):
        assert page.ask("DELETE", path).status_code == 403
        assert page.ask("DELETE", path, proof=token(page.secret, sub=ANON)).status_code == 403


def test_user_has_to_be_proven(page):
    """By a token under the key's secret; an id of the page's own is long, and no other user's."""
    good = token(page.secret)
    assert page.may({"user_id": "ann"}, proof=good)
    assert not page.may({"user_id": "bob"}, proof=good)
    assert not page.may({"user_id": "ann"})
    assert not page.may({"user_id": "anon-7"})
    assert not page.may({"user_id": "ann", "session_id": "s1"}, proof=good)
    assert page.may({"user_id": "ann", "session_id": "s1"}, proof=token(page.secret, sid="s1"))
    assert page.may({"user_id": "ann", "session_id": ANON}, proof=good)
    assert page.may({"user_id": ANON})
    assert page.may({})
    page.keyed.merged.add(ANON)
    assert not page.may({"user_id": ANON})
    assert not page.may(b'{"user_id": "anon-0123456789abcdeX", "user_id": "ann"}')
    assert not page.may(b'{"us\\u0065r_id": "ann"}')


def test_wrong_tokens_are_refused(page):
    """Another secret, another algorithm, none, over, too long, without an end, cut, or of another key."""
    other = Page(page.keyed)
    wrong = [
        token(other.secret),
        token(page.secret, alg="none"),
        token(page.secret, alg="HS512"),
        token(page.secret, exp=NOW_S),
        token(page.secret, exp=NOW_S + LIFE_S_MAX + 60),
        token(page.secret, exp=None),
        token(page.secret, exp="soon"),
        token(page.secret, sub=""),
        token(page.secret)[:-2],
        token(page.secret).rpartition(".")[0] + ".",
        "",
        "a.b.c",
        "x" * 3_000,
    ]
    for each in wrong:
        assert claims_of(each.encode(), page.secret, NOW_MS + 1_000) is None, each
    for each in wrong:
        assert each == "" or not page.may({"user_id": ANON}, proof=each), each


def test_every_event_has_to_be_proven(page):
    """Each of a body, and those within a question; a page changes no item and no profile."""
    mine, anns = ({"type": "view", "user_id": user, "item_id": "mug"} for user in (ANON, "ann"))
    events = page.keyed.client.engine.events
    assert page.ask("POST", "/v1/events", [mine]).json()["recorded"] == 1
    before = len(events)
    for body in ([mine, anns], {"events": [anns]}, anns, {**anns, "user_id": None, "session_id": "s1"}):
        assert page.ask("POST", "/v1/events", body).status_code == 403
    assert not page.may({"user_id": ANON, "events": [anns]})
    assert not page.may({"user_id": ANON, "events": {"events": [anns]}})
    lines = json.dumps(anns).encode() + b"\n" + json.dumps(mine).encode()
    assert page.ask("POST", "/v1/events", lines, **{"content-type": "application/x-ndjson"}).status_code == 415
    assert page.ask("POST", "/v1/events", lines).status_code == 400
    assert page.ask("POST", "/v1/events", {"type": "item", "item_id": "mug"}).status_code == 422
    assert len(events) == before
    assert page.ask("POST", "/v1/events", [anns], proof=token(page.secret)).json()["recorded"] == 1


@pytest.mark.parametrize("parameter", ["; x=ndjson", ";jsonl", "; q=NDJSON", "; charset=utf-8", ""])
def test_route_reads_the_events_that_were_judged(page, parameter):
    """Parameters of a content type make no lines of a document: a line of it names nobody that the whole does not."""
    anns = json.dumps({"type": "view", "user_id": "ann", "item_id": "mug"})
    body = f'{{"x": [\n{anns}\n]}}'.encode()
    before = len(page.keyed.client.engine.events)
    answer = page.ask("POST", "/v1/events", body, **{"content-type": f"application/json{parameter}"})
    assert answer.status_code == 422
    assert len(page.keyed.client.engine.events) == before
    own = json.dumps({"type": "view", "user_id": ANON, "item_id": "mug"}, indent=1).encode()
    answer = page.ask("POST", "/v1/events", own, **{"content-type": f"application/json{parameter}"})
    assert answer.json()["recorded"] == 1


@pytest.mark.parametrize("field", ["filter", "explain", "deadline", "item_fields", "cursor", "unheard"])
def test_fields_that_are_not_for_pages_are_named(page, field):
    """In a body, of one placement of a page, and in a query."""
    answer = page.ask("POST", "/v1/recommendations", {"user_id": ANON, field: "x"})
    assert (answer.status_code, answer.json()["pointer"]) == (403, f"/{field}")
    assert page.ask("GET", f"/v1/recommendations?{field}=x").status_code == 403
    assert not page.may({"placements": [{"placement": "default", field: "x"}]}, "/v1/pages")


def test_queries_are_judged_as_bodies(page):
    """Each value of a field that comes twice."""
    assert page.ask("GET", f"/v1/recommendations?user_id={ANON}&context.price=3").status_code == 200
    assert page.ask("GET", "/v1/recommendations?user_id=ann").status_code == 403
    assert page.ask("GET", f"/v1/recommendations?user_id={ANON}&user_id=ann").status_code == 403
    assert page.ask("GET", "/v1/recommendations?user_id=ann", proof=token(page.secret)).status_code == 200


def test_quota_of_a_page_is_each_visitors(keyed):
    """All visitors have the same key, so each address has the quota."""
    page = Page(keyed, quota_per_second=0.001, quota_burst=2)
    assert [page.ask("POST", "/v1/recommendations", {}).status_code for _ in range(3)] == [200, 200, 429]


def test_token_in_another_spelling_holds():
    """Libraries order claims as they like, break lines, and add claims of their own."""
    header, claims = (
        b'{"typ":"JWT",\r\n "alg":"HS256"}',
        b'{"iss":"joe",\r\n "exp":%d.5, "sub":"\\u0061nn"}' % (NOW_S + 9),
    )
    signed = f"{part(header)}.{part(claims)}".encode()
    sent = signed + b"." + part(hmac.digest(b"secret", signed, hashlib.sha256)).encode()
    claimed = claims_of(sent, "secret", NOW_MS)
    assert claimed is not None
    assert claimed.sub == "ann"
    assert claims_of(sent, "secret", NOW_MS + 10_000) is None


def test_merged_id_is_no_strangers_session(page):
    """Who signs out leaves the id behind: the next one at the device needs that user's token, or another id."""
    page.keyed.merged.add(ANON)
    assert not page.may({"session_id": ANON})
    assert not page.may({"user_id": "anon-another0123456789", "session_id": ANON})
    assert not page.may({"type": "view", "item_id": "mug", "session_id": ANON}, "/v1/events")
    assert page.may({"user_id": "ann", "session_id": ANON}, proof=token(page.secret))
    assert page.may({"session_id": "anon-another0123456789"})


def test_tokens_hold_under_both_secrets_while_a_key_is_rotated(keyed):
    """Open pages have the old key and the shop's server has one of two secrets; a revoked key's secret ends."""
    page = Page(keyed, name="pages")
    keyed.file.rotate("pages", 3_600_000, keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    old, new = keyed.keys
    stranger = Page(keyed, name="others")
    for each in (old, new):
        assert page.may({"user_id": "ann"}, proof=token(each.user_secret))
    assert not page.may({"user_id": "ann"}, proof=token(stranger.secret))
    keyed.file.revoke(new.id, keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    assert not page.may({"user_id": "ann"}, proof=token(new.user_secret))


def test_console_and_a_browser_key_share_an_origin(keyed):
    """A page of the server's own name is no other site's: a server's key counts there, and a browser key as before."""
    own = "https://test"
    browser = keyed.make("events:write", "recommend", origins=(own,))
    reader = keyed.make("read")
    headers = {"origin": own, "sec-fetch-site": "same-origin"}
    assert keyed.ask("", "PUT", "/console/session", {}, {"x-api-key": reader, **headers}).status_code < 300
    assert keyed.ask(browser, "POST", "/v1/recommendations", {"user_id": ANON}, headers).status_code == 200
    assert keyed.ask(browser, "POST", "/v1/recommendations", {"user_id": "ann"}, headers).status_code == 403
    assert (
        keyed.ask(browser, "POST", "/v1/recommendations", {"user_id": ANON}, {"origin": "http://test"}).status_code
        == 403
    )


def test_page_merges_its_own_id_into_the_user_of_its_token_alone(page):
    """A visitor signs in: no other user takes the acts, and nobody's named account becomes another's."""
    good = token(page.secret)
    path = "/v1/users/ann/merge"
    page.view(ANON)
    assert not page.may({"user_id": ANON}, path)
    assert not page.may({"user_id": ANON}, "/v1/users/bob/merge", proof=good)
    for other in ("bob", "ann", "anon-7", f"{ANON} "):
        assert not page.may({"user_id": other}, path, proof=good), other
    assert not page.may(b'{"user_id": "anon-0123456789abcdeX", "user_id": "bob"}', path, proof=good)
    assert not page.may(b'{"us\\u0065r_id": "bob"}', path, proof=good)
    assert not page.may({"user_id": ANON}, path, proof=good, **{"content-type": "application/x-ndjson"})
    assert page.ask("GET", path, proof=good).status_code in {403, 405}
    assert page.may({"user_id": ANON}, path, proof=good)
    again = page.ask("POST", path, {"user_id": ANON}, proof=good)
    assert (again.status_code, again.json()["pointer"]) == (403, "/user_id")


@pytest.mark.parametrize("sent", ["ann/x", "ann", "änn", "a%2Fb"])
def test_user_in_a_path_is_read_as_the_route_reads_it(page, sent):
    """An id with a slash or a percent sign is the token's, or is refused."""
    path = f"/v1/users/{quote(sent, safe='')}/merge"
    page.view(ANON)
    assert page.may({"user_id": ANON}, path, proof=token(page.secret, sub=sent))
    assert not page.may({"user_id": ANON}, path, proof=token(page.secret, sub=f"{sent}2"))
    assert not page.may({"user_id": ANON}, path, proof=token(page.secret, sub=quote(sent, safe="") + "%"))


def test_merge_of_a_page_needs_the_scope_of_events(keyed):
    """A key that only asks changes nothing; a key of a server needs the scope of the catalogue as before."""
    asking = Page(keyed, "recommend")
    assert not asking.may({"user_id": ANON}, "/v1/users/ann/merge", proof=token(asking.secret))
    server = keyed.make("events:write", "recommend")
    assert keyed.ask(server, "POST", "/v1/users/ann/merge", {"user_id": ANON}).status_code == 403


def anonymous(number):
    return f"anon-{number:016d}"


def test_one_visitor_merges_a_share_of_ids(page):
    """The table of merged ids is everybody's: who fills it would undo the merges of others."""
    page.view(anonymous(999))
    assert page.merge("victim", anonymous(999)).status_code == 200
    for number in range(MERGED_MAX + 1):
        page.view(anonymous(number))
    answers = [page.merge("mallory", anonymous(number)) for number in range(MERGED_MAX + 1)]
    assert [each.status_code for each in answers] == [200] * MERGED_MAX + [409]
    problem = answers[-1].json()
    assert (problem["type"], problem["pointer"]) == ("urn:midstream:merge-refused", "user_id")
    assert len(page.keyed.users.merges()) == MERGED_MAX + 1
    assert page.merge("victim", anonymous(MERGED_MAX)).status_code == 200
    server = page.keyed.make("catalogue")
    page.view(anonymous(998))
    body = {"user_id": anonymous(998)}
    assert page.keyed.ask(server, "POST", "/v1/users/mallory/merge", body).status_code == 200


def test_many_users_of_one_key_cannot_fill_the_table(page):
    """A fiftieth of it an hour for each key, whoever has the tokens; then there is room again, and servers go on."""
    page.keyed.users.table_size = 500
    for number in range(12):
        page.view(anonymous(number))
    answers = [page.merge(f"user-{number}", anonymous(number)) for number in range(11)]
    assert [each.status_code for each in answers] == [200] * 10 + [429]
    assert int(answers[-1].headers["retry-after"]) >= 360
    server = page.keyed.make("catalogue")
    body = {"user_id": anonymous(10)}
    assert page.keyed.ask(server, "POST", "/v1/users/user-10/merge", body).status_code == 200
    assert len(page.keyed.users.merges()) == 11


def test_merges_that_the_route_refuses_take_nothing_from_others(page):
    """Bodies that merge nothing cost the pages of the key no merge."""
    page.keyed.users.table_size = 500
    for number in range(12):
        page.view(anonymous(number))
    proof = token(page.secret, sub="mallory")
    body = {"user_id": anonymous(0), "bogus": 1}
    refused = [page.ask("POST", "/v1/users/mallory/merge", body, proof=proof).status_code for _ in range(12)]
    assert refused == [400] * 12
    answers = [page.merge(f"user-{number}", anonymous(number)).status_code for number in range(11)]
    assert answers == [200] * 10 + [429]


def test_accounts_of_merges_are_one_a_key_and_fill_in_an_hour(monkeypatch):
    """One key's pages take nothing from another's."""
    clock = [0.0]

    async def run():
        users = Users()
        monkeypatch.setattr(users, "merged_max", lambda: 100)
        merges = PageMerges(users, lambda: clock[0])
        for _ in range(2):
            await merges.begin({}, "k1", f"user-{clock[0]}", ANON)
        with pytest.raises(QuotaSpent) as refused:
            await merges.begin({}, "k1", "other", ANON)
        await merges.begin({}, "k2", "other", ANON)
        clock[0] = 1_800.0
        await merges.begin({}, "k1", "other", ANON)
        return refused.value.retry_after_s

    assert 1_800 <= asyncio.run(run()) <= 1_900


def test_id_that_no_event_named_is_not_merged(page):
    """Ids that are made up cost nothing; an id is merged as soon as an event named it."""
    refused = page.merge("ann", ANON)
    assert (refused.status_code, refused.json()["pointer"]) == (409, "/user_id")
    assert refused.json()["type"] == "urn:midstream:merge-refused"
    assert page.keyed.users.merges() == []
    page.view(ANON)
    assert page.merge("ann", ANON).status_code == 200


class Users:
    """Ids of which all are known after a number of questions, and 48 are merged."""

    def __init__(self, unknown=0):
        self.unknown = unknown

    def is_merged(self, _user_id):
        return False

    def is_known(self, _user_id):
        self.unknown -= 1
        return self.unknown < 0

    def merged_count(self, _user_id):
        return MERGED_MAX - 2

    def merged_max(self):
        return 200_000


def test_merges_that_are_under_way_count():
    """Many at once are judged before the first one is in the state."""

    async def run():
        merges = PageMerges(Users(), lambda: 1.0)
        scopes: list[dict[str, Any]] = [{} for _ in range(3)]
        for scope in scopes[:2]:
            await merges.begin(scope, "k1", "ann", ANON)
        with pytest.raises(MergeRefused):
            await merges.begin(scopes[2], "k1", "ann", ANON)
        await merges.begin(scopes[2], "k1", "bob", ANON)
        merges.end(scopes[0], is_refused=False)
        merges.end(scopes[0], is_refused=False)
        await merges.begin({}, "k1", "ann", ANON)

    asyncio.run(run())


def test_merge_waits_for_events_that_are_acknowledged():
    """A process that follows another one knows an id a moment later."""
    asyncio.run(PageMerges(Users(unknown=2), lambda: 1.0).begin({}, "k1", "ann", ANON))
