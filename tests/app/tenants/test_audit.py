"""Audit of the root: each change is a line with its tenant, and a line that a crash cut short hides no other."""

import json

from midstream.app.tenants.orders import TenantOrders
from midstream.serving.tenants.audit_file import TenantChange, append_change, changes_of
from tests.app.tenants.conftest import SMALL


def change(tenant):
    """Return a change of a tenant."""
    return TenantChange(1, "cli:ann", "", "POST", "/v1/tenants/{name}/resume", tenant, 200)


def test_a_creation_names_its_tenant(server):
    """The route has no name in it, the answer has."""

    async def create(server):
        made = await server.root("POST", "/v1/tenants", {"name": "green", "configuration": SMALL})
        return made.status, made.json()["tenant"]["name"], await server.root("POST", "/v1/tenants", {"name": "Green"})

    status, name, refused = server.run(create)
    assert (status, name, refused.status) == (201, "green", 400)
    (line,) = [json.loads(each) for each in server.folders.audit.read_text().splitlines()]
    assert (line["method"], line["route"], line["tenant"], line["status"]) == ("POST", "/v1/tenants", "green", 201)


def test_a_line_that_was_cut_short_is_ended_and_counted(tmp_path):
    """What is written behind it is read, and so is what was before."""
    path = tmp_path / "data" / "audit.ndjson"
    append_change(path, change("red"))
    path.write_bytes(path.read_bytes() + b'{"time":2,"who":"cli:\xff')
    append_change(path, change("blue"))
    append_change(path, change("green"))
    found, unreadable = changes_of(path, 2)
    assert ([each.tenant for each in found], unreadable) == (["green", "blue"], 1)
    assert [each.tenant for each in changes_of(path, 9)[0]] == ["green", "blue", "red"]
    assert changes_of(tmp_path / "none", 9) == ([], 0)


def test_an_export_of_a_command_is_a_line(pair, tmp_path):
    """It reads the files itself, with and without a server."""
    pair.run(lambda server: server.of("red", "GET", "/v1/models"))  # the shop has data once it was opened
    made = TenantOrders(pair.folders.root).export("red", tmp_path / "red.tar")
    found, _ = changes_of(pair.folders.audit, 9)
    assert (made.name, [(each.route, each.tenant) for each in found]) == (
        "red",
        [("/v1/tenants/{name}/export", "red")],
    )
    assert found[0].who.startswith("cli:")
