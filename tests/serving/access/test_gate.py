"""The gate of keys: without one nobody passes, each passes as far as its scopes go, and what is revoked ends."""

import asyncio
import errno
import gzip
import json
import re
from typing import Any

import numpy as np
import pytest

from midstream.core.errors import DiskFull
from midstream.engine.folder import DataFolder
from midstream.events.dead_letters.dead_letters import DeadLetters
from midstream.events.disk import RealDisk
from midstream.events.schema import text_column
from midstream.serving.access.api_keys import KeyWish
from midstream.serving.access.audit_trail import AuditTrail
from midstream.serving.access.key_file import KeyFile
from midstream.serving.access.key_ring import NOBODY, KeyWatch, KnownKey
from midstream.serving.access.key_uses import KeyUses, uses_of
from midstream.serving.access.scopes import ADMIN, NODES, OPEN, READ, ROUTES, SCOPES
from tests.serving.access.conftest import KeyedClient

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug"}
COOKIE = "midstream_session={}"
CLOSED = [(path, method) for path, methods in ROUTES.items() for method in methods]


def path_of(template):
    return re.sub(r"\{[^}]*\}", "x", template)


def test_without_a_key_made_nobody_is_asked_for_one(keyed):
    """A folder in which no key was ever made is as before."""
    assert keyed.ask("", "GET", "/v1/placements").status_code == 200


def test_every_route_needs_a_key_once_there_is_one(keyed):
    """But health; the snapshots of nodes have a key of their own."""
    admin = keyed.make("admin")
    for path, method in CLOSED:
        answer = keyed.ask("", method, path_of(path), {}, raises=False)
        if ROUTES[path][method] == OPEN:
            assert answer.status_code in {200, 303, 404, 503}
        elif ROUTES[path][method] == NODES:
            assert answer.json()["type"] != "urn:midstream:key-needed"
        elif path.startswith("/console") and method == "GET" and path != "/console/live":
            assert (answer.status_code, answer.headers["location"]) == (303, "/console/session")
        else:
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["type"] == "urn:midstream:key-needed"
            assert keyed.ask(admin, method, path_of(path), {}, raises=False).status_code != 401


SHOW_MORE = {"/console/placements/{name}/change"}
"""Pages with a scope of their own that show what is read: they need that scope too."""


def test_a_page_that_changes_something_shows_it_to_readers_alone(keyed):
    """The page of a change has the placement and its history, which a key without ``read`` gets by no other route."""
    for path in SHOW_MORE:
        needed = ROUTES[path]["GET"]
        refused = keyed.ask(keyed.make(needed), "GET", path_of(path), {})
        assert refused.status_code == 403
        assert f"lacks the scope {READ}" in refused.text
        assert keyed.ask(keyed.make(needed, READ), "GET", path_of(path), {}).status_code in {200, 404}


def test_each_scope_opens_its_routes_alone(keyed):
    """All other scopes together do not open a route, and its own one does."""
    without = {needed: keyed.make(*(each for each in SCOPES if each not in {needed, ADMIN})) for needed in SCOPES}
    alone = {needed: keyed.make(needed) for needed in SCOPES}
    for path, method in CLOSED:
        needed = ROUTES[path][method]
        if needed not in SCOPES:
            continue
        refused = keyed.ask(without[needed], method, path_of(path), {})
        assert refused.status_code == 403, (method, path)
        assert refused.json()["type"] == "urn:midstream:scope-missing"
        assert f"lacks the scope {needed}" in refused.json()["came"]
        enough = keyed.make(needed, READ) if path in SHOW_MORE else alone[needed]
        for key in (enough, alone[ADMIN]):
            answer = keyed.ask(key, method, path_of(path), {}, raises=False)
            assert answer.status_code != 401
            assert b"scope-missing" not in answer.content


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_key_stands_in_either_header_and_not_in_both(keyed, header):
    """Two keys in a request would be read differently by a proxy."""
    key = keyed.make("read")
    value = f"Bearer {key}" if header == "authorization" else key
    assert keyed.ask("", "GET", "/v1/models", headers={header: value}).status_code == 200
    assert keyed.ask(key, "GET", "/v1/models", headers={"x-api-key": key}).status_code == 401


def test_a_token_of_a_provider_opens_what_it_allows_beside_keys(make_keyed):
    """In both headers and in the cookie, which takes no key; what is no token that is right opens nothing."""
    reader = KnownKey(b"", "token:ann", frozenset({"read"}), frozenset(), 0, None)

    async def identify(token):
        return reader if token == "a.right.token" else None

    keyed = make_keyed(identify)
    keyed.file.require()
    key = keyed.make("read")
    for headers in (("authorization", "Bearer {}", 200), ("x-api-key", "{}", 200), ("cookie", COOKIE, 401)):
        name, form, of_key = headers
        for text, status in (("a.right.token", 200), ("a.wrong.token", 401), (key, of_key), ("", 401)):
            assert keyed.ask("", "GET", "/v1/models", headers={name: form.format(text)}).status_code == status, text
    answer = keyed.ask("a.right.token", "POST", "/v1/rebuild", {})
    assert answer.status_code == 403
    assert answer.json()["came"].startswith("token:ann lacks the scope admin")


def test_unknown_revoked_and_missing_keys_are_told_the_same(keyed):
    """So nobody learns by the answer which ids there are, or were."""
    revoked = keyed.make("read", name="gone")
    keyed.make("read")
    keyed.file.revoke("gone", keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    unknown = revoked[:-3] + "abc"
    bodies = {
        keyed.ask(key, "GET", "/v1/models").content
        for key in ("", revoked, unknown, "ms_nothing_x", "x", "ms_operator_x", f"ms__{revoked}")
    }
    assert len(bodies) == 1
    assert json.loads(bodies.pop())["status"] == 401


def test_revoked_key_ends_within_a_second(keyed):
    """The file is looked at again; until then the key is good."""
    key = keyed.make("read", name="shop")
    keyed.file.revoke("shop", keyed.clocks.wall_ms(), "cli:test")
    assert keyed.ask(key, "GET", "/v1/models").status_code == 200
    keyed.look()
    assert keyed.ask(key, "GET", "/v1/models").status_code == 401


def test_all_keys_revoked_or_the_file_gone_opens_nothing(keyed):
    """A gate that was closed stays so: only a new start of a folder without the file is open."""
    key = keyed.make("read", name="shop")
    keyed.file.revoke("shop", keyed.clocks.wall_ms(), "cli:test")
    keyed.look()
    assert keyed.ask("", "GET", "/v1/models").status_code == 401
    keyed.file.path.unlink()
    keyed.look()
    for each in ("", key):
        assert keyed.ask(each, "GET", "/v1/models").status_code == 401


def test_file_that_is_missing_opens_no_process_that_starts_later(keyed):
    """Where the server asks for keys already, a process without the file lets nobody in, until it finds one."""
    file, clocks = KeyFile(keyed.file.path.with_name("moved")), keyed.clocks
    late = KeyWatch(file, clocks.monotonic, clocks.wall_ms, is_closed=True)
    assert late.asks
    assert late.ring() is NOBODY
    assert KeyWatch(file, clocks.monotonic, clocks.wall_ms).ring() is None
    made = file.create(KeyWish("shop", ("read",)), clocks.wall_ms(), "cli:test")
    clocks.look()
    ring = late.ring()
    assert ring is not None
    known = late.identify(ring, made.key)
    assert known is not None
    assert known.stored is not None
    assert known.stored.name == "shop"


def test_damaged_file_leaves_what_was_read(keyed):
    """Who had a key keeps it; nobody gets in who had none. Health says so until the file is right again."""
    key = keyed.make("read")
    good = keyed.file.path.read_bytes()
    keyed.file.path.write_text("{")
    keyed.look()
    assert keyed.ask(key, "GET", "/v1/models").status_code == 200
    assert keyed.ask("", "GET", "/v1/models").status_code == 401
    name, said = keyed.watch.listener.concern()
    assert (name, "cannot be read" in said) == ("keys", True)
    keyed.file.path.write_bytes(good)
    keyed.look()
    assert keyed.watch.listener.concern() == ("keys", "")


def test_disk_that_fails_once_is_read_again(keyed, monkeypatch):
    """The file is the same one, so nothing but the failure has it read."""
    key = keyed.make("read")
    read = KeyFile.read

    def fails(_file):
        message = "Input/output error"
        raise OSError(message)

    monkeypatch.setattr(KeyFile, "read", fails)
    keyed.file.path.write_bytes(keyed.file.path.read_bytes() + b" ")
    keyed.look()
    assert keyed.watch.flaw
    assert keyed.ask(key, "GET", "/v1/models").status_code == 200
    monkeypatch.setattr(KeyFile, "read", read)
    keyed.look()
    assert not keyed.watch.flaw


def test_key_that_was_just_made_is_known(keyed):
    """By whichever process it is sent to, before the file's next look is due."""
    keyed.make("read")
    made = keyed.file.create(KeyWish("new", ("read",)), keyed.clocks.wall_ms(), "cli:test")
    assert keyed.ask(made.key, "GET", "/v1/models").status_code == 200
    assert keyed.ask(made.key + "x", "GET", "/v1/models").status_code == 401


def test_keys_over_http_hold_from_their_answer_on(make_client, engine, tmp_path):
    """The first one closes the gate, further ones open it, and one that was revoked does not."""
    keyed = KeyedClient(make_client(engine, data=DataFolder(tmp_path / "data")), tmp_path / "data")
    assert keyed.ask("", "GET", "/v1/models").status_code == 200
    admin = keyed.ask("", "POST", "/v1/keys/root", {"scopes": ["admin"]}).json()["key"]
    assert keyed.ask("", "GET", "/v1/models").status_code == 401
    pages = {"scopes": ["recommend"], "origins": ["https://shop.example"]}
    assert keyed.ask(admin, "POST", "/v1/keys/pages", pages).status_code == 200
    assert keyed.gate.page_origins() == {b"https://shop.example"}
    other = keyed.ask(admin, "POST", "/v1/keys/reports", {"scopes": ["read"]}).json()["key"]
    assert keyed.ask(other, "GET", "/v1/models").status_code == 200
    assert keyed.ask(admin, "DELETE", "/v1/keys/reports").status_code == 200
    assert keyed.ask(other, "GET", "/v1/models").status_code == 401


@pytest.mark.parametrize("flaw", ["damaged", "of another user"])
def test_file_that_cannot_be_read_is_a_503_for_who_changes_keys(make_client, engine, tmp_path, monkeypatch, flaw):
    """It is no fault of the request; the reason says which file, and known keys go on."""
    keyed = KeyedClient(make_client(engine, data=DataFolder(tmp_path / "data")), tmp_path / "data")
    admin = keyed.make("admin")
    if flaw == "damaged":
        keyed.file.path.write_text("{")
    else:

        def refused(_file):
            raise PermissionError(errno.EACCES, "Permission denied", str(keyed.file.path))

        monkeypatch.setattr(KeyFile, "read", refused)
    asked = [("GET", "/v1/keys", None), ("POST", "/v1/keys/a", {"scopes": ["read"]}), ("DELETE", "/v1/keys/a", None)]
    for method, path, body in [*asked, ("POST", "/v1/keys/a/rotate", {})]:
        answer = keyed.ask(admin, method, path, body)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:midstream:keys-unreadable"), answer.text
        assert "keys.json" in answer.json()["pointer"]
        assert int(answer.headers["retry-after"]) > 0


def test_expired_key_is_refused(keyed):
    """At its millisecond, without the file being read again."""
    keyed.make("read")
    key = keyed.make("read", expires_in_ms=3_600_000)
    assert keyed.ask(key, "GET", "/v1/models").status_code == 200
    keyed.clocks.seconds += 3_600
    assert keyed.ask(key, "GET", "/v1/models").status_code == 401


def test_unknown_paths_tell_strangers_nothing(keyed):
    """401 without a key; with one a 404 or a 405, and the app is asked by an administrator alone."""
    key, admin = keyed.make("read"), keyed.make("admin")
    assert keyed.ask("", "GET", "/v1/nothing").status_code == 401
    assert keyed.ask(key, "GET", "/v1/nothing").status_code == 404
    assert keyed.ask(key, "DELETE", "/v1/models").status_code == 405
    assert keyed.ask(admin, "GET", "/v1/nothing").status_code == 404


def test_metrics_are_open_where_the_options_say_so(make_keyed):
    """A monitor has no key there."""
    keyed = make_keyed(open_metrics=True)
    keyed.make("events:write")
    assert keyed.ask("", "GET", "/metrics").status_code == 200
    assert keyed.ask("", "GET", "/v1/models").status_code == 401


def test_key_of_a_placement_asks_of_it_alone(keyed):
    """In a body, a query, a page, a batch; and a question without a placement is not of it."""
    key = keyed.make("recommend:home")
    cases = [
        ("POST", "/v1/recommendations", {"placement": "home", "user_id": "ann"}, True),
        ("POST", "/v1/recommendations", {"placement": "cart", "user_id": "ann"}, False),
        ("POST", "/v1/recommendations", {"user_id": "ann"}, False),
        ("POST", "/v1/recommendations", b'{"placement": "home", "placement": "cart"}', False),
        ("POST", "/v1/recommendations", b'{"placement": "home", "pl\\u0061cement": "cart"}', False),
        ("GET", "/v1/recommendations?placement=home", None, True),
        ("GET", "/v1/recommendations?placement=cart", None, False),
        ("GET", "/v1/recommendations?placement=home&placement=cart", None, False),
        ("GET", "/v1/recommendations?user_id=ann", None, False),
        ("POST", "/v1/pages", {"placements": [{"placement": "home"}]}, True),
        ("POST", "/v1/pages", {"placements": [{"placement": "home"}, {"placement": "cart"}]}, False),
        ("POST", "/v1/rank", {"placement": "cart", "items": ["a"]}, False),
        ("POST", "/v1/recommendations/batch", {"placement": "cart", "users": ["a"]}, False),
        ("GET", "/v1/items/mug/similar", None, False),
        ("GET", "/v1/items/search?q=mug", None, False),
        ("GET", "/v1/items/search?q=mug&placement=home", None, False),
    ]
    for method, path, body, is_allowed in cases:
        answer = keyed.ask(key, method, path, body)
        assert (answer.status_code != 403) == is_allowed, (method, path, body, answer.text)
        assert answer.status_code != 500


@pytest.mark.parametrize(
    "placement, path", [("search", "/v1/items/search?q=lamp"), ("similar", "/v1/items/mug/similar")]
)
def test_route_without_a_placement_field_needs_the_placement_that_answers_it(keyed, placement, path):
    """A key of that placement may ask by GET and HEAD, one of another may not, and a query names no other one."""
    own, other, writer = keyed.make(f"recommend:{placement}"), keyed.make("recommend:home"), keyed.make("catalogue")
    assert keyed.ask(writer, "PUT", "/v1/items/mug", {}).status_code == 200
    for method in ("GET", "HEAD"):
        assert keyed.ask(own, method, path).status_code == 200
        assert keyed.ask(other, method, path).status_code == 403
    separator = "&" if "?" in path else "?"
    assert keyed.ask(other, "GET", f"{path}{separator}placement=home").status_code == 403
    assert keyed.ask(own, "GET", "/v1/recommendations").status_code == 403
    assert keyed.ask(own, "GET", "/v1/recommendations?placement=home").status_code == 403


def test_events_within_a_question_need_the_scope_of_events(keyed):
    """A key that may ask does not write by asking, and one that writes acts does not write items."""
    asking, both = keyed.make("recommend"), keyed.make("recommend", "events:write")
    question = {"session_id": "s1", "events": [EVENT]}
    assert keyed.ask(asking, "POST", "/v1/recommendations", question).status_code == 403
    assert not keyed.client.engine.events
    assert keyed.ask(both, "POST", "/v1/recommendations", question).status_code != 403
    for events in ([{"type": "item", "item_id": "mug"}], {"events": [{"type": "user", "user_id": "ann"}]}):
        answer = keyed.ask(both, "POST", "/v1/recommendations", {"session_id": "s1", "events": events})
        assert answer.status_code == 403
        assert "catalogue" in answer.json()["came"]


def test_type_of_an_event_that_is_no_text_is_left_to_the_route(keyed):
    """It is answered with its fault, whatever the key lacks."""
    key = keyed.make("recommend", "events:write")
    for odd in (["item"], {"item": 1}, 7, None):
        question = {"session_id": "s1", "events": [{"type": odd, "item_id": "mug"}]}
        assert keyed.ask(key, "POST", "/v1/recommendations", question).status_code in {200, 400, 422}


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/bulk"])
def test_events_of_items_need_the_scope_of_the_catalogue(keyed, path):
    """An event of type ``item`` or ``user`` is a change of the catalogue, whatever route it comes by."""
    writer, owner = keyed.make("events:write"), keyed.make("events:write", "catalogue")
    lines = b'{"type": "item", "item_id": "mug"}\n{"type": "user", "user_id": "ann"}\n'
    headers = {"content-type": "application/x-ndjson"}
    refused = keyed.ask(writer, "POST", path, lines, headers)
    assert refused.status_code == 422
    assert refused.json()["recorded"] == 0
    assert keyed.ask(owner, "POST", path, lines, headers).json()["recorded"] == 2


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/bulk"])
def test_event_that_a_key_may_not_send_is_no_dead_letter(make_client, engine, tmp_path, path):
    """A retry has all rights, so it would record what the key was refused; other rejected events are kept."""
    letters = DeadLetters(tmp_path / "dead.ndjson", RealDisk())
    keyed = KeyedClient(make_client(engine, dead_letters=letters), tmp_path / "data")
    writer = keyed.make("events:write")
    odd = [
        {"type": "item", "item_id": "mug", "operation": "delete"},
        {"type": "user", "user_id": "ann", "operation": "delete"},
        {"type": "item", "item_id": 5},
        {"type": "item", "item_id": "mug", "unheard": 1},
        {"type": "vieew", "user_id": "ann", "item_id": "mug"},
    ]
    lines = b"\n".join(json.dumps(each).encode() for each in odd)
    answer = keyed.ask(writer, "POST", path, lines, {"content-type": "application/x-ndjson"})
    told = answer.json()
    rejections = told["rejected"] if path == "/v1/events" else told["rejections"]
    assert (answer.status_code, len(rejections)) == (422, 5)
    assert ["catalogue" in each["right"] for each in rejections] == [True, True, True, True, False]
    assert [json.loads(each.raw)["type"] for each in letters.read()] == ["vieew"]


def test_body_that_was_judged_is_the_body_that_is_answered(keyed):
    """Packed, in pieces or as it is: the route reads what the gate read."""
    key = keyed.make("recommend")
    body = json.dumps({"user_id": "ann", "n": 1}).encode()
    plain = keyed.ask(key, "POST", "/v1/recommendations", body)
    packed = keyed.ask(key, "POST", "/v1/recommendations", gzip.compress(body), {"content-encoding": "gzip"})
    assert plain.status_code == packed.status_code == 200
    assert plain.json()["items"] == packed.json()["items"]
    assert keyed.ask(key, "POST", "/v1/recommendations", b"{").status_code == 400
    assert keyed.ask(key, "POST", "/v1/recommendations", b"x" * 300_000).status_code == 413


def test_quota_of_a_key_is_its_own(make_keyed):
    """A key with a quota spends it alone; others spend that of the server, by key."""
    keyed = make_keyed()
    slow, other = keyed.make("read", quota_per_second=0.001, quota_burst=2), keyed.make("read")
    statuses = [keyed.ask(slow, "GET", "/v1/models").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert keyed.ask(other, "GET", "/v1/models").status_code == 200


def test_refusals_are_counted(keyed):
    """By reason, without a label that a caller makes up."""
    keyed.make("events:write")
    key = keyed.make("read")
    keyed.ask("", "GET", "/v1/models")
    keyed.ask(key, "POST", "/v1/events", EVENT)
    text = keyed.client.engine.metrics.text().decode()
    assert 'midstream_key_refusals_total{reason="key"} 1.0' in text
    assert 'midstream_key_refusals_total{reason="scope"} 1.0' in text


def test_change_is_recorded_with_its_caller(keyed):
    """By a key, before it is answered; what is refused and what only reads leaves nothing."""
    recorded: list[Any] = []

    async def append(batch):
        recorded.extend(json.loads(each) for each in text_column(batch, "body", np.arange(len(batch))))

    keyed.gate._app = AuditTrail(keyed.behind, append)
    writer, reader = keyed.make("catalogue"), keyed.make("read")
    assert keyed.ask(writer, "PUT", "/v1/items/a%2Fb", {"price": 1}).status_code == 200
    assert keyed.ask(
        writer, "PUT", "/v1/items", b'{"item_id": "c"}', {"content-type": "application/x-ndjson"}
    ).is_success
    assert keyed.ask(reader, "PUT", "/v1/items/a", {"price": 1}).status_code == 403
    assert keyed.ask(writer, "PUT", "/v1/items/a", b"{").status_code == 400
    assert keyed.ask(reader, "GET", "/v1/models").status_code == 200
    assert [(each["route"], each.get("target", "")) for each in recorded] == [
        ("/v1/items/{item_id}", "a/b"),
        ("/v1/items", ""),
    ]
    assert {each["who"] for each in recorded} == {f"key:{keyed.keys[0].id}"}


def test_failed_record_does_not_hide_a_change(keyed, caplog):
    """The change was made, so it is answered; the log of the process has that its record is missing."""

    async def append(_batch):
        message = "no room"
        raise DiskFull(message)

    keyed.gate._app = AuditTrail(keyed.behind, append)
    writer = keyed.make("catalogue")
    with caplog.at_level("ERROR"):
        assert keyed.ask(writer, "PUT", "/v1/items/a", {"price": 1}).status_code == 200
    assert "audit_lost" in caplog.text


async def writing_of(uses):
    assert uses._writing is not None
    await uses._writing


def test_last_use_is_written_once_a_minute(tmp_path):
    """In a thread, for all keys of the minute; a process that starts anew goes on from it."""
    uses = KeyUses(tmp_path, "leader")

    async def play():
        uses.note("a", 100_000)
        await writing_of(uses)
        first = dict(uses_of(tmp_path))
        uses.note("b", 100_001)
        uses.note("a", 159_999)
        assert uses._writing is None
        uses.note("a", 160_000)
        await writing_of(uses)
        return first

    assert asyncio.run(play()) == {"a": 100_000}
    assert uses_of(tmp_path) == {"a": 160_000, "b": 100_001}
    assert KeyUses(tmp_path, "leader")._at == uses_of(tmp_path)
    (tmp_path / "keys-used" / "follower-1.json").write_text('{"b": 7, "c": 8}')
    (tmp_path / "keys-used" / "follower-2.json").write_text("{")
    assert uses_of(tmp_path) == {"a": 160_000, "b": 100_001, "c": 8}


def test_a_key_that_may_not_read_takes_back_the_acts_of_users_that_it_names(keyed):
    """The answer says what the act was, so an id alone is not enough."""
    sender, reader, admin = keyed.make("events:write"), keyed.make("events:write", "read"), keyed.make("admin")
    for number in range(3):
        assert keyed.ask(sender, "POST", "/v1/events", EVENT | {"event_id": f"e{number}"}).status_code == 200
    refused = keyed.ask(sender, "DELETE", "/v1/events/e0")
    assert (refused.status_code, refused.json()["pointer"]) == (400, "user_id")
    assert all(refused.json()[part] for part in ("came", "right", "page"))
    for key, path in ((sender, "e0?user_id=ann"), (reader, "e1"), (admin, "e2")):
        assert keyed.ask(key, "DELETE", f"/v1/events/{path}").json()["retracted"] == 1
