"""``POST /v1/rank``: the caller's own items in the order that a placement gives them."""

from typing import TYPE_CHECKING

import msgspec

from midstream.engine.requests.schema import read_deadline
from midstream.serving.http.parsing import decode_json
from midstream.serving.http.responses import Reply
from midstream.serving.slates.recommendations import OnlyPlacement, RankBody, Record, answered

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


_decoder = msgspec.json.Decoder(RankBody, dec_hook=read_deadline)


class Rankings:
    """Brings items in an order; holds the engine and the way in for the events that come along."""

    def __init__(self, engine: "Engine", record: Record) -> None:
        """Answer with ``engine``; record with ``record``."""
        self._engine = engine
        self._record = record
        self._unnamed = OnlyPlacement(engine)

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body or something it names cannot be used; an item that comes twice is named.
            Overloaded: Too many requests wait for a log position.
        """
        question = decode_json(_decoder, body)
        return await answered(self._engine, self._record, question, question.placement or self._unnamed.name())
