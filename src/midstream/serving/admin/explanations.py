"""Routes of explanations: a child process makes one, and the request waits for it up to a maximum."""

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.explanations import JobView
from midstream.core.durations import parse_duration_ms
from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.requests.schema import PAGE
from midstream.serving.admin.route_io import available, path_value
from midstream.serving.http.parsing import query_fields, single
from midstream.serving.http.responses import NO_STORE, Reply, to_response
from midstream.serving.openapi.document import Document, parameter, read_operation, ref, responses

if TYPE_CHECKING:
    from midstream.engine.explain.explainer import Explainer, Job

WAIT_MS = 2_000
"""Default of ``wait``: the start of a process and a small shop."""
WAIT_MS_MAX = 30_000
"""A proxy ends a request after a minute; a client that waits longer polls the address in ``Location``."""
_PATH = "/v1/requests/{request_id}/explanation"
_QUERY: Document = {
    "responses": {
        **responses("The explanation.", ref("Explained"), 400, 404, 413, 500, 503),
        "202": {
            "description": "It is being made; Location says where to ask again.",
            "headers": {"Location": {"schema": {"type": "string"}}},
            "content": {"application/json": {"schema": ref("JobView")}},
        },
    },
    "parameters": [
        *read_operation("request", "request_id")["parameters"],
        parameter("item", {"type": "array", "items": {"type": "string"}, "maxItems": 20}, "Items to explain as well."),
        parameter("wait", {"type": "string"}, "How long to wait for it, such as 10s; 2s when it is left out."),
    ],
}


def add_explanation_routes(app: FastAPI, explainer: "Explainer | None") -> None:
    """Add the route of explanations; without an explainer it answers that there is none."""

    @app.get(_PATH, name="get explanation", openapi_extra=read_operation("request", "request_id") | _QUERY)
    async def get_explanation(request: Request) -> Response:
        """Why these items, why not that one: the request is run again on the state of then (200), or will be (202)."""
        fields = query_fields(request.scope, ("item", "wait"))
        known = available(explainer, "this server has no log in a folder, so no request can be run again")
        wait_ms = _wait_ms(single(fields, "wait"))
        job = known.begin(path_value(request, "request_id"), _items(fields))
        await known.wait(job, wait_ms / 1_000)
        return to_response(_reply(job, _location(request)))


def _reply(job: "Job", location: str) -> Reply:
    if job.error is not None:
        raise job.error
    if job.result:
        return Reply(HTTPStatus.OK, job.result, headers=NO_STORE)
    view = msgspec.json.encode(JobView(job.state, job.stage, round(job.progress, 3)))
    return Reply(HTTPStatus.ACCEPTED, view, headers=(*NO_STORE, (b"location", location.encode("latin-1"))))


def _location(request: Request) -> str:
    """Return the path and query that were sent: there the explanation is to be found."""
    raw: bytes = request.scope.get("raw_path") or str(request.scope["path"]).encode()
    query: bytes = request.scope.get("query_string", b"")
    return (raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _items(fields: dict[str, list[str]]) -> tuple[str, ...]:
    from midstream.engine.explain.explainer import ITEMS_MAX

    items = tuple(dict.fromkeys(fields.get("item", [])))
    lengths = [len(each) for each in items if not 0 < len(each) <= 128]  # noqa: PLR2004  as ids everywhere
    if len(items) > ITEMS_MAX or lengths:
        came = f"One of {lengths[0]} characters came." if lengths else f"{len(items)} items came."
        right = f"At most {ITEMS_MAX} ids of 1 to 128 characters."
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
