"""Routes of users: merges of two ids, erasures, the state of both, and acts that are taken back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.events import Rejection
from midstream.core.answers.users import ErasureView
from midstream.core.errors import Fault
from midstream.serving.admin.catalogue import CHANGE_QUERY, changed, sent_fields
from midstream.serving.admin.retractions import add_retraction_routes
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import decode_json, query_fields
from midstream.serving.openapi.document import erase_operation, merge_operation
from midstream.serving.slates.bulk_changes import USER

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.types import ErasureDue

_PATH = f"/v1/{USER.plural}/{{{USER.id_field}}}"


class MergeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Id that is merged into the user of the path."""

    user_id: str


_merge_body = msgspec.json.Decoder(MergeBody)


def add_people_routes(app: FastAPI, engine: "Engine", ingest: Ingest, limits: BodyLimits) -> None:
    """Add the routes of merges, erasures and acts that are taken back."""
    add_retraction_routes(app, engine, ingest)

    @app.post(f"{_PATH}/merge", name="merge users", openapi_extra=merge_operation(USER.id_field))
    async def merge(request: Request) -> Response:
        """Make another user this one: what is known of both is known of this one, now and later."""
        query = query_fields(request.scope, CHANGE_QUERY)
        body = decode_json(_merge_body, await read_body(request.scope, request.receive, limits))
        event: dict[str, object] = {"type": "user", "user_id": path_value(request, USER.id_field), "operation": "merge"}
        event |= {"attributes": {"from": body.user_id}, **sent_fields(query)}
        return await changed(ingest, event, _own_fault)

    @app.delete(_PATH, name="erase user", status_code=202, openapi_extra=erase_operation(USER.id_field))
    async def erase(request: Request) -> Response:
        """Forget the user, under every id that was merged into it: gone at once, and in days from every file."""
        query_fields(request.scope, ())
        due = await engine.erase(path_value(request, USER.id_field))
        return json_response(view_of(engine, due), 202)


def views(engine: "Engine", due: Sequence["ErasureDue"]) -> list[ErasureView]:
    """Return erasures as they are shown."""
    return [view_of(engine, each) for each in due]


def view_of(engine: "Engine", due: "ErasureDue") -> ErasureView:
    """Return an erasure as it is shown."""
    after = engine.token(type(due.log_position)(due.log_position + 1))
    return ErasureView(after, _iso(due.log_time_ms), due.ids_count, _iso(due.erase_by_ms))


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _own_fault(rejection: Rejection) -> Fault:
    """Map a pointer to this route's body: the other id is its one field."""
    where = rejection.pointer.replace("/attributes/from", "/user_id")
    return Fault(where, rejection.came, rejection.right, rejection.page)
