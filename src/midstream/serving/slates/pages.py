"""``POST /v1/pages``: several placements in one answer, no item in two of them."""

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from midstream.core.answers.events import EventsAnswer
from midstream.core.answers.problems import Problem
from midstream.core.answers.slates import Page, PageSlate
from midstream.core.errors import MidstreamError, NotFound
from midstream.engine.requests.schema import PageQuestion, read_deadline
from midstream.engine.types import Answer, SlateRefused
from midstream.serving.http.parsing import decode_json
from midstream.serving.http.problems import problem_of
from midstream.serving.http.responses import NO_STORE, Reply
from midstream.serving.slates.recommendations import Record, placement_unknown, recorded, slate_of

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class PageBody(PageQuestion, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """Body of ``POST /v1/pages``: placements by falling priority, and their common fields."""

    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(PageBody, dec_hook=read_deadline)
_encode = msgspec.json.Encoder().encode


class Pages:
    """Answers pages; holds the engine and the way in for the events that come along."""

    def __init__(self, engine: "Engine", record: Record) -> None:
        """Answer with ``engine``; record with ``record``."""
        self._engine = engine
        self._record = record

    async def from_body(self, body: bytes) -> Reply:
        """Answer ``POST``.

        Raises:
            RequestInvalid: The body cannot be used, or no slate can be made: the error of the first.
            Overloaded: Too many requests wait for a log position.
        """
        engine, question = self._engine, decode_json(_decoder, body)
        asks = question.asks()
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
