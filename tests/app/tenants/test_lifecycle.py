"""Tenants that are created, suspended, resumed, exported and deleted while others are served."""

import asyncio
import json
import re
import tarfile

import pytest

from midstream.app.opening import open_shop
from midstream.app.operate.restore import restore
from midstream.app.tenants.serve import TenantServer, root_config, serve_tenants
from midstream.core.errors import ConfigInvalid, FolderLocked
from midstream.serving.options import ServerOptions
from tests.app.tenants.conftest import SMALL

ACTS = [{"type": "view", "session_id": "s1", "item_id": each} for each in ("lamp", "mug", "jar")]


def test_a_tenant_is_created_with_a_key_of_its_own(pair):
    """It serves at once, also after a restart; its key opens it alone, and its name is taken."""

    async def create(server):
        made = await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL})
        server.keys["green"] = made.json()["key"]
        return (
            made,
            (await server.of("green", "POST", "/v1/events", ACTS)).json()["recorded"],
            (await server.of("blue", "GET", "/v1/models", key=server.keys["green"])).status,
            await server.root("POST", "/v1/tenants", {"name": "green"}),
        )

    made, recorded, elsewhere, again = pair.run(create)
    assert (made.status, made.json()["tenant"]["path"], recorded, elsewhere) == (201, "/t/green/", 3, 401)
    assert made.json()["tenant"]["created_ms"] > 0
    assert (again.status, again.json()["type"]) == (409, "urn:midstream:tenant-conflict")
    assert pair.run(lambda server: server.of("green", "GET", "/v1/items/jar")).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {"name": "../red"},
        {"name": "Red"},
        {"name": ""},
        {"name": "a" * 64},
        {"name": "green", "configuration": "wrong = 1"},
        {"name": "green", "quota": {"requests_per_second": -1}},
        {"name": "green", "further": 1},
        {},
        [],
    ],
)
def test_a_tenant_that_cannot_be_is_not_created(pair, body):
    """The fault is named, and nothing is left of it."""

    async def create(server):
        made = await server.root("POST", "/v1/tenants", body)
        return made, [each["name"] for each in (await server.root("GET", "/v1/tenants")).json()["tenants"]]

    made, names = pair.run(create)
    assert made.status == 400, made.body
    assert (names, pair.folders.names()) == (["blue", "red"], ["blue", "red"])
    assert not pair.folders.trash.exists() or not list(pair.folders.trash.iterdir())


def test_a_suspended_tenant_answers_the_reason(pair):
    """For every route, also after a restart, while the other answers; resumed it has all it had."""

    async def suspend(server):
        await server.of("red", "POST", "/v1/events", ACTS)
        told = await server.root("POST", "/v1/tenants/red/suspend", {"reason": "The bill is open."})
        return (
            told.json(),
            await server.of("red", "GET", "/v1/items/jar"),
            (await server.of("red", "GET", "/health/live", key="")).status,
            (await server.of("blue", "GET", "/v1/models")).status,
        )

    view, refused, health, other = pair.run(suspend)
    assert (view["state"], view["reason"]) == ("suspended", "The bill is open.")
    assert (refused.status, refused.json()["type"]) == (503, "urn:midstream:tenant-unavailable")
    assert "The bill is open." in refused.json()["detail"]
    assert (health, other) == (503, 200)

    async def resume(server):
        before = (await server.of("red", "GET", "/v1/items/jar")).status
        view = (await server.root("POST", "/v1/tenants/red/resume")).json()
        return before, view["state"], (await server.of("red", "GET", "/v1/items/jar")).status

    assert pair.run(resume) == (503, "serving", 200)
    with open_shop(pair.folders.of("red")) as shop:  # the server has let go of the folder
        assert shop.running.engine.log.end >= len(ACTS)


def shown(answer):
    """What a page says to a person, and how it is kept to this server."""
    assert answer.headers[b"content-type"] == b"text/html; charset=utf-8"
    assert b"default-src 'none'" in answer.headers[b"content-security-policy"]
    assert answer.headers[b"cache-control"] == b"no-store"
    text = answer.body.decode()
    assert set(re.findall(r'(?:href|src)="(/[^"]*)"', text)) == {
        "/console/assets/console.css",
        "/console/assets/console.js",
    }
    return text.partition("<main")[2]


def test_the_console_of_a_tenant_that_does_not_serve_says_why(pair):
    """A person sees a page with the reason, of a suspended and of a deleted tenant; programs get the problem."""
    programs = (("GET", "/v1/models"), ("GET", "/console/live"), ("PUT", "/console/session"), ("HEAD", "/console"))

    async def play(server):
        await server.root("POST", "/v1/tenants/red/suspend", {"reason": "<b>The bill</b> is open."})
        await server.root("DELETE", "/v1/tenants/blue", query=b"confirm=blue")
        files = [await server.ask("GET", f"/console/assets/console.{each}") for each in ("css", "js")]
        pages = [await server.ask("GET", f"/t/{each}") for each in ("red/console/keys", "blue/console", "red/console")]
        told = [await server.ask(*each) for each in ((m, f"/t/{n}{p}") for m, p in programs for n in ("red", "blue"))]
        return pages, told, [each.status for each in files]

    (red, blue, first), told, files = pair.run(play)
    assert ([red.status, blue.status, first.status], files) == ([503, 404, 503], [200, 200])
    assert 5 <= int(red.headers[b"retry-after"]) <= 15
    assert b"retry-after" not in blue.headers
    for page in (red, first):
        assert "red is suspended. &lt;b&gt;The bill&lt;/b&gt; is open." in shown(page)
    assert "There is no tenant &#34;blue&#34;." in shown(blue)
    assert [each.status for each in told] == [503, 404] * len(programs)
    assert {each.headers[b"content-type"] for each in told} == {b"application/problem+json"}
    assert [each.json()["type"] for each in told[:2]] == [
        "urn:midstream:tenant-unavailable",
        "urn:midstream:route-unknown",
    ]


def test_requests_in_progress_are_answered_before_a_tenant_is_closed(pair):
    """A suspension waits for them, and takes no new one meanwhile."""

    async def play(server):
        await server.of("red", "POST", "/v1/events", ACTS)
        events = [server.of("red", "POST", "/v1/events", ACTS) for _ in range(20)]
        tasks = [asyncio.create_task(each) for each in events]
        await asyncio.sleep(0)
        await server.root("POST", "/v1/tenants/red/suspend", {})
        return [each.status for each in await asyncio.gather(*tasks)]

    statuses = pair.run(play)
    assert set(statuses) <= {200, 503}
    assert 200 in statuses


def test_a_deleted_tenant_is_gone(pair):
    """Its name has to be said again; then it is unknown, its folder is removed, and the name is free and empty."""

    async def delete(server):
        await server.of("red", "POST", "/v1/events", ACTS)
        refused = [
            (await server.root("DELETE", "/v1/tenants/red", query=query)).status for query in (b"", b"confirm=blue")
        ]
        assert (await server.of("red", "GET", "/v1/items/jar")).status == 200
        done = await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")
        gone = [
            (await server.of("red", "GET", "/v1/items/jar")).status,
            (await server.root("GET", "/v1/tenants/red")).status,
            (await server.root("DELETE", "/v1/tenants/red", query=b"confirm=red")).status,
        ]
        left = pair.folders.of("red").exists(), list(pair.folders.trash.iterdir())
        made = await server.root("POST", "/v1/tenants", {"name": "red", "configuration": SMALL})
        key = made.json()["key"]
        return refused, done.status, gone, left, (await server.of("red", "GET", "/v1/items/jar", key=key)).status

    assert pair.run(delete) == ([400, 400], 200, [404, 404, 404], (False, []), 404)


def test_what_a_crash_left_of_a_deleted_tenant_is_removed_at_the_start(pair):
    """The folder was renamed and is no tenant any more."""
    pair.folders.discard("red", 1)

    async def names(server):
        return [each.name for each in server.group.views()], list(server.folders.trash.iterdir())

    assert pair.run(names) == (["blue"], [])


def test_an_export_is_a_backup_that_can_be_restored(pair, tmp_path):
    """While the tenant serves; nothing of another tenant is in it."""

    async def export(server):
        await server.of("red", "POST", "/v1/events", ACTS)
        await server.of("blue", "PUT", "/v1/items/secret", {"price": 3})
        return (await server.root("POST", "/v1/tenants/red/export")).json()

    told = pair.run(export)
    archive = pair.folders.root / told["file"]
    assert told["log_position"] >= len(ACTS)
    with tarfile.open(archive) as tar:
        files = [tar.extractfile(each) for each in tar if each.isfile()]
        assert all(file is not None and b"secret" not in file.read() for file in files)
    restored = tmp_path / "restored"
    restore(archive, restored)
    with open_shop(restored) as shop:
        assert shop.running.engine.log.end == told["log_position"]


def test_a_folder_that_was_put_there_is_no_new_tenant(pair):
    """Its name is refused while the server runs, and what is in it stays."""

    async def create(server):
        server.add("green")
        return await server.root("POST", "/v1/tenants", {"name": "green"})

    assert pair.run(create).status == 409
    assert pair.run(lambda server: server.of("green", "GET", "/v1/models")).status == 200


def test_a_stop_while_tenants_are_opened_closes_what_is_open(pair):
    """The one that is being opened is opened and closed, the next is not opened; both folders are free."""

    async def main():
        server = TenantServer(pair.folders, pair.options, "id")
        async with server.opening():
            await asyncio.sleep(0.01)
        return [each.state for each in server.group.views()], [each.running for each in server.group.apps.values()]

    states, running = asyncio.run(main())
    assert (states, running) == (["closing"] * 2, [None] * 2)
    for name in ("red", "blue"):
        with open_shop(pair.folders.of(name)) as shop:
            assert shop.running.engine.log.end >= 0


def test_changes_are_audited(pair):
    """Each made change is a line before it is answered; a refused one is none."""

    async def play(server):
        await server.root("POST", "/v1/tenants/red/suspend", {"reason": "x"})
        await server.root("DELETE", "/v1/tenants/red")
        await server.root("GET", "/v1/tenants")
        await server.ask("POST", "/v1/tenants/red/resume", key=server.keys["blue"])
        await server.root("PUT", "/v1/tenants/blue/quota", {"requests_per_second": 5})

    pair.run(play)
    lines = [json.loads(each) for each in pair.folders.audit.read_text().splitlines()]
    assert [(each["method"], each["route"], each["tenant"], each["status"]) for each in lines] == [
        ("POST", "/v1/tenants/{name}/suspend", "red", 0),
        ("POST", "/v1/tenants/{name}/suspend", "red", 200),
        ("PUT", "/v1/tenants/{name}/quota", "blue", 0),
        ("PUT", "/v1/tenants/{name}/quota", "blue", 200),
    ]
    assert {each["who"].split(":")[0] for each in lines} == {"cli"}


def test_a_quota_holds_for_one_tenant_alone(pair):
    """It is the root's: beyond it requests are a 429 with a time, health and the other tenant are answered."""

    async def play(server):
        await server.root("PUT", "/v1/tenants/red/quota", {"requests_per_second": 5})
        red = [await server.of("red", "GET", "/v1/models") for _ in range(20)]
        blue = [(await server.of("blue", "GET", "/v1/models")).status for _ in range(20)]
        health = (await server.of("red", "GET", "/health/ready", key="")).status
        return red, blue, health, (await server.root("GET", "/v1/tenants/red")).json()["quota"]

    red, blue, health, quota = pair.run(play)
    statuses = [each.status for each in red]
    assert statuses[:5] == [200] * 5
    assert statuses.count(429) >= 10
    refused = next(each for each in red if each.status == 429)
    assert refused.json()["type"] == "urn:midstream:quota"
    assert int(refused.headers[b"retry-after"]) >= 1
    assert (set(blue), health, quota["requests_per_second"]) == ({200}, 200, 5.0)


def test_events_beyond_their_quota_wait(pair):
    """A batch is debited as a whole once it is durable, and questions go on."""

    async def play(server):
        await server.root("PUT", "/v1/tenants/red/quota", {"events_per_second": 2})
        acts = [{**act, "event_id": f"e{number}"} for number, act in enumerate(ACTS * 10)]
        return [
            (await server.of("red", "POST", "/v1/events", acts)).status,
            (await server.of("red", "POST", "/v1/events", ACTS)).status,
            (await server.of("red", "PUT", "/v1/items/x", {"price": 1})).status,
            (await server.of("red", "POST", "/v1/recommendations", {"session_id": "s1"})).status,
            (await server.of("blue", "POST", "/v1/events", ACTS)).status,
        ]

    assert pair.run(play) == [200, 429, 429, 200, 200]


def test_a_folder_of_tenants_has_one_server(tmp_path):
    """A second one is refused, as is a configuration of the root with parts of a shop."""
    (tmp_path / "midstream.toml").write_text('[[placements]]\nname = "home"\n')
    with pytest.raises(ConfigInvalid, match="tenants"):
        root_config(tmp_path)
    (tmp_path / "midstream.toml").write_text("[server]\nfollowers = 1\n")
    with pytest.raises(ConfigInvalid, match="followers"):
        root_config(tmp_path)
    second: list[type] = []

    def ready(url, count):
        assert (url.startswith("http://127.0.0.1:"), count) == (True, 0)
        try:
            serve_tenants(tmp_path, ServerOptions(port=0), ready)
        except FolderLocked as error:
            second.append(type(error))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve_tenants(tmp_path, ServerOptions(port=0), ready)
    assert second == [FolderLocked]
