"""Routes of rebuilds: start one, and read its progress."""

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import available, json_response
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import flag, query_fields
from midstream.serving.openapi.document import Document, parameter, plain_operation

if TYPE_CHECKING:
    from midstream.engine.rebuild.rebuilder import Rebuilder

REBUILD_PATH = "/v1/rebuild"
_COMPACT: Document = {
    "parameters": [parameter("compact", {"type": "boolean"}, "Leave out deleted items, so that their slots are free.")]
}


def add_rebuild_routes(app: FastAPI, rebuilder: "Rebuilder | None", limits: BodyLimits) -> None:
    """Add the routes of rebuilds; without a rebuilder they answer that there is none."""

    @app.post(
        REBUILD_PATH,
        name="post rebuild",
        openapi_extra=plain_operation("What the configuration file changes.", 404, 409) | _COMPACT,
    )
    async def post_rebuild(request: Request) -> Response:
        """Read the configuration file again and put it in service: plans at once, another state by a rebuild."""
        compact = flag(query_fields(request.scope, ("compact",)), "compact")
        await read_body(request.scope, request.receive, limits)
        view = await _known(rebuilder).order(compact=compact)
        return json_response(view, HTTPStatus.ACCEPTED if view.change == "state" else HTTPStatus.OK)

    @app.get(REBUILD_PATH, name="get rebuild", openapi_extra=plain_operation("How far a rebuild is.", 404))
    async def get_rebuild(request: Request) -> Response:
        """What is in service, what is being rebuilt, how far it is, and why the last one failed."""
        query_fields(request.scope, ())
        return json_response(_known(rebuilder).view())


def _known(rebuilder: "Rebuilder | None") -> "Rebuilder":
    return available(rebuilder, "the configuration of this server is read at its start and not again")
