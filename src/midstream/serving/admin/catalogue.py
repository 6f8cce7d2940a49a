"""Routes of items and users: a change is an event like any other, a read returns the current state."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.events import Rejection
from midstream.core.errors import Fault, NotFound, RequestInvalid, TooLarge
from midstream.engine.requests.schema import PAGE
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.body_reader import BodyLimits, read_body
from midstream.serving.http.parsing import UNREADABLE, decode_json, query_fields, single
from midstream.serving.http.responses import to_response
from midstream.serving.openapi.document import bulk_operation, change_operation, read_operation
from midstream.serving.slates.bulk_changes import ITEM, USER, CatalogueSubject, as_event
from midstream.serving.slates.hot_routes import events_reply, how_of

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

CHANGE_QUERY = ("time", "event_id")
TIME_DIGITS_MAX = 15
"""Milliseconds have 13 digits until the year 2286."""
_attributes = msgspec.json.Decoder(dict[str, msgspec.Raw])
_pieces = msgspec.json.Decoder(list[msgspec.Raw])
_lines = msgspec.json.Decoder(msgspec.Raw)


def add_catalogue_routes(app: FastAPI, engine: "Engine", ingest: Ingest, limits: BodyLimits) -> None:
    """Add the routes of items and users."""
    _add_routes(app, ITEM, engine, ingest, limits)
    _add_routes(app, USER, engine, ingest, limits)


def _add_routes(
    app: FastAPI,
    noun: CatalogueSubject,
    engine: "Engine",
    ingest: Ingest,
    limits: BodyLimits,
) -> None:
    path = f"/v1/{noun.plural}/{{{noun.id_field}}}"

    @app.get(
        path,
        name=f"get {noun.kind}",
        openapi_extra=read_operation(noun.kind, noun.id_field, f"{noun.kind.title()}Detail"),
    )
    async def get_one(request: Request) -> Response:
        """What is known of it now."""
        query_fields(request.scope, ())
        name = path_value(request, noun.id_field)
        found = engine.item(name) if noun is ITEM else engine.user(name)
        if found is None:
            raise NotFound(f'Nothing is known of {noun.kind} "{name[:128]}".')
        return json_response(found)

    async def change(request: Request, operation: str) -> Response:
        query = query_fields(request.scope, CHANGE_QUERY)
        event: dict[str, object] = {
            "type": noun.kind,
            noun.id_field: path_value(request, noun.id_field),
            "operation": operation,
        }
        if operation != "delete":
            body = await read_body(request.scope, request.receive, limits)
            event["attributes"] = decode_json(_attributes, body)
        return await changed(ingest, event | sent_fields(query), _own_fault)

    @app.put(path, name=f"put {noun.kind}", openapi_extra=change_operation(noun.kind, noun.id_field, body=True))
    async def put(request: Request) -> Response:
        """Set all attributes; those that are not sent are gone."""
        return await change(request, "put")

    @app.patch(path, name=f"patch {noun.kind}", openapi_extra=change_operation(noun.kind, noun.id_field, body=True))
    async def patch(request: Request) -> Response:
        """Set the attributes that are sent; null takes one away (RFC 7396 on the top level)."""
        return await change(request, "patch")

    if noun is ITEM:  # users are erased, not only their profiles

        @app.delete(path, name="delete item", openapi_extra=change_operation(noun.kind, noun.id_field, body=False))
        async def delete(request: Request) -> Response:
            """Take it away: gone from the next answer on."""
            return await change(request, "delete")

    @app.post(f"/v1/{noun.plural}", name=f"post {noun.plural}", openapi_extra=bulk_operation(noun.kind, noun.id_field))
    async def post_many(request: Request) -> Response:
        """Change many: a list, or one a line."""
        how = msgspec.structs.replace(how_of(request.scope), only=noun.kind)
        body = await read_body(request.scope, request.receive, limits)
        events = as_events(body, noun, ingest.accept.limits.events_max)
        return to_response(events_reply(await ingest.take(events, how)))


async def changed(ingest: Ingest, event: Mapping[str, object], fault_of: Callable[[Rejection], Fault]) -> Response:
    """Record one event and answer with its outcome.

    Raises:
        RequestInvalid: It is invalid; ``fault_of`` returns the pointer into the request, which is no event.
    """
    answer = await ingest.take(msgspec.json.encode(event))
    if answer.rejected:
        raise RequestInvalid(tuple(fault_of(each) for each in answer.rejected))
    return to_response(events_reply(answer))


def sent_fields(query: dict[str, list[str]]) -> dict[str, object]:
    """Return the fields of an event that came in the query string."""
    return {name: _sent(value) if name == "time" else value for name, value in _singles(query)}


def as_events(body: bytes, noun: CatalogueSubject, events_max: int) -> bytes:
    """Return a bulk body as events of the noun's type, in the same form, so that places keep their names.

    An element that is no object is left as it is: decoding refuses it as it refuses any other.

    Raises:
        RequestInvalid: The body is neither a JSON list nor lines of JSON.
        TooLarge: More elements than one request may hold.
    """
    is_list = body.lstrip()[:1] == b"["
    try:
        pieces = _pieces.decode(body) if is_list else _lines.decode_lines(body)
    except UNREADABLE as error:
        right = f"A list of objects with {noun.id_field} and attributes, or one such object a line (NDJSON)."
        raise RequestInvalid((Fault("", f"The body cannot be read: {error}.", right, PAGE),)) from error
    if len(pieces) > events_max:
        right = f"At most {events_max} a request."
        raise TooLarge((Fault("", f"{len(pieces)} came.", right, PAGE),))
    events = [as_event(bytes(piece), noun, "put") for piece in pieces]
    return b"[" + b",".join(events) + b"]" if is_list else b"\n".join(events)


def _singles(query: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name in query if (value := single(query, name)) is not None]


def _sent(time: str) -> int | str:
    """Return a time as an event has it: a whole number of milliseconds, or text."""
    return int(time) if time.isascii() and time.isdigit() and len(time) <= TIME_DIGITS_MAX else time


def _own_fault(rejection: Rejection) -> Fault:
    """Map a pointer to this route's body, which is an event's ``attributes``."""
    where = rejection.pointer.removeprefix("/attributes")
    return Fault(where, rejection.came, rejection.right, rejection.page)
