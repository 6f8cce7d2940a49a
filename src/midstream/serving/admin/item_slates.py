"""Routes of built-in placements: full-text search by ``search``, items similar to one item by ``similar``."""

from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import path_value
from midstream.serving.http.responses import to_response
from midstream.serving.openapi.document import search_operation, similar_operation
from midstream.serving.slates.bulk_changes import ITEM
from midstream.serving.slates.recommendations import Recommendations


def add_item_slate_routes(app: FastAPI, recommendations: Recommendations) -> None:
    """Add the routes. They stand before that of one item, whose path a search has too."""

    @app.get("/v1/items/search", name="get search", openapi_extra=search_operation())
    async def get_search(request: Request) -> Response:
        """Items that have the words of a text: filters, served record and log position as of any slate."""
        return to_response(await recommendations.search(request.scope))

    @app.get(
        "/v1/items/{item_id}/similar",  # noqa: FAST003  read from the path as it was sent
        name="get similar items",
        openapi_extra=similar_operation(),
    )
    async def get_similar(request: Request) -> Response:
        """Items like this one: filters, served record and log position as of any slate."""
        return to_response(await recommendations.similar(request.scope, path_value(request, ITEM.id_field)))
