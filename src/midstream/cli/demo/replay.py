"""Replay of the demo over HTTP: recommendations before each click, then the click; visitors in parallel.

The frozen engine is the same pipeline, plan and configuration over the state of the log at half time. It answers the
same sessions in this process, clicks included, and never learns; so the difference is the gain of learning. From half
time on each click has two requests, with the trained model and without it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from midstream.app.config.schema import Config
from midstream.app.inspect.folder_view import LogView, state_from_the_beginning
from midstream.app.wiring import plans
from midstream.cli.demo.score import DEFAULT, TOP, TRAINED, ClickAnswers, Popularity, Score, ShownSession
from midstream.cli.demo.sessions import DemoData, DemoSession
from midstream.cli.demo.training import Training, train_beside
from midstream.core.types import Moment, Query, TimestampMs
from midstream.engine.answer.query_mapping import query_of
from midstream.engine.types import Ask
from midstream.ranking.pipeline import recommend
from midstream.ranking.plan import Plan
from midstream.simulation.connection import Connection
from midstream.state.fold import Fold

VISITORS = 8
"""At once: enough to share syncs, few enough that two cores also have time for this side."""
ITEMS_A_REQUEST = 200
SECOND_HALF_S_MIN = 20.0
"""Minimum time after the training, so that its model gets requests."""
SHOWN_CLICKS = range(4, 9)
"""Sessions of that many clicks fit a screen and have something to show."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """The engine as it was at half time."""

    fold: Fold
    plan: Plan

    async def top(self, session: DemoSession, clicks: list[str]) -> list[str]:
        """Return its recommendations after these clicks."""
        ask = Ask(self.plan.name, user_id=session.user_id, session_id=session.session_id, n=TOP)
        query = query_of(ask, self.plan, "", 0, TimestampMs(self.fold.log_time_ms))
        recent = self.fold.vocabulary.item_indices(clicks)

        def observe(each: Query) -> Moment:
            moment = self.fold.moment(each, self.plan.models)
            return replace(moment, recent_item_index=recent[recent >= 0])

        served = await recommend(self.plan, observe, query, lambda: 60.0)
        return self.fold.vocabulary.item_ids(served.candidates.item_index[served.selection.chosen])


@dataclass(slots=True)
class Replay:
    """One run: sessions, server, and results so far."""

    data: DemoData
    url: str
    folder: Path
    config: Config
    until: float
    """On the monotonic clock: no session begins later, unless the training took what was left."""
    score: Score = field(default_factory=Score)
    shown: deque[ShownSession] = field(default_factory=lambda: deque[ShownSession](maxlen=3))
    stage: str = "starting"
    began: float = 0.0
    seconds: float = 0.0
    """Spent replaying, without the pause at half time."""
    popularity: Popularity = field(default_factory=Popularity)
    frozen: Frozen | None = None
    training: Training | None = None

    @property
    def placements(self) -> tuple[str, ...]:
        """Placements of the requests: from the promotion on the one with the trained model too."""
        return (DEFAULT,) if self.training is None or self.training.done is None else (DEFAULT, TRAINED)

    async def run(self, draw: Callable[[], None], every_s: float) -> None:
        """Replay all of it; ``draw`` is called every so often."""
        drawing = asyncio.create_task(_repeat(draw, every_s))
        try:
            await self._put_items()
            waiting = deque(self.data.sessions)
            began = time.monotonic()
            await self._play(waiting, len(waiting) // 2, began + (self.until - began) / 2)
            self.stage = "half time: training a model, and freezing a copy of the engine"
            train = asyncio.to_thread(train_beside, self.folder, self.config)
            self.training, self.frozen = await asyncio.gather(train, asyncio.to_thread(self._freeze))
            await self._play(waiting, 0, max(self.until, time.monotonic() + SECOND_HALF_S_MIN))
            self.stage = "done"
        finally:
            drawing.cancel()
            draw()

    async def _put_items(self) -> None:
        self.stage = "putting items into the catalogue"
        events = [
            {"type": "item", "operation": "put", "item_id": item_id, "attributes": attributes}
            for item_id, attributes in self.data.items.items()
        ]
        connection = Connection(self.url)
        try:
            for start in range(0, len(events), ITEMS_A_REQUEST):
                await connection.tell(events[start : start + ITEMS_A_REQUEST])
        finally:
            await connection.close()

    async def _play(self, waiting: deque[DemoSession], leave: int, until: float) -> None:
        """Replay sessions in their order, some side by side, until so many are left or it is time."""
        self.stage = "replaying"
        self.began = time.monotonic()
        await asyncio.gather(*(self._visitor(waiting, leave, until) for _ in range(VISITORS)))
        self.seconds += time.monotonic() - self.began
        self.began = 0.0

    async def _visitor(self, waiting: deque[DemoSession], leave: int, until: float) -> None:
        connection = Connection(self.url)
        try:
            while len(waiting) > leave and time.monotonic() < until:
                place = len(self.data.sessions) - len(waiting)
                await self._visit(connection, waiting.popleft(), place)
        finally:
            await connection.close()

    async def _ask(
        self, connection: Connection, question: Mapping[str, object], acknowledged: float
    ) -> dict[str, list[str]]:
        """Return the recommendations of each placement, by its name.

        Their order alternates from click to click: clicks of other visitors may come between the two.
        """
        score, found = self.score, dict[str, list[str]]()
        placements = self.placements[:: -1 if len(score.lift) % 2 else 1]
        for placement in placements:
            asked = time.perf_counter()
            slate = await connection.ask({**question, "placement": placement})
            answered = time.perf_counter()
            score.ask_ms.append((answered - asked) * 1e3)
            if slate.read_your_writes is not None:
                score.unseen += not slate.read_your_writes
                if not found:
                    score.fresh_ms.append((answered - acknowledged) * 1e3)
            found[placement] = [item.id for item in slate.items]
        return found

    async def _visit(self, connection: Connection, session: DemoSession, place: int) -> None:
        """Replay one session, of this number: request, then click."""
        score, shown = self.score, ShownSession(session.session_id)
        who = {"session_id": session.session_id, **({"user_id": session.user_id} if session.user_id else {})}
        token: dict[str, str] = {}
        acknowledged = 0.0
        for number, click in enumerate(session.clicks):
            found = await self._ask(connection, {**who, "n": TOP, **token}, acknowledged)
            engine, trained = found[DEFAULT], found.get(TRAINED)
            if number:
                frozen = None if self.frozen is None else await self.frozen.top(session, shown.clicks)
                popular = self.popularity.top(shown.clicks[-1:])
                score.count(click, ClickAnswers(engine, trained, popular, frozen), place)
            sent = time.perf_counter()
            told = await connection.tell({"type": session.action, **who, "item_id": click})
            acknowledged = time.perf_counter()
            score.tell_ms.append((acknowledged - sent) * 1e3)
            score.events += told.recorded
            token = {"min_log_position": told.log_position}
            self.popularity.learn(click)
            shown.clicks.append(click)
            shown.recommended.append(trained or engine)
        score.sessions += 1
        if len(shown.clicks) in SHOWN_CLICKS:
            self.shown.append(shown)

    def _freeze(self) -> Frozen:
        """Fold the log as it is now; the server has it open and goes on."""
        fold = state_from_the_beginning(self.folder, self.config, LogView(self.folder))
        plan = plans(self.config, self.folder, settings=fold.settings)[DEFAULT]
        return Frozen(fold, plan)


async def _repeat(draw: Callable[[], None], every_s: float) -> None:
    while True:
        draw()
        await asyncio.sleep(every_s)
