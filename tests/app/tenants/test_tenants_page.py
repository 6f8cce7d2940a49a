"""The page about tenants has a heading for each route of the root, and the table of scopes has the same routes."""

import json
import re
from pathlib import Path

from midstream.serving.access.scopes import TENANT_ROUTES

PAGE = Path(__file__).parents[3] / "docs" / "tenants.md"


def test_routes_scopes_and_headings_are_the_same(server):
    """A route without a scope would be for nobody, one without a heading unknown to readers."""

    async def of_app(running):
        return running.root_app.routes

    assert server.run(of_app) == {path: frozenset(methods) for path, methods in TENANT_ROUTES.items()}
    headings = set(re.findall(r"^## ([A-Z]+) (/v1/\S+)$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert headings == {
        (method, path) for path, methods in TENANT_ROUTES.items() for method in methods if path.startswith("/v1")
    }


def body_of(heading):
    """Return the JSON that the page has below a heading, in a block or in a line."""
    section = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return json.loads((re.findall(r"```json\n(.*?)```", section, re.DOTALL) or re.findall(r"`(\{.*?\})`", section))[0])


def test_bodies_of_the_page_are_taken_and_given(server):
    """Each as it is printed, in the order of a tenant's life; the list has the fields that the page shows."""

    async def live(running):
        made = await running.root("POST", "/v1/tenants", body_of("POST /v1/tenants"))
        quota = await running.root("PUT", "/v1/tenants/red/quota", body_of("PUT /v1/tenants/{name}/quota"))
        suspended = await running.root("POST", "/v1/tenants/red/suspend", body_of("POST /v1/tenants/{name}/suspend"))
        resumed = await running.root("POST", "/v1/tenants/red/resume")
        return made, [quota, suspended, resumed], (await running.root("GET", "/v1/tenants")).json()

    made, changed, listed = server.run(live)
    assert made.status == 201, made.body
    assert [each.status for each in changed] == [200] * 3, [each.body for each in changed]
    assert changed[1].json()["reason"] == "The bill is open."
    (shown,) = body_of("GET /v1/tenants")["tenants"]
    (found,) = listed["tenants"]
    assert found.keys() == shown.keys()
    assert found["quota"] == body_of("PUT /v1/tenants/{name}/quota")
    assert [found[name] for name in ("name", "state", "path")] == [shown[name] for name in ("name", "state", "path")]
