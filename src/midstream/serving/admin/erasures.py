"""Routes of erasures: those that are due, the progress of the rewrite, and the receipts of earlier ones."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import available, json_response
from midstream.serving.admin.users import views
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import plain_operation

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.erasure.eraser import Eraser

ERASURES_PATH = "/v1/erasures"


def add_erasure_routes(app: FastAPI, engine: "Engine", eraser: "Eraser | None", limits: BodyLimits) -> None:
    """Add the routes of erasures; without an eraser there is nothing to run."""

    @app.get(
        ERASURES_PATH,
        name="get erasures",
        openapi_extra=plain_operation("Erasures that files still wait for, the rewrite, and what was done."),
    )
    async def get_erasures(request: Request) -> Response:
        """Erasures for which the log is still to be rewritten, oldest first; how far that is; receipts of the last."""
        query_fields(request.scope, ())
        return await _answer(engine, eraser, 200)

    @app.post(
        f"{ERASURES_PATH}/run",
        name="run erasures",
        status_code=202,
        openapi_extra=plain_operation("Begun; how far it is.", 403, 404, 409),
    )
    async def run_erasures(request: Request) -> Response:
        """Write the log anew without erased users now, whether it is due or not."""
        query_fields(request.scope, ())
        await read_body(request.scope, request.receive, limits)
        available(eraser, "this server has no log in a folder, so there is nothing to rewrite").begin()
        return await _answer(engine, eraser, 202)


async def _answer(engine: "Engine", eraser: "Eraser | None", status: int) -> Response:
    found: dict[str, object] = {"erasures": views(engine, engine.erasures())}
    if eraser is not None:
        found |= {"rewrite": eraser.view, "receipts": await asyncio.to_thread(eraser.receipts)}
    return json_response(found, status)
