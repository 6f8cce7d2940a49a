"""``POST /v1/pages``: several placements in one answer, no item in two of them."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import msgspec

from midstream.core.errors import MidstreamError, NotFound
from midstream.engine.question import PAGE_PLACEMENTS_MAX
from midstream.engine.types import Answer, Ask, SlateRefused
from midstream.features.language_tree import TEXT_CHARACTERS_MAX
from midstream.serving.fields import decode_json
from midstream.serving.ingest import EventsAnswer
from midstream.serving.problems import Problem, problem_of
from midstream.serving.recommendations import (
    CONTEXT_MAX,
    EXCLUDE_MAX,
    FIELDS_MAX,
    ITEMS_MAX,
    SLATE_MAX,
    TOKEN_CHARS_MAX,
    ItemFields,
    Name,
    Record,
    Slate,
    Text,
    deadline_ms,
    placement_unknown,
    recorded,
    slate_of,
)
from midstream.serving.reply import NO_STORE, Reply

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class PlacementBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One slate of a page, and what it has for itself."""

    placement: Name
    n: Annotated[int, msgspec.Meta(ge=1, le=SLATE_MAX)] | None = None
    filter: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)] | None = None
    exclude: Annotated[tuple[Text, ...], msgspec.Meta(max_length=EXCLUDE_MAX)] = ()
    fields: Annotated[tuple[Name, ...], msgspec.Meta(max_length=FIELDS_MAX)] = ()


class PageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What ``POST /v1/pages`` takes: placements by falling priority, and what they share."""

    placements: Annotated[tuple[PlacementBody, ...], msgspec.Meta(min_length=1, max_length=PAGE_PLACEMENTS_MAX)]
    user_id: Text | None = None
    session_id: Text | None = None
    items: Annotated[tuple[Text, ...], msgspec.Meta(max_length=ITEMS_MAX)] = ()
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    context: Annotated[dict[Name, str | float | bool], msgspec.Meta(max_length=CONTEXT_MAX)] = {}
    item_fields: ItemFields = {}
    exclude: Annotated[tuple[Text, ...], msgspec.Meta(max_length=EXCLUDE_MAX)] = ()
    min_log_position: Annotated[str, msgspec.Meta(max_length=TOKEN_CHARS_MAX)] | None = None
    deadline: Name | None = None


class PageSlate(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one placement of a page: a slate, or why there is none."""

    placement: str
    slate: Slate | None = None
    problem: Problem | None = None


class Page(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a page is answered with: slates in the order of the placements."""

    page_id: str
    slates: list[PageSlate]
    events: EventsAnswer | None = None
    """What became of the events that came with the question."""
    events_problem: Problem | None = None
    """Instead: why they are not acknowledged. The slates were made without them."""


_decoder = msgspec.json.Decoder(PageBody)
_encode = msgspec.json.Encoder().encode


class Pages:
    """Answers pages; holds the engine and the way in for the events that come along."""

    def __init__(self, engine: "Engine", record: Record) -> None:
        """Ask ``engine``; record with ``record``."""
        self._engine = engine
        self._record = record

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body cannot be used, or no slate can be made: what is wrong with the first.
            Overloaded: Too many requests wait for a log position.
        """
        engine, question = self._engine, decode_json(_decoder, body, PageBody.__struct_fields__)
        asks = asks_of(question)
        try:
            position, told = await recorded(self._record, question.events, lambda: engine.check_page(asks))
            if position is not None:
                asks = tuple(replace(ask, min_log_position=position) for ask in asks)
            answer = await engine.page(asks)
        except NotFound as error:
            raise placement_unknown(engine, asks[0].placement, "/placements/0/placement") from error
        slates = [self._slate(place, each) for place, each in enumerate(answer.slates)]
        page = Page(
            answer.page_id,
            slates,
            told if isinstance(told, EventsAnswer) else None,
            told if isinstance(told, Problem) else None,
        )
        return Reply(200, _encode(page), headers=NO_STORE)

    def _slate(self, place: int, each: Answer | SlateRefused) -> PageSlate:
        if isinstance(each, Answer):
            return PageSlate(each.placement, slate_of(each, None))
        error: MidstreamError = each.error
        if isinstance(error, NotFound):
            error = placement_unknown(self._engine, each.placement, f"/placements/{place}/placement")
        return PageSlate(each.placement, problem=problem_of(error))


def asks_of(question: PageBody) -> tuple[Ask, ...]:
    """Return the question of each slate.

    Raises:
        RequestInvalid: The deadline is no duration, or out of bounds.
    """
    shared = Ask(
        user_id=question.user_id,
        session_id=question.session_id,
        items=question.items,
        context=question.context,
        item_fields=question.item_fields,
        min_log_position=question.min_log_position,
        deadline_ms=None if question.deadline is None else deadline_ms(question.deadline),
    )
    return tuple(
        replace(
            shared,
            placement=each.placement,
            n=each.n,
            filter=each.filter,
            exclude=(*question.exclude, *each.exclude),
            fields=each.fields,
        )
        for each in question.placements
    )
