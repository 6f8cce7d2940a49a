"""Routes of placements: components, versions, set, remove, preview."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.placements import PlacementList
from midstream.core.answers.slates import PreviewSlates
from midstream.core.errors import ConfigInvalid, Fault, Invalid, PlacementChanged, RequestInvalid
from midstream.engine.placements.control_changes import PAGE
from midstream.engine.placements.views import placement_views
from midstream.engine.requests.faults import json_pointer
from midstream.serving.admin.route_io import available, json_response, path_value, posted, said_by
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import decode_any, query_fields, single
from midstream.serving.openapi.document import (
    Document,
    json_body,
    parameter,
    preview_question,
    read_operation,
    ref,
    responses,
)
from midstream.serving.slates.bodies import PreviewBody, PutBody
from midstream.serving.slates.recommendations import RecommendationBody, slate_of

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.placements.placing import Placing

PLACEMENTS_PATH = "/v1/placements"
_ONE = f"{PLACEMENTS_PATH}/{{name}}"

_put = msgspec.json.Decoder(PutBody)
_preview = msgspec.json.Decoder(PreviewBody)
_OF_BODY = frozenset(f"/{name}" for name in PutBody.__struct_fields__)
_DOCUMENT: Document = {"type": "object", "description": "The settings of one table of [[placements]]."}
_TEXT: Document = {"type": "string"}
_IF: Document = {"type": "integer", "minimum": 0, "description": "Newest version that is known; 0 = none."}
_SAID: Document = {
    "author": {**_TEXT, "minLength": 1, "description": "Who changes it; a key's name is put before it."},
    "note": {**_TEXT, "description": "Why."},
    "if_version": _IF,
}


def add_placement_routes(app: FastAPI, engine: "Engine", placing: "Placing | None", limits: BodyLimits) -> None:
    """Add the routes of placements; without ``placing`` they are those of the file, and cannot be set."""

    @app.get(PLACEMENTS_PATH, name="get placements", openapi_extra=_listing())
    async def get_placements(request: Request) -> Response:
        """What placements there are, what answers each, and where it comes from."""
        query_fields(request.scope, ())
        return json_response(_list(engine, placing))

    @app.get(_ONE, name="get placement", openapi_extra=_reading())
    async def get_placement(request: Request) -> Response:
        """One placement as it is in force and as the file has it, and its versions with author, note and content."""
        query_fields(request.scope, ())
        return json_response(_known(placing).view(path_value(request, "name")))

    @app.put(_ONE, name="put placement", openapi_extra=_changing({"placement": _DOCUMENT, **_SAID}))
    async def put_placement(request: Request) -> Response:
        """Set a placement; it is in force when this answers, also after a restart, until it is given back."""
        told = await posted(request, _put, limits)
        said = said_by(request, told.author, told.note, told.if_version)
        document = decode_any(told.placement, "/placement")
        with _pointed(_within_body(document)):
            return json_response(await _known(placing).put(path_value(request, "name"), document, said))

    @app.delete(_ONE, name="delete placement", openapi_extra=_giving_back())
    async def delete_placement(request: Request) -> Response:
        """Give a placement back to the configuration file; without one there it is gone."""
        query = query_fields(request.scope, ("author", "note", "if_version"))
        known = _version(single(query, "if_version"))
        said = said_by(request, single(query, "author") or "", single(query, "note") or "", known)
        with _pointed(_as_query_field):
            return json_response(await _known(placing).remove(path_value(request, "name"), said))

    @app.post(f"{_ONE}/preview", name="preview placement", openapi_extra=_previewing())
    async def preview_placement(request: Request) -> Response:
        """Answer a question with a placement that is not set, beside today's answer; nothing is logged or kept."""
        told = await posted(request, _preview, limits)
        name = path_value(request, "name")
        _require_plain(told.question)
        document = decode_any(told.placement, "/placement")
        with _pointed(_within_body(document)):
            found = await _known(placing).preview(name, document, told.question.ask(name))
        today = None if found.today is None else slate_of(found.today, None)
        return json_response(PreviewSlates(slate_of(found.answer, None), today))


@contextmanager
def _pointed(where: Callable[[str], str]) -> Generator[None]:
    """Map pointers to a placement or request to the body that contains it."""
    try:
        yield
    except ConfigInvalid as error:
        raise ConfigInvalid(_moved(error, where)) from error
    except PlacementChanged as error:
        raise PlacementChanged(_moved(error, where)) from error
    except RequestInvalid as error:
        raise RequestInvalid(_moved(error, where)) from error


def _moved(error: Invalid, where: Callable[[str], str]) -> tuple[Fault, ...]:
    return tuple(replace(each, where=where(each.where)) for each in error.faults)


def _within_body(document: object) -> Callable[[str], str]:
    """Return a function that maps JSON Pointers to a body with a placement, and optionally a request.

    Pointers into the file stay, and the name of a placement is the step of the path.
    """
    has_name = isinstance(document, dict) and "name" in document

    def moved(where: str) -> str:
        if where == "$.name" and not has_name:
            return "name"
        if where.startswith("$"):
            return f"/placement{json_pointer(where)}"
        is_own = where in _OF_BODY or not where.startswith("/") or where.startswith("/question")
        return where if is_own else f"/question{where}"

    return moved


def _as_query_field(where: str) -> str:
    return where.removeprefix("/")


def _list(engine: "Engine", placing: "Placing | None") -> PlacementList:
    if placing is None:
        return PlacementList(placement_views(engine.plans, {}, frozenset(engine.plans), frozenset(), engine.fold), [])
    return PlacementList(placing.views(), placing.aside())


def _known(placing: "Placing | None") -> "Placing":
    return available(
        placing, "the placements of this server are those of its configuration, and cannot be changed here"
    )


def _version(text: str | None) -> int | None:
    """Return the version that a query field names.

    Raises:
        RequestInvalid: It is no whole number.
    """
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004  32 bits
        raise RequestInvalid((Fault("if_version", f'"{text[:40]}" came.', "A whole number, 0 or more.", PAGE),))
    return None if text is None else int(text)


def _require_plain(question: RecommendationBody) -> None:
    """Refuse a request with fields that a preview does not support.

    Raises:
        RequestInvalid: It has events, a placement, a log position, an explanation or a cursor.
    """
    told = {
        "events": question.events is not msgspec.UNSET,
        "placement": question.placement is not None,
        "min_log_position": question.min_log_position is not None,
        "explain": question.explain,
        "reasons": question.reasons is not None,
        "cursor": question.cursor is not False,
    }
    right = (
        "A question without it: a preview records nothing, is about the path's placement, waits for and explains none,"
        " and is not continued."
    )
    if faults := tuple(Fault(f"/question/{name}", "It came.", right, PAGE) for name, came in told.items() if came):
        raise RequestInvalid(faults)


def _listing() -> Document:
    return {"responses": responses("Every placement and its parts.", ref("PlacementList"), 400, 413)}


def _reading(text: str = "The placement and its versions.", *failures: int) -> Document:
    answered = responses(text, ref("PlacementDetail"), 400, 404, 413, *failures)
    return read_operation("placement", "name") | {"responses": answered}


def _changing(properties: Document) -> Document:
    body = {"type": "object", "properties": properties, "required": ["placement", "author"]}
    found = _reading("The placement, in force.", 403, 408, 409, 415, 503)
    return found | {"requestBody": json_body(body | {"additionalProperties": False})}


def _giving_back() -> Document:
    reading = _reading("The placement as it is then.", 403, 409, 503)
    fields = [
        {**parameter(name, {key: value for key, value in each.items() if key != "description"}, each["description"])}
        for name, each in _SAID.items()
    ]
    fields[0]["required"] = True
    return reading | {"parameters": [*reading["parameters"], *fields]}


def _previewing() -> Document:
    properties = {"placement": _DOCUMENT, "question": preview_question()}
    body = {"type": "object", "properties": properties, "required": ["placement"], "additionalProperties": False}
    text, failures = "Two slates, the one of today null where there is none.", (400, 403, 404, 408, 413, 415, 503)
    answered = {"responses": responses(text, ref("PreviewSlates"), *failures)}
    return read_operation("placement", "name") | answered | {"requestBody": json_body(body)}
