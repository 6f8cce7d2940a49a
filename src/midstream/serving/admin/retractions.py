"""Routes that take an act of a user back: by its event id, or the newest one of a user with an item."""

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.requests.schema import PAGE
from midstream.engine.retractions.act_search import ActQuestion
from midstream.events.rows import time_of
from midstream.events.wire import Refused
from midstream.serving.admin.catalogue import TIME_DIGITS_MAX
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.parsing import query_fields, single
from midstream.serving.openapi.document import retract_operation

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

EVENT_PATH = "/v1/events/{event_id}"
USER_PATH = "/v1/users/{user_id}/events"


def add_retraction_routes(app: FastAPI, engine: "Engine", ingest: Ingest) -> None:
    """Add the routes; ``ingest`` has the terms on which times are read."""

    @app.delete(EVENT_PATH, name="retract event", openapi_extra=retract_operation("event_id", ("user_id",)))
    async def retract(request: Request) -> Response:
        """Take the act with this id back: the next answer no longer goes by it."""
        fields = query_fields(request.scope, ("user_id",))
        found = await engine.retractor.by_id(path_value(request, "event_id"), single(fields, "user_id"))
        return json_response(found)

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
