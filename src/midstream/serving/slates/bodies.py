"""Bodies of the routes of placements and explanations, as types for decoding, encoding and documentation."""

from typing import Annotated

import msgspec

from midstream.serving.slates.recommendations import RecommendationBody

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
