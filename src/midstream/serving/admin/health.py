"""Routes of health, metrics and outcomes of the engine."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from midstream.core.errors import NotFound
from midstream.ranking.record.record_json import listed
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.http.parsing import query_fields
from midstream.serving.http.responses import NO_STORE, Reply, to_response
from midstream.serving.openapi.document import plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

MetricsText: TypeAlias = Callable[[], Awaitable[bytes]]
METRICS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


def add_operation_routes(app: FastAPI, engine: "Engine", metrics_text: MetricsText | None = None) -> None:
    """Add the routes of operation; ``metrics_text`` gives the metrics where they are not this engine's alone."""

    @app.get(
        "/v1/requests/{request_id}",  # noqa: FAST003  read from the path as it was sent
        name="get request",
        openapi_extra=read_operation("request", "request_id"),
    )
    async def get_request(request: Request) -> Response:
        """What was served under a request id, and what it was made of."""
        query_fields(request.scope, ())
        request_id = path_value(request, "request_id")
        found = engine.served(request_id)
        if found is None:
            raise NotFound(f'No request "{request_id[:64]}" is known, or it is older than what is kept.')
        return json_response(found, enc_hook=listed)

    @app.get("/health/live", name="get live", openapi_extra=plain_operation("The process runs."))
    async def get_live() -> Response:
        """Whether the process runs, and of which log; nothing else is asked."""
        return json_response(engine.liveness)

    @app.get("/health/ready", name="get ready", openapi_extra=plain_operation("Requests can be answered.", 503))
    async def get_ready() -> Response:
        """Whether requests can be answered (200 or 503), and whether events can be made durable."""
        health = engine.health()
        return json_response(health, 200 if health.ready else 503)

    @app.get(
        "/metrics",
        name="get metrics",
        response_class=PlainTextResponse,
        openapi_extra=plain_operation("Prometheus text.", media="text/plain"),
    )
    async def get_metrics() -> Response:
        """Every metric, in the Prometheus text format."""
        engine.refresh_metrics()
        text = engine.metrics.text() if metrics_text is None else await metrics_text()
        return to_response(Reply(200, text, METRICS_TEXT, NO_STORE))
