"""``POST /v1/rank``: the caller's own items in the order that a placement gives them."""

from typing import TYPE_CHECKING, Annotated

import msgspec

from midstream.engine.request_validation import RANK_ITEMS_MAX
from midstream.engine.types import Ask
from midstream.serving.http.parsing import decode_json
from midstream.serving.http.responses import Reply
from midstream.serving.slates.recommendations import Record, answered, only_placement
from midstream.serving.slates.request_fields import Items, SlateQuestion, Text, common

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class RankBody(SlateQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """What ``POST /v1/rank`` takes."""

    items: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=RANK_ITEMS_MAX)]
    user_id: Text | None = None
    session_id: Text | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=RANK_ITEMS_MAX)] | None = None
    basket: Items = ()
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(RankBody)


class Rankings:
    """Brings items in an order; holds the engine and the way in for the events that come along."""

    def __init__(self, engine: "Engine", record: Record) -> None:
        """Ask ``engine``; record with ``record``."""
        self._engine = engine
        self._record = record

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body or something it names cannot be used; an item that comes twice is named.
            Overloaded: Too many requests wait for a log position.
        """
        question = decode_json(_decoder, body, RankBody.__struct_fields__)
        ask = Ask(
            **common(question),
            placement=question.placement or only_placement(self._engine),
            user_id=question.user_id,
            session_id=question.session_id,
            n=question.n,
            items=question.basket,
            filter=question.filter,
            fields=question.fields,
            given=question.items,
        )
        return await answered(self._engine, self._record, ask, question.events)
