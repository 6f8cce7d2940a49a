"""Bodies of the routes of placements and explanations, as types for decoding, encoding and documentation."""

from typing import Annotated

import msgspec

from midstream.engine.placements.views import AsideView, PlacementView
from midstream.serving.slates.recommendations import RecommendationBody, Slate

Version = Annotated[int, msgspec.Meta(ge=0)]


NOT_PREVIEWED = ("events", "placement", "min_log_position", "explain", "reasons", "cursor")
"""Fields of a question that a preview refuses."""


class PutBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``PUT /v1/placements/{name}``."""

    placement: msgspec.Raw
    author: str
    note: str = ""
    if_version: Version | None = None


class PreviewBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/placements/{name}/preview``."""

    placement: msgspec.Raw
    question: RecommendationBody = RecommendationBody()


class PlacementList(msgspec.Struct, frozen=True):
    """Of ``GET /v1/placements``."""

    placements: list[PlacementView]
    aside: list[AsideView]
    """Placements that were set and are not in force, because they do not hold beside the file."""


class PreviewSlates(msgspec.Struct, frozen=True):
    """Of ``POST /v1/placements/{name}/preview``; request ids are empty, because nothing is kept."""

    preview: Slate
    today: Slate | None
    """None = there is no placement of that name."""


class JobView(msgspec.Struct, frozen=True):
    """Progress of an explanation."""

    state: str
    stage: str
    progress: float
