"""Routes of lists: items, users, the events of one user, served slates. Each page is bounded and has a cursor."""

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.lists.audit_pages import AuditListing
from midstream.engine.lists.event_pages import EventListing
from midstream.engine.lists.item_pages import ItemListing
from midstream.engine.lists.lists import LIMIT_DEFAULT, LIMIT_MAX
from midstream.engine.lists.request_pages import RequestListing
from midstream.engine.lists.user_pages import UserListing
from midstream.engine.requests.schema import PAGE
from midstream.serving.admin.audiences import add_audience_routes
from midstream.serving.admin.route_io import DIGITS_MAX, json_response, path_value, time_value
from midstream.serving.events.ingest import Ingest
from midstream.serving.http.parsing import query_fields, single
from midstream.serving.openapi.document import Document, parameter, read_operation, ref, responses

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

FIELDS_MAX = 32
"""As of a slate."""
_PAGE = ("cursor", "limit")
_TEXT: Document = {"type": "string"}
_PAGED = [
    parameter("cursor", _TEXT, "next_cursor of the page before, with the same filters."),
    parameter("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}, f"Rows of the page; {LIMIT_DEFAULT}."),
]
_FIELDS: Document = {"type": "array", "items": _TEXT, "maxItems": FIELDS_MAX}
_FILTERED = [
    parameter("filter", _TEXT, "A condition of the language (docs/language.md)."),
    parameter("fields", _FIELDS, "Attributes of each row; all, when none is named."),
]
_TIMES = [
    parameter("since", _TEXT, "Oldest log time: milliseconds since 1970 or ISO 8601 with a zone."),
    parameter("until", _TEXT, "Newest log time."),
]
_OF_EVENTS = [parameter("type", {"type": "array", "items": _TEXT}, "Interactions, impression, user."), *_TIMES]
_OF_AUDIT = [parameter("who", _TEXT), parameter("route", _TEXT), *_TIMES]
_OF_REQUESTS = [parameter("user_id", _TEXT), parameter("placement", _TEXT), *_TIMES]


def add_list_routes(app: FastAPI, engine: "Engine", ingest: Ingest) -> None:
    """Add the routes, and those of rankings; ``ingest`` has the terms on which times are read."""
    add_audience_routes(app, engine)

    @app.get("/v1/items", name="get items", openapi_extra=_operation("ItemPage", *_FILTERED))
    async def get_items(request: Request) -> Response:
        """The items that pass a filter, in the order in which they became known."""
        fields = query_fields(request.scope, (*_PAGE, "filter", "fields"))
        asked = ItemListing(single(fields, "filter"), _names(fields))
        return json_response(await engine.lists.items(asked, *_page(fields)))

    @app.get("/v1/users", name="get users", openapi_extra=_operation("UserPage", *_FILTERED))
    async def get_users(request: Request) -> Response:
        """The users who pass a filter, the one seen last first."""
        fields = query_fields(request.scope, (*_PAGE, "filter", "fields"))
        asked = UserListing(single(fields, "filter"), _names(fields))
        return json_response(await engine.lists.users(asked, *_page(fields)))

    @app.get(
        "/v1/users/{user_id}/events",  # noqa: FAST003  read from the path as it was sent
        name="get user events",
        openapi_extra=_operation("EventPage", *read_operation("user", "user_id")["parameters"], *_OF_EVENTS),
    )
    async def get_events(request: Request) -> Response:
        """The events of a user, the newest first."""
        fields = query_fields(request.scope, (*_PAGE, "type", "since", "until"))
        since, until = (time_value(fields, name, ingest.accept) for name in ("since", "until"))
        asked = EventListing(path_value(request, "user_id"), tuple(fields.get("type", ())), since or 0, until)
        return json_response(await engine.lists.events(asked, *_page(fields)))

    @app.get("/v1/requests", name="get requests", openapi_extra=_operation("RequestPage", *_OF_REQUESTS))
    async def get_requests(request: Request) -> Response:
        """The served slates of a user, of a placement or of all, the newest first."""
        fields = query_fields(request.scope, (*_PAGE, "user_id", "placement", "since", "until"))
        since, until = (time_value(fields, name, ingest.accept) for name in ("since", "until"))
        asked = RequestListing(single(fields, "user_id"), single(fields, "placement"), since or 0, until)
        return json_response(await engine.lists.requests(asked, *_page(fields)))

    @app.get("/v1/audit", name="get audit", openapi_extra=_operation("AuditPage", *_OF_AUDIT))
    async def get_audit(request: Request) -> Response:
        """The changes that came over HTTP: who, when, what and from where, the newest first."""
        fields = query_fields(request.scope, (*_PAGE, "who", "route", "since", "until"))
        since, until = (time_value(fields, name, ingest.accept) for name in ("since", "until"))
        asked = AuditListing(single(fields, "who"), single(fields, "route"), since or 0, until)
        return json_response(await engine.lists.audit(asked, *_page(fields)))


def _operation(answer: str, *parameters: Document) -> Document:
    """Describe a route of a list."""
    found = responses("A page; next_cursor is left out on the last one.", ref(answer), 400, 404, 413, 503)
    return {"parameters": [*parameters, *_PAGED], "responses": found}


def _page(fields: dict[str, list[str]]) -> tuple[str | None, int]:
    """Return cursor and limit, or raise ``RequestInvalid``."""
    text = single(fields, "limit")
    if text is None:
        return single(fields, "cursor"), LIMIT_DEFAULT
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX):
        raise RequestInvalid((Fault("limit", f'"{text[:60]}" came.', f"From 1 to {LIMIT_MAX}.", PAGE),))
    return single(fields, "cursor"), int(text)


def _names(fields: dict[str, list[str]]) -> tuple[str, ...] | None:
    """Return the named attributes, None = all, or raise ``RequestInvalid``."""
    names = fields.get("fields")
    if names is not None and len(names) > FIELDS_MAX:
        raise RequestInvalid((Fault("fields", f"{len(names)} came.", f"At most {FIELDS_MAX}.", PAGE),))
    return None if names is None else tuple(names)
