"""``POST /v1/rank``: the caller's own items in the order that a placement gives them."""

from typing import TYPE_CHECKING, Annotated

import msgspec

from midstream.engine.question import RANK_ITEMS_MAX
from midstream.engine.types import Ask
from midstream.features.language_tree import TEXT_CHARACTERS_MAX
from midstream.serving.fields import decode_json
from midstream.serving.recommendations import (
    CONTEXT_MAX,
    EXCLUDE_MAX,
    FIELDS_MAX,
    ITEMS_MAX,
    TOKEN_CHARS_MAX,
    ItemFields,
    Name,
    Record,
    Text,
    answered,
    deadline_ms,
    only_placement,
)
from midstream.serving.reply import Reply

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class RankBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What ``POST /v1/rank`` takes."""

    items: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1, max_length=RANK_ITEMS_MAX)]
    placement: Name | None = None
    user_id: Text | None = None
    session_id: Text | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=RANK_ITEMS_MAX)] | None = None
    basket: Annotated[tuple[Text, ...], msgspec.Meta(max_length=ITEMS_MAX)] = ()
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    context: Annotated[dict[Name, str | float | bool], msgspec.Meta(max_length=CONTEXT_MAX)] = {}
    item_fields: ItemFields = {}
    filter: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)] | None = None
    exclude: Annotated[tuple[Text, ...], msgspec.Meta(max_length=EXCLUDE_MAX)] = ()
    fields: Annotated[tuple[Name, ...], msgspec.Meta(max_length=FIELDS_MAX)] = ()
    min_log_position: Annotated[str, msgspec.Meta(max_length=TOKEN_CHARS_MAX)] | None = None
    deadline: Name | None = None


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
            placement=question.placement or only_placement(self._engine),
            user_id=question.user_id,
            session_id=question.session_id,
            n=question.n,
            items=question.basket,
            exclude=question.exclude,
            filter=question.filter,
            context=question.context,
            item_fields=question.item_fields,
            fields=question.fields,
            min_log_position=question.min_log_position,
            deadline_ms=None if question.deadline is None else deadline_ms(question.deadline),
            given=question.items,
        )
        return await answered(self._engine, self._record, ask, question.events)
