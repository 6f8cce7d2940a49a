"""Routes of sinks to online stores: list, detail, and an order to write all rows anew."""

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import available, json_response, path_value
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.sinks.sink_group import SinkGroup

SINKS_PATH = "/v1/sinks"
_ONE = f"{SINKS_PATH}/{{name}}"


def add_sink_routes(app: FastAPI, sinks: "SinkGroup | None", limits: BodyLimits) -> None:
    """Add the routes of sinks; where the configuration has none the list is empty."""

    @app.get(SINKS_PATH, name="get sinks", openapi_extra=plain_operation("State, position and lag of each."))
    async def get_sinks(request: Request) -> Response:
        """What sinks there are: store, table, state, position, lag and columns."""
        query_fields(request.scope, ())
        return json_response({"sinks": () if sinks is None else sinks.views()})

    @app.get(_ONE, name="get sink", openapi_extra=read_operation("sink", "name"))
    async def get_sink(request: Request) -> Response:
        """One sink."""
        query_fields(request.scope, ())
        return json_response(_known(sinks).view(path_value(request, "name")))

    @app.post(
        f"{_ONE}/backfill", name="post sink backfill", status_code=202, openapi_extra=read_operation("sink", "name")
    )
    async def post_backfill(request: Request) -> Response:
        """Have a sink read and write all of its rows anew, beside what it follows."""
        query_fields(request.scope, ())
        await read_body(request.scope, request.receive, limits)
        return json_response(await _known(sinks).backfill(path_value(request, "name")), 202)


def _known(sinks: "SinkGroup | None") -> "SinkGroup":
    return available(sinks, "this server has no sinks")
