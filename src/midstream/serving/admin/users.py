"""Routes of users: merges of two ids, erasures, the state of both, and acts that are taken back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.events import Rejection
from midstream.core.answers.users import ErasureView
from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.requests.schema import PAGE
from midstream.engine.retractions.act_search import ActQuestion
from midstream.events.rows import time_of
from midstream.events.wire import Refused
from midstream.serving.access.callers import caller_of
from midstream.serving.access.scopes import READ
from midstream.serving.admin.catalogue import CHANGE_QUERY, TIME_DIGITS_MAX, changed, sent_fields
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import decode_json, query_fields, single
from midstream.serving.openapi.document import erase_operation, merge_operation, retract_operation
from midstream.serving.slates.bulk_changes import USER

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.types import ErasureDue

_PATH = f"/v1/{USER.plural}/{{{USER.id_field}}}"
EVENT_PATH = "/v1/events/{event_id}"
USER_PATH = "/v1/users/{user_id}/events"


class MergeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Id that is merged into the user of the path."""

    user_id: str


_merge_body = msgspec.json.Decoder(MergeBody)


def add_people_routes(app: FastAPI, engine: "Engine", ingest: Ingest, limits: BodyLimits) -> None:
    """Add the routes of merges, erasures and acts that are taken back."""
    _add_retraction_routes(app, engine, ingest)

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


def _add_retraction_routes(app: FastAPI, engine: "Engine", ingest: Ingest) -> None:
    """Add the routes; ``ingest`` has the terms on which times are read."""

    @app.delete(EVENT_PATH, name="retract event", openapi_extra=retract_operation("event_id", ("user_id",)))
    async def retract(request: Request) -> Response:
        """Take the act with this id back: the next answer no longer goes by it."""
        user_id = single(query_fields(request.scope, ("user_id",)), "user_id")
        caller = caller_of(request.scope)
        if user_id is None and caller is not None and not caller.has(READ):
            right = "The user of the act; a key with the scope read may leave it out, since the answer shows the act."
            raise RequestInvalid((Fault("user_id", "Nothing was sent.", right, PAGE),))
        return json_response(await engine.retractor.by_id(path_value(request, "event_id"), user_id))

    named = ("type", "item_id", "time")

    @app.delete(USER_PATH, name="retract user event", openapi_extra=retract_operation("user_id", named))
    async def retract_newest(request: Request) -> Response:
        """Take the newest act of a type that the user did with an item back."""
        fields = query_fields(request.scope, named)
        wanted, item_id = _needed(fields, "type"), _needed(fields, "item_id")
        asked = ActQuestion(path_value(request, "user_id"), wanted, item_id, _time(fields, ingest))
        return json_response(await engine.retractor.newest(asked))


def _needed(fields: dict[str, list[str]], name: str) -> str:
    """Return a field that has to come, or raise ``RequestInvalid``."""
    found = single(fields, name)
    if not found:
        right = {"type": "A configured interaction, or impression.", "item_id": "The item of the act."}[name]
        raise RequestInvalid((Fault(name, "Nothing was sent.", right, PAGE),))
    return found


def _time(fields: dict[str, list[str]], ingest: Ingest) -> int | None:
    """Return the time of an act in milliseconds, None = none was sent, or raise ``RequestInvalid``."""
    text = single(fields, "time")
    if text is None:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) <= TIME_DIGITS_MAX
    try:
        return time_of(int(text) if is_number else text, ingest.accept)
    except Refused as refused:
        came = refused.came or f'"{text[:60]}" came.'
        raise RequestInvalid((Fault("time", came, refused.right, "/docs/events.md"),)) from refused
