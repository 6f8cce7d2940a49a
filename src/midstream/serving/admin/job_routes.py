"""Routes that a child process answers: explanations of requests, and features as of past moments.

A request waits for the result up to a maximum (200); after it the answer says how far it is and where to ask again
(202).
"""

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.explanations import JobView
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.requests.schema import PAGE
from midstream.serving.admin.features import FEATURES_PATH
from midstream.serving.admin.route_io import available, path_value, time_value
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.parsing import query_fields, single
from midstream.serving.http.responses import NO_STORE, Reply, to_response
from midstream.serving.openapi.document import Document, parameter, read_operation, ref, responses

if TYPE_CHECKING:
    from midstream.engine.explain.child_jobs import ChildJob
    from midstream.engine.explain.explainer import Explainer
    from midstream.engine.explain.past_features import PastFeatures

WAIT_MS = 2_000
"""Default of ``wait``: the start of a process and a small shop."""
WAIT_MS_MAX = 30_000
"""A proxy ends a request after a minute; a client that waits longer polls the address in ``Location``."""
_WAIT = parameter("wait", {"type": "string"}, "How long to wait for it, such as 10s; 2s when it is left out.")
_ACCEPTED: Document = {
    "description": "It is being made; Location says where to ask again.",
    "headers": {"Location": {"schema": {"type": "string"}}},
    "content": {"application/json": {"schema": ref("JobView")}},
}
EXPLANATION_PATH = "/v1/requests/{request_id}/explanation"
_EXPLANATION: Document = {
    "responses": {
        **responses("The explanation.", ref("Explained"), 400, 404, 413, 500, 503),
        "202": _ACCEPTED,
    },
    "parameters": [
        *read_operation("request", "request_id")["parameters"],
        parameter("item", {"type": "array", "items": {"type": "string"}, "maxItems": 20}, "Items to explain as well."),
        _WAIT,
    ],
}
AS_OF_PATH = f"{FEATURES_PATH}/as-of"
_TEXT: Document = {"type": "string"}
_TEXTS: Document = {"type": "array", "items": _TEXT}
_AS_OF: Document = {
    "responses": {
        **responses("The values.", ref("PastFeaturesAnswer"), 400, 404, 413, 500, 503),
        "202": _ACCEPTED,
    },
    "parameters": [
        parameter("time", _TEXT, "The moment: milliseconds since 1970 or ISO 8601 with a zone.") | {"required": True},
        parameter("item", _TEXTS | {"maxItems": 20}, "Items, 1 to 20.") | {"required": True},
        parameter("user_id", _TEXT),
        parameter("session_id", _TEXT),
        parameter("feature", _TEXTS, "Names of features; all that are declared, when none is named."),
        _WAIT,
    ],
}


def add_explanation_routes(app: FastAPI, explainer: "Explainer | None") -> None:
    """Add the route of explanations; without an explainer it answers that there is none."""

    @app.get(
        EXPLANATION_PATH, name="get explanation", openapi_extra=read_operation("request", "request_id") | _EXPLANATION
    )
    async def get_explanation(request: Request) -> Response:
        """Why these items, why not that one: the request is run again on the state of then (200), or will be (202)."""
        from midstream.engine.explain.explainer import ITEMS_MAX

        fields = query_fields(request.scope, ("item", "wait"))
        known = available(explainer, "this server has no log in a folder, so no request can be run again")
        longest_ms = _wait_ms(single(fields, "wait"))
        job = known.begin(path_value(request, "request_id"), _items_of(fields.get("item", []), ITEMS_MAX))
        await known.wait(job, longest_ms / 1_000)
        return _job_response(job, request)


def add_past_routes(app: FastAPI, past: "PastFeatures | None", ingest: Ingest) -> None:
    """Add the route; without a log in a folder it answers that there is none. ``ingest`` has the terms of times."""

    # Before the routes of one feature, whose path this one has too.
    @app.get(AS_OF_PATH, name="get features as of", openapi_extra=_AS_OF)
    async def get_as_of(request: Request) -> Response:
        """The values that features had at a past moment, from the log (200), or how far they are (202)."""
        from midstream.engine.explain.past_features import ITEMS_MAX, PastQuestion

        fields = query_fields(request.scope, ("time", "item", "user_id", "session_id", "feature", "wait"))
        known = available(past, "this server has no log in a folder, so nothing can be read as of a past moment")
        time_ms, items = time_value(fields, "time", ingest.accept), _items_of(fields.get("item", []), ITEMS_MAX)
        if time_ms is None or not items:
            name = "time" if time_ms is None else "item"
            raise RequestInvalid((Fault(name, "None came.", "A moment, and 1 to 20 items.", PAGE),))
        longest_ms = _wait_ms(single(fields, "wait"))
        names = tuple(dict.fromkeys(fields.get("feature", []))) or None
        user_id, session_id = single(fields, "user_id") or None, single(fields, "session_id") or None
        job = known.begin(PastQuestion(time_ms, items, user_id, session_id, names))
        await known.wait(job, longest_ms / 1_000)
        return _job_response(job, request)


def _job_response(job: "ChildJob", request: Request) -> Response:
    """Return what is known of a job.

    Raises:
        MidstreamError: It failed.
    """
    if job.error is not None:
        raise job.error
    if job.result:
        return to_response(Reply(HTTPStatus.OK, job.result, headers=NO_STORE))
    view = msgspec.json.encode(JobView(job.state, job.stage, round(job.progress, 3)))
    location = (b"location", _location(request).encode("latin-1"))
    return to_response(Reply(HTTPStatus.ACCEPTED, view, headers=(*NO_STORE, location)))


def _location(request: Request) -> str:
    """Return the path and query that were sent: there the result is to be found."""
    raw: bytes = request.scope.get("raw_path") or str(request.scope["path"]).encode()
    query: bytes = request.scope.get("query_string", b"")
    return (raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _items_of(texts: list[str], items_max: int) -> tuple[str, ...]:
    """Return the items of a query, each once.

    Raises:
        RequestInvalid: There are too many, or one has no usable length.
    """
    items = tuple(dict.fromkeys(texts))
    lengths = [len(each) for each in items if not 0 < len(each) <= 128]  # noqa: PLR2004  as ids everywhere
    if len(items) > items_max or lengths:
        came = f"One of {lengths[0]} characters came." if lengths else f"{len(items)} items came."
        right = f"At most {items_max} ids of 1 to 128 characters."
        raise RequestInvalid((Fault("/item", came, right, PAGE),))
    return items


def _wait_ms(text: str | None) -> int:
    """Return how long to wait.

    Raises:
        RequestInvalid: It is no duration, or too long.
    """
    if text is None:
        return WAIT_MS
    try:
        found = parse_duration_ms(text)
    except ValueError:
        found = -1
    if not 0 <= found <= WAIT_MS_MAX:
        right = "A whole number and ms or s, such as 10s, to 30s."
        raise RequestInvalid((Fault("/wait", f'"{text}" came.', right, PAGE),))
    return found
