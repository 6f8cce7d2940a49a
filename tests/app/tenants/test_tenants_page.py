"""The page about tenants has a heading for each route of the root, and the table of scopes has the same routes."""

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
