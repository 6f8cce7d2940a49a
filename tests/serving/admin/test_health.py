import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from midstream.core.answers.explanations import Explained, JobView
from midstream.core.answers.placements import PlacementDetail, PlacementList
from midstream.core.answers.problems import Problem
from midstream.core.answers.slates import PreviewSlates
from midstream.core.errors import DiskFull
from midstream.serving.http.admission import FREE
from midstream.serving.slates.bodies import NOT_PREVIEWED
from tests.support.fakes.engine import FakeEngine

EVENT = {"type": "view", "user_id": "ann", "item_id": "mug", "event_id": "1"}
HEAD = [(b"host", b"test"), (b"content-type", b"application/json"), (b"content-length", b"9")]


def requests_of(client):
    """Return how many requests were counted, by route and status."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [each for family in families for each in family.samples]
    return {
        (each.labels["route"], each.labels["status"]): each.value
        for each in samples
        if each.name == "midstream_requests_total"
    }


def test_served_request_can_be_looked_up(client):
    """What was answered is found under its request id; another id is 404."""
    slate = client.post("/v1/recommendations", {"events": [EVENT]}).json()
    found = client.get(f"/v1/requests/{slate['request_id']}").json()
    assert [each["id"] for each in found["items"]] == ["mug"]
    assert client.get("/v1/requests/none").status_code == 404


def test_health_says_what_works(make_client):
    """Live while the process runs; ready while requests can be answered, though a full disk takes no events."""
    client = make_client(FakeEngine(failure=DiskFull("no room")))
    assert client.get("/health/live").json() == {"status": "live"}
    health = client.get("/health/ready")
    assert (health.status_code, health.json()["accepts_events"], health.json()["reason"]) == (200, False, "no room")


def test_every_answer_is_measured_under_its_route(client):
    """Hot routes, FastAPI's routes, refusals and unknown paths: by template, so that ids make no time series."""
    client.post("/v1/events", EVENT)
    client.post("/v1/recommendations", {"n": 0})
    for name in "abc":
        client.get(f"/v1/items/{name}")
        client.get(f"/nowhere/{name}")
    client.ask("DELETE", "/v1/events")
    assert requests_of(client) == {
        ("/v1/events", "200"): 1,
        ("/v1/events", "405"): 1,
        ("/v1/recommendations", "400"): 1,
        ("/v1/items/{item_id}", "404"): 3,
        ("unknown", "404"): 3,
    }


def test_failure_of_a_cold_route_is_counted_under_its_template(make_client, monkeypatch):
    """A bug behind an id is a 500 of the route, not a time series of the id."""

    def broken(_self, _item_id):
        message = "a bug"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(FakeEngine, "item", broken)
    client = make_client(FakeEngine())
    with pytest.raises(ZeroDivisionError):
        client.get("/v1/items/secret")
    assert requests_of(client) == {("/v1/items/{item_id}", "500"): 1}


def test_failure_that_nobody_expects_is_loud_and_counted(make_client, monkeypatch):
    """A bug ends the request with its exception, and is counted as 500."""

    async def broken(_self, _ask, _stamp):
        message = "a bug"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(FakeEngine, "recommend", broken)
    client = make_client(FakeEngine())
    with pytest.raises(ZeroDivisionError):
        client.post("/v1/recommendations", {})
    assert requests_of(client)["/v1/recommendations", "500"] == 1


def test_the_root_leads_to_the_console(client):
    """For who reads it; nothing can be sent there."""
    for method in ("GET", "HEAD"):
        answer = client.ask(method, "/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    assert client.ask("POST", "/").status_code == 405


@pytest.mark.parametrize("path", ["/v1", "/v1/events/", "/v1/items/", "/V1/EVENTS", "//v1/events", "/v1/items/a/b"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_unknown_path_is_a_problem_document(client, path, method):
    """404 with a problem document, whatever the method."""
    answer = client.ask(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert method == "HEAD" or answer.json()["type"] == "urn:midstream:route-unknown"


def test_unknown_path_names_the_nearest(client):
    """A typing error in a path is answered with the path that was meant."""
    assert '"/v1/events"' in client.get("/v1/event").json()["came"]


@pytest.mark.parametrize(
    "path,allowed",
    [
        ("/v1/events", {"POST", "OPTIONS"}),
        ("/v1/recommendations", {"GET", "POST", "OPTIONS"}),
        ("/v1/items/a", {"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"}),
        ("/metrics", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_methods_of_a_path_are_said(client, path, allowed):
    """OPTIONS and 405 name all methods of a path, not only those of one of its routes."""
    answer = client.ask("OPTIONS", path)
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (200, allowed)
    refused = client.ask("TRACE", path)
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == allowed == set(refused.json()["allowed"])


def test_head_is_get_without_the_body(client):
    """HEAD has the headers of GET and no body."""
    head, get = client.ask("HEAD", "/v1/placements"), client.get("/v1/placements")
    assert (head.status_code, head.content, head.headers) == (200, b"", get.headers)


def test_openapi_document_has_every_route(client):
    """The document holds the hot routes and FastAPI's, and every reference in it leads somewhere."""
    document = client.get("/openapi.json").json()
    operations = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert {("/v1/events", "post"), ("/v1/recommendations", "get"), ("/v1/recommendations", "post")} <= operations
    assert {
        (f"/v1/{noun}s/{{{noun}_id}}", method) for noun in ("item", "user") for method in ("get", "put", "patch")
    } <= (operations)
    references = set(_references(document))
    assert references == {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} & references


def test_openapi_document_says_where_a_quota_counts(client):
    """Every operation but health and metrics may be a 429, with the seconds until the next request."""
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for operation in methods.values():
            assert ("429" in operation["responses"]) == (path not in FREE)
            if path not in FREE:
                assert operation["responses"]["429"]["headers"].keys() == {"Retry-After"}
                assert "application/problem+json" in operation["responses"]["429"]["content"]


@pytest.mark.parametrize(
    "path, method, statuses",
    [
        ("/v1/placements", "get", {"200": PlacementList, "400": Problem}),
        ("/v1/placements/{name}", "get", {"200": PlacementDetail, "404": Problem}),
        ("/v1/placements/{name}", "put", {"200": PlacementDetail, "409": Problem, "503": Problem}),
        ("/v1/placements/{name}", "delete", {"200": PlacementDetail, "409": Problem}),
        ("/v1/placements/{name}/preview", "post", {"200": PreviewSlates, "400": Problem}),
        (
            "/v1/requests/{request_id}/explanation",
            "get",
            {"200": Explained, "202": JobView, "404": Problem, "500": Problem, "503": Problem},
        ),
    ],
)
def test_openapi_document_types_answers(client, path, method, statuses):
    """With each field of what is really written."""
    document = client.get("/openapi.json").json()
    operation = document["paths"][path][method]["responses"]
    for status, kind in statuses.items():
        (content,) = operation[status]["content"].values()
        assert content["schema"] == {"$ref": f"#/components/schemas/{kind.__name__}"}
        assert document["components"]["schemas"][kind.__name__]["properties"].keys() == {*kind.__struct_fields__}


def test_openapi_document_has_no_field_of_a_question_that_a_preview_refuses(client):
    """All others are those of a recommendation."""
    document = client.get("/openapi.json").json()
    preview = document["paths"]["/v1/placements/{name}/preview"]["post"]["requestBody"]
    question = preview["content"]["application/json"]["schema"]["properties"]["question"]["properties"]
    every = document["components"]["schemas"]["RecommendationBody"]["properties"]
    assert every.keys() - question.keys() == {*NOT_PREVIEWED}
    assert question.keys() < every.keys()


def test_openapi_document_says_that_metrics_are_text(client):
    """Of the kinds of content that the answer really has, and of no other."""
    answer = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]["responses"]["200"]
    assert list(answer["content"]) == ["text/plain"]


def _references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for each in node.values():
            yield from _references(each)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)


def test_docs_page_needs_no_other_server(client):
    """The page names every route and type of the document, links only to itself, and runs no script."""
    page = client.get("/docs").text
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b> <code>{path}</code>" in page
    for name in document["components"]["schemas"]:
        assert f"id='{name}'" in page
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_client_that_went_away_is_counted(client):
    """A request whose body ends with the connection gets no answer, and is counted as 499."""
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "headers": HEAD}
    asyncio.run(client.app(scope, receive, send))
    assert sent == []
    assert requests_of(client)["/v1/events", "499"] == 1


def test_client_that_goes_away_from_a_cold_route_is_counted(client):
    """The same where FastAPI answers."""
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": "/v1/items/a", "query_string": b"", "headers": HEAD}
    asyncio.run(client.app(scope, receive, send))
    assert [each.get("status") for each in sent if each["type"] == "http.response.start"] == [499]
    assert requests_of(client)["/v1/items/{item_id}", "499"] == 1


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_the_document_is_made_once(client, monkeypatch, path):
    """Anybody may ask for it as often as one likes: it is the same bytes, not made anew from all routes each time."""
    first = client.get(path)
    assert first.status_code == 200
    monkeypatch.setattr(client.app._app._cold, "openapi", None)
    assert client.get(path).content == first.content
