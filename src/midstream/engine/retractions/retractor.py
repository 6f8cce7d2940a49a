"""Retraction of acts: finds an act in the log, and appends the event that takes it back.

An act that was taken back before is found again and said to be so, and nothing is appended: a request that is sent
again, as its answer was lost, takes nothing else back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from midstream.core.answers.events import RetractedEvent, RetractionAnswer
from midstream.core.errors import Overloaded
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import EventBatch
from midstream.engine.live import LiveState
from midstream.engine.retractions.act_search import ActQuestion, acts_of_id, newest_act
from midstream.engine.retractions.first_copies import FoundAct
from midstream.events.schema import build
from midstream.state.control.retractions import RETRACTIONS_MAX
from midstream.state.ids.retraction_event import folded_time_ms, retraction_of

SEARCHES_MAX: Final = 4
"""Searches at once: each reads the log in pieces of 1 to 2 ms, beside the other turns of the event loop."""
T = TypeVar("T")


class Retractor:
    """Takes acts back, each once."""

    def __init__(self, live: LiveState, record: Callable[[EventBatch], Awaitable[object]]) -> None:
        """Search in ``live``; ``record`` makes events durable and applies them."""
        self._live = live
        self._record = record
        self._searches = 0
        self._on_way: dict[int, asyncio.Event] = {}
        """Acts whose retractions are not applied yet, by log position; each with what is set when they are."""

    async def by_id(self, event_id: str, user_id: str | None = None) -> RetractionAnswer:
        """Take back the act with an event id, as ``acts_of_id`` finds it; return when that is durable and applied.

        Raises:
            ActUnknown: There is no such act.
            Overloaded: ``SEARCHES_MAX`` searches run, or as many retractions as may wait for a rebuild.
            MidstreamError: As ``Engine.record`` does.
        """
        return await self._take_back(await self._one_of_few(lambda: acts_of_id(self._live, event_id, user_id)))

    async def newest(self, asked: ActQuestion) -> RetractionAnswer:
        """Take back the newest act of a user with an item, as ``newest_act`` finds it; errors as of ``by_id``.

        Raises:
            RequestInvalid: The type is not configured.
        """
        return await self._take_back([await self._one_of_few(lambda: newest_act(self._live, asked))])

    async def _take_back(self, acts: Sequence[FoundAct]) -> RetractionAnswer:
        while on_way := next((self._on_way[each.position] for each in acts if each.position in self._on_way), None):
            await on_way.wait()  # then it is taken back, or was refused and this request tries
        fresh = [each for each in acts if not self._live.fold.is_taken_back(each.position)]
        if fresh:
            waiting = len(self._live.fold.vocabulary.retractions) + len(self._on_way)
            if waiting + len(fresh) > RETRACTIONS_MAX:
                message = (
                    f"{RETRACTIONS_MAX:,} acts that were taken back wait for a rebuild, and no more may: "
                    "`midstream rebuild` or POST /v1/rebuild"
                )
                self._live.metrics.count_overload("retractions")
                raise Overloaded(message)
            await self._append(fresh)
        token = self._live.token(self._live.fold.log_position)
        return RetractionAnswer(len(fresh), len(acts) - len(fresh), tuple(map(_view, acts)), token)

    async def _append(self, acts: Sequence[FoundAct]) -> None:
        """Append the retractions of acts; who asks for one of these acts meanwhile waits for the end."""
        done = asyncio.Event()
        self._on_way.update({each.position: done for each in acts})
        try:
            await self._record(build([retraction_of(*each) for each in acts]))
        finally:
            for each in acts:
                del self._on_way[each.position]
            done.set()

    async def _one_of_few(self, search: Callable[[], Awaitable[T]]) -> T:
        if self._searches >= SEARCHES_MAX:
            self._live.metrics.count_overload("retractions")
            message = f"{SEARCHES_MAX} searches for acts to be taken back run, and no more may at once"
            raise Overloaded(message)
        self._searches += 1
        try:
            return await search()
        finally:
            self._searches -= 1


def _view(act: FoundAct) -> RetractedEvent:
    """Return an act as it is shown."""
    event = act.event
    name = IMPRESSION if event.kind == Kind.IMPRESSION else event.action
    return RetractedEvent(name, event.item_id, folded_time_ms(event), event.event_id)
