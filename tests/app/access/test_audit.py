"""The audit of a folder: changes through a server's app and changes of keys, the newest first."""

import asyncio

from midstream.app.access.audit import KEYS_ROUTE, audit_of
from midstream.app.access.key_wishes import key_wish
from midstream.app.access.keys import create_key, revoke_key
from midstream.app.server.hosted_engine import HostedEngine


async def _asked(engine, key, method, path, body=b"", client=("10.1.2.3", 5)):
    """Send one request to an open engine; return the status."""
    sent = []
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return pieces.pop() if pieces else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers += [(b"content-length", str(len(body)).encode()), (b"authorization", f"Bearer {key}".encode())]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": client,
    }
    await engine(scope, receive, send)
    return sent[0]["status"]


def test_changes_are_in_the_log_with_who_and_from_where(tmp_path):
    """Made changes alone: no question, no event, no refusal; a user's id stands in none, as it may be erased."""
    key = create_key(tmp_path, key_wish("owner", ("catalogue", "erase", "events:write", "recommend"))).key

    async def play():
        async with HostedEngine(tmp_path) as engine:
            return [
                await _asked(engine, key, "PUT", "/v1/items/lamp", b'{"price": 3}'),
                await _asked(engine, key, "PUT", "/v1/users/ann", b'{"vip": true}'),
                await _asked(
                    engine, key, "POST", "/v1/events", b'{"type": "view", "user_id": "ann", "item_id": "lamp"}'
                ),
                await _asked(engine, key, "POST", "/v1/recommendations", b'{"user_id": "ann"}'),
                await _asked(engine, key, "PUT", "/v1/items/lamp", b"{"),
                await _asked(engine, key, "PUT", "/v1/placements/home", b"{}"),
                await _asked(engine, key, "DELETE", "/v1/users/ann"),
            ]

    statuses = asyncio.run(play())
    assert statuses[:4] == [200] * 4
    assert statuses[4] == 400
    assert statuses[5] == 403
    revoke_key(tmp_path, "owner")
    told = [(each.method, each.route, each.target) for each in audit_of(tmp_path, 100)]
    assert [each for each in told if each[1] != KEYS_ROUTE] == [
        ("DELETE", "/v1/users/{user_id}", ""),
        ("PUT", "/v1/users/{user_id}", ""),
        ("PUT", "/v1/items/{item_id}", "lamp"),
    ]
    assert [each[0] for each in told if each[1] == KEYS_ROUTE] == ["revoke", "create"]
    (row, *_) = audit_of(tmp_path, 1, route="/v1/items/{item_id}")
    assert row.address == "10.1.2.3"
    assert row.who.startswith("key:")
    assert len(audit_of(tmp_path, 100, who=row.who)) == 3
    assert len(audit_of(tmp_path, 2)) == 2


def test_a_change_of_a_key_over_http_stands_once(tmp_path):
    """Its record in the log has the address; what a command changed has the line of the file."""
    key = create_key(tmp_path, key_wish("owner", ("admin",))).key

    async def play():
        async with HostedEngine(tmp_path) as engine:
            made = await _asked(engine, key, "POST", "/v1/keys/reports", b'{"scopes": ["read"]}')
            turned = await _asked(engine, key, "POST", "/v1/keys/reports/rotate", b"{}")
            return made, turned, await _asked(engine, key, "DELETE", "/v1/keys/reports")

    assert asyncio.run(play()) == (200, 200, 200)
    create_key(tmp_path, key_wish("other", ("read",)))
    revoke_key(tmp_path, "other")
    told = [(each.method, each.route, each.target.split()[0], bool(each.address)) for each in audit_of(tmp_path, 100)]
    assert sorted(told[:2]) == [("create", KEYS_ROUTE, "other", False), ("revoke", KEYS_ROUTE, "other", False)]
    assert told[2:] == [
        ("DELETE", "/v1/keys/{name}", "reports", True),
        ("POST", "/v1/keys/{name}/rotate", "reports", True),
        ("POST", "/v1/keys/{name}", "reports", True),
        ("create", KEYS_ROUTE, "owner", False),
    ]
