"""The table of scopes has every route of the app, and finds the route that the app finds."""

import re
from itertools import product
from pathlib import Path

import pytest

from midstream.serving.access.scopes import (
    ADMIN,
    ANY,
    HOT,
    HOT_METHODS,
    METRICS,
    NODES,
    OPEN,
    READ,
    RECOMMEND,
    ROUTES,
    SCOPES,
    scope_needed,
    template_of,
)
from midstream.serving.app import UNKNOWN_ROUTE
from midstream.serving.http.problems import MethodNotAllowed, RouteUnknown

NO_SCOPES = {ANY, "nodes", "open", "metrics"}
HTTP_PAGE = Path(__file__).parents[3] / "docs" / "http.md"
ROWS = {
    **{f"`{scope}`": scope for scope in SCOPES},
    "any key": ANY,
    "no key": OPEN,
    "`read`, or no key with `open_metrics = true`": METRICS,
    "the [key of the shop's nodes](replicas.md)": NODES,
}
"""Scope by the first cell of a row of the page's table."""
SAME_ROUTES = f"`{RECOMMEND}:PLACEMENT`"
"""Row that names no route of its own."""


def app_of(client):
    """Return the app itself, with all of its routes made."""
    app = client.app._app
    return app, app._paths


def scope_of(method, path):
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "headers": [],
        "query_string": b"",
    }


def test_every_route_of_the_app_has_a_scope(client):
    """Hot routes, FastAPI's and those of no document: each method of each path; and none that is not there."""
    _, paths = app_of(client)
    routes = {(each.template, method) for each in paths for method in each.methods - {"OPTIONS", "HEAD"}}
    assert routes == {(path, method) for path, methods in ROUTES.items() for method in methods}
    assert {scope for methods in ROUTES.values() for scope in methods.values()} <= {*SCOPES, *NO_SCOPES}


def test_hot_routes_are_those_that_the_app_finds_by_the_decoded_path(client):
    """A hot route that the table finds by another path could be checked as one route and answered as another."""
    app, _ = app_of(client)
    hot = {(path, method) for path, methods in app._hot.items() for method in methods}
    assert hot == {(path, method) for path in HOT for method in ROUTES[path]} | {
        (path, method) for path, methods in HOT_METHODS.items() for method in methods
    }


def documented_scopes():
    """Return the scope of each method and path that the table of the page names."""
    section = HTTP_PAGE.read_text("utf-8").partition("\n## Scopes\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    found = {}
    assert {cells[0].strip() for cells in rows} == {*ROWS, SAME_ROUTES}
    for first, second in rows:
        for methods, path in re.findall(r"`((?:[A-Z]+, )*[A-Z]+) (/[^`]*)`", second):
            for method in methods.split(", "):
                assert (method, path) not in found, f"{method} {path} stands twice"
                found[method, path] = ROWS[first.strip()]
    return found


def test_page_names_the_scope_of_each_route():
    """The table of docs/http.md is that of the gate; a ``GET`` that it does not name needs ``read``."""
    named = documented_scopes()
    gate = {
        (method, path.replace(":path", "")): scope
        for path, methods in ROUTES.items()
        for method, scope in methods.items()
    }
    assert {route: named.get(route, READ if route[0] == "GET" else None) for route in gate} == gate
    assert named.keys() <= gate.keys()


IDS = ("lamp", "read", "retry", "run", "a%2Fb", "similar", "merge", "..", "%2e%2e", "re%61d", "x y".replace(" ", "%20"))


def test_table_finds_what_the_app_finds(client):
    """Whatever stands in the place of an id, also the names of other routes: one template, the app's."""
    app, _ = app_of(client)
    for template, value in product(ROUTES, IDS):
        path = re.sub(r"\{[^}]*\}", value, template)
        found = app.template_of(scope_of("GET", path))
        assert template_of(path) == (None if found == UNKNOWN_ROUTE else found), path


def test_escaped_letters_are_no_way_around():
    """A path is judged as the app reads it: by its bytes for routes that are not hot, decoded for those that are."""
    scope = {**scope_of("POST", "/v1/features/read"), "raw_path": b"/v1/features/re%61d"}
    assert scope_needed(scope) == ROUTES["/v1/features/{name}"]["POST"]
    scope = {**scope_of("POST", "/v1/events"), "raw_path": b"/v1/ev%65nts"}
    assert scope_needed(scope) == ROUTES["/v1/events"]["POST"]
    with pytest.raises(RouteUnknown):
        scope_needed({**scope_of("POST", "/v1/rebuild"), "raw_path": b"/v1/reb%75ild"})


def test_methods_beside_those_of_the_table():
    """HEAD is GET, OPTIONS is for any key, another one is refused with those that are right."""
    assert scope_needed(scope_of("HEAD", "/v1/models")) == "read"
    assert scope_needed(scope_of("OPTIONS", "/v1/models")) == ANY
    with pytest.raises(MethodNotAllowed) as refused:
        scope_needed(scope_of("DELETE", "/v1/models"))
    assert refused.value.allowed == ("GET", "HEAD", "OPTIONS")


def test_what_changes_something_needs_more_than_reading():
    """No route that is not a GET is open to ``read`` alone, but the session and the reading of features."""
    changing = {
        (path, method) for path, methods in ROUTES.items() for method, scope in methods.items() if method != "GET"
    }
    open_to_readers = {(path, method) for path, method in changing if ROUTES[path][method] in {"read", *NO_SCOPES}}
    assert open_to_readers == {
        ("/v1/features/read", "POST"),
        ("/console/session", "PUT"),
        ("/console/session", "DELETE"),
    }
    assert ROUTES["/v1/rebuild"]["POST"] == ADMIN
