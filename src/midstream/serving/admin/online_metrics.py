"""Route of online metrics: the newest figures by window and label, and what has drifted."""

from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response

from midstream.serving.admin.route_io import available, json_response
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import plain_operation

if TYPE_CHECKING:
    from midstream.engine.online.figuring import OnlineFiguring

ONLINE_PATH = "/v1/online-metrics"


def add_online_routes(app: FastAPI, online: "OnlineFiguring | None") -> None:
    """Add the route of online metrics."""

    @app.get(ONLINE_PATH, name="get online metrics", openapi_extra=plain_operation("Figures of the newest round.", 404))
    async def get_online_metrics(request: Request) -> Response:
        """Figures of slates over windows of log time, by placement, tier, model and segment, and their drift."""
        query_fields(request.scope, ())
        return json_response(available(online, "this server has no online metrics: its log is in no folder").view)
