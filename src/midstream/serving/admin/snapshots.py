"""Routes of snapshots for nodes that join: names, and files as streams. Only nodes of the shop are let in.

They are in the document for those who run a proxy in front of nodes. They are no part of the API for clients, and may
change with any release.
"""

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from midstream.serving.admin.route_io import available, json_response, path_value
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import file_operation, plain_operation

if TYPE_CHECKING:
    from midstream.engine.replication.snapshot_shelf import SnapshotShelf

SNAPSHOTS_PATH = "/v1/snapshots"
_NO_SHELF = "this server has no data folder, so it has no snapshots"


def add_snapshot_routes(app: FastAPI, shelf: "SnapshotShelf | None") -> None:
    """Add the routes; without a shelf they answer that there is none."""

    @app.get(
        SNAPSHOTS_PATH,
        name="get snapshots",
        openapi_extra=plain_operation("Names of this node's snapshots, newest first.", 404),
    )
    async def get_snapshots(request: Request) -> Response:
        """Names of this node's snapshots, newest first, for a node that joins; it has the key of the shop's nodes."""
        query_fields(request.scope, ())
        return json_response({"snapshots": await asyncio.to_thread(_let_in(shelf, request).names)})

    @app.get(
        f"{SNAPSHOTS_PATH}/{{folder}}/{{name}}",
        name="get snapshot file",
        openapi_extra=file_operation("The file.", "folder", "name"),
    )
    async def get_snapshot_file(request: Request) -> Response:
        """One file of a snapshot as a stream, for a node that joins; it has the key of the shop's nodes."""
        query_fields(request.scope, ())
        content = _let_in(shelf, request).content
        found = await asyncio.to_thread(content, path_value(request, "folder"), path_value(request, "name"))
        headers = {"content-length": str(found.size), "cache-control": "no-store"}
        return StreamingResponse(found.pieces, headers=headers, media_type="application/octet-stream")


def _let_in(shelf: "SnapshotShelf | None", request: Request) -> "SnapshotShelf":
    found = available(shelf, _NO_SHELF)
    found.require_peer(request.headers.get("authorization", ""))
    return found
