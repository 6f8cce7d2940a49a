"""Random requests over all routes with keys of all scopes: nothing beyond a scope, nothing hangs, no error of ours."""

import asyncio
import json
import random
import re
import time

import pytest

from midstream.core.kinds import Kind
from midstream.integrations.identity_provider import IdentityProvider
from midstream.serving.access.scopes import ADMIN, NODES, OPEN, ROUTES, SCOPES, scope_needed
from midstream.serving.http.problems import MethodNotAllowed, RouteUnknown
from tests.support.identity_tokens import identity_options, publish_keys, signed_token

REQUESTS = 2_000
REQUESTS_LONG = 200_000
TEMPLATES = tuple(ROUTES)
UNAVAILABLE = frozenset((503,))
SCOPE_OF_KIND = {Kind.ITEM: "catalogue", Kind.USER: "catalogue", Kind.ERASE: "erase"}
COUNTED = ("allowed", "refused", "pages", "to_form", "unavailable", "tokens")
OPEN_PAGES = ("/console/assets/", "/console/session")
"""All other pages show what the shop knows."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
IDS = ("lamp", "read", "run", "merge", "similar", "a%2Fb", "%2e%2e", "..", "x" * 200, "%00", "%FF", "re%61d", "{name}")
EVENTS = (
    {"type": "view", "user_id": "ann", "item_id": "mug"},
    {"type": "view", "user_id": "anon-0123456789abcdef", "item_id": "mug"},
    {"type": "item", "item_id": "mug", "attributes": {"price": 1}},
    {"type": "user", "user_id": "ann"},
    {"type": "erase", "user_id": "ann"},
    {"type": "control"},
    {"type": 7},
    7,
)
TYPES = ("application/json", "application/json", "application/x-ndjson", "application/merge-patch+json", "text/plain")


def random_body(dice):
    """Return a body: of a question, of events, of something else, or of no sense."""
    events = [dice.choice(EVENTS) for _ in range(dice.randrange(3))]
    document = dice.choice(
        (
            events,
            {"events": events},
            {"user_id": "ann", "placement": dice.choice(("home", "cart", None, 7)), "events": events},
            {"placements": [{"placement": dice.choice(("home", "cart"))}], "events": events[:1] or None},
            {"items": ["mug"], "placement": "home"},
            {"users": ["ann"], "placement": "home"},
            {"placement": {"sources": []}, "author": "x"},
            {"price": 1},
            {"from": "bob"},
            {},
            None,
            [],
        )
    )
    if isinstance(document, list) and dice.random() < 0.3:
        return b"\n".join(json.dumps(each).encode() for each in document)
    body = bytearray(json.dumps(document).encode())
    if body and dice.random() < 0.2:
        body[dice.randrange(len(body))] = dice.randrange(256)
    return bytes(body)


def random_request(dice, keys):
    """Return key, scope of ASGI and body."""
    name = dice.choice(tuple(keys))
    template = dice.choice(TEMPLATES)
    path = re.sub(r"\{[^}]*\}", lambda _: dice.choice(IDS), template)
    if dice.random() < 0.05:
        path = path.replace("v", dice.choice(("%76", "V", "v/", "./v")), 1)
    method = dice.choice(tuple(ROUTES[template])) if dice.random() < 0.8 else dice.choice(METHODS)
    query = dice.choice((b"", b"", b"placement=home", b"user_id=ann&placement=cart", b"%FF=1", b"dry_run=maybe"))
    body = b"" if method in {"GET", "HEAD", "OPTIONS", "DELETE"} else random_body(dice)
    headers = [(b"host", b"test"), (b"content-type", dice.choice(TYPES).encode())]
    headers.append((b"content-length", str(len(body)).encode()))
    if name == "page" or dice.random() < 0.02:
        headers.append((b"origin", b"https://shop.example"))
    if keys[name]:
        headers.append((b"authorization", b"Bearer " + keys[name].encode()))
    scope = {
        "type": "http",
        "method": method,
        "path": re.sub("%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), path),
        "raw_path": path.encode(),
        "query_string": query,
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    return name, scope, body


async def answered(app, scope, body):
    """Return status and body of an answer."""
    pieces = [{"type": "http.request", "body": body, "more_body": False}]
    sent = []

    async def receive():
        return pieces.pop() if pieces else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(dict(scope), receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


def beyond(scopes, scope, status):
    """Return whether an answer was given that no scope of a key allows."""
    is_to_form = status == 303 and scope["path"].startswith("/console")  # where a person gives a key
    try:
        needed = scope_needed(scope)
    except (RouteUnknown, MethodNotAllowed):
        return status < 400 and not (is_to_form and scopes is None)
    if scope["path"].startswith("/console") and not scope["path"].startswith(OPEN_PAGES):
        needed = "read" if needed == OPEN else needed  # whatever the table says
    if needed in {OPEN, NODES}:
        return False
    if scopes is None:
        return status not in {400, 401, 415, 421} and not is_to_form
    needed = "read" if needed == "metrics" else needed
    return status < 300 and needed != "" and ADMIN not in scopes and needed not in scopes


def play(make_keyed, folder, requests, seed):
    """Send random requests; return how many were allowed, and how many refused by the gate."""
    publish_keys(folder)
    provider = IdentityProvider(identity_options("shop"), folder, time.monotonic, lambda: time.time_ns() // 1_000_000)
    keyed = make_keyed(tokens=provider.identify)
    put = keyed.client.placing.put
    # As the engine, which keeps what a placement leaves out with its default; pages show it.
    keyed.client.placing.put = lambda name, told, said: put(name, {"slate_size": 20, **told}, said)
    dice = random.Random(seed)  # noqa: S311  a test
    made = {each: {each} for each in SCOPES} | {"both": {"events:write", "recommend"}}
    keys = {name: keyed.make(*held, name=name.replace(":", "-")) for name, held in made.items()}
    scopes: dict[str, set[str] | None] = {**made, "none": None, "unknown": None, "revoked": None, "home": {"recommend"}}
    keys |= {"none": "", "unknown": "ms_00000000_x", "revoked": keyed.make("admin", name="gone")}
    keys["home"] = keyed.make("recommend:home")
    keys["page"] = keyed.make("events:write", "recommend", origins=("https://shop.example",))
    scopes["page"] = {"events:write", "recommend"}
    for each in SCOPES:
        keys[f"token {each}"], scopes[f"token {each}"] = signed_token("shop", (each,)), {each}
    keys |= {"token elsewhere": signed_token("other", ("admin",)), "token without": signed_token("shop", ("none",))}
    scopes |= {"token elsewhere": None, "token without": set()}
    keyed.file.revoke("gone", keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    events, counts = keyed.client.engine.events, dict.fromkeys(COUNTED, 0)

    async def all_of_them():
        for number in range(requests):
            name, scope, body = random_request(dice, keys)
            before = len(events)
            status, told = await answered(keyed.client.app, scope, body)
            case = seed, number, name, scope, body, status, told[:300]
            assert status < 500 or status in UNAVAILABLE, case
            counts["unavailable"] += status in UNAVAILABLE
            counts["tokens"] += status < 300 and name.startswith("token")
            assert not beyond(scopes[name], scope, status), case
            held = scopes[name] or set()
            for event in events[before:]:
                needed = SCOPE_OF_KIND.get(event.kind, "events:write")
                assert needed in held or ADMIN in held, case
                assert name != "page" or event.user_id != "ann", case
            counts["allowed"] += status < 300
            counts["refused"] += status in {401, 403}
            counts["pages"] += status == 200 and body == b"" and b"<title>" in told
            counts["to_form"] += status == 303

    asyncio.run(all_of_them())
    return counts


def test_no_key_reaches_beyond_its_scopes(make_keyed, tmp_path):
    """Each scope alone, as a key and as a token, two together, a placement's, a page's, none, unknown, revoked."""
    counts = play(make_keyed, tmp_path, REQUESTS, 20261201)
    assert counts["allowed"] > REQUESTS / 20
    assert counts["refused"] > REQUESTS / 4
    assert counts["pages"] > REQUESTS / 100
    assert counts["to_form"] > REQUESTS / 100
    assert counts["tokens"] > REQUESTS / 50
    assert counts["unavailable"] == 0


@pytest.mark.long
@pytest.mark.timeout(14_400)
def test_no_key_reaches_beyond_its_scopes_in_many_requests(make_keyed, tmp_path):
    """The same, a hundred times as many."""
    counts = play(make_keyed, tmp_path, REQUESTS_LONG, 7)
    print(counts)
    assert counts["allowed"]
    assert counts["unavailable"] == 0
