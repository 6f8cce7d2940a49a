"""Routes of health, metrics and outcomes of the engine."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from midstream.core.errors import NotFound
from midstream.ranking.record.record_json import listed
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.http.parsing import query_fields
from midstream.serving.http.responses import Handler, to_response
from midstream.serving.openapi.document import plain_operation, read_operation
from midstream.serving.operation import LIVE_PATH, METRICS_PATH, READY_PATH

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


def add_operation_routes(app: FastAPI, engine: "Engine", plain: Mapping[str, Mapping[str, Handler]]) -> None:
    """Add the routes of operation, three of which are answered in plain ASGI: here they are described, for HEAD too."""

    @app.get(
        "/v1/requests/{request_id}",  # noqa: FAST003  read from the path as it was sent
        name="get request",
        openapi_extra=read_operation("request", "request_id", "ServedRecord"),
    )
    async def get_request(request: Request) -> Response:
        """What was served under a request id, and what it was made of."""
        query_fields(request.scope, ())
        request_id = path_value(request, "request_id")
        found = engine.served(request_id)
        if found is None:
            raise NotFound(f'No request "{request_id[:64]}" is known, or it is older than what is kept.')
        return json_response(found, enc_hook=listed)

    async def plainly(path: str, request: Request) -> Response:
        return to_response(await plain[path]["GET"](request.scope, request.receive))

    @app.get(LIVE_PATH, name="get live", openapi_extra=plain_operation("The process runs."))
    async def get_live(request: Request) -> Response:
        """Whether the process runs, and of which log; nothing else is asked."""
        return await plainly(LIVE_PATH, request)

    @app.get(READY_PATH, name="get ready", openapi_extra=plain_operation("Requests can be answered.", 503))
    async def get_ready(request: Request) -> Response:
        """Whether requests can be answered (200 or 503), and whether events can be made durable."""
        return await plainly(READY_PATH, request)

    @app.get(
        METRICS_PATH,
        name="get metrics",
        response_class=PlainTextResponse,
        openapi_extra=plain_operation("Prometheus text.", media="text/plain"),
    )
    async def get_metrics(request: Request) -> Response:
        """Every metric, in the Prometheus text format."""
        return await plainly(METRICS_PATH, request)
