"""Routes of declared features: list, detail, and the values for a caller's items."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from fastapi import FastAPI, Request, Response

from midstream.core.answers.features import FeatureReadAnswer, ItemValues
from midstream.core.errors import NotFound
from midstream.core.nearest import nearest
from midstream.engine.requests.schema import FeatureAsk
from midstream.serving.admin.route_io import json_response, path_value, posted
from midstream.serving.http.body_reader import BodyLimits
from midstream.serving.http.parsing import query_fields
from midstream.serving.openapi.document import feature_read_operation, plain_operation, read_operation

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.types import FeatureRead

FEATURES_PATH = "/v1/features"
READ_PATH = f"{FEATURES_PATH}/read"
_body = msgspec.json.Decoder(FeatureAsk)


def add_feature_routes(app: FastAPI, engine: "Engine", limits: BodyLimits) -> None:
    """Add the routes of features."""

    @app.get(FEATURES_PATH, name="get features", openapi_extra=plain_operation("Every feature that is declared."))
    async def get_features(request: Request) -> Response:
        """What features there are: columns, who reads them, how complete, fresh and large they are."""
        query_fields(request.scope, ())
        return json_response({"features": engine.features()})

    # Before the routes of one feature, whose path this one has too.
    @app.post(READ_PATH, name="post features read", openapi_extra=feature_read_operation())
    async def post_read(request: Request) -> Response:
        """The values of features for a user, a session and up to 1,000 items, at one log position."""
        return json_response(answer_of(await engine.read_features(await posted(request, _body, limits))))

    @app.get(f"{FEATURES_PATH}/{{name}}", name="get feature", openapi_extra=read_operation("feature", "name"))
    async def get_feature(request: Request) -> Response:
        """What is known of one feature."""
        query_fields(request.scope, ())
        name = path_value(request, "name")
        found = engine.feature(name)
        if found is None:
            raise unknown(name, [each.name for each in engine.features()])
        return json_response(found)


def answer_of(read: "FeatureRead") -> FeatureReadAnswer:
    """Return the wire form of a feature read."""
    items = [ItemValues(item_id, row) for item_id, row in zip(read.items, read.values.tolist(), strict=True)]
    return FeatureReadAnswer(
        read.names, items, read.log_position, read.state_age_ms, read.ages_ms, read.read_your_writes
    )


def unknown(name: str, known: Sequence[str]) -> NotFound:
    """Return the refusal of a name that is no feature's."""
    return NotFound(f'"{name[:64]}" is not a declared feature.{nearest(name, known)}')
