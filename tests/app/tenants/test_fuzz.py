"""Random requests through every route of two tenants and of their root, with callers of all of them and of all scopes:
keys of servers, of one placement and of pages, and tokens of one identity provider for either tenant.

Of each tenant the catalogue, a profile and an event have a mark that no request ever sends to the other one. So a mark
of blue in an answer of red is something of blue that was seen, whatever way it took.
"""

import asyncio
import json
import random
import re
import time

import pytest

from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key, revoke_key
from midstream.app.opening import DATA_NAME
from midstream.serving.access.console_session import SESSION_PATH
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import LOOK_S
from midstream.serving.access.scopes import (
    NODES,
    OPEN,
    ROUTES,
    SCOPES,
    TENANT_ROUTES,
    scope_needed,
    tenant_scope_needed,
)
from midstream.serving.access.visitors import ROUTES as ROUTES_OF_PAGES
from midstream.serving.http.problems import MethodNotAllowed, RouteUnknown
from tests.app.tenants.conftest import SMALL
from tests.serving.access.test_key_fuzz import METHODS, TYPES, beyond, random_body
from tests.support.identity_tokens import identity_section, publish_keys, signed_token

REQUESTS = 3_000
REQUESTS_LONG = 200_000
SITE = "https://shop.example"
NAMES = ("red", "blue")
MARKS = {"red": "mark-of-crimson", "blue": "mark-of-indigo"}
KNOWN_IDS = ("lamp", "mug", "ann")
IDS = (*KNOWN_IDS * 5, "home", "read", "run", "a%2Fb", "%2e%2e", "..", "x" * 200, "%00", "%FF", "{name}")
QUERIES = (b"", b"", b"user_id=ann", b"placement=home&session_id=s1", b"limit=5", b"q=lamp", b"%FF=1", b"n=3")
WRONG_PREFIXES = ("/t/red%2F..%2Fblue", "/t/green", "/t//red", "/t/red/t/blue")
PREFIXES = (*(f"/t/{name}" for name in NAMES * 4), "", *WRONG_PREFIXES)
SLOW = frozenset(
    (
        *("/v1/erasures/run", "/v1/rebuild", "/v1/trainings/{model}/run", "/v1/requests/{request_id}/explanation"),
        *("/console/requests/{request_id}/why", "/console/live"),
    )
)
"""A child process, or a stream without an end: only keys that may not ask for them do."""
COUNTED = ("sent", "allowed", "foreign", "refused", "marked", "tokens", "pages", "unavailable")
PAGE_ACTS = ({"type": "view", "session_id": "anon-0123456789abcdef", "item_id": "mug"},)
MARKED = ("/v1/items/{item_id}", "/v1/users/{user_id}", "/v1/users/{user_id}/events", "/v1/items")
"""Routes that show marks, asked more often than one in all routes: what is never shown cannot be seen by another."""
MARK_EVERY = 200
"""Requests between two times that the marks are put there again, since some requests remove them."""


class Caller:
    """A key or a token, whose it is, what it may do, and the page that sends it."""

    def __init__(self, whose, key, scopes, origin="", file=None):
        self.whose, self.key, self.scopes, self.origin, self.file = whose, key, scopes, origin, file

    def cookie(self):
        """Return what a browser that signs in with it sends: a new session of a live key, else its own text."""
        token = self.key
        if self.file is not None:
            token = self.file.begin_session(self.key.split("_")[1], time.time_ns() // 1_000_000)
        return b"midstream_session=" + token.encode()


def callers_of(server):
    """Return a key of each scope of each tenant and of the root, revoked ones, one that is unknown and none."""
    found = [Caller("", "", None), Caller("", "ms_00000000_x", None)]
    folders = {name: server.folders.of(name) for name in NAMES} | {"root": server.folders.root}
    for whose, folder in folders.items():
        file = KeyFile(folder / DATA_NAME)
        for scope in SCOPES:
            made = create_key(folder, key_wish(f"only-{scope.replace(':', '-')}", (scope,)))
            found.append(Caller(whose, made.key, {scope}, file=file))
        most = tuple(each for each in SCOPES if each != "admin")
        made = create_key(folder, key_wish("most", most))
        found += [Caller(whose, made.key, set(most), file=file)] * len(SCOPES)
        found.append(Caller("", create_key(folder, key_wish("gone", ("admin",))).key, None))
        revoke_key(folder, "gone")
        if whose != "root":
            found += [Caller(whose, signed_token(whose, (scope,)), {scope}) for scope in SCOPES]
            found += [Caller(whose, signed_token(whose, most, "bob"), set(most))] * 4
            made = create_key(folder, key_wish("home", ("recommend:home",)))
            found += [Caller(whose, made.key, {"recommend"}, file=file)] * 2
            made = create_key(folder, key_wish("page", ("events:write", "recommend"), origins=(SITE,)))
            found += [Caller(whose, made.key, {"events:write", "recommend"}, SITE)] * 4
    found.append(Caller("", signed_token("green", ("admin",)), None))
    return found


async def put_marks(server):
    """Put the mark of each tenant into its catalogue, its profiles and its acts."""
    for name, mark in MARKS.items():
        for item_id in ("lamp", "mug"):
            await server.of(name, "PUT", f"/v1/items/{item_id}", {"title": mark, "category": mark, "available": True})
        await server.of(name, "PUT", "/v1/users/ann", {"city": mark})
        acts = [{"type": "view", "user_id": "ann", "session_id": mark, "item_id": each} for each in ("lamp", mark)]
        await server.of(name, "POST", "/v1/events", acts)


def random_case(dice, callers):
    """Return caller, tenant (empty = the root, None = none), method, path as sent, query, headers and body."""
    prefix = dice.choice(PREFIXES)
    own = [each for each in callers if each.whose == (prefix.removeprefix("/t/") or "root")]
    caller = dice.choice(own if own and dice.random() < 0.4 else callers)
    table = TENANT_ROUTES if not prefix else ROUTES
    template = dice.choice(tuple(table))
    if prefix and dice.random() < 0.05:
        template = dice.choice(MARKED)
    if caller.origin and prefix and dice.random() < 0.7:
        template = dice.choice(sorted(ROUTES_OF_PAGES))
    path = re.sub(r"\{[^}]*\}", lambda _: dice.choice(NAMES if not prefix else IDS), template)
    if dice.random() < 0.05:
        path = path.replace("v", dice.choice(("%76", "V", "v/", "./v", "../t/blue/v")), 1)
    method = dice.choice(tuple(table[template])) if dice.random() < 0.8 else dice.choice(METHODS)
    body = b"" if method in {"GET", "HEAD", "OPTIONS", "DELETE"} else random_body(dice)
    if caller.origin and body and dice.random() < 0.3:
        body = json.dumps(PAGE_ACTS).encode()
    headers = [(b"content-type", dice.choice(TYPES).encode()), (b"content-length", str(len(body)).encode())]
    if caller.key:
        headers.append(
            (b"cookie", caller.cookie())
            if dice.random() < 0.1 and not caller.origin  # a page of another origin sends no cookie
            else (b"authorization", b"Bearer " + caller.key.encode())
        )
    if caller.origin or dice.random() < 0.02:
        headers.append((b"origin", SITE.encode()))
    tenant = None if prefix in WRONG_PREFIXES else prefix.removeprefix("/t/")
    return caller, tenant, template, method, prefix + path, dice.choice(QUERIES), headers, body


def unescaped(path):
    return re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), path)


def needed_of(tenant, method, path):
    """Return the scope that a request needs where it goes, None = there is no such route."""
    inner = path.removeprefix(f"/t/{tenant}") if tenant else path
    scope = {"method": method, "path": unescaped(inner), "raw_path": inner.encode()}
    try:
        return scope_needed(scope) if tenant else tenant_scope_needed(scope), scope
    except (RouteUnknown, MethodNotAllowed):
        return None, scope


async def play(server, requests, seed):
    """Send random requests; return counts of what was seen."""
    dice = random.Random(seed)  # noqa: S311  a test
    callers = callers_of(server)
    await asyncio.sleep(LOOK_S)  # from then on every gate knows them
    counts = dict.fromkeys(COUNTED, 0)
    for number in range(requests):
        if number % MARK_EVERY == 0:
            await put_marks(server)
        caller, tenant, template, method, path, query, headers, body = random_case(dice, callers)
        needed, scope = needed_of(tenant, method, path)
        is_own = caller.whose == (tenant or "root") and tenant is not None
        may = is_own and (needed in caller.scopes or "admin" in caller.scopes)
        changes_keys = template.startswith("/v1/keys") and method not in {"GET", "HEAD"}  # of the callers themselves
        if may and (template in SLOW or changes_keys or (not tenant and method not in {"GET", "HEAD"})):
            continue
        counts["sent"] += 1
        recorded = {name: server.group.apps[name].running.engine.metrics.events_recorded for name in NAMES}
        sent = [each for each in headers if each[0] not in {b"content-length", b"content-type"}]
        kind = next(value for name, value in headers if name == b"content-type")
        answer = await server.ask(
            method, unescaped(path), body, headers=sent, query=query, raw=path.encode(), content_type=kind
        )
        asked = seed, number, caller.whose, caller.scopes, tenant, method, path, query, body
        case = (*asked, answer.status, answer.body[:300])
        assert answer.status < 500 or answer.status == 503, case
        prolongs = template == SESSION_PATH and any(name == b"cookie" for name, _ in headers)  # what no session does
        assert not may or answer.status != 401 or prolongs, case
        counts["unavailable"] += answer.status == 503
        for name, before in recorded.items():
            after = server.group.apps[name].running.engine.metrics.events_recorded
            assert after == before or (name == tenant and may), case
        for name, mark in MARKS.items():
            if name != tenant:
                assert mark.encode() not in answer.body, case
            elif mark.encode() in answer.body:
                counts["marked"] += 1
                assert may, case
        if needed in {OPEN, NODES}:
            continue
        if not is_own:
            counts["foreign"] += 1
            assert answer.status not in {200, 201, 202, 204}, case
            assert answer.status in {303, 400, 401, 403, 404, 405, 415, 421}, case
        elif tenant:
            assert not beyond(caller.scopes, scope, answer.status), case
        counts["allowed"] += answer.status < 300
        counts["tokens"] += answer.status < 300 and caller.key.startswith("ey")
        counts["pages"] += answer.status < 300 and bool(caller.origin)
        counts["refused"] += answer.status in {401, 403}
    return counts


@pytest.fixture
def provided(server):
    """Two tenants with the same identity provider, each with an audience of its own."""
    for name in NAMES:
        server.add(name, configuration=SMALL + identity_section(name))
        publish_keys(server.folders.of(name))
    return server


def test_nothing_of_a_tenant_is_seen_by_another(provided):
    """No mark, no event, no answer across, none beyond a scope, and no error of ours."""
    counts = provided.run(lambda server: play(server, REQUESTS, 20261201))
    assert counts["foreign"] > REQUESTS / 4, counts
    assert counts["refused"] > REQUESTS / 4
    assert counts["allowed"] > REQUESTS / 40
    assert counts["marked"] > REQUESTS / 300
    assert counts["tokens"] > REQUESTS / 100
    assert counts["pages"] > 0
    assert counts["unavailable"] == 0


@pytest.mark.long
@pytest.mark.timeout(14_400)
def test_nothing_of_a_tenant_is_seen_in_many_requests(provided):
    """The same, 200,000 times."""
    counts = provided.run(lambda server: play(server, REQUESTS_LONG, 7))
    print(counts)
    assert counts["foreign"]
    assert counts["unavailable"] == 0
