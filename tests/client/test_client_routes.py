"""Every public route of the server has a method in both clients: the one table of routes against methods."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from midstream.client.bound_operations import BlockingDriver, listing, operation
from midstream.client.exchange import Attempt, ClientOptions
from midstream.client.operations import Operations
from midstream.serving.access.scopes import template_of
from midstream.serving.app import described
from tests.client.conftest import ScriptedEdge

ROOT = Path(__file__).parents[2]
EVENT = {"type": "view", "user_id": "ann", "item_id": "lamp"}
ITEM, USER = {"item_id": "lamp", "attributes": {}}, {"user_id": "ann", "attributes": {}}
CALLS = {
    "record": [(EVENT,)],
    "record_frame": [(pa.table({"type": ["view"], "user_id": ["ann"], "item_id": ["lamp"]}),)],
    "recommend": [("home",)],
    "rank": [(["lamp"],)],
    "page": [(["home"],)],
    "recommend_many": [(["ann"],)],
    "similar": [("lamp",)],
    "search": [("lamp",)],
    "users_for_item": [("lamp",)],
    "similar_users": [("ann",)],
    "values": [("ann", "category")],
    "features": [(["lamp"],)],
    "features_as_of": [(1_767_225_600_000, ["lamp"])],
    "set_feature_values": [("price", [{"id": "lamp", "value": 3}])],
    "item": [("lamp",)],
    "put_item": [("lamp", {})],
    "patch_item": [("lamp", {})],
    "delete_item": [("lamp",)],
    "change_items": [([ITEM],)],
    "put_items": [([ITEM],)],
    "patch_items": [([ITEM],)],
    "user": [("ann",)],
    "put_user": [("ann", {})],
    "patch_user": [("ann", {})],
    "change_users": [([USER],)],
    "put_users": [([USER],)],
    "patch_users": [([USER],)],
    "merge": [("ann", "anon-7")],
    "erase": [("ann",)],
    "retract": [("e1",)],
    "retract_newest": [("ann", "view", "lamp")],
    "served": [("r1",)],
    "explanation": [("r1",)],
    "placements": [()],
    "placement": [("home",)],
    "set_placement": [("home", {}, {"author": "ann"})],
    "remove_placement": [("home", {"author": "ann"})],
    "preview_placement": [("home", {})],
    "ready": [()],
    "items": [()],
    "users": [()],
    "events": [("ann",)],
    "requests": [()],
    "dead_letters": [()],
    "dead_letter": [(1,)],
    "retry_dead_letters": [([1],)],
    "remove_dead_letters": [([1],)],
}
"""Arguments of each method; a last dictionary with an author has its fields."""
OF_OPERATORS = {
    "/v1/audit": "midstream audit",
    "/v1/keys": "midstream keys",
    "/v1/erasures": "midstream users",
    "/v1/experiments": "midstream experiments",
    "/v1/holdout": "midstream experiments",
    "/v1/rebuild": "midstream rebuild",
    "/v1/inputs": "midstream inputs",
    "/v1/outputs": "midstream outputs",
    "/v1/sinks": "midstream sinks",
    "/v1/models": "midstream models",
    "/v1/trainings": "midstream training",
    "/v1/online-metrics": "the console",
    "/v1/snapshots": "nodes",
    "/health/live": "supervisors",
    "/metrics": "Prometheus",
}
"""Routes by their beginning that operators and machines call, not programs of a shop: and what calls them."""
SAME_ANSWER = {
    ("get", "/v1/recommendations"): ("post", "/v1/recommendations"),
    ("get", "/v1/features"): ("post", "/v1/features/read"),
    ("get", "/v1/features/{name}"): ("post", "/v1/features/read"),
}
"""Routes whose answer a method has by another route: the question in a query string, and what features there are."""


class Noted(Exception):
    """The first request of an operation."""

    def __init__(self, request):
        super().__init__()
        self.request = request


class NotingClient(Operations, BlockingDriver):
    """A client that raises what it would send."""

    def __init__(self):
        self.session = ScriptedEdge().session(ClientOptions())

    def drive(self, exchange):
        step = exchange.send(None)
        assert isinstance(step, Attempt)
        raise Noted(step.request)


def methods():
    """The names of all operations."""
    return {
        name
        for kind in Operations.__mro__
        for name, each in vars(kind).items()
        if isinstance(each, operation | listing)
    }


def routes_of(name):
    """Return the routes that a method calls first."""
    found = set()
    calls: Any = CALLS[name]
    for call in calls:
        fields = call[-1] if call and isinstance(call[-1], dict) and "author" in call[-1] else {}
        with pytest.raises(Noted) as noted:
            list(getattr(NotingClient(), name)(*call[: len(call) - bool(fields)], **fields))
        request = noted.value.request
        path = urlsplit(request.target).path
        found.add((request.method.lower(), template_of(path) or path))
    return found


def documented():
    """The routes of the server's document."""
    return {(method, path) for path, methods in described()["paths"].items() for method in methods}


def of_operators(path):
    return any(path == each or path.startswith(f"{each}/") for each in OF_OPERATORS)


def test_every_public_route_has_a_method():
    """A new route gets a method, or a line that says who calls it instead."""
    assert set(CALLS) == methods()
    called = {route for name in CALLS for route in routes_of(name)}
    documents = documented()
    assert called <= documents
    public = {route for route in documents if not of_operators(route[1]) and route not in SAME_ANSWER}
    assert public - called == set()
    assert set(SAME_ANSWER.values()) <= called
    assert set(SAME_ANSWER) <= documents
    stale = {each for each in OF_OPERATORS if not any(path.startswith(each) for _, path in documents)}
    assert stale == set()


def test_the_page_of_clients_names_every_method_with_its_route():
    """A method without a row is one that nobody finds."""
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    table = page.partition("| method | route |")[2].partition("\n\n")[0]
    for name in CALLS:
        rows = [row for row in table.splitlines() if re.search(rf"\b{name}\b", row.split("|")[1] if "|" in row else "")]
        assert rows, name
        for _, path in routes_of(name):
            assert any(path in row for row in rows), (name, path)


def test_the_client_for_typescript_has_the_same_methods():
    """By the same names in its own spelling; tables of data frames are Python's alone."""
    text = (ROOT / "clients" / "typescript" / "src" / "client.ts").read_text("utf-8")
    named = set(re.findall(r"^  (?:async )?\*?(\w+)\(", text, flags=re.MULTILINE))
    spelled = {re.sub(r"_(\w)", lambda match: match[1].upper(), name) for name in methods() - {"record_frame"}}
    assert spelled - named == set()
