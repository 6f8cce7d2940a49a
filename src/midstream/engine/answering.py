"""Questions that the engine answers: slates and features, each from one state and the plans that go with it.

An answer waits for the log position that its caller names, takes state and plan once, and hands its served record over
without waiting for it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from midstream.core.errors import RequestInvalid
from midstream.core.types import Served
from midstream.engine.answers import answer_of, note, query_of, require_known, served_event
from midstream.engine.feature_reads import WAIT_S_MAX, read_of
from midstream.engine.outbox import Outbox
from midstream.engine.served_ahead import ServedAhead, askers_of
from midstream.engine.tokens import parse_position
from midstream.engine.turns import Folding
from midstream.engine.types import Answer, Ask, FeatureAsk, FeatureRead
from midstream.ranking.expression_filter import request_faults
from midstream.ranking.pipeline import recommend
from midstream.ranking.traces import PackedTraces, pack_traces

if TYPE_CHECKING:
    from midstream.engine.engine import Engine


class Answering:
    """Answers questions from what the engine has in service."""

    def __init__(self, engine: "Engine", folding: Folding, outbox: Outbox | None) -> None:
        """Read what ``engine`` has in service; what was served goes to ``outbox``, None = it is not logged."""
        self._engine = engine
        self._folding = folding
        self._outbox = outbox
        self._ahead = None if outbox is None else ServedAhead(folding, outbox, engine.host.monotonic)

    async def recommend(self, ask: Ask) -> Answer:
        """Answer with a slate, and append what was served without waiting for it.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used.
            ItemUnknown: It is about an item that nothing named by then.
            Overloaded: Too many requests wait for a log position.
        """
        engine, monotonic = self._engine, self._engine.host.monotonic
        began = monotonic()
        until = began + (ask.deadline_ms or engine.plan(ask.placement).deadline_ms) / 1_000
        read_your_writes = await self._caught_up(ask.min_log_position, until)
        if not await self._knows_what_was_served(ask, until):
            read_your_writes = False
        # From here on one state and its plan: another pair may be swapped in while parts of the answer are awaited.
        fold, plan = engine.fold, engine.plan(ask.placement)
        require_known(ask, fold)
        request_id, seed = engine.host.request_ids.make()
        query = query_of(ask, plan, request_id, seed, engine.clock())
        self._folding.note_answer()
        observe = partial(fold.moment, models=plan.models)
        served = await recommend(plan, observe, query, lambda: until - monotonic(), engine.guards.left_out(plan))
        engine.guards.note(plan, served)
        position = engine.token(served.log_position)
        answer = answer_of(served, ask, fold, position, read_your_writes=read_your_writes)
        self._append_served(served, [item.id for item in answer.items], pack_traces(served, fold.vocabulary))
        note(served, plan.name, engine.metrics, engine.feature_values)
        return answer

    def check(self, ask: Ask) -> None:
        """Refuse what ``recommend`` would refuse: to be asked before events that come with a question are recorded.

        Raises:
            NotFound: The placement is not configured.
            RequestInvalid: The filter, the context, the size or the token cannot be used.
        """
        engine = self._engine
        plan = engine.plan(ask.placement)
        if ask.min_log_position is not None:
            parse_position(ask.min_log_position, engine.log.generation, engine.log.end)
        if faults := request_faults(plan.filters, query_of(ask, plan, "", 0, engine.clock()), plan.conditions):
            raise RequestInvalid(faults)

    async def read_features(self, ask: FeatureAsk) -> FeatureRead:
        """Return what is known of items for a user and a session, all of it at one log position.

        Raises:
            RequestInvalid: A feature is not declared, there are too many items, or the token cannot be used.
            Overloaded: Too many requests wait for a log position.
            FeatureFailed: One of the features cannot be read; counted as a part that failed.
        """
        engine = self._engine
        until = engine.host.monotonic() + WAIT_S_MAX
        read_your_writes = await self._caught_up(ask.min_log_position, until)
        self._folding.note_answer()
        seed = engine.host.request_ids.make()[1]
        found = read_of(engine.fold, engine.plans, ask, engine.clock(), seed, engine.metrics)
        token = engine.token(engine.fold.log_position)
        return replace(found, log_position=token, read_your_writes=read_your_writes)

    async def _caught_up(self, token: str | None, until: float) -> bool | None:
        """Wait for the caller's own writes; None when none were named, False when the deadline came first."""
        if token is None:
            return None
        engine = self._engine
        position = parse_position(token, engine.log.generation, engine.log.end)
        return await self._folding.reached(position, until - engine.host.monotonic())

    async def _knows_what_was_served(self, ask: Ask, until: float) -> bool:
        """Wait for what this process served to the asker before, where the placement goes by it."""
        if self._ahead is None or not self._engine.plan(ask.placement).reads_served:
            return True
        return await self._ahead.seen(askers_of(self._engine.fold, ask.user_id, ask.session_id), until)

    def _append_served(self, served: Served, item_ids: Sequence[str], traces: PackedTraces) -> None:
        """Hand the served record over; when there is no room for it the answer goes out all the same."""
        if self._outbox is not None and self._ahead is not None:
            self._outbox.add(served_event(served, item_ids, traces))
            self._ahead.add(served, self._engine.fold)
