"""Routes of rankings other than of items: users for an item, users like a user, values of an attribute for a user."""

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.core.errors import Fault, RequestInvalid
from midstream.engine.lists.audiences import AudienceQuestion
from midstream.engine.lists.lists import RANKED_DEFAULT, RANKED_MAX
from midstream.engine.lists.value_rankings import ValueQuestion
from midstream.engine.requests.schema import PAGE
from midstream.serving.admin.route_io import json_response, path_value
from midstream.serving.http.parsing import flag, query_fields, single
from midstream.serving.openapi.document import Document, parameter, read_operation, ref, responses

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

_DIGITS_MAX = 9
_N = parameter("n", {"type": "integer", "minimum": 1, "maximum": RANKED_MAX}, f"Rows; {RANKED_DEFAULT}.")
_TRUTH: Document = {"type": "boolean"}


def add_audience_routes(app: FastAPI, engine: "Engine") -> None:
    """Add the routes."""

    @app.get(
        "/v1/items/{item_id}/users",  # noqa: FAST003  read from the path as it was sent
        name="get item users",
        openapi_extra=_operation("item", "UserRanking", parameter("acted", _TRUTH, "Those who have acted on it.")),
    )
    async def get_item_users(request: Request) -> Response:
        """The users who are likely to act on an item, or who have."""
        fields = query_fields(request.scope, ("n", "acted"))
        asked = AudienceQuestion(path_value(request, "item_id"), _count(fields), flag(fields, "acted"))
        return json_response(await engine.lists.item_users(asked))

    @app.get(
        "/v1/users/{user_id}/similar",  # noqa: FAST003  read from the path as it was sent
        name="get similar users",
        openapi_extra=_operation("user", "UserRanking"),
    )
    async def get_similar_users(request: Request) -> Response:
        """The users who have acted on the same items."""
        fields = query_fields(request.scope, ("n",))
        return json_response(await engine.lists.similar_users(path_value(request, "user_id"), _count(fields)))

    @app.get(
        "/v1/users/{user_id}/values",  # noqa: FAST003  read from the path as it was sent
        name="get user values",
        openapi_extra=_operation(
            "user",
            "ValueRanking",
            parameter("attribute", {"type": "string"}, "Of the kind category.") | {"required": True},
            parameter("new", _TRUTH, "Only values that the user's own acts have not."),
        ),
    )
    async def get_user_values(request: Request) -> Response:
        """The categories, brands or other values for a user."""
        fields = query_fields(request.scope, ("n", "attribute", "new"))
        attribute = single(fields, "attribute")
        if attribute is None:
            raise RequestInvalid((Fault("attribute", "It is missing.", "An attribute of the kind category.", PAGE),))
        asked = ValueQuestion(path_value(request, "user_id"), attribute, _count(fields), flag(fields, "new"))
        return json_response(engine.lists.user_values(asked))


def _operation(what: str, answer: str, *parameters: Document) -> Document:
    """Describe a route of a ranking."""
    path = read_operation(what, f"{what}_id")["parameters"]
    return {
        "parameters": [*path, *parameters, _N],
        "responses": responses("A ranking.", ref(answer), 400, 404, 413, 503),
    }


def _count(fields: dict[str, list[str]]) -> int:
    """Return the size, or raise ``RequestInvalid``; its bounds are checked where it is used."""
    text = single(fields, "n")
    if text is None:
        return RANKED_DEFAULT
    if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS_MAX):
        raise RequestInvalid((Fault("n", f'"{text[:60]}" came.', f"From 1 to {RANKED_MAX}.", PAGE),))
    return int(text)
