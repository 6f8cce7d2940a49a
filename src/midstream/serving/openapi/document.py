"""OpenAPI document: FastAPI's own, with the hot routes added from their msgspec types."""

from functools import cache
from typing import Any, TypeAlias

import msgspec
import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from midstream.core.answers.details import ItemDetail, LoggedEvent, UserDetail
from midstream.core.answers.events import BulkAnswer, EventsAnswer, RetractionAnswer
from midstream.core.answers.explanations import Explained, JobView
from midstream.core.answers.features import FeatureReadAnswer, PastFeaturesAnswer
from midstream.core.answers.letters import DeadLetter, LetterPage, RemovedLetters, RetriedLetters
from midstream.core.answers.lists import (
    AuditPage,
    EventPage,
    ItemPage,
    RequestPage,
    UserPage,
    UserRanking,
    ValueRanking,
)
from midstream.core.answers.placements import PlacementDetail, PlacementList
from midstream.core.answers.problems import Problem
from midstream.core.answers.slates import Batch, Page, PreviewSlates, Slate
from midstream.core.errors import DOCUMENTATION_PATH, Fault
from midstream.core.nearest import nearest
from midstream.engine.experiments.live_report import LiveReport
from midstream.engine.experiments.views import ExperimentList, ExperimentView, HoldoutView
from midstream.engine.requests.schema import PAGE, BatchBody, Deadline
from midstream.events.wire import WireEvent
from midstream.ranking.record.served import ServedRecord
from midstream.serving.access.key_views import KeyList, NewKey
from midstream.serving.events.bulk import ARROW
from midstream.serving.http.admission import FREE
from midstream.serving.http.problems import RouteUnknown
from midstream.serving.http.responses import MOUNTED_AT
from midstream.serving.openapi.docs_page import DOCS_HEADERS, DOCS_PATH, docs_page
from midstream.serving.openapi.reference_pages import reference_page, reference_pages
from midstream.serving.slates.bodies import NOT_PREVIEWED
from midstream.serving.slates.hot_routes import (
    BATCH_PATH,
    BULK_PATH,
    EVENTS_PATH,
    PAGES_PATH,
    RANK_PATH,
    RECOMMENDATIONS_PATH,
)
from midstream.serving.slates.pages import PageBody
from midstream.serving.slates.recommendations import (
    QUERY_FIELDS,
    SEARCH_FIELDS,
    SIMILAR_FIELDS,
    RankBody,
    RecommendationBody,
)

Document: TypeAlias = dict[str, Any]
_REF = "#/components/schemas/{name}"


def ref(name: str) -> Document:
    """Return a reference to one of the document's types."""
    return {"$ref": _REF.format(name=name)}


_ONE_EVENT: Document = ref("WireEvent")
_MANY: Document = {"type": "array", "items": _ONE_EVENT, "minItems": 1, "maxItems": 500}
_EVENTS: Document = {
    "oneOf": [
        _ONE_EVENT,
        _MANY,
        {"type": "object", "properties": {"events": _MANY}, "required": ["events"], "additionalProperties": False},
    ]
}
_PROBLEM: Document = {"application/problem+json": {"schema": ref("Problem")}}
_LISTS = frozenset({"items", "exclude", "fields"})
_ATTRIBUTES: Document = {"type": "object", "description": "Attribute to value."}
_CHANGE: Document = {
    "time": "When it changed: milliseconds since 1970 or ISO 8601; now, when it is not sent.",
    "event_id": "Sent again with the same id, the change counts once.",
}


def add_hot_routes(app: FastAPI) -> None:
    """Make the document of ``app`` hold the hot routes and the types of all answers."""
    cold = app.openapi

    def document() -> Document:
        if app.openapi_schema is None:
            found = cold()
            paths = found.setdefault("paths", {})
            paths[EVENTS_PATH] = {"post": _post_events()}
            paths[BULK_PATH] = {"post": _bulk("Record a stream of events", "post_events_bulk", "an event")}
            for plural in ("items", "users"):
                paths.setdefault(f"/v1/{plural}", {}).update(_bulk_changes(plural))
            paths[RECOMMENDATIONS_PATH] = {"post": _post_recommendations(), "get": _get_recommendations()}
            paths[BATCH_PATH] = {"post": _posted("Recommend to many users", "post_batch", "Batch", _BATCH)}
            paths[RANK_PATH] = {"post": _posted("Rank items of your own", "post_rank", "Slate", _RANK, "RankBody")}
            paths[PAGES_PATH] = {"post": _posted("Recommend for a whole page", "post_pages", "Page", _PAGE)}
            found.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
            _add_quota(paths)
            _add_origin(paths)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way FastAPI documents


def add_docs_page(app: FastAPI) -> None:
    """Show the document at ``/openapi.json`` and as a page at ``/docs``, and the reference pages below that.

    Document and page are made once, with the first request: made anew each takes some 5 ms of the event loop, as long
    as five recommendations, and any client may request it. A reference page is read once and sent as plain text, which
    every browser shows; rendering one would take 10 to 50 ms.
    """
    addresses = [DOCUMENTATION_PATH + name for name in reference_pages() if "/" not in name]
    document = cache(lambda: msgspec.json.encode(app.openapi()))
    page = cache(lambda: docs_page(app.openapi(), addresses))

    @app.get("/openapi.json", include_in_schema=False)
    async def get_document(request: Request) -> Response:
        """Every route, for programs."""
        mounted_at: str | None = request.scope.get(MOUNTED_AT)
        if mounted_at is None:
            return Response(document(), media_type="application/json")
        below = {**app.openapi(), "servers": [{"url": mounted_at}]}
        return Response(msgspec.json.encode(below), media_type="application/json")

    @app.get(DOCS_PATH, include_in_schema=False)
    async def get_docs() -> HTMLResponse:
        """Every route, its parameters and its answers."""
        return HTMLResponse(page(), headers=DOCS_HEADERS)

    @app.get(DOCUMENTATION_PATH + "{name:path}", include_in_schema=False)
    async def get_reference_page(name: str) -> Response:
        """A page of the documentation, as Markdown."""
        text = reference_page(name)
        if text is None:
            came = f'"{name[:60]}" is no page.{nearest(name, reference_pages())}'
            raise RouteUnknown((Fault("path", came, f"A page that {DOCS_PATH} lists.", PAGE),))
        return Response(text, media_type="text/plain", headers=DOCS_HEADERS)


def read_operation(what: str, id_field: str, answer: str = "") -> Document:
    """Describe a route that reads one thing by its id; ``answer`` names its type."""
    schema: Document = ref(answer) if answer else {"type": "object"}
    return {
        "parameters": [_in_path(id_field)],
        "responses": responses(f"What is known of the {what}.", schema, 400, 404, 413),
    }


def change_operation(what: str, id_field: str, *, body: bool) -> Document:
    """Describe a route that changes one thing by its id."""
    found: Document = {
        "parameters": [
            _in_path(id_field),
            *(parameter(name, {"type": "string"}, text) for name, text in _CHANGE.items()),
        ],
        "responses": responses(f"The change of the {what} is durable and applied.", _answer(), *_EVENT_FAILURES),
    }
    return found | ({"requestBody": json_body(_ATTRIBUTES)} if body else {})


def merge_operation(id_field: str) -> Document:
    """Describe the route that makes two users one."""
    other: Document = {"type": "object", "properties": {"user_id": {"type": "string"}}, "required": ["user_id"]}
    return {
        "parameters": [
            _in_path(id_field),
            *(parameter(name, {"type": "string"}, text) for name, text in _CHANGE.items()),
        ],
        "requestBody": json_body(other | {"additionalProperties": False}),
        "responses": responses("The merge is durable and applied.", _answer(), *_EVENT_FAILURES),
    }


_OF_RETRACTIONS = {
    "user_id": "User whose act it has to be; needed with a key that has not the scope read.",
    "type": "Type of the act: an interaction, or impression.",
    "item_id": "Item of the act.",
    "time": "Event time of the act: milliseconds since 1970 or ISO 8601 with a zone. Without it the newest act.",
}


def retract_operation(id_field: str, fields: tuple[str, ...]) -> Document:
    """Describe a route that takes an act back."""
    told = [parameter(name, {"type": "string"}, _OF_RETRACTIONS[name]) for name in fields]
    needed = {"type", "item_id"}
    return {
        "parameters": [
            _in_path(id_field),
            *(each | {"required": True} if each["name"] in needed else each for each in told),
        ],
        "responses": responses(
            "The act is taken back, or was before.", ref("RetractionAnswer"), 400, 404, 413, 503, 507
        ),
    }


def erase_operation(id_field: str) -> Document:
    """Describe the route that forgets a user."""
    answered = responses("Forgotten; when every file is to follow.", {"type": "object"}, 400, 413, 503, 507)
    answered["202"] = answered.pop("200")
    return {"parameters": [_in_path(id_field)], "responses": answered}


def bulk_operation(what: str, id_field: str) -> Document:
    """Describe a route that changes many things."""
    change = {
        "type": "object",
        "properties": {
            id_field: {"type": "string"},
            "attributes": _ATTRIBUTES,
            "operation": {"enum": ["put", "patch", "delete", *(["merge"] if what == "user" else [])], "default": "put"},
            "time": {"type": ["integer", "string"]},
            "event_id": {"type": "string"},
        },
        "required": [id_field],
        "additionalProperties": False,
    }
    return {
        "parameters": _how(),
        "requestBody": json_body({"type": "array", "items": change, "maxItems": 500}, lines=True),
        "responses": responses(f"What became of the change of each {what}.", _answer(), *_EVENT_FAILURES),
    }


def setting_operation() -> Document:
    """Describe the route that sets values of one feature."""
    value: Document = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "Of the item or the user, as the feature has it."},
            "value": {"description": "A number, truth, text or list, as the feature has it; null takes it away."},
            "time": {"type": ["integer", "string"], "description": _CHANGE["time"]},
            "event_id": {"type": "string", "description": _CHANGE["event_id"]},
        },
        "required": ["id", "value"],
        "additionalProperties": False,
    }
    values: Document = {"type": "array", "items": value, "minItems": 1, "maxItems": 500}
    body: Document = {"type": "object", "properties": {"values": values}, "required": ["values"]}
    return {
        "parameters": [_in_path("name"), *_how()],
        "requestBody": json_body(body | {"additionalProperties": False}),
        "responses": responses("What became of each value.", _answer(), 404, *_EVENT_FAILURES),
    }


def plain_operation(text: str, *statuses: int, media: str = "application/json", answer: str = "") -> Document:
    """Describe a route without parameters; ``answer`` names its type."""
    schema: Document = {"type": "string"} if media.startswith("text/") else {"type": "object"}
    schema = ref(answer) if answer else schema
    found = responses(text, schema, 400, 413, media=media)
    return {"responses": found | {str(status): {"description": "Not so; why."} for status in statuses}}


def file_operation(text: str, *names: str) -> Document:
    """Describe a route that sends a file, which the values of its path name."""
    stream: Document = {"type": "string", "format": "binary"}
    found = responses(text, stream, 400, 404, 413, 503, media="application/octet-stream")
    return {"parameters": [_in_path(name) for name in names], "responses": found}


_EVENT_FAILURES = (400, 403, 408, 413, 415, 422, 503, 507)


def _post_events() -> Document:
    return {
        "summary": "Record events",
        "operationId": "post_events",
        "description": "Durable and applied when it answers. One event, a list, {events: [...]}, or NDJSON.",
        "parameters": _how(),
        "requestBody": json_body(_EVENTS, lines=True),
        "responses": responses("What became of the events.", _answer(), *_EVENT_FAILURES),
    }


def _bulk_changes(plural: str) -> Document:
    """Describe the routes that change many items or users in one stream."""
    what = f"a change of one of the {plural}, without type"
    return {
        method: _bulk(f"{text} many {plural} in a stream", f"{method}_{plural}", what)
        for method, text in (("put", "Set"), ("patch", "Change"))
    }


def _bulk(summary: str, name: str, row: str) -> Document:
    stream: Document = {"schema": {"type": "string", "format": "binary"}}
    return {
        "summary": summary,
        "operationId": name,
        "description": f"A body of any length, recorded piece by piece while it arrives. Each line or row is {row}.",
        "parameters": _how()[:1],
        "requestBody": {"required": True, "content": {ARROW: stream, "application/x-ndjson": stream}},
        "responses": responses("What became of the events.", ref("BulkAnswer"), *_EVENT_FAILURES),
    }


def _post_recommendations() -> Document:
    return {
        "summary": "Recommend",
        "operationId": "post_recommendations",
        "description": "Events that come along are recorded first, so the slate has seen them.",
        "requestBody": json_body(ref("RecommendationBody")),
        "responses": responses("A slate.", ref("Slate"), 400, 403, 408, 413, 415, 503),
    }


def _get_recommendations() -> Document:
    return {
        "summary": "Recommend, with everything in the query string",
        "operationId": "get_recommendations",
        "parameters": _query_parameters(QUERY_FIELDS),
        "responses": responses("A slate.", ref("Slate"), 400, 413, 503),
    }


_BATCH = "The same question for each user; each has an answer or a problem of its own."
_RANK = "Up to 1,000 items in the order of a placement; what may not be served is named in removed."
_PAGE = "Several placements by falling priority: no item in two slates, all of one log position."


def _posted(summary: str, name: str, answer: str, text: str, body: str = "") -> Document:
    """Describe a route that answers questions of another shape."""
    return {
        "summary": summary,
        "operationId": name,
        "description": text,
        "requestBody": json_body(ref(body or f"{answer}Body")),
        "responses": responses(text, ref(answer), 400, 403, 404, 408, 413, 415, 503),
    }


def _query_parameters(names: tuple[str, ...]) -> list[Document]:
    """Describe fields of a question in a query string, and the context."""
    properties = _schemas()["RecommendationBody"]["properties"]
    parameters = [parameter(name, _without_null(properties[name])) for name in names]
    context = "Context of the request, a field each: context.budget=20."
    parameters.append(
        {"name": "context", "in": "query", "description": context, "style": "form", "explode": True}
        | {"schema": {"type": "object", "maxProperties": 0, "additionalProperties": False}}
    )
    return parameters


def similar_operation() -> Document:
    """Describe the route of similar items."""
    slate = ref("Slate")
    return {
        "parameters": [_in_path("item_id"), *_query_parameters(SIMILAR_FIELDS)],
        "responses": responses("A slate of the placement similar.", slate, 400, 404, 413, 503),
    }


def search_operation() -> Document:
    """Describe the route of searches."""
    text = parameter("q", {"type": "string", "minLength": 1}, "Words; the last one may be the beginning of a word.")
    rest = _query_parameters(tuple(name for name in SEARCH_FIELDS if name != "q"))
    answers = responses("A slate of the placement search.", ref("Slate"), 400, 404, 413, 503)
    return {"parameters": [text | {"required": True}, *rest], "responses": answers}


def feature_read_operation() -> Document:
    """Describe the route that reads features."""
    many: Document = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 128}, "maxItems": 1_000}
    properties = _schemas()["RecommendationBody"]["properties"]
    same = ("user_id", "session_id", "item_fields", "context", "min_log_position")
    body: Document = {
        "type": "object",
        "properties": {"items": many, "features": {**many, "maxItems": 64}} | {name: properties[name] for name in same},
        "required": ["items"],
        "additionalProperties": False,
    }
    failures = (400, 403, 408, 413, 415, 500, 503)
    read = responses("The values, null where nothing is known.", ref("FeatureReadAnswer"), *failures)
    return {"requestBody": json_body(body), "responses": read}


def preview_question() -> Document:
    """Describe the request of a preview: without the fields that a preview refuses."""
    properties = _schemas()["RecommendationBody"]["properties"]
    taken = {name: each for name, each in properties.items() if name not in NOT_PREVIEWED}
    return {"type": "object", "properties": taken, "additionalProperties": False}


def _without_null(schema: Document) -> Document:
    """Return the schema of a field that is left out where a body would hold null."""
    kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    return kinds[0] if kinds else {key: value for key, value in schema.items() if key != "default"}


_EXPERIMENTS = (ExperimentList, ExperimentView, HoldoutView, LiveReport)
_KEYS = (KeyList, NewKey)
_PLACEMENTS = (PlacementList, PlacementDetail, PreviewSlates)
_READ = (FeatureReadAnswer, PastFeaturesAnswer)
_JOBS = (Explained, JobView)
_LETTERS = (DeadLetter, LetterPage, RetriedLetters, RemovedLetters)
_DETAILS = (ItemDetail, UserDetail, LoggedEvent, ServedRecord)
_PAGES_OF_LISTS = (AuditPage, ItemPage, UserPage, EventPage, RequestPage, UserRanking, ValueRanking)


def _schemas() -> Document:
    """Return the schemas of all bodies and answers, for the caller to change."""
    found: Document = msgspec.json.decode(_encoded_schemas())
    return found


@cache
def _encoded_schemas() -> bytes:
    """Return them as JSON, made once: making them takes 50 times as long as reading them."""
    asked = (RecommendationBody, RankBody, PageBody)
    hot = (*asked, BatchBody, Slate, Page, Batch, EventsAnswer, BulkAnswer, Problem, WireEvent)
    cold = (*_PLACEMENTS, *_READ, *_DETAILS, *_JOBS, *_KEYS, *_LETTERS, *_EXPERIMENTS, *_PAGES_OF_LISTS)
    types = (*hot, *cold, RetractionAnswer)
    found: Document = msgspec.json.schema_components(types, schema_hook=_undescribed, ref_template=_REF)[1]
    for each in asked:
        found[each.__name__]["properties"]["events"] = _EVENTS
    found["EventPage"]["properties"]["events"]["items"] = ref("LoggedEvent")
    return msgspec.json.encode(found)


def _undescribed(kind: type) -> Document:
    """Return the schema of a type that msgspec does not describe; ``KeyError`` for one that is not known here."""
    known: dict[type, Document] = {
        object: {"description": "Any value."},
        np.ndarray: {"type": "array", "items": {}, "description": "Numbers, in as many dimensions as it has."},
        Deadline: {"type": "string", "minLength": 1, "maxLength": 64},
    }
    return known[kind]


def _how() -> list[Document]:
    return [
        parameter("dry_run", {"type": "boolean"}, "Decode and judge only."),
        parameter("results", {"enum": ["all"]}, "Name what became of every event."),
    ]


def _in_path(name: str) -> Document:
    schema = {"type": "string", "minLength": 1, "maxLength": 128}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def parameter(name: str, schema: Document, text: str = "") -> Document:
    """Describe a field of a query string."""
    return {"name": name, "in": "query", "schema": schema} | ({"description": text} if text else {})


def json_body(schema: Document, *, lines: bool = False) -> Document:
    """Describe a JSON body, that may come as NDJSON too."""
    content: Document = {"application/json": {"schema": schema}}
    if lines:
        content["application/x-ndjson"] = {"schema": {"type": "string"}}
    return {"required": True, "content": content}


def _answer() -> Document:
    return ref("EventsAnswer")


def responses(text: str, schema: Document, *failures: int, media: str = "application/json") -> Document:
    """Describe an answer, and the statuses of problem documents that may come instead."""
    return {
        "200": {"description": text, "content": {media: {"schema": schema}}},
        **{str(status): {"description": "A problem document.", "content": _PROBLEM} for status in failures},
    }


def _add_quota(paths: Document) -> None:
    """Add the refusal by quota to each route that a quota counts."""
    wait = {"description": "Seconds until there is a request again.", "schema": {"type": "integer"}}
    spent: Document = {
        "description": "This caller's quota is spent: a problem document.",
        "headers": {"Retry-After": wait},
        "content": _PROBLEM,
    }
    for path in paths.keys() - FREE:
        for operation in paths[path].values():
            operation["responses"]["429"] = spent


def _add_origin(paths: Document) -> None:
    """Add the refusals of cross-site requests to all routes."""
    refused: Document = {"description": "A problem document.", "content": _PROBLEM}
    for operations in paths.values():
        for method, operation in operations.items():
            for status in ("400", "403", "421", *(() if method == "get" else ("415",))):
                operation["responses"].setdefault(status, refused)
