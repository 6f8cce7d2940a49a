"""Tenants of one port: whatever one of them is asked, nothing of another is in the answer, nor changed by it."""

import asyncio
import base64

import pytest

from midstream.serving.access.scopes import ROUTES
from tests.support.patience import PATIENCE_S

ACTS = [{"type": "view", "user_id": "ann", "session_id": "s1", "item_id": each} for each in ("lamp", "mug")]


async def tenants_with_a_log(server):
    """Return the tenants once each has something in its log: what was served is written behind its answer."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            tenants = (await server.root("GET", "/v1/tenants")).json()["tenants"]
            if all(each["log_position"] for each in tenants):
                return tenants
            await asyncio.sleep(0.01)


def test_each_tenant_has_state_of_its_own(pair):
    """An event of one is in its next answer, and unknown to the other."""

    async def play(server):
        done = (await server.of("red", "POST", "/v1/events", ACTS)).json()
        asked = {"user_id": "bob", "min_log_position": done["log_position"]}
        return (
            done["recorded"],
            (await server.of("red", "POST", "/v1/recommendations", asked)).json(),
            (await server.of("blue", "POST", "/v1/recommendations", {"user_id": "bob"})).json(),
            (await server.of("red", "GET", "/v1/items/lamp")).status,
            (await server.of("blue", "GET", "/v1/items/lamp")).status,
            (await server.of("blue", "GET", "/v1/users/ann")).status,
            await tenants_with_a_log(server),
        )

    recorded, red, blue, *statuses, tenants = pair.run(play)
    assert recorded == len(ACTS)
    assert {each["id"] for each in red["items"]} == {"lamp", "mug"}
    assert blue["items"] == []
    assert statuses == [200, 404, 404]
    assert [(each["name"], each["state"], each["log_position"] > 0) for each in tenants] == [
        ("blue", "serving", True),
        ("red", "serving", True),
    ]


def test_a_key_of_one_tenant_is_unknown_to_another_and_to_the_root(pair):
    """Every route refuses it with 401, but those that need no key; the root's keys open no tenant."""

    async def play(server):
        found = {}
        for path, methods in ROUTES.items():
            for method, scope in methods.items():
                if scope in {"open", "nodes"}:
                    continue
                sent = path.replace("{", "").replace("}", "").replace(":path", "")
                for whose, key in (("blue", server.keys["blue"]), ("root", server.operator), ("none", "")):
                    answer = await server.of("red", method, sent, {}, key=key)
                    found[method, path, whose] = answer.status
        by_root = [(await server.ask("GET", "/v1/tenants", key=key)).status for key in (*server.keys.values(), "")]
        return found, by_root

    found, by_root = pair.run(play)
    expected = {case: 303 if case[0] == "GET" and _is_page(case[1]) else 401 for case in found}
    assert len(found) > 200
    assert found == expected
    assert by_root == [401] * 3


def _is_page(path):
    return path.startswith("/console") and path != "/console/live"


def test_tokens_of_one_tenant_are_refused_by_another(pair):
    """Request ids, log positions and cursors are signed under the key of the folder."""

    async def play(server):
        for name in ("red", "blue"):
            await server.of(name, "POST", "/v1/events", ACTS)
        slate = (await server.of("red", "POST", "/v1/recommendations", {"user_id": "ann"})).json()
        done = (await server.of("red", "POST", "/v1/events", ACTS[:1])).json()
        page = (await server.of("red", "GET", "/v1/items", query=b"limit=1")).json()
        shown = {"type": "impression", "session_id": "s1", "item_id": "lamp", "request_id": slate["request_id"]}
        cursor = b"cursor=" + page["next_cursor"].encode()
        asked = {"user_id": "ann", "min_log_position": done["log_position"]}
        return [
            (
                (await server.of(name, "GET", f"/v1/requests/{slate['request_id']}")).status,
                (await server.of(name, "POST", "/v1/events", shown)).json().get("recorded", 0),
                (await server.of(name, "GET", "/v1/items", query=b"limit=1&" + cursor)).status,
                (await server.of(name, "POST", "/v1/recommendations", asked)).status,
            )
            for name in ("red", "blue")
        ]

    red, blue = pair.run(play)
    assert red == (200, 1, 200, 200)
    assert (blue[0], blue[1]) == (404, 0)
    assert blue[2] == 400


def test_the_console_of_a_tenant_stays_below_its_path(pair):
    """Its links, its redirect to the page of keys and its cookie begin with the prefix."""

    async def play(server):
        signed = await server.of(
            "red", "PUT", "/console/session", {}, key="", headers=[(b"x-api-key", server.keys["red"].encode())]
        )
        cookie = signed.headers[b"set-cookie"].decode()
        sent = cookie.split(";")[0].encode()
        return (
            cookie,
            await server.of("red", "GET", "/console", key="", headers=[(b"cookie", sent)]),
            await server.of("blue", "GET", "/console", key="", headers=[(b"cookie", sent)]),
        )

    cookie, page, elsewhere = pair.run(play)
    assert "Path=/t/red;" in cookie
    assert page.status == 200
    assert b'href="/t/red/console/' in page.body
    assert b'href="/console' not in page.body
    assert (elsewhere.status, elsewhere.headers[b"location"]) == (303, b"/t/blue/console/session")


@pytest.mark.parametrize(
    "path, raw",
    [
        ("/t/red/v1/items/lamp", b"/t%2Fred/v1/items/lamp"),
        ("/t/red/v1/items/lamp", b"/t/red%2Fv1/items/lamp"),
        ("/t/red/../blue/v1/items/lamp", None),
        ("/t/RED/v1/items/lamp", None),
        ("/t/red%2f..%2fblue/v1/items/lamp", None),
        ("/t//v1/items/lamp", None),
        ("/t/green/v1/items/lamp", None),
        ("/t/", None),
        ("/t", None),
    ],
)
def test_a_path_that_is_read_in_two_ways_reaches_no_tenant(pair, path, raw):
    """Prefix and name are cut at slashes that were sent as slashes; nothing is normalised."""

    async def play(server):
        await server.of("blue", "PUT", "/v1/items/lamp", {"price": 3})
        await server.of("red", "PUT", "/v1/items/lamp", {"price": 3})
        return [(await server.ask("GET", path, key=key, raw=raw)).status for key in server.keys.values()]

    assert set(pair.run(play)) <= {404, 401}


def test_metrics_of_all_tenants_have_the_label(pair):
    """One description a metric, samples of the port without the label, and a tenant's own text without it."""

    async def play(server):
        await server.of("red", "POST", "/v1/events", ACTS)
        return (await server.root("GET", "/metrics")).body, (await server.of("red", "GET", "/metrics")).body

    text, own = pair.run(play)
    assert b'midstream_events_total{tenant="red",outcome="recorded"} 2.0' in text
    assert b'midstream_events_total{tenant="blue",outcome="recorded"} 0.0' in text
    assert text.count(b"# TYPE midstream_events_total ") == 1
    assert b"tenant=" not in own
    assert b'midstream_events_total{outcome="recorded"} 2.0' in own


def test_a_damaged_tenant_stops_no_other(pair):
    """It is listed with the reason, callers see that it does not answer, and it can be opened once it is mended."""
    folder = pair.folders.of("red")
    (folder / "midstream.toml").write_text("wrong = 1")

    async def play(server):
        listed = (await server.root("GET", "/v1/tenants/red")).json()
        told = await server.of("red", "GET", "/v1/models")
        (folder / "midstream.toml").write_text("")
        health = (await server.root("GET", "/health/ready")).json()
        resumed = (await server.root("POST", "/v1/tenants/red/resume")).json()
        return listed, told, health, (await server.of("blue", "GET", "/v1/models")).status, resumed

    listed, told, health, other, resumed = pair.run(play)
    assert (listed["state"], "wrong" in listed["reason"]) == ("failed", True)
    assert (told.status, told.json()["type"]) == (503, "urn:midstream:tenant-unavailable")
    assert b"wrong" not in told.body
    assert health == {"ready": True, "reason": "failed to open: red", "tenants": {"serving": 1, "failed": 1}}
    assert (other, resumed["state"]) == (200, "serving")


def test_requests_of_other_sites_are_refused_by_each_tenant(pair):
    """Names and origins are checked behind the prefix as in front of a server of one shop."""

    async def play(server):
        foreign = [(b"origin", b"https://evil.example")]
        return [
            (await server.of("red", "GET", "/v1/models", headers=foreign)).status,
            (await server.root("GET", "/v1/tenants", headers=foreign)).status,
        ]

    assert pair.run(play) == [403, 403]


def test_no_key_of_the_file_of_another_tenant_is_read(pair):
    """Basic credentials are none, and a key with the id of another tenant's is unknown."""

    async def play(server):
        basic = b"Basic " + base64.b64encode(f"x:{server.keys['red']}".encode())
        return (await server.of("red", "GET", "/v1/models", key="", headers=[(b"authorization", basic)])).status

    assert pair.run(play) == 401
