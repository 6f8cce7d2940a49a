"""``GET /v1/items/{item_id}/similar``: items similar to one item, answered by the placement ``similar``."""

from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import path_value
from midstream.serving.http.responses import to_response
from midstream.serving.openapi.document import similar_operation
from midstream.serving.slates.bulk_changes import ITEM
from midstream.serving.slates.recommendations import Recommendations


def add_similar_route(app: FastAPI, recommendations: Recommendations) -> None:
    """Add the route."""

    @app.get(
        "/v1/items/{item_id}/similar",  # noqa: FAST003  read from the path as it was sent
        name="get similar items",
        openapi_extra=similar_operation(),
    )
    async def get_similar(request: Request) -> Response:
        """Items like this one: filters, served record and log position as of any slate."""
        return to_response(await recommendations.similar(request.scope, path_value(request, ITEM.id_field)))
